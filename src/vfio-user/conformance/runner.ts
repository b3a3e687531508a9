/** Runs rules against a server, one after the other, each on connections of its own. */
import { Context, type DeviceFacts, type Target } from './context.ts';
import { type Basis, type Rule, Skipped, Violation } from './rule.ts';

const RETRY_MS = 20;

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
  const judgement = judge(rule, context);
  const { id, section, basis, says } = rule;
  return { id, section, basis, says, ...judgement, milliseconds: performance.now() - start };
}

/** Whether a client is served still, or again: a server that ended may be started anew. */
export function stillServes(target: Target, device: DeviceFacts): boolean {
  const end = performance.now() + target.patience;
  for (;;) {
    const context = new Context(target, device);
    try {
      context.serves();
      return true;
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      if (performance.now() > end) return false;
      target.loop.runOnce(RETRY_MS);
    } finally {
      context.close();
    }
  }
}

function judge(rule: Rule, context: Context): Pick<Result, 'verdict' | 'why'> {
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
