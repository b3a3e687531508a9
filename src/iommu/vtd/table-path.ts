/**
 * The way from the root table to the last table before the pages of one requester's 2 MiB of addresses: where each entry on it lies
 * in windows, and what it held. As long as they hold the same, a walk would come the same way.
 *
 * Entries are compared as float64 values, 64 bits at once. Of values that differ, that takes only two for the same: zero, and bit 63
 * alone, which can be of one entry only, the reserved upper half of a root entry. What is no number differs from itself: such an
 * entry (bits 62:52 all set) is walked again each time.
 */
import { type GuestMemory, WINDOW_FRAME_MASK, WINDOW_FRAME_SHIFT } from '../../memory/guest-memory.ts';
import { FreshStatus } from '../../trace/event-kinds.ts';
import { frameOf } from './core.ts';
import type { EntryReader } from './entry-reader.ts';
import { entryOffset } from './fault-detail.ts';
import type { FreshWalk } from './fresh-walk.ts';
import { ROOT_ENTRY_BYTES } from './root-table.ts';

/** log2 of the bytes that one table of level 1 translates. */
export const PATH_SHIFT = 21;
const PATH_PAGES_MASK = 0x1ff;
/** Root entry and context entry, two words of 64 bits each, and five levels without the last. */
const WORDS_MAX = 8;
const NO_WORDS = new Int32Array(0);
const NO_DOUBLES = new Float64Array(0);
const READ_WRITE = 3;

/** Two words as one float64 value, little-endian as guest memory is. */
const CONVERTER = (() => {
  const words = new Int32Array(2);
  return { words, doubles: new Float64Array(words.buffer) };
})();

export class TablePath {
  /** -1: nothing is captured. */
  requesterId = -1;
  /** The requester id and IOVA bits 31:21 in one number, but only where all entries above the pages' are in one window: else -1. */
  direct = -1;
  high = 0;
  /** IOVA bits 31:21. */
  prefix = 0;
  /** Of the memory. */
  generation = -1;
  /** Of the context cache, when its slot agreed with memory. */
  contextChanges = -1;
  /** Nothing could be captured because the tables are in memory that is reached by messages. */
  remote = false;

  /** How many words of 64 bits there are to be compared: where they lie in `doubles`, and what they held. */
  count = 0;
  readonly at = new Int32Array(WORDS_MAX);
  readonly held = new Float64Array(WORDS_MAX);
  doubles: Float64Array = NO_DOUBLES;
  /** Each one's window, where not all are in the same; else empty. */
  readonly windows: Float64Array[] = [];

  /** First word of the table of pages, in `leafWords`; -1 where a larger page, or no translation at all, covers all 2 MiB. */
  leafAt = -1;
  leafWords: Int32Array = NO_WORDS;
  /** Then the frame of the first of the 2 MiB. */
  baseFrame = 0;
  /** `Access` bits that all entries on the way allow. */
  allowed = 0;

  constructor(private readonly views = new DoubleViews()) {}

  is(requesterId: number, high: number, low: number): boolean {
    return this.requesterId === requesterId && this.high === high && this.prefix === low >>> PATH_SHIFT;
  }

  /** Whether every entry on the way holds what it held. Does not look at pages' own entries. */
  unchanged(): boolean {
    const { at, held, windows, count } = this;
    for (let i = 0; i < count; i++) {
      const doubles = windows.length === 0 ? this.doubles : windows[i]!;
      if (doubles[at[i]!] !== held[i]) return false;
    }
    return true;
  }

  /**
   * Takes over the way that `fresh` has just gone for the address. False where it leads to no table of pages and no page, where an
   * entry has changed since, and where one is not seen through windows: then `remote` is set.
   */
  capture(fresh: FreshWalk, requesterId: number, high: number, low: number, memory: GuestMemory): boolean {
    this.remote = false;
    const captured = this.captureAll(fresh, requesterId, high, low, memory);
    this.requesterId = captured ? requesterId : -1;
    const direct = captured && this.windows.length === 0;
    this.direct = direct ? (requesterId << 11) | (low >>> PATH_SHIFT) : -1;
    if (direct) this.spread();
    this.high = high;
    this.prefix = low >>> PATH_SHIFT;
    this.generation = memory.generation;
    return captured;
  }

  /** What is looked at by turns has no end: the rest of it is the first once more. */
  private spread(): void {
    const { at, held, count } = this;
    for (let i = count; i < WORDS_MAX; i++) {
      at[i] = at[0]!;
      held[i] = held[0]!;
    }
  }

  forget(): void {
    this.requesterId = -1;
    this.direct = -1;
  }

  private captureAll(fresh: FreshWalk, requesterId: number, high: number, low: number, memory: GuestMemory): boolean {
    const { reader, walker } = fresh;
    this.count = 0;
    this.doubles = NO_DOUBLES;
    this.windows.length = 0;
    if (fresh.reason !== 0) return false;
    const { entry } = reader;
    const rootOffset = (requesterId >>> 8) * ROOT_ENTRY_BYTES;
    if (!this.takeEntry(memory, fresh.rootFrame, rootOffset, reader.root)) return false;
    if (!this.takeEntry(memory, reader.entryFrame, reader.entryOffset, reader.context)) return false;
    this.leafAt = -1;
    if (entry.passThrough) {
      if (fresh.status !== FreshStatus.mapped) return false;
      this.allowed = READ_WRITE;
      this.baseFrame = fresh.frame & ~PATH_PAGES_MASK;
      return true;
    }
    const { visited, level: last } = walker;
    if (high >>> entry.limitShift !== 0 || (last !== 1 && fresh.status !== FreshStatus.mapped)) return false;
    for (let level = entry.levels; level > Math.max(last - 1, 1); level--) {
      const frame = visited[level << 1]!;
      const words = memory.windows[frame >>> WINDOW_FRAME_SHIFT]?.words;
      const word = wordOf(frame, entryOffset(level, high, low));
      const entryLow = words?.[word] ?? 0;
      const entryHigh = words?.[word | 1] ?? 0;
      const next = level === last ? frameOf(walker.entryHigh, walker.entryLow) : visited[(level - 1) << 1]!;
      this.remote = words === undefined || (entryLow | entryHigh) === 0;
      if (words === undefined || this.remote || frameOf(entryHigh, entryLow) !== next) return false;
      this.take(words, word, entryLow, entryHigh);
    }
    if (last === 1) return this.takeLeafTable(memory, visited[2]!, visited[3]!);
    this.allowed = fresh.permissions;
    this.baseFrame = fresh.frame & ~PATH_PAGES_MASK;
    return true;
  }

  private takeLeafTable(memory: GuestMemory, frame: number, allowed: number): boolean {
    const words = memory.windows[frame >>> WINDOW_FRAME_SHIFT]?.words;
    if (words === undefined) {
      this.remote = true;
      return false;
    }
    this.leafWords = words;
    this.leafAt = wordOf(frame, 0);
    this.allowed = allowed;
    return true;
  }

  private takeEntry(memory: GuestMemory, frame: number, offset: number, entry: EntryReader): boolean {
    const words = memory.windows[frame >>> WINDOW_FRAME_SHIFT]?.words;
    const word = wordOf(frame, offset);
    // A present entry is not zero, which is what a window shows of memory that is not in it.
    this.remote = words === undefined || (words[word]! | words[word | 1]!) === 0;
    if (words === undefined || this.remote) return false;
    if (words[word] !== entry.w0 || words[word | 1] !== entry.w1) return false;
    this.take(words, word, entry.w0, entry.w1);
    this.take(words, word + 2, entry.w2, entry.w3);
    return true;
  }

  private take(words: Int32Array, word: number, low: number, high: number): void {
    const { count, windows } = this;
    const doubles = this.views.of(words);
    if (count === 0) this.doubles = doubles;
    else if (windows.length === 0 && doubles !== this.doubles) {
      for (let i = 0; i < count; i++) windows.push(this.doubles);
    }
    if (windows.length !== 0) windows.push(doubles);
    this.at[count] = word >>> 1;
    CONVERTER.words[0] = low;
    CONVERTER.words[1] = high;
    this.held[count] = CONVERTER.doubles[0]!;
    this.count++;
  }
}

/** Views of windows as float64 values; one for each, so that they can be compared. */
export class DoubleViews {
  private readonly views = new WeakMap<Int32Array, Float64Array>();

  of(words: Int32Array): Float64Array {
    let view = this.views.get(words);
    if (view === undefined) {
      view = new Float64Array(words.buffer, words.byteOffset, words.length >>> 1);
      this.views.set(words, view);
    }
    return view;
  }
}

/** Of an entry in its window. */
function wordOf(frame: number, offset: number): number {
  return ((frame & WINDOW_FRAME_MASK) << 10) | (offset >>> 2);
}
