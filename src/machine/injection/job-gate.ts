/** A `JobQueue` where work waits while rules say so; what comes behind it waits too, so that the order stays. */
import type { JobQueue } from '../../pci/ports.ts';
import type { Trace } from '../../trace/trace.ts';
import { type ActiveRule, RulePlace } from './active-rule.ts';
import type { DelayInvalidationRule, HoldRule } from './rules.ts';

/** Work that waits at one gate. A guest can ask for more of it without end: then the rules at the gate end. */
export const HELD_JOBS_MAX = 4096;

/** Queues `job` when `milliseconds` are over. */
export type After = (milliseconds: number, job: () => void) => void;

type HoldingRule = HoldRule | DelayInvalidationRule;

interface HeldJob {
  readonly job: () => void;
  /** What it waits for; undefined: for those before it only. */
  rule: ActiveRule<HoldingRule> | undefined;
}

export interface JobGateOptions {
  /** Whose gate it is, in notes. */
  readonly name: string;
  readonly inner: JobQueue;
  readonly after: After;
  readonly trace: Trace;
}

export class JobGate extends RulePlace<HoldingRule> implements JobQueue {
  private held: HeldJob[] = [];

  constructor(private readonly options: JobGateOptions) {
    super();
  }

  push(job: () => void): void {
    if (this.rules === undefined && this.held.length === 0) this.options.inner.push(job);
    else this.hold(job);
  }

  override letGo(rule: ActiveRule<HoldingRule>): void {
    for (const one of this.held) {
      if (one.rule === rule) one.rule = undefined;
    }
    rule.held = 0;
    this.drain();
  }

  private hold(job: () => void): void {
    if (this.held.length === HELD_JOBS_MAX) {
      this.giveUp();
      this.options.inner.push(job);
      return;
    }
    const rule = this.rules?.[0];
    const held: HeldJob = { job, rule };
    this.held.push(held);
    if (rule === undefined) return;
    rule.held++;
    const milliseconds = rule.rule.kind === 'delay-invalidation' ? rule.rule.milliseconds : undefined;
    if (milliseconds !== undefined) this.options.after(milliseconds, () => this.due(held));
    rule.apply(milliseconds === undefined ? {} : { milliseconds });
  }

  private due(held: HeldJob): void {
    // Released by hand before.
    if (held.rule === undefined) return;
    held.rule.held--;
    held.rule = undefined;
    this.drain();
  }

  private drain(): void {
    let open = 0;
    while (open < this.held.length && this.held[open]!.rule === undefined) open++;
    // Those are nobody's any more before the first of them can ask for more.
    for (const { job } of this.held.splice(0, open)) this.options.inner.push(job);
  }

  private giveUp(): void {
    const { name, trace } = this.options;
    trace.note('injection.overflow', name, { held: this.held.length });
    const waitedFor = new Set(this.held.map(({ rule }) => rule));
    for (const rule of [...waitedFor, ...(this.rules ?? [])]) rule?.end();
  }
}
