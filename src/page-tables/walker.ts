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
} as const;
export type WalkStatus = (typeof WalkStatus)[keyof typeof WalkStatus];

/** How often an entry that changes while it is read is read again before memory itself is asked for it. */
const TORN_READ_RETRIES = 4;

/** Address bits of an entry's high word that a non-negative int32 page-frame number (GPA >> 12) has no room for. */
const UNREACHABLE_HIGH = ~0x7ff;

export class Walker {
  readonly format: PageTableFormat;

  /** After `ok`: the 4 KiB page frame that holds the address asked for, also within a large page. */
  frame = 0;
  /** After `ok`: log2 of the mapping's bytes. */
  shift = 0;
  /** After `ok`: `Access` bits that every entry on the way allows. */
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
  readonly visited = new Int32Array(2 * (MAX_LEVELS + 1));

  /** The format's own permission bits for a mask of `Access` bits; also what `walkFrom` takes. */
  readonly accessBits = new Int32Array(4);

  private readonly memory: GuestMemory;
  private readonly depths = new Int32Array(MAX_LEVELS + 1);
  private readonly tooWideLow = new Int32Array(MAX_LEVELS + 1);
  private readonly tooWideHigh = new Int32Array(MAX_LEVELS + 1);
  private readonly granuleShift: number;
  private readonly bitsPerLevel: number;
  private readonly indexMask: number;
  /** Bits that are clear in an ordinary pointer to a table and an ordinary page of level 1: no further look at the format. */
  private readonly unusualLow: number;
  private readonly unusualHigh: number;
  /** By access: the bits that tell of an ordinary entry that it is present and allows it; 0 where none do. */
  private readonly required = new Int32Array(4);
  private readonly readBit: number;
  private readonly writeBit: number;
  private readonly addressLow: number;
  private readonly addressHigh: number;

  /** Throws a RangeError on a format that this walker has no room for. */
  constructor(format: PageTableFormat, memory: GuestMemory) {
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
    this.readBit = format.permissions.read;
    this.writeBit = format.permissions.write;
    this.addressLow = format.address[0];
    this.addressHigh = format.address[1];
    const ordinary = granuleShift === 12 && bitsPerLevel === 9 && format.address[0] === ~0xfff;
    for (let access = 0; access < 4; access++) {
      this.accessBits[access] = ((access & 1) !== 0 ? this.readBit : 0) | ((access & 2) !== 0 ? this.writeBit : 0);
      const required = this.accessBits[access]!;
      this.required[access] = ordinary && (required & format.presentAny) !== 0 ? required : 0;
    }

    levels.forEach((rule, i) => {
      const shift = granuleShift + bitsPerLevel * i;
      if (rule.leaf !== LeafRule.never && shift - 12 > 30) throw new RangeError(`${rule.name}: page too large`);
    });
    for (const depth of format.depths) {
      if (depth < 1 || depth > levels.length) throw new RangeError(`${format.name}: no level ${depth}`);
      const width = granuleShift + bitsPerLevel * depth;
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
    if (this.exceedsWidth(levels, high, low)) return WalkStatus.tooWide;
    return this.walkFrom(rootFrame, levels, this.readBit | this.writeBit, high, low, access);
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
    const required = this.required[access & 3]! | 0;
    this.startLevel = level;
    if (required === 0) return this.walkOn(tableFrame, level, permissions, high, low, access);

    // Ordinary entries in windows are dealt with here; any other is left, from its level on, to `walkOn`, so that this loop calls
    // nothing. Constants are written out because the compiler cannot fold what another module exports; `| 0` tells it that a
    // number is an int32 and need not be tagged around the loop; and the window is kept from one table to the next because they
    // mostly share one. Together that takes the time of a walk to a half.
    const visited = this.visited;
    const windows = this.memory.windows;
    const examinedLow = this.unusualLow | required;
    const unusualHigh = this.unusualHigh | 0;
    const addressHigh = this.addressHigh | 0;
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
      visited[at + 1] = allowed;
      const nextWindow = frame >>> 18;
      if (nextWindow !== windowIndex) {
        const window = windows[nextWindow];
        if (window === undefined) break;
        windowIndex = nextWindow;
        words = window.words;
      }
      const word = ((frame & 0x3ffff) << 10) | ((above >>> 22) & 0x3fe);
      const entryLow = words[word]! | 0;
      const entryHigh = words[word | 1]! | 0;
      if ((((entryLow & examinedLow) ^ required) | (entryHigh & unusualHigh)) !== 0) break;
      // The guest writes 64 bits at once; two halves that do not belong together would be an address nobody ever wrote.
      if (words[word] !== entryLow) break;
      allowed &= entryLow;
      frame = ((entryHigh & addressHigh) << 20) | (entryLow >>> 12);
      if (at === 2) {
        this.level = 1;
        this.entryLow = entryLow;
        this.entryHigh = entryHigh;
        this.frame = frame;
        this.shift = 12;
        this.permissions = this.accessOf(allowed);
        return 0;
      }
      above = (above << 9) | (below >>> 23);
      below <<= 9;
      at -= 2;
    }
    return this.walkOn(frame, at >> 1, allowed, high, low, access);
  }

  /** The whole of the walk from a level on, for entries of every kind. */
  private walkOn(frame: number, level: number, allowed: number, high: number, low: number, access: number): WalkStatus {
    const { format, memory, visited, indexMask, addressLow, addressHigh } = this;
    const needed = this.accessBits[access & 3]!;
    for (; ; level--) {
      const shift = this.granuleShift + this.bitsPerLevel * (level - 1);
      const index = (shift < 32 ? (low >>> shift) | (high << (32 - shift)) : high >>> (shift - 32)) & indexMask;
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
      if ((entryLow & format.presentAny) === 0) return WalkStatus.notPresent;
      if ((entryLow & needed) !== needed) return WalkStatus.denied;

      const rule = format.levels[level - 1]!;
      const byBit = rule.leaf === LeafRule.byLeafBit && (entryLow & format.leafBit) !== 0;
      const leaf = byBit || rule.leaf === LeafRule.always;
      const reserved = leaf ? rule.leafReserved : rule.tableReserved;
      if (((entryLow & reserved[0]) | (entryHigh & reserved[1])) !== 0) return WalkStatus.reserved;
      if ((entryHigh & addressHigh & UNREACHABLE_HIGH) !== 0) return WalkStatus.badPointer;
      allowed &= entryLow;
      frame = ((entryHigh & addressHigh) << 20) | ((entryLow & addressLow) >>> 12);
      if (leaf) {
        this.finish(frame, shift, allowed, high, low);
        return WalkStatus.ok;
      }
    }
  }

  private accessOf(allowed: number): number {
    return ((allowed & this.readBit) !== 0 ? 1 : 0) | ((allowed & this.writeBit) !== 0 ? 2 : 0);
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
