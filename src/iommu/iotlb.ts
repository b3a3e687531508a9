/** The IOTLB: finished translations by domain and page, of every page size side by side. */
import type { PageTableFormat } from '../page-tables/format.ts';
import { LeafRule } from '../page-tables/format.ts';
import { TranslationCache } from './translation-cache.ts';

/** log2 of the page sizes that a format can map, smallest first. */
function pageShifts(format: PageTableFormat): number[] {
  return format.levels.flatMap((level, i) =>
    level.leaf === LeafRule.never ? [] : [format.granuleShift + format.bitsPerLevel * i],
  );
}

/** In place of an entry's `Access` bits: the page was found not present. */
export const NOT_PRESENT = 4;

export class Iotlb {
  readonly cache: TranslationCache;
  /** After a hit: the 4 KiB page frame that holds the address asked for, also within a large page. */
  frame = 0;
  /** After a hit: log2 of the mapping's bytes. */
  shift = 0;
  /** After a hit: `Access` bits, or `NOT_PRESENT`. */
  permissions = 0;

  private readonly shifts: Int32Array;

  constructor(format: PageTableFormat, sets: number, ways: number) {
    const shifts = pageShifts(format);
    this.cache = new TranslationCache(sets, ways, shifts);
    this.shifts = Int32Array.from(shifts);
  }

  /** Looks the address up; on a hit fills the result fields. A smaller page is found before a larger one around it. */
  lookup(domain: number, high: number, low: number): boolean {
    const { cache } = this;
    const entry = this.find(domain, high, low);
    if (entry < 0) return false;
    this.shift = cache.shiftOf(entry);
    this.frame = this.frameAt(entry, high, low);
    this.permissions = cache.permissionsOf(entry);
    return true;
  }

  /** What `lookup` finds, as an entry of `cache`, or -1. */
  find(domain: number, high: number, low: number): number {
    const entry = this.cache.findSmallest(domain, high, low);
    return entry >= 0 ? entry : this.findLarger(domain, high, low);
  }

  /** As `find`, but among pages larger than the smallest only. */
  findLarger(domain: number, high: number, low: number): number {
    const { cache, shifts } = this;
    for (let i = 1; i < shifts.length; i++) {
      const shift = shifts[i]!;
      if (cache.live[shift] === 0) continue;
      const entry = cache.find(domain, high, low, shift);
      if (entry >= 0) return entry;
    }
    return -1;
  }

  /** The 4 KiB page frame of an address within the page of an entry. */
  frameAt(entry: number, high: number, low: number): number {
    const { cache } = this;
    return cache.frameOf(entry) | (((low >>> 12) | (high << 20)) & ((1 << (cache.shiftOf(entry) - 12)) - 1));
  }

  /** Remembers a translation as a walk leaves it: the frame of any 4 KiB page within the mapping of `1 << shift` bytes. */
  insert(domain: number, high: number, low: number, shift: number, frame: number, permissions: number): void {
    this.cache.insert(domain, high, low, shift, frame & (-1 << (shift - 12)), permissions);
  }
}
