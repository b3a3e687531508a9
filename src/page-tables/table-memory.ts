/**
 * Memory for page tables that are ours and not the guest's, in plain array buffers with page-frame numbers of their own. It is read
 * like guest memory, so that the same walker walks both.
 */
import {
  FRAME_BYTES,
  FRAME_SHIFT,
  type GuestMemory,
  MemoryStatus,
  type MemoryWindow,
  WINDOW_FRAME_MASK,
  WINDOW_FRAME_SHIFT,
} from '../memory/guest-memory.ts';

/** 256 MiB of tables, which map 128 GiB in pages of 4 KiB. */
export const TABLE_PAGES_MAX = 1 << 16;
/** A window starts at a multiple of a gibibyte, but is only as large as is needed: the first 64 KiB, the last 16 MiB. */
const FIRST_WINDOW_PAGES = 16;
const LAST_WINDOW_PAGES = 4096;
const WINDOWS_MAX = 1 << (31 - WINDOW_FRAME_SHIFT);
const PAGES_LIMIT = (WINDOWS_MAX - 16) * LAST_WINDOW_PAGES;

export interface TableMemoryOptions {
  /** The most pages in use at one time, at least 1. Default 65,536. */
  readonly maxPages?: number;
}

export class TableMemory implements GuestMemory {
  readonly windows: MemoryWindow[] = [];
  /** Two words for each page, at [2 * page in window], for whoever builds tables here; zero when the page is allocated. */
  readonly marks: Int32Array[] = [];
  readonly maxPages: number;
  /** Pages never move and never change their protection. */
  readonly generation = 0;
  low = 0;
  high = 0;

  /** By window: 1 for each page in use. */
  private readonly used: Uint8Array[] = [];
  private readonly freeFrames: number[] = [];
  private inUse = 0;

  /** Throws a RangeError on a number of pages out of range. */
  constructor(options: TableMemoryOptions = {}) {
    const { maxPages = TABLE_PAGES_MAX } = options;
    if (!Number.isInteger(maxPages) || maxPages < 1 || maxPages > PAGES_LIMIT) {
      throw new RangeError(`table memory must have 1 to ${PAGES_LIMIT} pages, not ${maxPages}`);
    }
    this.maxPages = maxPages;
  }

  get pagesInUse(): number {
    return this.inUse;
  }

  /** Makes sure that the next `pages` calls of `allocate` succeed, if none are made in between by others. False: beyond `maxPages`. */
  prepare(pages: number): boolean {
    if (pages > this.maxPages - this.inUse) return false;
    while (this.freeFrames.length < pages) this.addWindow();
    return true;
  }

  /** The frame of a page of zeros, or -1 if `maxPages` are in use. */
  allocate(): number {
    if (this.freeFrames.length === 0 && !this.prepare(1)) return -1;
    if (this.inUse === this.maxPages) return -1;
    const frame = this.freeFrames.pop()!;
    this.used[frame >>> WINDOW_FRAME_SHIFT]![frame & WINDOW_FRAME_MASK] = 1;
    this.inUse++;
    return frame;
  }

  /** Gives a page back. Throws a RangeError if it is not in use. */
  free(frame: number): void {
    if (!this.has(frame)) throw new RangeError(`no page of table memory at frame ${frame}`);
    const window = frame >>> WINDOW_FRAME_SHIFT;
    const page = frame & WINDOW_FRAME_MASK;
    this.used[window]![page] = 0;
    // Now, because what is not in use must read as zero, also to a walker whose caches still lead here.
    this.windows[window]!.words.fill(0, page << 10, (page + 1) << 10);
    this.marks[window]!.fill(0, page << 1, (page << 1) + 2);
    this.freeFrames.push(frame);
    this.inUse--;
  }

  /** Whether a page of that frame is in use. */
  has(frame: number): boolean {
    const used = this.used[frame >>> WINDOW_FRAME_SHIFT];
    return used !== undefined && used[frame & WINDOW_FRAME_MASK] === 1;
  }

  read(frame: number, offset: number, target: Uint8Array, at: number, length: number): MemoryStatus {
    if (at < 0 || length < 0 || at + length > target.length) throw new RangeError('outside the buffer');
    if (!this.hasAll(frame, offset, length)) return MemoryStatus.unmapped;
    const { bytes } = this.windows[frame >>> WINDOW_FRAME_SHIFT]!;
    const from = ((frame & WINDOW_FRAME_MASK) << FRAME_SHIFT) + offset;
    target.set(bytes.subarray(from, from + length), at);
    return MemoryStatus.ok;
  }

  write(frame: number, offset: number, source: Uint8Array, at: number, length: number): MemoryStatus {
    if (at < 0 || length < 0 || at + length > source.length) throw new RangeError('outside the buffer');
    if (!this.hasAll(frame, offset, length)) return MemoryStatus.unmapped;
    const { bytes } = this.windows[frame >>> WINDOW_FRAME_SHIFT]!;
    bytes.set(source.subarray(at, at + length), ((frame & WINDOW_FRAME_MASK) << FRAME_SHIFT) + offset);
    return MemoryStatus.ok;
  }

  load64(frame: number, offset: number): MemoryStatus {
    if (!this.has(frame) || (offset & ~0xff8) !== 0) return MemoryStatus.unmapped;
    const { words } = this.windows[frame >>> WINDOW_FRAME_SHIFT]!;
    const at = ((frame & WINDOW_FRAME_MASK) << 10) | (offset >> 2);
    this.low = words[at]!;
    this.high = words[at + 1]!;
    return MemoryStatus.ok;
  }

  store32(frame: number, offset: number, value: number): MemoryStatus {
    if (!this.has(frame) || (offset & ~0xffc) !== 0) return MemoryStatus.unmapped;
    const { words } = this.windows[frame >>> WINDOW_FRAME_SHIFT]!;
    words[((frame & WINDOW_FRAME_MASK) << 10) | (offset >> 2)] = value;
    return MemoryStatus.ok;
  }

  compareExchange32(frame: number, offset: number, expected: number, value: number): MemoryStatus {
    if (!this.has(frame) || (offset & ~0xffc) !== 0) return MemoryStatus.unmapped;
    const { words } = this.windows[frame >>> WINDOW_FRAME_SHIFT]!;
    const at = ((frame & WINDOW_FRAME_MASK) << 10) | (offset >> 2);
    this.low = words[at]!;
    if (this.low === expected) words[at] = value;
    return MemoryStatus.ok;
  }

  private hasAll(frame: number, offset: number, length: number): boolean {
    const last = frame + Math.floor((offset + Math.max(length, 1) - 1) / FRAME_BYTES);
    for (let at = frame; at <= last; at++) if (!this.has(at)) return false;
    return true;
  }

  private addWindow(): void {
    const index = this.windows.length;
    const pages = Math.min(FIRST_WINDOW_PAGES * 2 ** index, LAST_WINDOW_PAGES);
    const buffer = new ArrayBuffer(pages * FRAME_BYTES);
    this.windows.push({ bytes: new Uint8Array(buffer), words: new Int32Array(buffer) });
    this.marks.push(new Int32Array(2 * pages));
    this.used.push(new Uint8Array(pages));
    for (let page = pages - 1; page >= 0; page--) this.freeFrames.push((index << WINDOW_FRAME_SHIFT) | page);
  }
}
