/** `npm run conformance -- --socket PATH`: tries a vfio-user server, whoever wrote it, rule by rule. */
import { readdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { SystemError } from '../../posix/errors.ts';
import { EventLoop } from '../../posix/event-loop.ts';
import { readFacts } from './context.ts';
import { count, formatGone, formatResult, formatSummary, jsonReport } from './report.ts';
import { type Rule, Violation } from './rule.ts';
import { allRules } from './rules/all.ts';
import { type Result, runRule, selectRules, stillServes } from './runner.ts';

const PATIENCE_MS = 2000;
/** All rules kept; a rule broken; the run itself was not possible. */
const Exit = { kept: 0, broken: 1, impossible: 2 } as const;

const HELP = `Tries a vfio-user server rule by rule, by QEMU's docs/interop/vfio-user.rst.

  npm run conformance -- --socket PATH [--only ID]... [--json]

  --socket PATH     where the server listens; nobody else may be connected to it
  --only ID         only rules whose id starts so (version, dma-map.overlap); may be repeated
  --pid PID         the server's process: its open descriptors are counted
  --patience MS     silence of so many milliseconds breaks a rule (default ${PATIENCE_MS})
  --quiet           only what is broken, and the summary
  --json            the results as JSON
  --list            the rules, without a server

It connects some thousand times, resets the device and maps memory into it: not for a device in use.
Exit status: ${Exit.kept} where no rule is broken, ${Exit.broken} where one is, ${Exit.impossible} where the server cannot be reached.
`;

function main(): number {
  const { values } = parseArgs({
    options: {
      socket: { type: 'string' },
      only: { type: 'string', multiple: true, default: [] },
      pid: { type: 'string' },
      patience: { type: 'string', default: String(PATIENCE_MS) },
      quiet: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return Exit.kept;
  }
  const rules = selectRules(allRules, values.only);
  if (rules.length === 0) return complain(`no rule's id starts with ${values.only.join(' or ')}: see --list`);
  if (values.list) {
    for (const { id, section, basis, says } of rules) console.log(`${id.padEnd(36)}  ${says}  (${section}; ${basis})`);
    return Exit.kept;
  }
  if (values.socket === undefined) return complain('say which server: --socket PATH');
  const patience = wholeNumber(values.patience);
  if (patience === undefined) return complain(`--patience ${values.patience} is not a number of milliseconds`);
  const pid = values.pid === undefined ? undefined : wholeNumber(values.pid);
  if (values.pid !== undefined && (pid === undefined || !canCount(pid))) {
    return complain(`the descriptors of process ${values.pid} cannot be counted: is it running, and yours?`);
  }
  const results = run(rules, { path: values.socket, patience, pid, quiet: values.quiet, json: values.json });
  // A run that ended early ended at a rule after which nobody was served any more.
  const untried = rules.length - results.length;
  const last = results.at(-1);
  if (values.json) console.log(JSON.stringify(jsonReport(values.socket, results, untried), undefined, 2));
  else console.log(`\n${formatSummary(results)}`);
  if (untried > 0 && last !== undefined) console.error(formatGone(last, untried));
  return count(results, 'fail') > 0 ? Exit.broken : Exit.kept;
}

interface RunOptions {
  readonly path: string;
  readonly patience: number;
  readonly pid: number | undefined;
  readonly quiet: boolean;
  readonly json: boolean;
}

function run(rules: readonly Rule[], { path, patience, pid, quiet, json }: RunOptions): Result[] {
  const loop = new EventLoop(error => {
    throw error;
  });
  const results: Result[] = [];
  const target = { path, loop, patience, pid };
  try {
    const device = readFacts(target);
    for (const rule of rules) {
      const result = runRule(rule, target, device);
      results.push(result);
      if (!json && (!quiet || result.verdict === 'fail')) console.log(formatResult(result));
      if (result.verdict === 'fail' && !stillServes(target, device)) break;
    }
  } finally {
    loop.close();
  }
  return results;
}

function wholeNumber(text: string): number | undefined {
  return /^[1-9][0-9]{0,8}$/.test(text) ? Number(text) : undefined;
}

function canCount(pid: number): boolean {
  try {
    readdirSync(`/proc/${pid}/fd`);
    return true;
  } catch {
    return false;
  }
}

function complain(why: string): number {
  console.error(`conformance: ${why}`);
  return Exit.impossible;
}

try {
  process.exitCode = main();
} catch (error) {
  const expected =
    error instanceof SystemError || error instanceof Violation || (error instanceof TypeError && 'code' in error);
  if (!expected) throw error;
  process.exitCode = complain(error.message);
}
