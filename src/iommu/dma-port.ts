/**
 * The `DmaPort` of an endpoint behind a translator. Translation and use are one step: a page is copied under the translation just
 * made for it, and nothing is remembered from one transfer to the next.
 */
import type { GuestMemory, MemoryBatch } from '../memory/guest-memory.ts';
import { type DmaPort, DmaStatus } from '../pci/ports.ts';
import { EventClass, Kind } from '../trace/event-kinds.ts';
import { type Events, noEvents } from '../trace/events.ts';
import type { Trace } from '../trace/trace.ts';
import { isRunTranslator, PageByPage, type RunTranslator, Translation, type Translator } from './translator.ts';

/** What the function's configuration space and its connection say about DMA now. */
export interface DmaGate {
  /** Command register, bit 2. */
  readonly busMaster: boolean;
  /** Changes whenever what is under way must not go on: reset, disconnect. */
  readonly generation: number;
}

/** Whether requests get to the IOMMU at all; where not, they end as `DmaStatus.fault`, which no IOMMU records. */
export interface DmaPath {
  readonly open: boolean;
  /** Told of each request that met a closed one. */
  refused(): void;
}

const alwaysOpen: DmaPath = { open: true, refused() {} };

export interface DmaPortOptions {
  readonly translator: Translator;
  readonly memory: GuestMemory;
  readonly requesterId: number;
  readonly gate: DmaGate;
  /** Changes with the gate's generation. Default: always open. */
  readonly path?: DmaPath;
  /** Where transfers are told, with the endpoint's `name`. Default: nowhere. */
  readonly trace?: Trace;
  readonly name?: string;
  /** What the transfers carry. Default: no PASID. */
  readonly pasid?: number;
  /** Where they are counted. Default: counters of its own. */
  readonly counters?: DmaCounters;
}

/** Numbers since construction. */
export class DmaCounters {
  reads = 0;
  writes = 0;
  /** Bytes of the physically contiguous runs that went through, also in transfers that failed later on. */
  bytesRead = 0;
  bytesWritten = 0;
  /** Index: `DmaStatus`. */
  readonly byStatus = new Float64Array(5);
}

const NO_PASID = -1;
const WRITE_FLAG = 1 << 20;

/** Of one call; fits an int32. */
export const TRANSFER_BYTES_MAX = 0x7fffffff;

export class TranslatedDmaPort implements DmaPort {
  readonly counters: DmaCounters;

  private readonly translator: RunTranslator;
  private readonly memory: GuestMemory;
  private readonly requesterId: number;
  private readonly gate: DmaGate;
  private readonly path: DmaPath;
  private readonly translation = new Translation();
  private readonly events: Events;
  private readonly source: number;
  private readonly pasid: number;
  /** Classes of which an event has just told the time, if they are wanted. */
  private readonly timedBy: number;

  constructor(options: DmaPortOptions) {
    const { translator } = options;
    this.counters = options.counters ?? new DmaCounters();
    this.translator = isRunTranslator(translator) ? translator : new PageByPage(translator);
    this.memory = options.memory;
    this.requesterId = options.requesterId;
    this.gate = options.gate;
    this.path = options.path ?? alwaysOpen;
    this.events = options.trace?.records ?? noEvents;
    this.source = this.events.sourceId(options.name ?? 'dma');
    this.pasid = options.pasid ?? NO_PASID;
    this.timedBy = translator.emitsTranslations ? EventClass.translation : 0;
  }

  /** Throws a RangeError if `target` is not that large: an error of the device model, not of the guest. */
  read(high: number, low: number, target: Uint8Array, at: number, length: number): DmaStatus {
    const status = this.transfer(false, high, low, target, at, length);
    this.counters.reads++;
    this.counters.byStatus[status]!++;
    // 4 is `EventClass.dma`.
    if (status !== 0 || (this.events.mask & 4) !== 0) this.tell(false, status, high, low, length);
    return status;
  }

  /** Throws a RangeError if `source` is not that large: an error of the device model, not of the guest. */
  write(high: number, low: number, source: Uint8Array, at: number, length: number): DmaStatus {
    const status = this.transfer(true, high, low, source, at, length);
    this.counters.writes++;
    this.counters.byStatus[status]!++;
    // 4 is `EventClass.dma`.
    if (status !== 0 || (this.events.mask & 4) !== 0) this.tell(true, status, high, low, length);
    return status;
  }

  private tell(writing: boolean, status: DmaStatus, high: number, low: number, length: number): void {
    const { events, source, pasid } = this;
    const { mask } = events;
    const who = this.requesterId | (status << 16);
    if (status !== DmaStatus.ok) {
      if ((mask & EventClass.fault) === 0) return;
      events.emit(Kind['dma.failed'], source, who | (writing ? WRITE_FLAG : 0), high, low, length, pasid);
      return;
    }
    const kind = writing ? Kind['dma.write'] : Kind['dma.read'];
    // A transfer of nothing was not translated.
    if ((mask & this.timedBy) !== 0 && length !== 0) events.emitAlso(kind, source, who, high, low, length, pasid);
    else events.emit(kind, source, who, high, low, length, pasid);
  }

  private transfer(
    writing: boolean,
    high: number,
    low: number,
    buffer: Uint8Array,
    at: number,
    length: number,
  ): DmaStatus {
    if (at < 0 || length < 0 || at + length > buffer.length || length > TRANSFER_BYTES_MAX) {
      throw doesNotFit(buffer, at, length);
    }
    const { translation, gate } = this;
    const generation = gate.generation;
    if (!gate.busMaster) return DmaStatus.notBusMaster;
    if (length === 0) return DmaStatus.ok;
    if (!this.path.open) return this.pathClosed();
    // Numbers stand for `Access` here and below, because the compiler cannot fold what other modules export.
    const translated = this.translator.translateRun(this.requesterId, high, low, writing ? 2 : 1, length, translation);
    // Memory that is reached by messages takes its time, that of the tables included.
    if (gate.generation !== generation || !gate.busMaster) return this.closedStatus(generation);
    if (!translated) return DmaStatus.fault;
    if (translation.bytes < length) return this.transferRuns(writing, high, low, buffer, at, length, generation);
    // As in `copy`, without a call.
    const { memory, counters } = this;
    let status: number;
    if (writing) {
      status = memory.write(translation.frame, low & 0xfff, buffer, at, length);
      if (status === 0) counters.bytesWritten += length;
    } else {
      status = memory.read(translation.frame, low & 0xfff, buffer, at, length);
      if (status === 0) counters.bytesRead += length;
    }
    if (gate.generation !== generation || !gate.busMaster) return this.closedStatus(generation);
    return status === 0 ? 0 : DmaStatus.noMemory;
  }

  /** A transfer whose first bytes are translated, but not all. */
  private transferRuns(
    writing: boolean,
    high: number,
    low: number,
    buffer: Uint8Array,
    at: number,
    length: number,
    generation: number,
  ): DmaStatus {
    const { batch } = this.memory;
    if (batch === undefined) return this.copyRuns(undefined, writing, high, low, buffer, at, length, generation);
    const { counters, gate } = this;
    let status: DmaStatus;
    let copied: number;
    batch.begin();
    try {
      status = this.copyRuns(batch, writing, high, low, buffer, at, length, generation);
    } finally {
      copied = batch.end();
      if (writing) counters.bytesWritten += batch.moved;
      else counters.bytesRead += batch.moved;
    }
    if (gate.generation !== generation || !gate.busMaster) return this.closedStatus(generation);
    // A run that failed comes before one that is not translated.
    return copied === 0 ? status : DmaStatus.noMemory;
  }

  /** Run by run, where a run is physically contiguous. What a batch has copied is known at its end alone. */
  private copyRuns(
    batch: MemoryBatch | undefined,
    writing: boolean,
    high: number,
    low: number,
    buffer: Uint8Array,
    at: number,
    length: number,
    generation: number,
  ): DmaStatus {
    const { translator, translation, requesterId, gate } = this;
    const access = writing ? 2 : 1;
    // `| 0` tells the compiler that a number is an int32.
    let iovaHigh = high | 0;
    let iovaLow = low | 0;
    // Translated but not yet copied.
    let runFrame = translation.frame | 0;
    let runOffset = iovaLow & 0xfff;
    let run = 0;
    let piece = translation.bytes | 0;
    let left = length | 0;
    // Where the page before did not follow the one before that, the next is not likely to either: then single pages are asked for.
    let follows = true;
    for (;;) {
      run = (run + piece) | 0;
      left = (left - piece) | 0;
      iovaLow = (iovaLow + piece) | 0;
      // A piece ends at 2^32 or before it: no page lies across it.
      if (iovaLow === 0) iovaHigh = (iovaHigh + 1) | 0;

      piece = 0;
      if (left !== 0) {
        const ask = follows || left < 4096 ? left : 4096 - (iovaLow & 0xfff);
        const translated = translator.translateRun(requesterId, iovaHigh, iovaLow, access, ask, translation);
        if (gate.generation !== generation || !gate.busMaster) return this.closedStatus(generation);
        if (translated) piece = translation.bytes | 0;
        // A run that goes on ends at a page's end, so that its next byte is the next frame's first.
        follows = translated && translation.frame === runFrame + (((runOffset + run) | 0) >>> 12);
        if (follows) continue;
      }
      const from = at + length - left - run;
      const status = this.copy(batch, writing, runFrame, runOffset, buffer, from, run, generation);
      if (status !== 0) return status;
      // On a fault the pages before are done, as if they had been sent one by one.
      if (piece === 0) return left === 0 ? DmaStatus.ok : DmaStatus.fault;
      runFrame = translation.frame | 0;
      runOffset = iovaLow & 0xfff;
      run = 0;
    }
  }

  private copy(
    batch: MemoryBatch | undefined,
    writing: boolean,
    frame: number,
    offset: number,
    buffer: Uint8Array,
    at: number,
    length: number,
    generation: number,
  ): DmaStatus {
    const { gate, counters } = this;
    const memory = batch ?? this.memory;
    const status = writing
      ? memory.write(frame, offset, buffer, at, length)
      : memory.read(frame, offset, buffer, at, length);
    if (status === 0 && batch === undefined) {
      if (writing) counters.bytesWritten += length;
      else counters.bytesRead += length;
    }
    if (gate.generation !== generation || !gate.busMaster) return this.closedStatus(generation);
    return status === 0 ? 0 : DmaStatus.noMemory;
  }

  /** Why the gate closed while a transfer was under way. */
  private closedStatus(generation: number): DmaStatus {
    if (!this.path.open) return this.pathClosed();
    return this.gate.generation !== generation ? DmaStatus.aborted : DmaStatus.notBusMaster;
  }

  private pathClosed(): DmaStatus {
    this.path.refused();
    return DmaStatus.fault;
  }
}

function doesNotFit(buffer: Uint8Array, at: number, length: number): RangeError {
  return new RangeError(`a transfer of ${length} bytes at ${at} does not fit a buffer of ${buffer.length}`);
}
