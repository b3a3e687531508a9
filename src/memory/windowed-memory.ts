/**
 * Guest memory in windows: the checks and the copies, which is all there is on the fast path. What is not in a window is
 * left to the class that extends it.
 */
import { CopyEnd } from './copy.ts';
import {
  FRAME_BYTES,
  FRAME_SHIFT,
  type GuestMemory,
  MemoryStatus,
  type MemoryWindow,
  WINDOW_FRAME_MASK,
  WINDOW_FRAME_SHIFT,
} from './guest-memory.ts';
import { CHUNK_FRAME_MASK, CHUNK_FRAME_SHIFT, MIXED, PageFlag, PageFlags } from './page-flags.ts';

const CHUNK_BYTES = 1 << (CHUNK_FRAME_SHIFT + FRAME_SHIFT);
const DIRECT_READ = PageFlag.readable | PageFlag.mapped;
const DIRECT_WRITE = PageFlag.writable | PageFlag.mapped;
const LOGGED = PageFlag.logged;
/** Of these flags of a chunk `DIRECT_WRITE` alone lets a write take the fast path, so that a log costs nothing where there is none. */
const WRITE_CHECK = DIRECT_WRITE | MIXED | LOGGED;
/** Times a 64-bit word is read again because its low half changed meanwhile. */
const TORN_READ_RETRIES = 8;

/** Indexes of `counters`. */
export const DirectCounter = { read: 0, written: 1 } as const;

export abstract class WindowedMemory implements GuestMemory {
  readonly windows: (MemoryWindow | undefined)[] = [];
  generation = 0;
  low = 0;
  high = 0;

  protected readonly flags = new PageFlags();
  /** Bytes copied out of and into windows; doubles in an array, so that counting allocates nothing. */
  protected readonly counters = new Float64Array(2);
  /** By window number; of use only while it is the end of the window that is there. */
  private readonly ends: (CopyEnd | undefined)[] = [];
  /** Of the buffer that the last copy came from or went to: device models mostly have one. */
  private buffer = new CopyEnd(new Uint8Array(0));
  private readonly word = new Uint8Array(8);
  private readonly wordView = new DataView(this.word.buffer);

  /**
   * A part of a transfer that lies outside windows, within pages that all have `flags`: moves as much as it can at once, at
   * most `length`, and says how much in `moved`.
   */
  protected abstract transferElsewhere(
    writing: boolean,
    flags: number,
    frame: number,
    offset: number,
    buffer: Uint8Array,
    at: number,
    length: number,
  ): MemoryStatus;
  protected moved = 0;

  /** Called before a write to pages whose flags have `logged`, and again after one that was waited for. */
  protected logWrite(_frame: number, _offset: number, _length: number): void {}

  read(frame: number, offset: number, target: Uint8Array, at: number, length: number): MemoryStatus {
    checkBuffer(target, at, length);
    const chunk = frame >>> CHUNK_FRAME_SHIFT;
    const chunks = this.flags.chunks;
    if (
      chunk < chunks.length &&
      (chunks[chunk]! & (DIRECT_READ | MIXED)) === DIRECT_READ &&
      ((frame & CHUNK_FRAME_MASK) << FRAME_SHIFT) + offset + length <= CHUNK_BYTES
    ) {
      this.copyOut(frame, offset, target, at, length);
      return MemoryStatus.ok;
    }
    return this.transfer(false, frame, offset, target, at, length);
  }

  write(frame: number, offset: number, source: Uint8Array, at: number, length: number): MemoryStatus {
    checkBuffer(source, at, length);
    const chunk = frame >>> CHUNK_FRAME_SHIFT;
    const chunks = this.flags.chunks;
    if (
      chunk < chunks.length &&
      (chunks[chunk]! & WRITE_CHECK) === DIRECT_WRITE &&
      ((frame & CHUNK_FRAME_MASK) << FRAME_SHIFT) + offset + length <= CHUNK_BYTES
    ) {
      this.copyIn(frame, offset, source, at, length);
      return MemoryStatus.ok;
    }
    return this.transfer(true, frame, offset, source, at, length);
  }

  load64(frame: number, offset: number): MemoryStatus {
    if ((this.flags.at(frame) & DIRECT_READ) === DIRECT_READ && (offset & ~0xff8) === 0) {
      const words = this.windows[frame >>> WINDOW_FRAME_SHIFT]!.words;
      const index = ((frame & WINDOW_FRAME_MASK) << 10) + (offset >> 2);
      // Two loads are not one: where the guest changes the word in between, its halves must not be mixed.
      let low = Atomics.load(words, index);
      let high = Atomics.load(words, index + 1);
      for (let i = 0; i < TORN_READ_RETRIES; i++) {
        const again = Atomics.load(words, index);
        if (again === low) break;
        low = again;
        high = Atomics.load(words, index + 1);
      }
      this.low = low;
      this.high = high;
      return MemoryStatus.ok;
    }
    const status = this.transfer(false, frame, offset, this.word, 0, 8);
    if (status === MemoryStatus.ok) {
      this.low = this.wordView.getInt32(0, true);
      this.high = this.wordView.getInt32(4, true);
    }
    return status;
  }

  store32(frame: number, offset: number, value: number): MemoryStatus {
    const flags = this.flags.at(frame);
    if ((flags & DIRECT_WRITE) === DIRECT_WRITE && (offset & ~0xffc) === 0) {
      if ((flags & LOGGED) !== 0) this.logWrite(frame, offset, 4);
      const words = this.windows[frame >>> WINDOW_FRAME_SHIFT]!.words;
      Atomics.store(words, ((frame & WINDOW_FRAME_MASK) << 10) + (offset >> 2), value);
      this.counters[DirectCounter.written]! += 4;
      return MemoryStatus.ok;
    }
    this.wordView.setInt32(0, value, true);
    return this.transfer(true, frame, offset, this.word, 0, 4);
  }

  compareExchange32(frame: number, offset: number, expected: number, value: number): MemoryStatus {
    const flags = this.flags.at(frame);
    if ((flags & DIRECT_WRITE) === DIRECT_WRITE && (offset & ~0xffc) === 0) {
      if ((flags & LOGGED) !== 0) this.logWrite(frame, offset, 4);
      const words = this.windows[frame >>> WINDOW_FRAME_SHIFT]!.words;
      const index = ((frame & WINDOW_FRAME_MASK) << 10) + (offset >> 2);
      this.low = Atomics.compareExchange(words, index, expected, value);
      if (this.low === expected) this.counters[DirectCounter.written]! += 4;
      return MemoryStatus.ok;
    }
    const status = this.transfer(false, frame, offset, this.word, 0, 4);
    if (status !== MemoryStatus.ok) return status;
    this.low = this.wordView.getInt32(0, true);
    return this.low === expected ? this.store32(frame, offset, value) : MemoryStatus.ok;
  }

  /** Run by run of pages with the same flags, which are looked at anew each time: they may change while a message is out. */
  private transfer(
    writing: boolean,
    frame: number,
    offset: number,
    buffer: Uint8Array,
    at: number,
    length: number,
  ): MemoryStatus {
    const needed = writing ? PageFlag.writable : PageFlag.readable;
    frame += offset >>> FRAME_SHIFT;
    offset &= FRAME_BYTES - 1;
    while (length > 0) {
      const flags = this.flags.at(frame);
      let moved: number;
      if ((flags & PageFlag.mapped) !== 0) {
        if ((flags & needed) === 0) return MemoryStatus.denied;
        moved = Math.min(length, this.flags.run(frame) * FRAME_BYTES - offset);
        if (writing && (flags & LOGGED) !== 0) this.logWrite(frame, offset, moved);
        if (writing) this.copyIn(frame, offset, buffer, at, moved);
        else this.copyOut(frame, offset, buffer, at, moved);
      } else {
        // Before it is sent, for a client that looks when it has the data.
        if (writing && (flags & LOGGED) !== 0) this.logWrite(frame, offset, length);
        const status = this.transferElsewhere(writing, flags, frame, offset, buffer, at, length);
        // And after it, by the flags of now: while it was waited for, the log may have been read, or begun. Of one that failed nobody
        // knows how far it got.
        if (writing && (this.flags.at(frame) & LOGGED) !== 0) this.logWrite(frame, offset, length);
        if (status !== MemoryStatus.ok) return status;
        moved = this.moved;
      }
      length -= moved;
      at += moved;
      offset += moved;
      frame += offset >>> FRAME_SHIFT;
      offset &= FRAME_BYTES - 1;
    }
    return MemoryStatus.ok;
  }

  /** Within one window, and all of it readable there. */
  private copyOut(frame: number, offset: number, target: Uint8Array, at: number, length: number): void {
    const from = ((frame & 0x3ffff) << 12) + offset;
    const end = this.endOfWindow(frame >>> 18);
    // 96 is `COPY_LOOP_LIMIT`: the compiler cannot fold what other modules export.
    if (length > 96) target.set(end.view(from, length), at);
    else end.copyLoop(this.endOfBuffer(target), from, at, length);
    this.counters[0]! += length;
  }

  private copyIn(frame: number, offset: number, source: Uint8Array, at: number, length: number): void {
    const to = ((frame & 0x3ffff) << 12) + offset;
    const end = this.endOfBuffer(source);
    if (length > 96) this.windows[frame >>> 18]!.bytes.set(end.partView(at, length), to);
    else end.copyLoop(this.endOfWindow(frame >>> 18), at, to, length);
    this.counters[1]! += length;
  }

  private endOfWindow(index: number): CopyEnd {
    const { ends } = this;
    if (index < ends.length) {
      const end = ends[index];
      if (end !== undefined && end.bytes === this.windows[index]!.bytes) return end;
    }
    return this.newEndOfWindow(index);
  }

  private newEndOfWindow(index: number): CopyEnd {
    const end = new CopyEnd(this.windows[index]!.bytes);
    // Filled up, so that the array stays a dense one.
    while (this.ends.length <= index) this.ends.push(undefined);
    this.ends[index] = end;
    return end;
  }

  private endOfBuffer(buffer: Uint8Array): CopyEnd {
    if (this.buffer.bytes !== buffer) this.buffer = new CopyEnd(buffer);
    return this.buffer;
  }
}

function checkBuffer(buffer: Uint8Array, at: number, length: number): void {
  if (at < 0 || length < 0 || at + length > buffer.length) {
    throw new RangeError(`[${at}, ${at} + ${length}) is not in a buffer of ${buffer.length} bytes`);
  }
}
