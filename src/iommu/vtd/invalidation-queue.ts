/** The invalidation queue (6.5.2): a ring of descriptors in guest memory that software fills and the unit empties, in jobs. */
import { MemoryStatus } from '../../memory/guest-memory.ts';
import type { FieldHandle } from '../../pci/registers.ts';
import { EventClass, Kind } from '../../trace/event-kinds.ts';
import { address64 } from '../address64.ts';
import { MAX_ADDRESS_MASK } from './capabilities.ts';
import { frameOf, type VtdCore } from './core.ts';
import { DescriptorCheck } from './descriptor-check.ts';
import { DESCRIPTOR_BYTES, DESCRIPTORS, DescriptorType, descriptorType } from './descriptors.ts';
import { EntryReader } from './entry-reader.ts';
import { EventInterrupt } from './events.ts';
import type { FaultLog } from './faults.ts';
import { type CacheInvalidator, Granularity } from './invalidation.ts';

/** IQERCD.IQEI (11.4.9.9). */
export const QueueError = {
  tail: 1,
  fetch: 2,
  type: 3,
  reserved: 4,
  width: 5,
  mode: 7,
} as const;
type QueueError = (typeof QueueError)[keyof typeof QueueError];

/** After so many descriptors other jobs get their turn: a guest cannot keep the device thread to itself. */
export const DESCRIPTORS_PER_JOB = 256;
/** The same where there are checks, after so many comparisons of mappings with the tables: about 100 ns each. */
export const COMPARISONS_PER_JOB = 8192;

const QUEUE_PAGE_BYTES = 4096;
const INTERRUPT_FLAG = 1 << 4;
const STATUS_WRITE = 1 << 5;

export interface InvalidationQueueOptions {
  /** Tells the translation table mode in use. */
  readonly mode: () => number;
  /** Whether each descriptor is read a second time. */
  readonly checks: boolean;
  /** Asked at each wait descriptor; true: nothing says that it is complete. */
  readonly dropCompletion: (() => boolean) | undefined;
  /** Grows with each mapping that the checks compare. */
  readonly comparisons: () => number;
}

export class InvalidationQueue {
  readonly completion: EventInterrupt;
  private readonly head: number;
  private readonly tail: number;
  private readonly base: number;
  private readonly size: FieldHandle;
  private readonly wide: FieldHandle;
  private readonly complete: FieldHandle;
  private readonly enabled: FieldHandle;
  private readonly statusHighMask: number;
  private scheduled = false;
  /** Grows when the queue is disabled or reset: whoever waited for guest memory compares it and gives up. */
  private cycle = 0;
  private readonly descriptor: EntryReader;
  private readonly check: DescriptorCheck | undefined;

  private readonly mode: () => number;
  private readonly dropCompletion: (() => boolean) | undefined;
  private readonly comparisons: () => number;

  constructor(
    private readonly core: VtdCore,
    private readonly caches: CacheInvalidator,
    private readonly faults: FaultLog,
    { mode, checks, dropCompletion, comparisons }: InvalidationQueueOptions,
  ) {
    const { registers, capabilities } = core;
    this.mode = mode;
    this.dropCompletion = dropCompletion;
    this.comparisons = comparisons;
    this.check = checks ? new DescriptorCheck(core) : undefined;
    this.completion = new EventInterrupt(core, 'IE', () => core.statistics.completionInterrupts++);
    this.descriptor = new EntryReader(core.memory);
    this.head = registers.offset('IQH') >>> 2;
    this.tail = registers.offset('IQT') >>> 2;
    this.base = registers.offset('IQA') >>> 2;
    this.size = registers.field('IQA', 'QS');
    this.wide = registers.field('IQA', 'DW');
    this.complete = registers.field('ICS', 'IWC');
    this.enabled = registers.field('GSTS', 'QIES');
    this.statusHighMask = 2 ** (capabilities.hostAddressWidth - 32) - 1;
  }

  /** The queue's length in bytes. */
  get bytes(): number {
    return QUEUE_PAGE_BYTES << this.core.registers.get(this.size);
  }

  get empty(): boolean {
    const { words } = this.core.registers;
    return words[this.head] === words[this.tail];
  }

  /** There may be something to do: software moved the tail, enabled the queue or cleared an error. */
  doorbell(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    this.core.later('queue', () => this.run());
  }

  /** The queue has been disabled: hardware's pointer starts over. */
  rewind(): void {
    this.cycle++;
    this.core.registers.words[this.head] = 0;
  }

  /** After a reset: the job that was under way will not run. */
  reset(): void {
    this.cycle++;
    this.scheduled = false;
  }

  /** Software cleared the completion status. */
  completionWritten(): void {
    if (this.core.registers.get(this.complete) === 0) this.completion.serviced();
  }

  private get running(): boolean {
    return this.core.registers.get(this.enabled) === 1 && !this.faults.queueStopped;
  }

  private run(): void {
    this.scheduled = false;
    if (!this.running) return;
    const error = this.misprogrammed();
    if (error !== 0) {
      this.stop(error, 'the queue is programmed wrongly');
      return;
    }
    const { cycle } = this;
    const last = this.comparisons() + COMPARISONS_PER_JOB;
    for (let count = 0; count < DESCRIPTORS_PER_JOB && !this.empty; count++) {
      // Guest memory may be slow enough for software to disable or reset the unit meanwhile.
      if (!this.step(cycle) || cycle !== this.cycle) return;
      if (this.comparisons() >= last) break;
    }
    if (!this.empty) this.doorbell();
  }

  private misprogrammed(): QueueError | 0 {
    const { registers } = this.core;
    // An error in itself (11.4.9.3); all others are found when a descriptor is due.
    if (registers.get(this.wide)) return QueueError.width;
    return this.mode() !== 0 && !this.empty ? QueueError.mode : 0;
  }

  /** One descriptor. False where the queue has stopped. */
  private step(cycle: number): boolean {
    const { registers } = this.core;
    const { words } = registers;
    const bytes = this.bytes;
    const head = words[this.head];
    if (words[this.tail] >= bytes) return this.stop(QueueError.tail, 'tail beyond the end of the queue');
    // Software may have made the queue smaller while it was in use.
    if (head >= bytes) return this.stop(QueueError.fetch, 'head beyond the end of the queue');
    const fetched = this.fetch(head);
    if (cycle !== this.cycle) return false;
    if (!fetched) return this.stop(QueueError.fetch, 'descriptor not readable');
    const { w0, w1, w2, w3 } = this.descriptor;
    const type = descriptorType(w0);
    const format = DESCRIPTORS.get(type);
    if (!format) return this.stop(QueueError.type, `descriptor type ${type} is not valid here`);
    const [d0, d1, d2, d3] = format.defined;
    if ((w0 & ~d0) | (w1 & ~d1) | (w2 & ~d2) | (w3 & ~d3)) {
      return this.stop(QueueError.reserved, `reserved bits in ${format.name}`);
    }
    const granularity = (w0 >>> 4) & 3;
    if (type === DescriptorType.context || type === DescriptorType.iotlb) {
      if (granularity === Granularity.reserved) {
        return this.stop(QueueError.reserved, `reserved granularity in ${format.name}`);
      }
      const mask = w2 & 0x3f;
      if (type === DescriptorType.iotlb && granularity === Granularity.selective && mask > MAX_ADDRESS_MASK) {
        return this.stop(QueueError.reserved, `address mask ${mask} above CAP.MAMV`);
      }
    }
    this.check?.compare(this.frameOf(head), head & 0xfff, this.descriptor);
    // The head moves when the descriptor is known to be valid, before it is carried out.
    const next = head + DESCRIPTOR_BYTES;
    words[this.head] = next === bytes ? 0 : next;
    this.execute(type, granularity);
    return true;
  }

  private fetch(head: number): boolean {
    return this.descriptor.read(this.frameOf(head), head & 0xfff);
  }

  /** The page frame of the descriptor that many bytes from the start of the queue. */
  private frameOf(head: number): number {
    const { words } = this.core.registers;
    return frameOf(words[this.base + 1], words[this.base]) + (head >>> 12);
  }

  private execute(type: number, granularity: number): void {
    const { statistics } = this.core;
    const { w0, w1, w2, w3 } = this.descriptor;
    const domain = w0 >>> 16;
    if (type === DescriptorType.context) {
      this.caches.context(statistics.queued, granularity, domain, w1 & 0xffff, (w1 >>> 16) & 3);
    } else if (type === DescriptorType.iotlb) {
      const leafOnly = (w2 & 0x40) !== 0;
      this.caches.iotlb(statistics.queued, granularity, domain, w3, w2, w2 & 0x3f, leafOnly);
    } else if (type === DescriptorType.interruptEntry) {
      // A valid type of legacy mode; without interrupt remapping there is no such cache to empty.
      statistics.interruptEntryInvalidations++;
    } else {
      this.wait();
    }
  }

  /** Everything ahead in the queue is complete, and so is the DMA that came before it. The fence flag needs nothing more. */
  private wait(): void {
    const { memory, registers, statistics } = this.core;
    const { cycle } = this;
    const { w0, w1, w2, w3 } = this.descriptor;
    const interrupt = (w0 & INTERRUPT_FLAG) !== 0;
    statistics.waitDescriptors++;
    if (this.dropCompletion?.()) {
      this.emitWait(false, false);
      return;
    }
    let written = false;
    if (w0 & STATUS_WRITE) {
      const high = w3 & this.statusHighMask;
      const low = w2;
      const status = memory.store32(frameOf(high, low), low & 0xffc, w1);
      if (cycle !== this.cycle) return;
      written = status === MemoryStatus.ok;
      if (!written) this.core.note('vtd.statusWriteLost', { address: address64(high, low), status });
    }
    this.emitWait(written, interrupt);
    if (!interrupt || registers.get(this.complete)) return;
    registers.set(this.complete, 1);
    this.completion.raise();
  }

  private emitWait(written: boolean, interrupt: boolean): void {
    const { events, source } = this.core;
    if ((events.mask & EventClass.invalidation) === 0) return;
    const { w0, w1, w2, w3 } = this.descriptor;
    const how = (written ? 1 : 0) | (interrupt ? 2 : 0);
    if ((w0 & STATUS_WRITE) === 0) events.emit(Kind['invalidation.wait'], source, how, 0, 0, 0, 0);
    else events.emit(Kind['invalidation.wait'], source, how, w3 & this.statusHighMask, w2, w1, 0);
  }

  private stop(error: QueueError, why: string): false {
    this.core.statistics.queueErrors++;
    this.core.note('vtd.queueError', {
      error,
      why,
      head: this.core.registers.words[this.head],
      ...(error === QueueError.type || error === QueueError.reserved ? { descriptor: this.raw() } : {}),
    });
    this.faults.reportQueueError(error);
    return false;
  }

  /** As text: 128 bits are more than an integer of a message or of a record has. */
  private raw(): string {
    const { w0, w1, w2, w3 } = this.descriptor;
    return `0x${((address64(w3, w2) << 64n) | address64(w1, w0)).toString(16)}`;
  }
}
