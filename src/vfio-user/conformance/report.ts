/** The results of a run, for people and for programs. */
import type { Result, Verdict } from './runner.ts';

const WORDS: Readonly<Record<Verdict, string>> = { pass: 'PASS', fail: 'FAIL', skip: 'SKIP' };

/** `PASS header.id-echoed  A reply carries ...`, and under it why a rule failed or was skipped. */
export function formatResult({ verdict, id, says, why, section, basis }: Result): string {
  const line = `${WORDS[verdict]}  ${id.padEnd(36)}  ${says}`;
  if (verdict === 'pass') return line;
  return `${line}\n      ${why}${verdict === 'fail' ? `  (${section}; ${basis})` : ''}`;
}

export function count(results: readonly Result[], verdict: Verdict): number {
  return results.filter(result => result.verdict === verdict).length;
}

export function formatSummary(results: readonly Result[]): string {
  const failed = count(results, 'fail');
  const word = results.length === 1 ? 'rule' : 'rules';
  return `${results.length} ${word}: ${count(results, 'pass')} kept, ${failed} broken, ${count(results, 'skip')} skipped`;
}

/** What is said of the rules that were left when a server ended. */
export function formatGone({ id }: Result, untried: number): string {
  const rules = untried === 1 ? '1 rule was' : `${untried} rules were`;
  return `The server is gone: nobody has been served since ${id}. ${rules} not tried.`;
}

export interface JsonReport {
  readonly server: string;
  readonly summary: Readonly<Record<Verdict, number>>;
  /** Rules that were left when the server ended. */
  readonly untried: number;
  readonly results: readonly Result[];
}

export function jsonReport(server: string, results: readonly Result[], untried = 0): JsonReport {
  const summary = { pass: count(results, 'pass'), fail: count(results, 'fail'), skip: count(results, 'skip') };
  return { server, summary, untried, results };
}
