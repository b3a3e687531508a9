/** Interrupts that do not come where rules say so. */
import type { InterruptLine, InterruptMessages } from '../../pci/ports.ts';
import { RulePlace } from './active-rule.ts';
import type { DropInterruptRule } from './rules.ts';

/** The dropped interrupts of one device. */
export class Drops extends RulePlace<DropInterruptRule> {
  /** True where this one is to be dropped: that counts as done. */
  take(vector: number): boolean {
    const active = this.rules?.find(({ rule }) => rule.vector === undefined || rule.vector === vector);
    active?.apply({ vector });
    return active !== undefined;
  }
}

export class DroppingLine implements InterruptLine {
  constructor(
    private readonly inner: InterruptLine,
    private readonly drops: Drops,
  ) {}

  raise(vector = 0): void {
    if (this.drops.rules !== undefined && this.drops.take(vector)) return;
    this.inner.raise(vector);
  }

  lower(): void {
    this.inner.lower();
  }
}

/** For functions that send their messages themselves; all of them count as vector 0. */
export class DroppingMessages implements InterruptMessages {
  constructor(
    private readonly inner: InterruptMessages,
    private readonly drops: Drops,
  ) {}

  send(high: number, low: number, data: number): boolean {
    // It is lost on its way: who sent it does not know.
    if (this.drops.rules !== undefined && this.drops.take(0)) return true;
    return this.inner.send(high, low, data);
  }
}
