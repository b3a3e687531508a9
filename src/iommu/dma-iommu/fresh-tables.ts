/**
 * What page tables say at the moment, independent of every cache of translations. Where the words lie that a walk has read, and what
 * they held, is remembered for a page: as long as they hold the same, so does the answer, and nothing has to be walked again.
 */
import { type GuestMemory, WINDOW_FRAME_MASK, WINDOW_FRAME_SHIFT } from '../../memory/guest-memory.ts';
import type { PageTableFormat } from '../../page-tables/format.ts';
import { type Walker, WalkStatus } from '../../page-tables/walker.ts';
import { Access } from '../translator.ts';

/** Pages that are remembered, a power of two; a page takes the place of another one. */
const SLOTS = 1024;
const SLOT_SHIFT = 5;

// The words of a slot: what it is about, the answer, and for each entry of a table where it lies and what it held.
const ROOT = 0;
const PAGE_LOW = 1;
/** High bits of the page number, and above them the depth of the tables, which is never 0. */
const TAG = 2;
const FRAME = 3;
/** `Access` bits, and from bit 8 on log2 of the mapping's bytes. */
const PERMISSIONS = 4;
/** Index of the word behind the last entry. */
const END = 5;
const FIRST_ENTRY = 6;
const ENTRY_WORDS = 4;

const PAGE_HIGH_BITS = 20;

export class FreshTables {
  /** How the last look ended. */
  status: WalkStatus = WalkStatus.notPresent;
  /** After `ok`: the 4 KiB page frame of the address. */
  frame = 0;
  /** log2 of the mapping's bytes. */
  shift = 12;
  /** `Access` bits, whether or not a page is marked as written: that it is not yet does not forbid a write. */
  permissions = 0;
  /** The last walk read tables in memory that is reached by messages. */
  byMessages = false;

  private readonly slots = new Int32Array(SLOTS << SLOT_SHIFT);
  private readonly hasDirty: boolean;

  /** `walker` walks for this object alone, and only looks: it sets no accessed or dirty bits. */
  constructor(
    private readonly format: PageTableFormat,
    private readonly memory: GuestMemory,
    private readonly walker: Walker,
  ) {
    this.hasDirty = format.dirty !== undefined;
  }

  /** Whether the address is mapped with any permission. */
  look(root: number, levels: number, high: number, low: number): boolean {
    const { slots } = this;
    const page = (low >>> 12) | (high << 20);
    const tag = (high >>> 12) | (levels << PAGE_HIGH_BITS);
    const at = slotOf(root, page);
    if (slots[at + ROOT] !== root || slots[at + PAGE_LOW] !== page || slots[at + TAG] !== tag || !this.unchanged(at)) {
      return this.walk(root, levels, high, low);
    }
    this.status = WalkStatus.ok;
    this.frame = slots[at + FRAME]!;
    this.permissions = slots[at + PERMISSIONS]! & 0xff;
    this.shift = slots[at + PERMISSIONS]! >>> 8;
    return true;
  }

  /** The same by a walk in any case. */
  walk(root: number, levels: number, high: number, low: number): boolean {
    const { walker } = this;
    this.status = walker.walk(root, levels, high, low, 0);
    if (this.status === WalkStatus.tooWide) return false;
    this.frame = walker.frame;
    this.shift = walker.shift;
    this.permissions = walker.permissions;
    const slot = slotOf(root, (low >>> 12) | (high << 20));
    let end = this.remember(slot, high, low);
    this.byMessages = end < 0;
    if (this.status === WalkStatus.ok && this.hasDirty && (this.permissions & Access.write) === 0) {
      if (walker.walk(root, levels, high, low, Access.write) === WalkStatus.ok) this.permissions |= Access.write;
    }
    if (this.status === WalkStatus.ok && this.permissions === 0) this.status = WalkStatus.denied;
    const { slots } = this;
    if (this.status !== WalkStatus.ok) end = -1;
    // What was written down must be what was walked, and not what came in between.
    if (end < 0 || walker.walk(root, levels, high, low, 0) !== WalkStatus.ok || walker.frame !== this.frame) {
      slots[slot + TAG] = 0;
      return this.status === WalkStatus.ok;
    }
    slots[slot + ROOT] = root;
    slots[slot + PAGE_LOW] = (low >>> 12) | (high << 20);
    slots[slot + TAG] = (high >>> 12) | (levels << PAGE_HIGH_BITS);
    slots[slot + FRAME] = this.frame;
    slots[slot + PERMISSIONS] = this.permissions | (this.shift << 8);
    slots[slot + END] = end;
    return true;
  }

  private unchanged(slot: number): boolean {
    const { slots } = this;
    const { windows } = this.memory;
    const end = slots[slot + END]! | 0;
    let index = -1;
    let words: Int32Array = slots;
    for (let at = (slot + FIRST_ENTRY) | 0; at < end; at = (at + ENTRY_WORDS) | 0) {
      // Tables mostly share a window.
      if (slots[at]! !== index) {
        index = slots[at]!;
        const window = windows[index];
        if (window === undefined) return false;
        words = window.words;
      }
      const word = slots[at + 1]!;
      if (((words[word]! ^ slots[at + 2]!) | (words[word + 1]! ^ slots[at + 3]!)) !== 0) return false;
    }
    return true;
  }

  /** Writes down where the entries lie that the last walk has read, and what they hold. -1: not all are to be had through windows. */
  private remember(slot: number, high: number, low: number): number {
    const { slots, walker } = this;
    const { windows } = this.memory;
    const { visited, startLevel, level: last } = walker;
    let at = slot + FIRST_ENTRY;
    for (let level = startLevel; level >= last; level--) {
      const index = entryIndex(this.format, level, high, low);
      const frame = visited[level << 1]! + (index >>> 9);
      const words = windows[frame >>> WINDOW_FRAME_SHIFT]?.words;
      if (words === undefined) return -1;
      const word = ((frame & WINDOW_FRAME_MASK) << 10) | ((index & 511) << 1);
      slots[at] = frame >>> WINDOW_FRAME_SHIFT;
      slots[at + 1] = word;
      slots[at + 2] = words[word]!;
      slots[at + 3] = words[word + 1]!;
      // Zero is what a window shows of memory that is not mapped into it; an entry that leads on is never zero.
      if ((slots[at + 2]! | slots[at + 3]!) === 0 && (level !== last || this.status === WalkStatus.ok)) return -1;
      at += ENTRY_WORDS;
    }
    return at;
  }
}

/** Which entry of a table of that level an address goes through. */
export function entryIndex(
  { granuleShift, bitsPerLevel }: PageTableFormat,
  level: number,
  high: number,
  low: number,
): number {
  const shift = granuleShift + bitsPerLevel * (level - 1);
  const above = shift < 32 ? (low >>> shift) | (high << (32 - shift)) : high >>> (shift - 32);
  return above & ((1 << bitsPerLevel) - 1);
}

/** Neighbouring pages go to neighbouring slots. */
function slotOf(root: number, page: number): number {
  return ((page ^ (page >>> 10) ^ Math.imul(root, 0x9e3779b1)) & (SLOTS - 1)) << SLOT_SHIFT;
}
