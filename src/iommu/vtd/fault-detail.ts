/** What stands behind a fault beside its reason: told in events, for nothing in the registers says it. */
import type { GuestMemory } from '../../memory/guest-memory.ts';
import { MemoryStatus } from '../../memory/guest-memory.ts';
import { type Walker, WalkStatus } from '../../page-tables/walker.ts';
import { FaultCause } from '../../trace/event-kinds.ts';
import type { ContextReader } from './context-reader.ts';
import { FaultReason } from './fault-reasons.ts';

const NO_DOMAIN = -1;

/** Of the reasons for which more than one cause is possible, what they are for want of a walk that says so. */
const CAUSES: Readonly<Record<FaultReason, FaultCause>> = {
  [FaultReason.rootNotPresent]: FaultCause.notAttached,
  [FaultReason.contextNotPresent]: FaultCause.notAttached,
  [FaultReason.contextInvalid]: FaultCause.malformedContext,
  [FaultReason.addressBeyondWidth]: FaultCause.addressTooWide,
  [FaultReason.writeDenied]: FaultCause.notPresent,
  [FaultReason.readDenied]: FaultCause.notPresent,
  [FaultReason.pageTableAccess]: FaultCause.tableUnreachable,
  [FaultReason.rootTableAccess]: FaultCause.malformedContext,
  [FaultReason.contextTableAccess]: FaultCause.malformedContext,
  [FaultReason.rootReserved]: FaultCause.malformedContext,
  [FaultReason.contextReserved]: FaultCause.malformedContext,
  [FaultReason.pageTableReserved]: FaultCause.malformedEntry,
  [FaultReason.requestBlocked]: FaultCause.blocked,
  [FaultReason.interruptAddress]: FaultCause.interruptRange,
  [FaultReason.rootTableMode]: FaultCause.malformedContext,
};

export function causeOf(reason: FaultReason): FaultCause {
  return CAUSES[reason];
}

/** Bytes from the start of a table of `level` to the entry that the address chooses. */
export function entryOffset(level: number, high: number, low: number): number {
  const shift = 12 + 9 * (level - 1);
  const index = shift < 32 ? (low >>> shift) | (high << (32 - shift)) : high >>> (shift - 32);
  return (index & 511) << 3;
}

/** One object is filled for every fault anew. */
export class FaultDetail {
  /** -1: none. */
  domain = NO_DOMAIN;
  cause: FaultCause = FaultCause.notPresent;
  /** Of the page-table entry that decided; 0 where it was a root or context entry, or none. */
  level = 0;
  /** That entry, of a root or context entry its lower half; zero where none was read. */
  entryLow = 0;
  entryHigh = 0;
  entryFrame = 0;
  entryOffset = 0;
  /** Bits of the widest address that the requester could use; 0 where that is not known. */
  addressWidth = 0;

  /** Forgets the fault before. */
  begin(domain: number, reason: FaultReason, addressWidth: number): this {
    this.domain = domain;
    this.cause = CAUSES[reason];
    this.level = 0;
    this.entryLow = 0;
    this.entryHigh = 0;
    this.entryFrame = 0;
    this.entryOffset = 0;
    this.addressWidth = addressWidth;
    return this;
  }

  /** The root or context entry that `reader` read last decided. */
  fromContext(reader: ContextReader): this {
    if (reader.tablesRead === 0) return this;
    const { w0, w1 } = reader.tablesRead === 1 ? reader.root : reader.context;
    this.entryLow = w0;
    this.entryHigh = w1;
    this.entryFrame = reader.entryFrame;
    this.entryOffset = reader.entryOffset;
    return this;
  }

  /**
   * The walk just done decided. Of a table that is not there, the entry that points to it is told, where the walk came through it;
   * to read that again may take a message.
   */
  fromWalk(walker: Walker, status: WalkStatus, memory: GuestMemory, high: number, low: number): this {
    const { level, entryLow, entryHigh } = walker;
    if (status === WalkStatus.tooWide) this.cause = FaultCause.addressTooWide;
    else if (status === WalkStatus.badPointer) this.cause = FaultCause.tableUnreachable;
    else if (status === WalkStatus.reserved) this.cause = FaultCause.malformedEntry;
    else this.cause = status === WalkStatus.denied ? FaultCause.denied : FaultCause.notPresent;
    if (status === WalkStatus.tooWide) return this;
    const missing = status === WalkStatus.badPointer && (entryLow | entryHigh) === 0;
    this.level = missing && level < walker.startLevel ? level + 1 : level;
    this.entryFrame = walker.visited[this.level << 1]!;
    this.entryOffset = entryOffset(this.level, high, low);
    this.entryLow = entryLow;
    this.entryHigh = entryHigh;
    if (this.level !== level && memory.load64(this.entryFrame, this.entryOffset) === MemoryStatus.ok) {
      this.entryLow = memory.low;
      this.entryHigh = memory.high;
    }
    return this;
  }
}
