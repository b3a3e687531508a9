/**
 * The `DmaPort` of an endpoint behind a translator. Translation and use are one step: a page is copied under the translation just
 * made for it, and nothing is remembered from one transfer to the next.
 */
import type { GuestMemory } from '../memory/guest-memory.ts';
import { type DmaPort, DmaStatus } from '../pci/ports.ts';
import { Translation, type Translator } from './translator.ts';

/** What the function's configuration space and its connection say about DMA now. */
export interface DmaGate {
  /** Command register, bit 2. */
  readonly busMaster: boolean;
  /** Changes whenever what is under way must not go on: reset, disconnect. */
  readonly generation: number;
}

export interface DmaPortOptions {
  readonly translator: Translator;
  readonly memory: GuestMemory;
  readonly requesterId: number;
  readonly gate: DmaGate;
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

/** Of one call; fits an int32. */
export const TRANSFER_BYTES_MAX = 0x7fffffff;

export class TranslatedDmaPort implements DmaPort {
  readonly counters = new DmaCounters();

  private readonly translator: Translator;
  private readonly memory: GuestMemory;
  private readonly requesterId: number;
  private readonly gate: DmaGate;
  private readonly translation = new Translation();

  constructor(options: DmaPortOptions) {
    this.translator = options.translator;
    this.memory = options.memory;
    this.requesterId = options.requesterId;
    this.gate = options.gate;
  }

  /** Throws a RangeError if `target` is not that large: an error of the device model, not of the guest. */
  read(high: number, low: number, target: Uint8Array, at: number, length: number): DmaStatus {
    const status = this.transfer(false, high, low, target, at, length);
    this.counters.reads++;
    this.counters.byStatus[status]!++;
    return status;
  }

  /** Throws a RangeError if `source` is not that large: an error of the device model, not of the guest. */
  write(high: number, low: number, source: Uint8Array, at: number, length: number): DmaStatus {
    const status = this.transfer(true, high, low, source, at, length);
    this.counters.writes++;
    this.counters.byStatus[status]!++;
    return status;
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
      throw new RangeError(`a transfer of ${length} bytes at ${at} does not fit a buffer of ${buffer.length}`);
    }
    const { translator, translation, requesterId, gate } = this;
    const generation = gate.generation;
    if (!gate.busMaster) return DmaStatus.notBusMaster;

    // On this path numbers stand for `Access`, page and piece sizes, because the compiler cannot fold what modules export, and
    // `| 0` marks int32. A 1 GiB page and a run of less than 1 GiB still fit together.
    const access = writing ? 2 : 1;
    const pieceMax = 1 << 30;
    let iovaHigh = high | 0;
    let iovaLow = low | 0;
    // A run: physically contiguous bytes that are translated but not yet copied.
    let runFrame = 0;
    let runOffset = 0;
    let run = 0;
    let left = length | 0;
    // One place that translates and one that copies: more, and the compiler no longer inlines either.
    for (;;) {
      let frame = 0;
      let piece = 0;
      if (left !== 0) {
        const translated = translator.translate(requesterId, iovaHigh, iovaLow, access, translation);
        // Memory that is reached by messages takes its time, that of the tables included.
        if (gate.generation !== generation || !gate.busMaster) return this.closedStatus(generation);
        if (translated) {
          frame = translation.frame | 0;
          const size = translation.shift < 30 ? 1 << translation.shift : pieceMax;
          piece = Math.min(left, size - (iovaLow & (size - 1))) | 0;
        }
      }
      // A run that goes on ends at a page's end, so that its next byte is the next frame's first.
      const follows = piece !== 0 && run !== 0 && frame === runFrame + ((runOffset + run) >>> 12) && run < pieceMax;
      if (!follows) {
        if (run !== 0) {
          const status = this.copy(writing, runFrame, runOffset, buffer, at + length - left - run, run, generation);
          if (status !== 0) return status;
        }
        // On a fault the pages before are done, as if they had been sent one by one.
        if (piece === 0) return left === 0 ? 0 : DmaStatus.fault;
        runFrame = frame;
        runOffset = iovaLow & 0xfff;
        run = 0;
      }
      run = (run + piece) | 0;
      left = (left - piece) | 0;
      iovaLow = (iovaLow + piece) | 0;
      // A piece ends at 2^32 or before it, because no page lies across it.
      if (iovaLow === 0) iovaHigh = (iovaHigh + 1) | 0;
    }
  }

  private copy(
    writing: boolean,
    frame: number,
    offset: number,
    buffer: Uint8Array,
    at: number,
    length: number,
    generation: number,
  ): DmaStatus {
    const { memory, gate, counters } = this;
    const status = writing
      ? memory.write(frame, offset, buffer, at, length)
      : memory.read(frame, offset, buffer, at, length);
    if (status === 0) {
      if (writing) counters.bytesWritten += length;
      else counters.bytesRead += length;
    }
    if (gate.generation !== generation || !gate.busMaster) return this.closedStatus(generation);
    return status === 0 ? 0 : DmaStatus.noMemory;
  }

  /** Why the gate closed while a transfer was under way. */
  private closedStatus(generation: number): DmaStatus {
    return this.gate.generation !== generation ? DmaStatus.aborted : DmaStatus.notBusMaster;
  }
}
