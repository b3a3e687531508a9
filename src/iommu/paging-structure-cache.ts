/**
 * The paging-structure cache: for an address prefix, which table comes next and what the entries above it allow together
 * (VT-d 4.1, 6.2.5). A walk that finds its prefix here starts at that table.
 */
import type { PageTableFormat } from '../page-tables/format.ts';
import type { Walker } from '../page-tables/walker.ts';
import { TranslationCache } from './translation-cache.ts';

export class PagingStructureCache {
  readonly cache: TranslationCache;
  /** After a hit: the level of the table found, its frame, and the permissions above it in the format's own bits. */
  level = 0;
  frame = 0;
  permissions = 0;

  private readonly granuleShift: number;
  private readonly bitsPerLevel: number;

  constructor(format: PageTableFormat, sets: number, ways: number) {
    this.granuleShift = format.granuleShift;
    this.bitsPerLevel = format.bitsPerLevel;
    const deepest = Math.max(...format.depths);
    const shifts: number[] = [];
    for (let level = 1; level < deepest; level++) shifts.push(this.prefixShift(level));
    this.cache = new TranslationCache(sets, ways, shifts);
  }

  /**
   * Finds the lowest table known for the address, below the root of a walk of `levels`. An entry whose permissions lack some of
   * `needed` (the format's own bits) may have been given them since: it is dropped.
   */
  lookup(domain: number, high: number, low: number, levels: number, needed: number): boolean {
    const { cache } = this;
    for (let level = 1; level < levels; level++) {
      const shift = this.prefixShift(level);
      if (cache.live[shift] === 0) continue;
      const entry = cache.find(domain, high, low, shift);
      if (entry < 0) continue;
      const permissions = cache.permissionsOf(entry);
      if ((permissions & needed) !== needed) {
        cache.drop(entry);
        continue;
      }
      this.level = level;
      this.frame = cache.frameOf(entry);
      this.permissions = permissions;
      return true;
    }
    return false;
  }

  /** As `lookup`, but changes nothing: an entry that lacks permissions is passed over. */
  peek(domain: number, high: number, low: number, levels: number, needed: number): boolean {
    const { cache } = this;
    for (let level = 1; level < levels; level++) {
      const entry = cache.find(domain, high, low, this.prefixShift(level));
      if (entry < 0 || (cache.permissionsOf(entry) & needed) !== needed) continue;
      this.level = level;
      this.frame = cache.frameOf(entry);
      this.permissions = cache.permissionsOf(entry);
      return true;
    }
    return false;
  }

  /** Remembers every table that the walk just done went down to. */
  fill(domain: number, high: number, low: number, walker: Walker): void {
    for (let level = walker.level; level < walker.startLevel; level++) {
      const frame = walker.visited[level << 1]!;
      this.cache.insert(domain, high, low, this.prefixShift(level), frame, walker.visited[(level << 1) | 1]!);
    }
  }

  /** log2 of the bytes of address space that one table of that level translates. */
  private prefixShift(level: number): number {
    return this.granuleShift + this.bitsPerLevel * level;
  }
}
