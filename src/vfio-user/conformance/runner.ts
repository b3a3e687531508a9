/** Runs rules against a server, one after the other, each on connections of its own. */
import { Context, type DeviceFacts, type Target } from './context.ts';
import { type Basis, type Rule, Skipped, Violation } from './rule.ts';

export type Verdict = 'pass' | 'fail' | 'skip';

export interface Result {
  readonly id: string;
  readonly section: string;
  readonly basis: Basis;
  readonly says: string;
  readonly verdict: Verdict;
  /** Why it failed or was skipped; empty where it passed. */
  readonly why: string;
  readonly milliseconds: number;
}

/**
 * One rule. After it the server must still serve a new client, whatever the rule did to it. Throws what is neither a Violation nor
 * Skipped: a mistake of the suite, or no server at the path.
 */
export function runRule(rule: Rule, target: Target, device: DeviceFacts): Result {
  const context = new Context(target, device);
  const start = performance.now();
  const { verdict, why } = judge(rule, context);
  const { id, section, basis, says } = rule;
  return { id, section, basis, says, verdict, why, milliseconds: performance.now() - start };
}

function judge(rule: Rule, context: Context): { verdict: Verdict; why: string } {
  try {
    rule.check(context);
    context.closePeers();
    context.serves();
    return { verdict: 'pass', why: '' };
  } catch (error) {
    if (error instanceof Skipped) return { verdict: 'skip', why: error.message };
    if (error instanceof Violation) return { verdict: 'fail', why: error.message };
    throw error;
  } finally {
    context.close();
  }
}

/** Those whose id starts with one of the words, or all. */
export function selectRules(rules: readonly Rule[], only: readonly string[]): readonly Rule[] {
  return only.length === 0 ? rules : rules.filter(({ id }) => only.some(word => id.startsWith(word)));
}
