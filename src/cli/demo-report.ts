/** What the demo found, as text for people or as one JSON document. */
import type { MachineStatistics } from '../machine/statistics.ts';
import { reportJson } from '../trace/report/json.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { formatAccount } from './account.ts';
import { type FindingsVerdict, judgeFindings } from './demo-findings.ts';
import { eventToJson, formatEvent } from './event-printer.ts';
import type { LogVerdict } from './kernel-log.ts';

export interface CaseResult {
  readonly name: string;
  readonly title: string;
  readonly outcome: 'PASS' | 'FAIL' | 'SKIP';
  readonly detail: string;
  /** What else the guest's program measured: IOVAs, physical addresses, the kernel's line. */
  readonly facts: Readonly<Record<string, unknown>>;
}

export interface RoundResult {
  readonly commandLine: string;
  readonly cases: readonly CaseResult[];
  readonly kernelLog: readonly string[];
  readonly verdict: LogVerdict;
  readonly passed: boolean;
  /** Only kept with --verbose. */
  readonly events: readonly TraceEvent[];
}

/** What a reader of the report needs to know about how it came to be. */
export interface DemoSetting {
  readonly iommu: string;
  readonly qemu: string;
  readonly accelerator: string;
  readonly firmware: string;
  readonly memory: string;
  readonly topology: string;
  readonly endpoints: readonly string[];
}

export interface DemoOutcome extends DemoSetting {
  readonly rounds: readonly RoundResult[];
  readonly statistics: MachineStatistics;
  readonly findings: readonly Finding[];
}

export interface DemoReport extends DemoOutcome {
  readonly verdict: FindingsVerdict;
  readonly passed: boolean;
}

export function judged(outcome: DemoOutcome): DemoReport {
  const cases = outcome.rounds.flatMap(round => round.cases);
  const verdict = judgeFindings(outcome.iommu, cases, outcome.findings, outcome.memory);
  return { ...outcome, verdict, passed: verdict.right && outcome.rounds.every(round => round.passed) };
}

/** One line of the guest's program; undefined for a line that is not a case. */
export function parseCase(line: string): CaseResult | undefined {
  if (!line.startsWith('{')) return undefined;
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(line);
  } catch {
    // A message of the guest's that begins with a brace: shown if no case comes at all.
    return undefined;
  }
  const { name, title, pass, skipped, detail, ...facts } = value;
  if (typeof name !== 'string' || typeof pass !== 'boolean') return undefined;
  const outcome = pass ? 'PASS' : skipped === true ? 'SKIP' : 'FAIL';
  return { name, title: String(title), outcome, detail: String(detail), facts };
}

export function printReport(report: DemoReport, flags: { readonly json?: boolean; readonly verbose?: boolean }): void {
  if (flags.json) {
    console.log(JSON.stringify(reportToJson(report, flags.verbose ?? false), undefined, 2));
    return;
  }
  for (const round of report.rounds) printRoundEnd(round);
  for (const line of report.verdict.lines) console.log(line);
  console.log(
    `\nOur side's account (QEMU ${report.qemu}, ${report.accelerator}, ${report.firmware}, ${report.memory} memory, ${report.iommu}):`,
  );
  console.log(formatAccount(report.statistics).join('\n'));
  console.log(`\n${conclusion(report)}`);
}

function printRoundEnd({ verdict, events }: RoundResult): void {
  for (const pattern of verdict.missing) console.log(`  FAIL  kernel-log         no line has: ${pattern}`);
  for (const line of verdict.bad) console.log(`  FAIL  kernel-log         ${line}`);
  if (verdict.missing.length + verdict.bad.length === 0) {
    console.log(`  PASS  kernel-log         ${verdict.praise}`);
  }
  for (const event of events) console.log(formatEvent(event));
}

function conclusion({ rounds, passed }: DemoReport): string {
  const cases = rounds.flatMap(round => round.cases);
  const tally = (outcome: CaseResult['outcome']) => cases.filter(one => one.outcome === outcome).length;
  const skipped = tally('SKIP');
  const counts = `${tally('PASS')} cases passed, ${tally('FAIL')} failed${skipped ? `, ${skipped} skipped` : ''}`;
  return `${passed ? 'PASS' : 'FAIL'}: ${counts}`;
}

function reportToJson(report: DemoReport, verbose: boolean): unknown {
  const rounds = report.rounds.map(({ kernelLog, events, ...round }) => ({
    ...round,
    ...(verbose ? { kernelLog, events: events.map(event => JSON.parse(eventToJson(event))) } : {}),
  }));
  const statistics = JSON.parse(JSON.stringify(report.statistics, plainArrays));
  const { findings } = reportJson(report.findings);
  return { ...report, rounds, statistics, findings };
}

/** Typed arrays would become objects with numbers for names. */
function plainArrays(_key: string, value: unknown): unknown {
  return value instanceof Float64Array ? Array.from(value) : value;
}
