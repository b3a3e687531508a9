/** A `DmaPort` that gets a bit wrong where rules say so. */
import { type DmaPort, DmaStatus } from '../../pci/ports.ts';
import { type ActiveRule, RulePlace } from './active-rule.ts';
import type { Direction, FlipRule } from './rules.ts';

/** The flips of one device, with or without a PASID. */
export class Flips extends RulePlace<FlipRule> {
  find(direction: Direction, length: number): ActiveRule<FlipRule> | undefined {
    return this.rules?.find(
      ({ rule }) => (rule.direction === undefined || rule.direction === direction) && rule.bit < length * 8,
    );
  }
}

export class FlippingPort implements DmaPort {
  constructor(
    private readonly inner: DmaPort,
    private readonly flips: Flips,
  ) {}

  read(high: number, low: number, target: Uint8Array, at: number, length: number): DmaStatus {
    const status = this.inner.read(high, low, target, at, length);
    if (this.flips.rules !== undefined && status === DmaStatus.ok) {
      const rule = this.flips.find('read', length);
      if (rule !== undefined) flip(rule, 'read', high, low, target, at);
    }
    return status;
  }

  write(high: number, low: number, source: Uint8Array, at: number, length: number): DmaStatus {
    const rule = this.flips.rules === undefined ? undefined : this.flips.find('write', length);
    if (rule === undefined) return this.inner.write(high, low, source, at, length);
    // What the device has stays right.
    const wrong = source.slice(at, at + length);
    flip(rule, 'write', high, low, wrong, 0);
    return this.inner.write(high, low, wrong, 0, length);
  }
}

function flip(
  active: ActiveRule<FlipRule>,
  direction: Direction,
  high: number,
  low: number,
  bytes: Uint8Array,
  at: number,
): void {
  const { bit } = active.rule;
  const index = at + (bit >>> 3);
  bytes[index] = bytes[index]! ^ (1 << (bit & 7));
  active.apply({ direction, iova: (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0), bit });
}
