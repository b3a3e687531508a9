/** Walks page tables of any format in guest memory. Table driven; int32 arithmetic only; allocates nothing. */
import { type GuestMemory, MemoryStatus, WINDOW_FRAME_MASK, WINDOW_FRAME_SHIFT } from '../memory/guest-memory.ts';
import { LeafRule, MAX_LEVELS, type PageTableFormat, union } from './format.ts';

export const WalkStatus = {
  ok: 0,
  /** An entry on the way is not present. */
  notPresent: 1,
  /** A present entry on the way does not allow the access. Found before the entry's reserved bits are looked at. */
  denied: 2,
  /** A table could not be read, or an address lies beyond what a page-frame number can say (8 TiB). */
  badPointer: 3,
  /** A present entry that allows the access has a reserved bit set. */
  reserved: 4,
  /** The input address is wider than the tables. */
  tooWide: 5,
  /** The entry that maps the page lacks the access flag of a format that wants one. */
  accessFlag: 6,
  /** An entry's address is wider than the output size of a format that has one. */
  addressSize: 7,
} as const;
export type WalkStatus = (typeof WalkStatus)[keyof typeof WalkStatus];

/** Depth of the tables, and bits of the address, that `walkFour` is for. */
const FOUR_LEVELS = 4;
const FOUR_LEVEL_WIDTH = 48;

/** Of an entry's low word: what belongs to the number of a window of 1 GiB; the rest of that number is in the high word. */
const WINDOW_LOW = 3 << 30;

/** How often an entry that changes while it is read is read again before memory itself is asked for it. */
const TORN_READ_RETRIES = 4;

/** An entry was changed while the walk used it. Not a `WalkStatus`: the walk is begun again. */
const CHANGED = -1;

/** How often a walk is begun again because an entry was changed before it could be marked as used. */
const MARK_RETRIES = 16;

/** Address bits of an entry's high word that a non-negative int32 page-frame number (GPA >> 12) has no room for. */
const UNREACHABLE_HIGH = ~0x7ff;

export class Walker {
  readonly format: PageTableFormat;

  /** After `ok`: the 4 KiB page frame that holds the address asked for, also within a large page. */
  frame = 0;
  /** After `ok`: log2 of the mapping's bytes. */
  shift = 0;
  /**
   * After `ok`: `Access` bits that every entry on the way allows. Of a format with a dirty bit, writes only where that is set: whoever
   * remembers the translation must walk again for the first write.
   */
  permissions = 0;
  /** The level whose entry was read last; not meaningful after `tooWide`. */
  level = 0;
  /** The level the walk started with: `startLevel - level + 1` tables were read. */
  startLevel = 0;
  /** The entry read last, as int32 words; zero where it could not be read. */
  entryLow = 0;
  entryHigh = 0;
  /**
   * For each level from `startLevel` down to `level`: at [2 * level] the frame of the table read, at [2 * level + 1] what the
   * entries above it allow together, in the format's own bits (see `accessBits`).
   */
  get visited(): Int32Array {
    if (this.visitedLater) this.fillVisited();
    return this.tables;
  }

  /** The format's own permission bits for a mask of `Access` bits; also what `walkFrom` takes. */
  readonly accessBits = new Int32Array(4);

  private readonly memory: GuestMemory;
  private readonly tables = new Int32Array(2 * (MAX_LEVELS + 1));
  /** `walkFour` leaves behind only what it takes to fill `visited`, which few ask for. */
  private visitedLater = false;
  private root = 0;
  private given = 0;
  private low4 = 0;
  private low3 = 0;
  private low2 = 0;
  private readonly depths = new Int32Array(MAX_LEVELS + 1);
  private readonly tooWideLow = new Int32Array(MAX_LEVELS + 1);
  private readonly tooWideHigh = new Int32Array(MAX_LEVELS + 1);
  private readonly granuleShift: number;
  private readonly bitsPerLevel: number;
  private readonly indexMask: number;
  /**
   * An entry is ordinary, a pointer to a table or a page of level 1 without a further look at the format, if its `examined` low bits
   * are the `required` ones, by access, and its `unusualHigh` bits are clear. Where no entry is, they ask for the impossible.
   */
  private readonly examined = new Int32Array(4);
  private readonly required = new Int32Array(4);
  private readonly unusualLow: number;
  private readonly unusualHigh: number;
  /** Whether the format has tables such as `walkFour` knows: ordinary, R and W are the `Access` bits, nothing is marked. */
  private readonly plainFour: boolean;
  private readonly readBit: number;
  private readonly writeBit: number;
  private readonly addressLow: number;
  private readonly addressHigh: number;
  private readonly inverted: number;
  private readonly leafOnly: number;
  private readonly leafValue: number;
  private readonly checkedLast: boolean;
  private readonly beyondLow: number;
  private readonly beyondHigh: number;
  private readonly accessFlag: number;
  private readonly accessed: number;
  private readonly dirty: number;
  private readonly marks: boolean;
  /** By level: the low words that the walk in progress has used and may have to mark. */
  private readonly used = new Int32Array(MAX_LEVELS + 1);

  /**
   * `marks`: whether walks set the accessed and dirty bits of formats that have them; else they only look, and answer as if they had.
   * Throws a RangeError on a format that this walker has no room for.
   */
  constructor(format: PageTableFormat, memory: GuestMemory, marks = true) {
    const { granuleShift, bitsPerLevel, levels } = format;
    if (levels.length > MAX_LEVELS) throw new RangeError(`${format.name}: more than ${MAX_LEVELS} levels`);
    if (granuleShift < 12 || bitsPerLevel > granuleShift - 3) {
      throw new RangeError(`${format.name}: tables of ${bitsPerLevel} bits do not fit a granule of ${granuleShift}`);
    }
    if (levels[0]?.leaf !== LeafRule.always) throw new RangeError(`${format.name}: entries of level 1 must map pages`);
    this.format = format;
    this.memory = memory;
    this.granuleShift = granuleShift;
    this.bitsPerLevel = bitsPerLevel;
    this.indexMask = (1 << bitsPerLevel) - 1;
    const reserved = union(...levels.map(level => level.tableReserved), levels[0].leafReserved);
    this.unusualLow = reserved[0] | format.leafBit;
    this.unusualHigh = reserved[1] | (format.address[1] & UNREACHABLE_HIGH);
    const { read, write, inverted = 0, leafOnly = 0, tableDenies, checkedLast = false } = format.permissions;
    this.readBit = read;
    this.writeBit = write;
    this.inverted = inverted;
    this.leafOnly = leafOnly;
    this.leafValue = format.leafBitClear === true ? 0 : format.leafBit;
    this.checkedLast = checkedLast;
    [this.beyondLow, this.beyondHigh] = format.addressBeyond ?? [0, 0];
    this.accessFlag = format.accessFlag ?? 0;
    this.accessed = format.accessed ?? 0;
    this.dirty = format.dirty ?? 0;
    this.marks = marks;
    this.addressLow = format.address[0];
    this.addressHigh = format.address[1];
    const ordinary =
      granuleShift === 12 &&
      bitsPerLevel === 9 &&
      format.address[0] === ~0xfff &&
      (format.address[1] & 0xfff) === 0xfff &&
      this.leafValue !== 0 &&
      (inverted | leafOnly | this.beyondLow | this.beyondHigh | this.accessFlag) === 0 &&
      tableDenies === undefined &&
      !levels.some(level => level.presentAll);
    this.plainFour =
      ordinary &&
      format.depths.includes(FOUR_LEVELS) &&
      (format.inputWidth ?? FOUR_LEVEL_WIDTH) >= FOUR_LEVEL_WIDTH &&
      read === 1 &&
      write === 2 &&
      (format.presentAny & 3) === 3 &&
      (this.accessed | this.dirty | (this.unusualLow & WINDOW_LOW)) === 0;
    for (let access = 0; access < 4; access++) {
      this.accessBits[access] = ((access & 1) !== 0 ? this.readBit : 0) | ((access & 2) !== 0 ? this.writeBit : 0);
      const required = this.accessBits[access]!;
      const usual = ordinary && (required & format.presentAny) !== 0;
      this.required[access] = usual ? required | this.accessed : -1;
      this.examined[access] = usual ? this.unusualLow | required | this.accessed : 0;
    }

    levels.forEach((rule, i) => {
      const shift = granuleShift + bitsPerLevel * i;
      if (rule.leaf !== LeafRule.never && shift - 12 > 30) throw new RangeError(`${rule.name}: page too large`);
    });
    for (const depth of format.depths) {
      if (depth < 1 || depth > levels.length) throw new RangeError(`${format.name}: no level ${depth}`);
      const width = Math.min(granuleShift + bitsPerLevel * depth, format.inputWidth ?? 64);
      this.depths[depth] = 1;
      this.tooWideLow[depth] = width >= 32 ? 0 : -1 << width;
      this.tooWideHigh[depth] = width >= 64 ? 0 : width <= 32 ? -1 : -1 << (width - 32);
    }
  }

  /** Whether tables of that many levels have no place for the address. Throws a RangeError on a depth the format lacks. */
  exceedsWidth(levels: number, high: number, low: number): boolean {
    if (this.depths[levels] !== 1) throw new RangeError(`${this.format.name} has no tables of ${levels} levels`);
    return ((high & this.tooWideHigh[levels]!) | (low & this.tooWideLow[levels]!)) !== 0;
  }

  /**
   * Walks from the root table for one access (`Access` bits).
   * `rootFrame` is a page-frame number; `levels` one of the format's depths, anything else throws a RangeError.
   */
  walk(rootFrame: number, levels: number, high: number, low: number, access: number): WalkStatus {
    if (levels === 4 && this.plainFour && this.walkFour(rootFrame, 3, high, low, access)) return WalkStatus.ok;
    return this.walkAny(rootFrame, levels, high, low, access);
  }

  /** `walk` without the short cut. */
  private walkAny(rootFrame: number, levels: number, high: number, low: number, access: number): WalkStatus {
    if (this.exceedsWidth(levels, high, low)) return WalkStatus.tooWide;
    this.visitedLater = false;
    return this.walkWindows(rootFrame, levels, this.readBit | this.writeBit, high, low, access);
  }

  /**
   * Walks on from a table of `level` that a paging-structure cache knew. `permissions` is what the entries above allow
   * together, in the format's own bits (see `accessBits`); the caller has checked that they allow `access`.
   */
  walkFrom(
    tableFrame: number,
    level: number,
    permissions: number,
    high: number,
    low: number,
    access: number,
  ): WalkStatus {
    if (level === 4 && this.plainFour && this.walkFour(tableFrame, permissions, high, low, access))
      return WalkStatus.ok;
    this.visitedLater = false;
    return this.walkWindows(tableFrame, level, permissions, high, low, access);
  }

  /**
   * The walk as nearly all of them are: four tables in one window, pointers and a page of level 1 with nothing unusual about them, all
   * allowed. False, and nothing is touched, where anything at all is otherwise: `walkWindows` then decides, from the start.
   */
  private walkFour(root: number, permissions: number, high: number, low: number, access: number): boolean {
    const required = access & 3;
    const window = this.memory.windows[root >>> 18];
    const { unusualHigh } = this;
    // A root may lie where no entry may point to; `walkWithin` would then take reserved bits for the window's number. Addresses
    // that are too wide are not for here either.
    if (window === undefined || required === 0 || (((root >>> 20) & unusualHigh) | (high >>> 16)) !== 0) return false;
    const near = required | ((root << 12) & WINDOW_LOW);
    return this.walkWithin(window.words, root, near, this.unusualLow | required, unusualHigh, permissions, high, low);
  }

  /**
   * `near`: what the `examined` bits and, in a pointer to the same window, the topmost two of an entry's low word must be.
   *
   * Level by level, with masks in variables, and in three functions, because the compiler inlines what has at most 460 bytes of
   * bytecode and, together with all that is inlined into it, 766: with the fewest instructions the processor begins most of the next
   * walk while it waits for memory. (A window's number is in bits 30 and 31 of an entry's low word and bits 0 to 10 of the high one.)
   */
  private walkWithin(
    words: Int32Array,
    root: number,
    near: number,
    examined: number,
    unusualHigh: number,
    permissions: number,
    high: number,
    low: number,
  ): boolean {
    const nearMask = examined | WINDOW_LOW;
    const nearHigh = root >>> 20;
    const nearHighMask = unusualHigh | 0x7ff;
    const table = 0xffffc00;
    const index = 0x3fe;
    // The low word is read again after the high one: two halves that do not belong together would be an address nobody ever wrote.
    let at = ((root << 10) & table) | ((high >>> 6) & index);
    const low4 = words[at]!;
    if (((low4 ^ near) & nearMask) | ((words[at | 1]! ^ nearHigh) & nearHighMask) | (words[at]! ^ low4)) return false;
    at = ((low4 >>> 2) & table) | (((high << 3) | (low >>> 29)) & index);
    const low3 = words[at]!;
    if (((low3 ^ near) & nearMask) | ((words[at | 1]! ^ nearHigh) & nearHighMask) | (words[at]! ^ low3)) return false;
    at = ((low3 >>> 2) & table) | ((low >>> 20) & index);
    const low2 = words[at]!;
    if (((low2 ^ near) & nearMask) | ((words[at | 1]! ^ nearHigh) & nearHighMask) | (words[at]! ^ low2)) return false;
    at = ((low2 >>> 2) & table) | ((low >>> 11) & index);
    const low1 = words[at]!;
    const high1 = words[at | 1]!;
    if (((low1 ^ near) & examined) | (high1 & unusualHigh) | (words[at]! ^ low1)) return false;
    this.finishFour(root, permissions, low4, low3, low2, low1, high1);
    return true;
  }

  /** `root`: its topmost bits are those of every table's frame. */
  private finishFour(
    root: number,
    permissions: number,
    low4: number,
    low3: number,
    low2: number,
    low1: number,
    high1: number,
  ): void {
    this.root = root;
    this.given = permissions;
    this.low4 = low4;
    this.low3 = low3;
    this.low2 = low2;
    this.visitedLater = true;
    this.startLevel = 4;
    this.level = 1;
    this.entryLow = low1;
    this.entryHigh = high1;
    this.frame = (high1 << 20) | (low1 >>> 12);
    this.shift = 12;
    this.permissions = permissions & low4 & low3 & low2 & low1 & 3;
  }

  private fillVisited(): void {
    const { tables, root, low4, low3, low2 } = this;
    this.visitedLater = false;
    const top = root & ~0xfffff;
    tables[8] = root;
    tables[9] = this.given;
    tables[6] = top | (low4 >>> 12);
    tables[7] = tables[9]! & low4;
    tables[4] = top | (low3 >>> 12);
    tables[5] = tables[7]! & low3;
    tables[2] = top | (low2 >>> 12);
    tables[3] = tables[5]! & low2;
  }

  /** The walk from any table, through any windows, for all formats. */
  private walkWindows(
    tableFrame: number,
    level: number,
    permissions: number,
    high: number,
    low: number,
    access: number,
  ): WalkStatus {
    // Ordinary entries in windows are dealt with here; any other is left, from its level on, to `walkOn`, so that this loop calls
    // nothing. Constants are written out because the compiler cannot fold what another module exports; `| 0` tells it that a
    // number is an int32 and need not be tagged around the loop; the window is kept from one table to the next because they mostly
    // share one; and all is short enough to be inlined (460 bytes of bytecode), which alone is worth a third.
    this.startLevel = level;
    const { tables: visited } = this;
    const { windows } = this.memory;
    const required = this.required[access & 3]! | 0;
    const examined = this.examined[access & 3]! | 0;
    const unusualHigh = this.unusualHigh | 0;
    let frame = tableFrame | 0;
    let allowed = permissions | 0;
    // The address without what the levels above have used, moved up so that the next index is always the topmost nine bits.
    const unused = 52 - 9 * level;
    let above = unused < 32 ? (high << unused) | (low >>> (32 - unused)) : low << (unused - 32);
    let below = unused < 32 ? low << unused : 0;
    // `level`, doubled: where it is in `visited`.
    let at = level << 1;
    let windowIndex = -1;
    let words: Int32Array = visited;
    for (;;) {
      visited[at] = frame;
      visited[at | 1] = allowed;
      if (frame >>> 18 !== windowIndex) {
        windowIndex = frame >>> 18;
        const window = windows[windowIndex];
        if (window === undefined) break;
        words = window.words;
      }
      const word = ((frame & 0x3ffff) << 10) | ((above >>> 22) & 0x3fe);
      const entryLow = words[word]! | 0;
      const entryHigh = words[word | 1]! | 0;
      if ((((entryLow & examined) ^ required) | (entryHigh & unusualHigh)) !== 0) break;
      // The guest writes 64 bits at once; two halves that do not belong together would be an address nobody ever wrote.
      if (words[word] !== entryLow) break;
      allowed &= entryLow;
      frame = (entryHigh << 20) | (entryLow >>> 12);
      at -= 2;
      if (at === 0) return this.finishOrdinary(entryLow, entryHigh, frame, allowed, high, low, access);
      above = (above << 9) | (below >>> 23);
      below <<= 9;
    }
    return this.walkOn(frame, at >> 1, allowed, high, low, access);
  }

  private finishOrdinary(
    entryLow: number,
    entryHigh: number,
    frame: number,
    allowed: number,
    high: number,
    low: number,
    access: number,
  ): WalkStatus {
    const { dirty, tables: visited } = this;
    if ((entryLow & dirty) !== dirty) return this.walkOn(visited[2]!, 1, visited[3]!, high, low, access);
    this.level = 1;
    this.entryLow = entryLow;
    this.entryHigh = entryHigh;
    this.frame = frame;
    this.shift = 12;
    this.permissions = this.accessOf(allowed);
    return 0;
  }

  /** The whole of the walk from a level on, for entries of every kind. */
  private walkOn(frame: number, level: number, allowed: number, high: number, low: number, access: number): WalkStatus {
    for (let i = 0; i < MARK_RETRIES; i++) {
      const status = this.descend(frame, level, allowed, high, low, access);
      if (status !== WalkStatus.ok || this.accessed === 0) return status;
      const marked = this.markUsed(level, high, low, access);
      if (marked !== CHANGED) return marked;
    }
    // Whoever changes an entry that often does so to be in the way.
    return WalkStatus.badPointer;
  }

  private descend(
    frame: number,
    level: number,
    allowed: number,
    high: number,
    low: number,
    access: number,
  ): WalkStatus {
    const { format, memory, tables: visited, addressLow, addressHigh } = this;
    const { tableDenies } = format.permissions;
    const needed = this.accessBits[access & 3]!;
    for (; ; level--) {
      const index = this.indexOf(level, high, low);
      visited[level << 1] = frame;
      visited[(level << 1) | 1] = allowed;
      this.level = level;
      if (!this.readEntry(frame, index)) {
        // Zero is also what a window shows for memory that is not mapped into it.
        const status = memory.load64(frame + (index >>> 9), (index & 511) << 3);
        this.entryLow = status === MemoryStatus.ok ? memory.low : 0;
        this.entryHigh = status === MemoryStatus.ok ? memory.high : 0;
        if (status !== MemoryStatus.ok) return WalkStatus.badPointer;
      }
      const { entryLow, entryHigh } = this;
      const rule = format.levels[level - 1]!;
      const presentAll = rule.presentAll ?? 0;
      if ((entryLow & format.presentAny) === 0 || (entryLow & presentAll) !== presentAll) return WalkStatus.notPresent;
      const byBit = rule.leaf === LeafRule.byLeafBit && (entryLow & format.leafBit) === this.leafValue;
      const leaf = byBit || rule.leaf === LeafRule.always;
      const allows = (entryLow ^ this.inverted) | (leaf ? 0 : this.leafOnly);
      if (!this.checkedLast && (allows & needed) !== needed) return WalkStatus.denied;

      const reserved = leaf ? rule.leafReserved : rule.tableReserved;
      if (((entryLow & reserved[0]) | (entryHigh & reserved[1])) !== 0) return WalkStatus.reserved;
      if (((entryLow & this.beyondLow) | (entryHigh & this.beyondHigh)) !== 0) return WalkStatus.addressSize;
      if ((entryHigh & addressHigh & UNREACHABLE_HIGH) !== 0) return WalkStatus.badPointer;
      allowed &= allows;
      frame = ((entryHigh & addressHigh) << 20) | ((entryLow & addressLow) >>> 12);
      this.used[level] = entryLow;
      if (leaf) {
        if ((entryLow & this.accessFlag) !== this.accessFlag) return WalkStatus.accessFlag;
        if ((allowed & needed) !== needed) return WalkStatus.denied;
        this.finish(frame, this.shiftOf(level), allowed, high, low);
        return WalkStatus.ok;
      }
      if (tableDenies !== undefined) allowed = this.withoutDenied(allowed, entryHigh);
    }
  }

  /** What a pointer to a table takes away from all entries below it. */
  private withoutDenied(allowed: number, entryHigh: number): number {
    const { read, write } = this.format.permissions.tableDenies!;
    if ((entryHigh & read) !== 0) return 0;
    return (entryHigh & write) !== 0 ? allowed & ~(this.writeBit & ~this.readBit) : allowed;
  }

  /**
   * Sets the accessed bit in the entries of the levels from `first` down to where the walk ended, there for a write the dirty bit, too.
   * An entry that is no longer what the walk has read is not touched: `CHANGED`.
   */
  private markUsed(first: number, high: number, low: number, access: number): WalkStatus | typeof CHANGED {
    const { memory, used, tables: visited, dirty } = this;
    const last = this.level;
    const writes = (access & 2) !== 0;
    if (!writes && (used[last]! & dirty) !== dirty) this.permissions &= ~2;
    if (!this.marks) return WalkStatus.ok;
    for (let level = first; level >= last; level--) {
      const entry = used[level]!;
      const marked = entry | this.accessed | (level === last && writes ? dirty : 0);
      if (marked === entry) continue;
      const index = this.indexOf(level, high, low);
      const frame = visited[level << 1]! + (index >>> 9);
      if (memory.compareExchange32(frame, (index & 511) << 3, entry, marked) !== MemoryStatus.ok) {
        this.level = level;
        return WalkStatus.badPointer;
      }
      if (memory.low !== entry) return CHANGED;
    }
    return WalkStatus.ok;
  }

  /** log2 of the bytes that one entry of that level translates. */
  private shiftOf(level: number): number {
    return this.granuleShift + this.bitsPerLevel * (level - 1);
  }

  private indexOf(level: number, high: number, low: number): number {
    const shift = this.shiftOf(level);
    return (shift < 32 ? (low >>> shift) | (high << (32 - shift)) : high >>> (shift - 32)) & this.indexMask;
  }

  private accessOf(allowed: number): number {
    return ((allowed & this.readBit) === this.readBit ? 1 : 0) | ((allowed & this.writeBit) === this.writeBit ? 2 : 0);
  }

  private finish(frame: number, shift: number, allowed: number, high: number, low: number): void {
    const within = (1 << (shift - 12)) - 1;
    this.frame = (frame & ~within) | (((low >>> 12) | (high << 20)) & within);
    this.shift = shift;
    this.permissions = this.accessOf(allowed);
  }

  /** Reads an entry through its window, again while another processor changes it. False if it is not to be had there. */
  private readEntry(frame: number, index: number): boolean {
    const words = this.memory.windows[frame >>> WINDOW_FRAME_SHIFT]?.words;
    if (words === undefined) return false;
    const at = ((frame & WINDOW_FRAME_MASK) << 10) + (index << 1);
    for (let i = 0; i < TORN_READ_RETRIES; i++) {
      const low = words[at]!;
      const high = words[at + 1]!;
      if (words[at] !== low) continue;
      this.entryLow = low;
      this.entryHigh = high;
      return (low | high) !== 0;
    }
    return false;
  }
}
