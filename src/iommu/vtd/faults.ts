/** Primary fault logging (7.2.1), the fault status register (11.4.7.1) and the fault event (7.3). */
import type { FieldHandle } from '../../pci/registers.ts';
import { EventClass, FaultOutcome, Kind } from '../../trace/event-kinds.ts';
import { address64 } from '../address64.ts';
import { Access } from '../translator.ts';
import { FAULT_RECORD_BYTES, FAULT_RECORD_OFFSET } from './capabilities.ts';
import type { VtdCore } from './core.ts';
import { EventInterrupt } from './events.ts';
import type { FaultDetail } from './fault-detail.ts';
import { FAULT_REASONS, type FaultReason } from './fault-reasons.ts';

const FIRST_WORD = FAULT_RECORD_OFFSET >>> 2;
const RECORD_WORDS = FAULT_RECORD_BYTES >>> 2;
const TYPE2 = 1 << 28;
const TYPE1 = 1 << 30;
const FAULT = 1 << 31;
const PAGE_MASK = ~0xfff;

const ACCESS_NAMES = ['zero-length read', 'read', 'write', 'atomic'] as const;

export class FaultLog {
  readonly event: EventInterrupt;
  private readonly status: number;
  private readonly overflow: FieldHandle;
  private readonly pending: FieldHandle;
  private readonly queueError: FieldHandle;
  private readonly firstIndex: FieldHandle;
  private readonly queueErrorInfo: FieldHandle;
  /** Conditions of the status register that wait for software; while one is set, no further fault event is raised. */
  private readonly conditions: number;
  /** Bits of an IOVA's upper word that a record has room for. */
  private readonly highMask: number;
  /** Where the next fault is recorded. */
  private next = 0;

  constructor(private readonly core: VtdCore) {
    const { registers, capabilities } = core;
    this.event = new EventInterrupt(core, 'FE', () => core.statistics.faultInterrupts++);
    this.status = registers.offset('FSTS') >>> 2;
    this.overflow = registers.field('FSTS', 'PFO');
    this.pending = registers.field('FSTS', 'PPF');
    this.queueError = registers.field('FSTS', 'IQE');
    this.firstIndex = registers.field('FSTS', 'FRI');
    this.queueErrorInfo = registers.field('IQERCD', 'IQEI');
    this.conditions = bit(this.overflow) | bit(this.pending) | bit(this.queueError);
    this.highMask = 2 ** (capabilities.guestAddressWidth - 32) - 1;
  }

  /** The queue stands still: software has to clear IQE. */
  get queueStopped(): boolean {
    return this.core.registers.get(this.queueError) === 1;
  }

  /** A DMA fault. `suppressed` is the context entry's Fault Processing Disable; `detail` is for the event only. */
  report(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    reason: FaultReason,
    suppressed: boolean,
    detail: FaultDetail,
  ): void {
    const { statistics } = this.core;
    const info = FAULT_REASONS[reason];
    statistics.faults[reason]++;
    const outcome = suppressed && info.qualified ? 'suppressed' : this.record(requesterId, high, low, access, reason);
    if (outcome === 'recorded') statistics.faultsRecorded++;
    else if (outcome === 'suppressed') statistics.faultsSuppressed++;
    else if (outcome === 'collapsed') statistics.faultsCollapsed++;
    else statistics.faultsOverflowed++;
    this.core.note(`fault.${outcome}`, {
      requesterId,
      iova: address64(high, low),
      access: ACCESS_NAMES[access & 3],
      reason,
      name: info.name,
      condition: info.condition,
    });
    // Last, so that the event of the failed transfer follows it.
    if ((this.core.events.mask & EventClass.fault) !== 0) {
      this.emit(requesterId, high, low, access, reason, FaultOutcome[outcome], detail);
    }
  }

  private emit(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    reason: FaultReason,
    outcome: number,
    detail: FaultDetail,
  ): void {
    const { events, source } = this.core;
    const { domain, cause, level, entryLow, entryHigh, entryFrame, addressWidth } = detail;
    events.emitLong(
      Kind.fault,
      source,
      requesterId | (access << 16) | (outcome << 18) | (cause << 22),
      high,
      low,
      reason,
      domain,
      -1,
      level,
      entryHigh,
      entryLow,
      entryFrame >>> 20,
      (entryFrame << 12) | detail.entryOffset,
      addressWidth,
      0,
    );
  }

  /** An error of the invalidation queue (6.5.2.11). `info` is the code for IQERCD.IQEI. */
  reportQueueError(info: number): void {
    const { registers } = this.core;
    const fresh = !this.waiting();
    registers.set(this.queueErrorInfo, info);
    registers.set(this.queueError, 1);
    if (fresh) this.event.raise();
  }

  /** Software wrote the fault status register. */
  statusWritten(): void {
    if (!this.waiting()) this.event.serviced();
  }

  /** Software wrote the word of a fault record that holds F. */
  recordWritten(): void {
    const { registers, capabilities } = this.core;
    let pending = 0;
    for (let index = 0; index < capabilities.faultRecords; index++) {
      if (registers.words[FIRST_WORD + index * RECORD_WORDS + 3] & FAULT) pending = 1;
    }
    registers.set(this.pending, pending);
    if (!this.waiting()) this.event.serviced();
  }

  /** Translation was disabled: recording starts over at the first register. */
  rewind(): void {
    this.next = 0;
  }

  /** Where the next fault is recorded. */
  get position(): number {
    return this.next;
  }

  /** Of a restored state: less than CAP.NFR + 1. */
  set position(index: number) {
    this.next = index;
  }

  private waiting(): boolean {
    return (this.core.registers.words[this.status] & this.conditions) !== 0;
  }

  private record(requesterId: number, high: number, low: number, access: number, reason: number) {
    const { registers, capabilities } = this.core;
    if (registers.get(this.overflow) === 1) return 'overflowed';
    if (capabilities.collapseFaults && this.hasPending(requesterId)) return 'collapsed';
    const at = FIRST_WORD + this.next * RECORD_WORDS;
    if (registers.words[at + 3] & FAULT) {
      registers.set(this.overflow, 1);
      return 'overflowed';
    }
    const fresh = !this.waiting();
    if (registers.get(this.pending) === 0) registers.set(this.firstIndex, this.next);
    registers.words[at] = low & PAGE_MASK;
    registers.words[at + 1] = high & this.highMask;
    registers.words[at + 2] = requesterId | (access === (Access.read | Access.write) ? TYPE2 : 0);
    registers.words[at + 3] = FAULT | (access === Access.write ? 0 : TYPE1) | reason;
    registers.set(this.pending, 1);
    this.next = this.next + 1 === capabilities.faultRecords ? 0 : this.next + 1;
    if (fresh) this.event.raise();
    return 'recorded';
  }

  private hasPending(requesterId: number): boolean {
    const { registers, capabilities } = this.core;
    for (let index = 0; index < capabilities.faultRecords; index++) {
      const at = FIRST_WORD + index * RECORD_WORDS;
      if (registers.words[at + 3] & FAULT && (registers.words[at + 2] & 0xffff) === requesterId) return true;
    }
    return false;
  }
}

function bit(field: FieldHandle): number {
  return field.mask << field.shift;
}
