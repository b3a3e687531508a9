/**
 * The `DmaPort` of an endpoint behind a translator. Translation and use are one step: a page is copied under the translation just
 * made for it, and nothing is remembered from one transfer to the next.
 */
import { FRAME_SHIFT, type GuestMemory, MemoryStatus } from '../memory/guest-memory.ts';
import { type DmaPort, DmaStatus } from '../pci/ports.ts';
import { Access, Translation, type Translator } from './translator.ts';

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
  /** Bytes that reached, or came from, guest memory; also those of transfers that failed later on. */
  bytesRead = 0;
  bytesWritten = 0;
  /** Index: `DmaStatus`. */
  readonly byStatus = new Float64Array(5);
}

/** A large page counts as one piece, and a run grows, up to 1 GiB: both together still fit an int32. */
const PIECE_SHIFT_MAX = 30;
const RUN_BYTES_MAX = 1 << 30;
const PAGE_OFFSET_MASK = (1 << FRAME_SHIFT) - 1;

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
    const status = this.transfer(Access.read, high, low, target, at, length);
    this.counters.reads++;
    this.counters.byStatus[status]!++;
    return status;
  }

  /** Throws a RangeError if `source` is not that large: an error of the device model, not of the guest. */
  write(high: number, low: number, source: Uint8Array, at: number, length: number): DmaStatus {
    const status = this.transfer(Access.write, high, low, source, at, length);
    this.counters.writes++;
    this.counters.byStatus[status]!++;
    return status;
  }

  private transfer(
    access: number,
    high: number,
    low: number,
    buffer: Uint8Array,
    at: number,
    length: number,
  ): DmaStatus {
    if (at < 0 || length < 0 || at + length > buffer.length) {
      throw new RangeError(`a transfer of ${length} bytes at ${at} does not fit a buffer of ${buffer.length}`);
    }
    const { translator, translation, requesterId, gate } = this;
    const generation = gate.generation;
    if (!gate.busMaster) return DmaStatus.notBusMaster;

    // A run: physically contiguous bytes that are translated but not yet copied.
    let runFrame = 0;
    let runOffset = 0;
    let run = 0;
    let left = length;
    while (left > 0) {
      const translated = translator.translate(requesterId, high, low, access, translation);
      const open = this.openStatus(generation);
      if (open !== DmaStatus.ok) return open;
      if (!translated) {
        // The pages before this one are done, as if they had been sent one by one.
        const before = run === 0 ? DmaStatus.ok : this.copy(access, runFrame, runOffset, buffer, at, run, generation);
        return before === DmaStatus.ok ? DmaStatus.fault : before;
      }

      const frame = translation.frame;
      const shift = Math.min(translation.shift, PIECE_SHIFT_MAX);
      const offset = low & PAGE_OFFSET_MASK;
      const toEnd = (1 << shift) - (low & ((1 << shift) - 1));
      const piece = Math.min(left, toEnd);

      // A run always ends at a page's end here, so that its next byte is the next frame's first.
      const follows = run !== 0 && frame === runFrame + ((runOffset + run) >>> FRAME_SHIFT);
      if (follows && run < RUN_BYTES_MAX) {
        run += piece;
      } else {
        if (run !== 0) {
          const status = this.copy(access, runFrame, runOffset, buffer, at, run, generation);
          if (status !== DmaStatus.ok) return status;
          at += run;
        }
        runFrame = frame;
        runOffset = offset;
        run = piece;
      }

      left -= piece;
      const next = (low + piece) | 0;
      if (next >>> 0 < low >>> 0) high = (high + 1) | 0;
      low = next;
    }
    return run === 0 ? DmaStatus.ok : this.copy(access, runFrame, runOffset, buffer, at, run, generation);
  }

  private copy(
    access: number,
    frame: number,
    offset: number,
    buffer: Uint8Array,
    at: number,
    length: number,
    generation: number,
  ): DmaStatus {
    const status =
      access === Access.read
        ? this.memory.read(frame, offset, buffer, at, length)
        : this.memory.write(frame, offset, buffer, at, length);
    if (status === MemoryStatus.ok) {
      if (access === Access.read) this.counters.bytesRead += length;
      else this.counters.bytesWritten += length;
    }
    const open = this.openStatus(generation);
    if (open !== DmaStatus.ok) return open;
    return status === MemoryStatus.ok ? DmaStatus.ok : DmaStatus.noMemory;
  }

  /** Memory that is reached by messages takes its time: whether the transfer may still go on. */
  private openStatus(generation: number): DmaStatus {
    if (this.gate.generation !== generation) return DmaStatus.aborted;
    return this.gate.busMaster ? DmaStatus.ok : DmaStatus.notBusMaster;
  }
}
