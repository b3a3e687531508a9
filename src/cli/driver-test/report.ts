/** What a round of `viommu test` came to: for people line by line, for programs as one document. */
import { type JsonReport, reportJson } from '../../trace/report/json.ts';
import type { Finding } from '../../trace/sanitizer/finding.ts';
import { ExitStatus } from '../errors.ts';
import type { KernelProblem } from './kernel-log.ts';
import type { RoundResult, StepResult } from './round.ts';

/** Milliseconds. */
export interface RoundTimings {
  /** To read, and to build, what goes into the guest. */
  readonly prepare: number;
  /** Until the guest is up and has it; next to nothing where one was booted ahead. */
  readonly boot: number;
  readonly load: number;
  readonly run: number;
  readonly total: number;
}

export interface TestReport {
  readonly result: RoundResult;
  readonly findings: readonly Finding[];
  readonly timings: RoundTimings;
}

/** Every step, in the order in which they were done. */
export function stepsOf({ modules, cases, unloads }: RoundResult): StepResult[] {
  return [...modules, ...cases, ...unloads];
}

export function hasPassed(result: RoundResult): boolean {
  return stepsOf(result).every(({ outcome }) => outcome === 'passed');
}

const LABELS = { passed: 'PASS', failed: 'FAIL', 'timed-out': 'LATE', 'not-run': 'SKIP' } as const;
/** Lines of a kernel's report that the terminal shows; the JSON document and JUnit have them all. */
const SHOWN_REPORT_LINES = 25;
/** Lines of its log beside a step that failed. */
const SHOWN_LOG_LINES = 12;
/** It says so of every module that is not its own. */
const EXPECTED = /: (?:loading out-of-tree module taints kernel|module verification failed: signature)/;

/** The end of a step: verdict, name, time and reason, then what the kernel said, where it may be why. */
export function stepLines({ name, outcome, milliseconds, reason, kernelLog, kernelProblems }: StepResult): string[] {
  const time = outcome === 'not-run' ? '' : `  ${seconds(milliseconds)}`;
  const [first = '', ...more] = (reason ?? '').split('\n');
  const verdict = `${LABELS[outcome]}  ${name}${time}${first === '' ? '' : `  ${first}`}`;
  const lines = [verdict, ...more.map(indent), ...kernelProblems.flatMap(problemLines)];
  if (kernelProblems.length > 0 || outcome === 'passed') return lines;
  const log = kernelLog.filter(line => !EXPECTED.test(line)).slice(-SHOWN_LOG_LINES);
  return [...lines, ...log.map(indent)];
}

export function problemLines({ lines }: KernelProblem): string[] {
  const rest = lines.length - SHOWN_REPORT_LINES;
  const more = rest > 0 ? [`... ${rest} more lines`] : [];
  return [...lines.slice(0, SHOWN_REPORT_LINES), ...more].map(indent);
}

function indent(line: string): string {
  return `      ${line}`;
}

/** One line for the whole round. */
export function summaryLine({ result, findings, timings }: TestReport, status: number): string {
  const steps = stepsOf(result);
  const passed = result.cases.filter(({ outcome }) => outcome === 'passed').length;
  const counts = result.cases.length === 0 ? 'no scripts' : `${passed} of ${result.cases.length} passed`;
  const broken = steps.filter(({ outcome }) => outcome === 'failed' || outcome === 'timed-out').map(({ name }) => name);
  const problems = steps.reduce((sum, { kernelProblems }) => sum + kernelProblems.length, 0);
  const parts = [
    counts,
    ...(broken.length > 0 ? [`failed: ${broken.join(', ')}`] : []),
    count(findings.length, 'finding'),
    ...(problems > 0 ? [count(problems, 'kernel problem')] : []),
  ];
  const { prepare, boot, load, run, total } = timings;
  const times = `${seconds(total)} (prepare ${seconds(prepare)}, boot ${seconds(boot)}, load ${seconds(load)}, run ${seconds(run)})`;
  const verdict =
    status === ExitStatus.ok ? 'PASSED' : hasPassed(result) && status === ExitStatus.findings ? 'FINDINGS' : 'FAILED';
  return `${verdict}  ${parts.join('; ')}; ${times}`;
}

function count(number: number, what: string): string {
  return `${number === 0 ? 'no' : number} ${what}${number === 1 ? '' : 's'}`;
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(milliseconds < 1000 ? 2 : 1)} s`;
}

export interface TestDocument {
  readonly format: 'viommu-test';
  readonly version: 1;
  /** Of the modules and the scripts; findings are apart. */
  readonly passed: boolean;
  /** The command's exit status, as --fail-on says. */
  readonly status: number;
  readonly bootProblems: readonly KernelProblem[];
  readonly modules: readonly StepResult[];
  readonly cases: readonly StepResult[];
  readonly unloads: readonly StepResult[];
  readonly findings: JsonReport['findings'];
  readonly timings: RoundTimings;
}

export function testDocument({ result, findings, timings }: TestReport, status: number): TestDocument {
  return {
    format: 'viommu-test',
    version: 1,
    passed: hasPassed(result),
    status,
    ...result,
    findings: reportJson(findings).findings,
    timings,
  };
}
