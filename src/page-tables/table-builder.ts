/**
 * Builds and changes page tables in table memory: pages of 4 KiB, mapped and unmapped by ranges. Every change is done whole or not
 * at all. It knows no TLB: who unmaps must also invalidate, before the frames of freed tables are used for anything else.
 */
import { WINDOW_FRAME_MASK, WINDOW_FRAME_SHIFT } from '../memory/guest-memory.ts';
import { MAX_LEVELS, type PageTableFormat } from './format.ts';
import type { TableMemory } from './table-memory.ts';

const ENTRIES = 512;
const ENTRY_BITS = 9;
/** Words of `TableMemory.marks` for each table: how many of its entries are not zero, and how many reservations it is part of. */
const LIVE = 0;
const RESERVED = 1;
/** One more than the highest page-frame number. */
const FRAMES_END = 2 ** 31;

export class TableBuilder {
  readonly format: PageTableFormat;
  readonly memory: TableMemory;
  readonly levels: number;

  /** By level: pages that one entry maps. Doubles: with five levels a page number has 45 bits. */
  private readonly spans = new Float64Array(MAX_LEVELS + 2);
  private readonly tableLow: number;
  private readonly tableHigh: number;
  private readonly addressHigh: number;

  // What the map in progress writes: pages at `frames[nextFrame++]`, or without `frames` at `nextFrame++`.
  private frames: Int32Array | undefined;
  private nextFrame = 0;
  private pageLow = 0;
  private pageHigh = 0;

  /** Throws a RangeError on a format that has no tables of so many levels or cannot be built: pages must be 4 KiB. */
  constructor(format: PageTableFormat, memory: TableMemory, levels: number) {
    const { written } = format;
    if (written === undefined || format.granuleShift !== 12 || format.bitsPerLevel !== ENTRY_BITS) {
      throw new RangeError(`${format.name}: tables of this format cannot be built`);
    }
    if (!format.depths.includes(levels)) throw new RangeError(`${format.name} has no tables of ${levels} levels`);
    this.format = format;
    this.memory = memory;
    this.levels = levels;
    [this.tableLow, this.tableHigh] = written.table;
    this.addressHigh = format.address[1];
    for (let level = 1; level <= levels + 1; level++) this.spans[level] = ENTRIES ** (level - 1);
  }

  /** An empty root table's frame, or -1 if there is no table memory left. */
  createRoot(): number {
    return this.memory.allocate();
  }

  /** Frees every table page, whatever is still mapped or reserved. */
  destroy(root: number): void {
    this.destroyTable(root, this.levels);
  }

  /** Whether tables of this depth have a place for the whole range. All other methods throw a RangeError if not. */
  covers(high: number, low: number, pages: number): boolean {
    return pages >= 0 && pageNumber(high, low) + pages <= this.spans[this.levels + 1]!;
  }

  /** The offset in pages of the first mapped page of the range, or -1. A page that allows no access is mapped, too. */
  firstMapped(root: number, high: number, low: number, pages: number): number {
    const start = this.startOf(high, low, pages);
    const found = this.findMapped(root, this.levels, start, start + pages);
    return found < 0 ? -1 : found - start;
  }

  /**
   * Maps the range to `pages` frames from `firstFrame` on, with `Access` bits (0: mapped, but allows nothing); replaces what was
   * mapped. False if table memory runs out: nothing has changed then. Throws a RangeError on frames that do not exist.
   */
  map(root: number, high: number, low: number, firstFrame: number, pages: number, permissions: number): boolean {
    if (firstFrame < 0 || firstFrame + pages > FRAMES_END) throw new RangeError(`no ${pages} frames at ${firstFrame}`);
    this.frames = undefined;
    this.nextFrame = firstFrame;
    return this.mapRange(root, this.startOf(high, low, pages), pages, permissions);
  }

  /** As `map`, to the frames in `frames[from, from + count)`, none of them negative. */
  mapFrames(
    root: number,
    high: number,
    low: number,
    frames: Int32Array,
    from: number,
    count: number,
    permissions: number,
  ): boolean {
    if (from < 0 || from + count > frames.length) throw new RangeError(`no ${count} frames at index ${from}`);
    for (let i = from; i < from + count; i++) if (frames[i]! < 0) throw new RangeError(`no frame ${frames[i]}`);
    this.frames = frames;
    this.nextFrame = from;
    const done = this.mapRange(root, this.startOf(high, low, count), count, permissions);
    this.frames = undefined;
    return done;
  }

  /**
   * Allocates the tables of the range, so that mapping there cannot fail; they are kept, however empty, until `release` is called
   * with the same range. Reservations may overlap and are counted. False if table memory runs out: nothing has changed then.
   */
  reserve(root: number, high: number, low: number, pages: number): boolean {
    const start = this.startOf(high, low, pages);
    if (pages === 0) return true;
    if (!this.prepare(root, start, start + pages)) return false;
    this.reserveTables(root, this.levels, start, start + pages);
    return true;
  }

  /** Takes a reservation back, and frees the tables that it alone has kept. */
  release(root: number, high: number, low: number, pages: number): void {
    const start = this.startOf(high, low, pages);
    if (pages === 0) return;
    this.releaseTables(root, this.levels, start, start + pages);
  }

  /**
   * Unmaps whatever is mapped in the range and returns how many pages that were. Tables that are empty then are freed, unless
   * `keepTables` is set or they are reserved.
   */
  unmap(root: number, high: number, low: number, pages: number, keepTables: boolean): number {
    const start = this.startOf(high, low, pages);
    return this.unmapBelow(root, this.levels, start, start + pages, keepTables);
  }

  private startOf(high: number, low: number, pages: number): number {
    if (!this.covers(high, low, pages)) throw new RangeError(`${this.levels} levels of tables have no such pages`);
    return pageNumber(high, low);
  }

  private mapRange(root: number, start: number, pages: number, permissions: number): boolean {
    if (pages === 0) return true;
    if (!this.prepare(root, start, start + pages)) return false;
    [this.pageLow, this.pageHigh] = this.format.written!.page[permissions & 3]!;
    this.mapBelow(root, this.levels, start, start + pages);
    return true;
  }

  /** Sees to it that there is table memory for what the range still lacks. */
  private prepare(root: number, start: number, end: number): boolean {
    return this.memory.prepare(this.countMissing(root, this.levels, start, end));
  }

  private countMissing(frame: number, level: number, start: number, end: number): number {
    if (level === 1) return 0;
    const span = this.spans[level]!;
    let missing = 0;
    for (let at = start; at < end; ) {
      const entry = Math.floor(at / span);
      const next = Math.min(end, (entry + 1) * span);
      const child = this.child(frame, entry % ENTRIES);
      if (child >= 0) missing += this.countMissing(child, level - 1, at, next);
      else {
        for (let below = level; below > 1; below--) {
          const unit = this.spans[below]!;
          missing += Math.floor((next - 1) / unit) - Math.floor(at / unit) + 1;
        }
      }
      at = next;
    }
    return missing;
  }

  private mapBelow(frame: number, level: number, start: number, end: number): void {
    if (level === 1) {
      const first = start % ENTRIES;
      if (this.frames === undefined) this.fillContiguous(frame, first, first + (end - start));
      else this.fillScattered(frame, first, first + (end - start), this.frames);
      return;
    }
    const span = this.spans[level]!;
    for (let at = start; at < end; ) {
      const entry = Math.floor(at / span);
      const next = Math.min(end, (entry + 1) * span);
      this.mapBelow(this.ensureChild(frame, entry % ENTRIES), level - 1, at, next);
      at = next;
    }
  }

  private fillContiguous(frame: number, first: number, end: number): void {
    const words = this.memory.windows[frame >>> WINDOW_FRAME_SHIFT]!.words;
    const table = (frame & WINDOW_FRAME_MASK) << 10;
    const pageLow = this.pageLow | 0;
    const pageHigh = this.pageHigh | 0;
    const last = table | ((end - 1) << 1);
    let page = this.nextFrame;
    let added = 0;
    for (let at = table | (first << 1); at <= last; at += 2) {
      if ((words[at]! | words[at + 1]!) === 0) added++;
      words[at] = (page << 12) | pageLow;
      words[at + 1] = (page >>> 20) | pageHigh;
      page++;
    }
    this.nextFrame = page;
    this.addMark(frame, LIVE, added);
  }

  private fillScattered(frame: number, first: number, end: number, frames: Int32Array): void {
    const words = this.memory.windows[frame >>> WINDOW_FRAME_SHIFT]!.words;
    const table = (frame & WINDOW_FRAME_MASK) << 10;
    const pageLow = this.pageLow | 0;
    const pageHigh = this.pageHigh | 0;
    const last = table | ((end - 1) << 1);
    let from = this.nextFrame;
    let added = 0;
    for (let at = table | (first << 1); at <= last; at += 2) {
      const page = frames[from++]!;
      if ((words[at]! | words[at + 1]!) === 0) added++;
      words[at] = (page << 12) | pageLow;
      words[at + 1] = (page >>> 20) | pageHigh;
    }
    this.nextFrame = from;
    this.addMark(frame, LIVE, added);
  }

  private findMapped(frame: number, level: number, start: number, end: number): number {
    if (this.mark(frame, LIVE) === 0) return -1;
    if (level === 1) {
      const words = this.memory.windows[frame >>> WINDOW_FRAME_SHIFT]!.words;
      const table = (frame & WINDOW_FRAME_MASK) << 10;
      const first = start % ENTRIES;
      const count = end - start;
      for (let i = 0; i < count; i++) {
        const at = table | ((first + i) << 1);
        if ((words[at]! | words[at + 1]!) !== 0) return start + i;
      }
      return -1;
    }
    const span = this.spans[level]!;
    for (let at = start; at < end; ) {
      const entry = Math.floor(at / span);
      const next = Math.min(end, (entry + 1) * span);
      const child = this.child(frame, entry % ENTRIES);
      const found = child < 0 ? -1 : this.findMapped(child, level - 1, at, next);
      if (found >= 0) return found;
      at = next;
    }
    return -1;
  }

  private reserveTables(frame: number, level: number, start: number, end: number): void {
    this.addMark(frame, RESERVED, 1);
    if (level === 1) return;
    const span = this.spans[level]!;
    for (let at = start; at < end; ) {
      const entry = Math.floor(at / span);
      const next = Math.min(end, (entry + 1) * span);
      this.reserveTables(this.ensureChild(frame, entry % ENTRIES), level - 1, at, next);
      at = next;
    }
  }

  private releaseTables(frame: number, level: number, start: number, end: number): void {
    if (this.mark(frame, RESERVED) < 1) throw new RangeError('released what was not reserved');
    this.addMark(frame, RESERVED, -1);
    if (level === 1) return;
    const span = this.spans[level]!;
    for (let at = start; at < end; ) {
      const entry = Math.floor(at / span);
      const next = Math.min(end, (entry + 1) * span);
      const child = this.child(frame, entry % ENTRIES);
      if (child < 0) throw new RangeError('released what was not reserved');
      this.releaseTables(child, level - 1, at, next);
      this.dropIfEmpty(frame, entry % ENTRIES, child);
      at = next;
    }
  }

  private unmapBelow(frame: number, level: number, start: number, end: number, keepTables: boolean): number {
    if (level === 1) return this.clear(frame, start % ENTRIES, end - start);
    if (this.mark(frame, LIVE) === 0) return 0;
    const span = this.spans[level]!;
    let unmapped = 0;
    for (let at = start; at < end; ) {
      const entry = Math.floor(at / span);
      const next = Math.min(end, (entry + 1) * span);
      const child = this.child(frame, entry % ENTRIES);
      if (child >= 0) {
        unmapped += this.unmapBelow(child, level - 1, at, next, keepTables);
        if (!keepTables) this.dropIfEmpty(frame, entry % ENTRIES, child);
      }
      at = next;
    }
    return unmapped;
  }

  private clear(frame: number, first: number, count: number): number {
    const live = this.mark(frame, LIVE);
    if (live === 0) return 0;
    const words = this.memory.windows[frame >>> WINDOW_FRAME_SHIFT]!.words;
    const from = ((frame & WINDOW_FRAME_MASK) << 10) | (first << 1);
    const end = from + (count << 1);
    let unmapped = 0;
    if (count === ENTRIES) unmapped = live;
    else for (let at = from; at < end; at += 2) if ((words[at]! | words[at + 1]!) !== 0) unmapped++;
    words.fill(0, from, end);
    this.addMark(frame, LIVE, -unmapped);
    return unmapped;
  }

  private dropIfEmpty(frame: number, index: number, child: number): void {
    if (this.mark(child, LIVE) !== 0 || this.mark(child, RESERVED) !== 0) return;
    const words = this.memory.windows[frame >>> WINDOW_FRAME_SHIFT]!.words;
    const at = ((frame & WINDOW_FRAME_MASK) << 10) | (index << 1);
    words[at] = 0;
    words[at + 1] = 0;
    this.addMark(frame, LIVE, -1);
    this.memory.free(child);
  }

  private destroyTable(frame: number, level: number): void {
    if (level > 1) {
      for (let index = 0; index < ENTRIES; index++) {
        const child = this.child(frame, index);
        if (child >= 0) this.destroyTable(child, level - 1);
      }
    }
    this.memory.free(frame);
  }

  /** The frame of the table that the entry points to, or -1. */
  private child(frame: number, index: number): number {
    const words = this.memory.windows[frame >>> WINDOW_FRAME_SHIFT]!.words;
    const at = ((frame & WINDOW_FRAME_MASK) << 10) | (index << 1);
    const low = words[at]!;
    const high = words[at + 1]!;
    if ((low | high) === 0) return -1;
    return (low >>> 12) | ((high & this.addressHigh) << 20);
  }

  /** The same; makes the table if there is none. Only after `prepare`. */
  private ensureChild(frame: number, index: number): number {
    const known = this.child(frame, index);
    if (known >= 0) return known;
    const child = this.memory.allocate();
    if (child < 0) throw new Error('table memory was not prepared');
    const words = this.memory.windows[frame >>> WINDOW_FRAME_SHIFT]!.words;
    const at = ((frame & WINDOW_FRAME_MASK) << 10) | (index << 1);
    words[at] = (child << 12) | this.tableLow;
    words[at + 1] = (child >>> 20) | this.tableHigh;
    this.addMark(frame, LIVE, 1);
    return child;
  }

  private mark(frame: number, which: number): number {
    return this.memory.marks[frame >>> WINDOW_FRAME_SHIFT]![((frame & WINDOW_FRAME_MASK) << 1) | which]!;
  }

  private addMark(frame: number, which: number, change: number): void {
    this.memory.marks[frame >>> WINDOW_FRAME_SHIFT]![((frame & WINDOW_FRAME_MASK) << 1) | which]! += change;
  }
}

function pageNumber(high: number, low: number): number {
  return (high >>> 0) * 2 ** 20 + (low >>> 12);
}
