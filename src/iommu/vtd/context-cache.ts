/**
 * The context cache (6.2.2): looked up by requester id, invalidated as a whole, by domain, or by requester and domain.
 * One slot for each of the 65536 requester ids, so that nothing is ever evicted: what stays stale stays stale until software
 * invalidates it, which is how a driver that forgets to is found.
 */
import type { ContextEntry } from './context.ts';

/** What a slot's words hold, from the slot's start. */
export const Slot = {
  epoch: 0,
  domain: 1,
  rootFrame: 2,
  levels: 3,
  limitShift: 4,
  kind: 5,
  faultProcessingDisabled: 6,
  /** Of `SlotKind.fault` only. */
  reason: 7,
} as const;

export const SlotKind = { secondStage: 0, passThrough: 1, fault: 2 } as const;

const SLOT_SHIFT = 3;
const REQUESTERS = 0x10000;
const LAST_EPOCH = 0x7fffffff;
/** Source-id bits that a Function Mask leaves out of the comparison (6.5.2.1). */
const FUNCTION_MASKS = [0, 0x4, 0x6, 0x7] as const;

/** With caching mode, entries that fault are tagged with the domain id that software may not use. */
export const FAULT_DOMAIN = 0;

export class ContextCache {
  readonly words = new Int32Array(REQUESTERS << SLOT_SHIFT);
  /** Counts every change: whoever remembers a slot compares it. */
  changes = 0;
  /** Told of every change. */
  onChange: (() => void) | undefined;
  private epoch = 1;
  /** Requester ids filled in this epoch, so that invalidating a domain does not look at all of them. */
  private readonly filled = new Int32Array(REQUESTERS);
  private readonly listed = new Int32Array(REQUESTERS);
  private filledCount = 0;

  /** The slot's first word in `words`, or -1. */
  find(requesterId: number): number {
    const at = requesterId << SLOT_SHIFT;
    return this.words[at] === this.epoch ? at : -1;
  }

  /** Returns the slot's first word in `words`. */
  fill(requesterId: number, entry: ContextEntry): number {
    const at = this.claim(requesterId, entry);
    this.words[at + Slot.domain] = entry.domain;
    this.words[at + Slot.rootFrame] = entry.rootFrame;
    this.words[at + Slot.levels] = entry.levels;
    this.words[at + Slot.limitShift] = entry.limitShift;
    this.words[at + Slot.kind] = entry.passThrough ? SlotKind.passThrough : SlotKind.secondStage;
    return at;
  }

  /** Remembers that the requester's entry cannot be used; caching mode only. */
  fillFault(requesterId: number, entry: ContextEntry, reason: number): number {
    const at = this.claim(requesterId, entry);
    this.words[at + Slot.domain] = FAULT_DOMAIN;
    this.words[at + Slot.kind] = SlotKind.fault;
    this.words[at + Slot.reason] = reason;
    return at;
  }

  invalidateAll(): void {
    this.changed();
    this.filledCount = 0;
    if (this.epoch < LAST_EPOCH) {
      this.epoch++;
      return;
    }
    this.epoch = 1;
    this.words.fill(0);
    this.listed.fill(0);
  }

  invalidateDomain(domain: number): void {
    this.changed();
    for (let index = 0; index < this.filledCount; index++) {
      const at = this.filled[index] << SLOT_SHIFT;
      if (this.words[at + Slot.domain] === domain) this.words[at] = 0;
    }
  }

  /**
   * Invalidates the entries of the source id (with neighbours, by function mask 0-3) that carry the domain id. Returns how
   * many matching entries were left alone because they carry another one: a mistake of the driver.
   */
  invalidateDevice(requesterId: number, functionMask: number, domain: number): number {
    this.changed();
    const mask = FUNCTION_MASKS[functionMask & 3];
    const base = requesterId & ~mask & 0xffff;
    let kept = 0;
    for (let low = 0; low <= mask; low++) {
      if (low & ~mask) continue;
      const at = this.find(base | low);
      if (at < 0) continue;
      if (this.words[at + Slot.domain] === domain) this.words[at] = 0;
      else kept++;
    }
    return kept;
  }

  private changed(): void {
    this.changes++;
    this.onChange?.();
  }

  private claim(requesterId: number, entry: ContextEntry): number {
    this.changed();
    if (this.listed[requesterId] !== this.epoch) {
      this.listed[requesterId] = this.epoch;
      this.filled[this.filledCount++] = requesterId;
    }
    const at = requesterId << SLOT_SHIFT;
    this.words[at + Slot.epoch] = this.epoch;
    this.words[at + Slot.faultProcessingDisabled] = entry.faultProcessingDisabled ? 1 : 0;
    return at;
  }
}
