/**
 * Translation as every IOMMU does it: IOTLB, then paging-structure cache, then a walk, whose result fills both. The caches are
 * modelled and not merely an optimisation: what a driver fails to invalidate stays in use, as on hardware. They hold page frames,
 * never views of memory, so that a change of the memory regions is nothing to them.
 */
import type { GuestMemory } from '../memory/guest-memory.ts';
import { MAX_LEVELS, type PageTableFormat } from '../page-tables/format.ts';
import { Walker, WalkStatus } from '../page-tables/walker.ts';
import { Iotlb, NOT_PRESENT } from './iotlb.ts';
import { PagingStructureCache } from './paging-structure-cache.ts';
import type { TranslationCache } from './translation-cache.ts';
import { bytesToPageEnd, type Translation } from './translator.ts';

export const IOTLB_SETS = 256;
export const IOTLB_WAYS = 4;
export const PAGING_STRUCTURE_ENTRIES = 256;
const PAGING_STRUCTURE_WAYS = 4;

export interface TranslationEngineOptions {
  /** A power of two. Default 256. */
  readonly iotlbSets?: number;
  /** 1, 2, 4, 8 or 16. Default 4. */
  readonly iotlbWays?: number;
  /** A power of two, at least 4. Default 256. */
  readonly pagingStructureEntries?: number;
  /** Remember not-present results too, until they are invalidated (caching mode, VT-d 4.1, 6.1). Default false. */
  readonly cacheNotPresent?: boolean;
}

/** Numbers since construction. */
export class TranslationCounters {
  /** Translations answered by the IOTLB, among them the not-present ones remembered in caching mode. */
  hits = 0;
  notPresentHits = 0;
  /** Translations that needed a walk. `hits`, `misses` and `tooWide` add up to all. */
  misses = 0;
  tooWide = 0;
  /** Misses because the cached entry lacked the permission. */
  permissionMisses = 0;
  /** Index n: walks that read n levels of tables. */
  readonly walksByLevelsRead = new Float64Array(MAX_LEVELS + 1);
  /** Index: `WalkStatus`. Walks by how they ended. */
  readonly walksByStatus = new Float64Array(Object.keys(WalkStatus).length);
  /** Levels of tables that did not have to be read because the paging-structure cache knew the way. */
  levelsSkipped = 0;
  /** Invalidations by kind. */
  invalidateAll = 0;
  invalidateDomain = 0;
  invalidatePages = 0;
  invalidatePagesLeafOnly = 0;
  /** Entries that invalidations dropped. */
  iotlbDropped = 0;
  pagingStructureDropped = 0;
}

/** What a translation would be answered with. */
export interface Peeked {
  readonly status: WalkStatus;
  /** The IOTLB; a walk from a table that the paging-structure cache knew; a walk from the root. */
  readonly source: 'iotlb' | 'paging-structure' | 'walk';
  /** Of the entry that decided; 0 where none was looked at. */
  readonly level: number;
}

export class TranslationEngine {
  /** After a miss its fields tell about the walk; after a hit they are old. */
  readonly walker: Walker;
  readonly counters = new TranslationCounters();
  /** The IOTLB's store: for those who remember its answers as long as it does not change. */
  readonly cache: TranslationCache;

  private readonly iotlb: Iotlb;
  private readonly pagingStructures: PagingStructureCache;
  private readonly cacheNotPresent: boolean;
  private readonly granuleShift: number;
  private readonly allPermissions: number;

  /** Throws a RangeError on sizes out of range. */
  constructor(format: PageTableFormat, memory: GuestMemory, options: TranslationEngineOptions = {}) {
    this.walker = new Walker(format, memory);
    this.iotlb = new Iotlb(format, options.iotlbSets ?? IOTLB_SETS, options.iotlbWays ?? IOTLB_WAYS);
    this.cache = this.iotlb.cache;
    const sets = (options.pagingStructureEntries ?? PAGING_STRUCTURE_ENTRIES) / PAGING_STRUCTURE_WAYS;
    this.pagingStructures = new PagingStructureCache(format, sets, PAGING_STRUCTURE_WAYS);
    this.cacheNotPresent = options.cacheNotPresent ?? false;
    this.granuleShift = format.granuleShift;
    this.allPermissions = format.permissions.read | format.permissions.write;
  }

  /** Valid entries in the IOTLB and in the paging-structure cache. */
  get iotlbSize(): number {
    return this.iotlb.cache.size;
  }

  get pagingStructureSize(): number {
    return this.pagingStructures.cache.size;
  }

  /**
   * Translates the page that holds the address, for one access (`Access` bits), with the tables at `rootFrame`. Fills `out` on `ok`
   * only. An access of zero is one that any permission allows, a zero-length read. `levels` is one of the format's depths, anything
   * else throws a RangeError.
   */
  translate(
    domain: number,
    rootFrame: number,
    levels: number,
    high: number,
    low: number,
    access: number,
    out: Translation,
  ): WalkStatus {
    const { iotlb, walker, counters } = this;
    if (walker.exceedsWidth(levels, high, low)) {
      counters.tooWide++;
      return WalkStatus.tooWide;
    }
    const entry = iotlb.find(domain, high, low);
    if (entry >= 0) {
      const permissions = iotlb.cache.permissionsOf(entry);
      if (permissions === NOT_PRESENT) {
        counters.hits++;
        counters.notPresentHits++;
        return WalkStatus.notPresent;
      }
      if ((permissions & access) === access) {
        counters.hits++;
        out.frame = iotlb.frameAt(entry, high, low);
        out.shift = iotlb.cache.shiftOf(entry);
        out.permissions = permissions;
        return WalkStatus.ok;
      }
      // The tables may allow by now what they did not when the entry was made: no invalidation is due for that.
      iotlb.cache.drop(entry);
      counters.permissionMisses++;
    }
    return this.walkAndFill(domain, rootFrame, levels, high, low, access, out);
  }

  /**
   * What `translate` would answer now, and from where, without any effect on caches, counters or this engine's walker: `walker`
   * does what walking there is. `out` is filled on `ok` only.
   */
  peek(
    domain: number,
    rootFrame: number,
    levels: number,
    high: number,
    low: number,
    access: number,
    walker: Walker,
    out: Translation,
  ): Peeked {
    const { iotlb, pagingStructures } = this;
    if (walker.exceedsWidth(levels, high, low)) return { status: WalkStatus.tooWide, source: 'walk', level: 0 };
    if (iotlb.lookup(domain, high, low)) {
      const { permissions, shift } = iotlb;
      const level = 1 + (shift - this.granuleShift) / walker.format.bitsPerLevel;
      if (permissions === NOT_PRESENT) return { status: WalkStatus.notPresent, source: 'iotlb', level };
      if ((permissions & access) === access) {
        out.frame = iotlb.frame;
        out.shift = shift;
        out.permissions = permissions;
        return { status: WalkStatus.ok, source: 'iotlb', level };
      }
    }
    let source: Peeked['source'] = 'walk';
    let status: WalkStatus;
    if (pagingStructures.peek(domain, high, low, levels, walker.accessBits[access & 3]!)) {
      const { frame, level, permissions } = pagingStructures;
      source = 'paging-structure';
      status = walker.walkFrom(frame, level, permissions, high, low, access);
    } else {
      status = walker.walkFrom(rootFrame, levels, this.allPermissions, high, low, access);
    }
    if (status === WalkStatus.ok) {
      out.frame = walker.frame;
      out.shift = walker.shift;
      out.permissions = walker.permissions;
    }
    return { status, source, level: walker.level };
  }

  /**
   * The shortest way to a translation: as `translate`, if the IOTLB has it, and returns its entry. Else -1, nothing has happened, and
   * `translate` will tell. The caller has made sure that the address is not wider than its tables.
   */
  translateHit(domain: number, high: number, low: number, access: number, out: Translation): number {
    const { cache } = this;
    let entry = cache.findSmallest(domain, high, low);
    if (entry < 0) {
      entry = this.iotlb.findLarger(domain, high, low);
      if (entry < 0) return -1;
    }
    const permissions = cache.permissionsOf(entry);
    // 4 is `NOT_PRESENT`.
    if (permissions === 4 || (permissions & access) !== access) return -1;
    this.counters.hits++;
    out.frame = this.iotlb.frameAt(entry, high, low);
    out.shift = cache.shiftOf(entry);
    out.permissions = permissions;
    return entry;
  }

  /**
   * After a translation of the address for this access: whether the pages that follow are known too, and physically contiguous.
   * Sets `out.bytes` to how many of `length` bytes that makes, its own page included, and returns how many pages it went on by. Asks
   * the IOTLB alone: a page that needs a walk ends the run, and so does 2^32.
   */
  extend(
    domain: number,
    levels: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
  ): number {
    const { iotlb } = this;
    let bytes = bytesToPageEnd(out.shift, low, length) | 0;
    let pages = 0;
    const before2to32 = -low | 0;
    const limit = before2to32 > 0 && before2to32 < length ? before2to32 : length | 0;
    if (bytes < limit && !this.walker.exceedsWidth(levels, high, low + limit - 1)) {
      let frame = (out.frame + (((low & 0xfff) + bytes) >>> 12)) | 0;
      while (bytes < limit) {
        const next = (low + bytes) | 0;
        const left = (limit - bytes) | 0;
        let piece: number;
        const small = iotlb.cache.countPages(domain, high, next, frame, access, (left + 4095) >>> 12);
        if (small < 0) break;
        if (small > 0) {
          piece = Math.min(small << 12, left) | 0;
          pages += small;
        } else {
          const entry = iotlb.find(domain, high, next);
          if (entry < 0 || iotlb.frameAt(entry, high, next) !== frame) break;
          const permissions = iotlb.cache.permissionsOf(entry);
          if (permissions === NOT_PRESENT || (permissions & access) !== access) break;
          piece = bytesToPageEnd(iotlb.cache.shiftOf(entry), next, left) | 0;
          pages++;
        }
        bytes = (bytes + piece) | 0;
        frame = (frame + (piece >>> 12)) | 0;
      }
      this.counters.hits += pages;
    }
    out.bytes = bytes;
    return pages;
  }

  private walkAndFill(
    domain: number,
    rootFrame: number,
    levels: number,
    high: number,
    low: number,
    access: number,
    out: Translation,
  ): WalkStatus {
    const { walker, pagingStructures, counters } = this;
    counters.misses++;
    let status: WalkStatus;
    if (pagingStructures.lookup(domain, high, low, levels, walker.accessBits[access & 3]!)) {
      const { frame, level, permissions } = pagingStructures;
      counters.levelsSkipped += levels - level;
      status = walker.walkFrom(frame, level, permissions, high, low, access);
    } else {
      status = walker.walkFrom(rootFrame, levels, this.allPermissions, high, low, access);
    }
    // What no access at all may use is not a translation, even where none in particular was asked for.
    if (status === WalkStatus.ok && walker.permissions === 0) status = WalkStatus.denied;
    counters.walksByLevelsRead[walker.startLevel - walker.level + 1]!++;
    counters.walksByStatus[status]!++;
    if (status === WalkStatus.ok) {
      out.frame = walker.frame;
      out.shift = walker.shift;
      out.permissions = walker.permissions;
      this.iotlb.insert(domain, high, low, walker.shift, walker.frame, walker.permissions);
      pagingStructures.fill(domain, high, low, walker);
    } else if (status === WalkStatus.notPresent && this.cacheNotPresent) {
      this.iotlb.insert(domain, high, low, this.granuleShift, 0, NOT_PRESENT);
    }
    return status;
  }

  /** Global invalidation. */
  invalidateAll(): void {
    this.counters.invalidateAll++;
    this.counters.iotlbDropped += this.iotlb.cache.invalidateAll();
    this.counters.pagingStructureDropped += this.pagingStructures.cache.invalidateAll();
  }

  /** Domain-selective invalidation. */
  invalidateDomain(domain: number): void {
    this.counters.invalidateDomain++;
    this.counters.iotlbDropped += this.iotlb.cache.invalidateDomain(domain);
    this.counters.pagingStructureDropped += this.pagingStructures.cache.invalidateDomain(domain);
  }

  /**
   * Page-selective invalidation within a domain: 2^order pages of 4 KiB, around the address aligned down to that. Large pages that
   * share any address with them go too. `leafOnly` (the invalidation hint, VT-d 4.1, 6.5.2.3) says that no entry above a leaf was
   * changed, and keeps the paging-structure cache.
   */
  invalidatePages(domain: number, high: number, low: number, order: number, leafOnly: boolean): void {
    if (leafOnly) this.counters.invalidatePagesLeafOnly++;
    else this.counters.invalidatePages++;
    this.counters.iotlbDropped += this.iotlb.cache.invalidatePages(domain, high, low, order);
    if (leafOnly) return;
    this.counters.pagingStructureDropped += this.pagingStructures.cache.invalidatePages(domain, high, low, order);
  }
}
