/** One format of page tables in one memory: the engine that translates with them, and a second look at the tables themselves. */
import type { GuestMemory } from '../../memory/guest-memory.ts';
import type { PageTableFormat } from '../../page-tables/format.ts';
import { Walker, WalkStatus } from '../../page-tables/walker.ts';
import { FreshStatus, StaleWhat, TranslationSource } from '../../trace/event-kinds.ts';
import { type Peeked, TranslationEngine } from '../translation-engine.ts';
import type { Translation } from '../translator.ts';
import type { Core } from './core.ts';
import { entryIndex, FreshTables } from './fresh-tables.ts';
import { LOGICAL_PAGES } from './limits.ts';
import { highOf, lowOf } from './page-number.ts';

export interface TableProbe extends Peeked {
  /** A fresh walk of the tables as they are now, from the root, ends otherwise. */
  readonly stale: boolean;
}

/** One of so many answers of the IOTLB is checked where a fresh walk costs messages. */
const CHECKED_BY_MESSAGES = 8;

export class TableEngine {
  readonly engine: TranslationEngine;
  /** What the tables say now. */
  readonly fresh: FreshTables;
  /** Only looks: it sets no accessed or dirty bits. */
  private readonly walker: Walker;
  private hitsByMessages = 0;

  constructor(
    readonly format: PageTableFormat,
    readonly memory: GuestMemory,
    private readonly core: Core,
    private readonly checkStale: boolean,
  ) {
    this.engine = new TranslationEngine(format, memory);
    this.walker = new Walker(format, memory, false);
    this.fresh = new FreshTables(format, memory, new Walker(format, memory, false));
    core.statistics.engines[format.name] = this.engine.counters;
  }

  /** As `TranslationEngine.translate`. */
  translate(
    tag: number,
    root: number,
    levels: number,
    high: number,
    low: number,
    access: number,
    out: Translation,
  ): WalkStatus {
    const { engine, core } = this;
    const { generation } = core;
    const { answer } = core;
    const { hits, levelsSkipped } = engine.counters;
    const status = engine.translate(tag, root, levels, high, low, access, out);
    // A reset while the tables were read: the walk may have filled the caches after they had been emptied.
    if (generation !== core.generation) {
      engine.invalidateAll();
      return WalkStatus.badPointer;
    }
    const hit = engine.counters.hits !== hits;
    answer.source = hit ? TranslationSource.iotlb : TranslationSource.walk;
    if (status !== WalkStatus.ok) this.keepFailure(status, levels, high, low);
    // A walk from the root is as fresh as it can be.
    if (this.checkStale && (hit || engine.counters.levelsSkipped !== levelsSkipped)) {
      this.check(status, hit, tag, root, levels, high, low, access, out);
    }
    return status;
  }

  /** An address that no table of the domain is for: they translate this many bits. */
  outside(width: number): void {
    this.core.answer.width = width;
  }

  /** What the tables say of the address, whatever is cached. False: not mapped. */
  readFresh(root: number, levels: number, high: number, low: number, out: Translation): boolean {
    const { fresh } = this;
    if (!fresh.walk(root, levels, high, low)) return false;
    out.frame = fresh.frame;
    out.shift = fresh.shift;
    out.permissions = fresh.permissions;
    return true;
  }

  probe(
    tag: number,
    root: number,
    levels: number,
    high: number,
    low: number,
    access: number,
    out: Translation,
  ): TableProbe {
    const peeked = this.engine.peek(tag, root, levels, high, low, access, this.walker, out);
    this.fresh.walk(root, levels, high, low);
    return { ...peeked, stale: this.differs(peeked.status, out, access) };
  }

  private check(
    status: WalkStatus,
    hit: boolean,
    tag: number,
    root: number,
    levels: number,
    high: number,
    low: number,
    access: number,
    out: Translation,
  ): void {
    const { fresh, core } = this;
    if (hit && fresh.byMessages && ++this.hitsByMessages % CHECKED_BY_MESSAGES !== 0) return;
    fresh.look(root, levels, high, low);
    if (!this.differs(status, out, access)) return;
    // Software may have been changing the tables at this very moment.
    fresh.walk(root, levels, high, low);
    if (!this.differs(status, out, access)) return;
    const { answer } = core;
    const mapped = fresh.status === WalkStatus.ok;
    answer.stale = true;
    answer.staleWhat = hit ? StaleWhat.iotlb : StaleWhat.pagingStructure;
    answer.fresh = freshStatus(fresh.status, (fresh.permissions & access) === access);
    answer.freshFrame = mapped ? fresh.frame : -1;
    answer.freshPermissions = mapped ? fresh.permissions : 0;
    core.statistics.staleHits++;
    core.note('dma-iommu.staleHit', {
      tag,
      address: (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0),
      from: hit ? 'iotlb' : 'paging-structure',
      frame: status === WalkStatus.ok ? out.frame : -1,
      freshFrame: answer.freshFrame,
    });
  }

  /** Whether the last look at the tables gave another answer than this one. */
  private differs(status: WalkStatus, given: Translation, access: number): boolean {
    const { fresh } = this;
    const allowed = fresh.status === WalkStatus.ok && (fresh.permissions & access) === access;
    if (status !== WalkStatus.ok || !allowed) return (status === WalkStatus.ok) !== allowed;
    // Fewer permissions than the tables give are never stale: a request that needs more walks again.
    return given.frame !== fresh.frame || (given.permissions & ~fresh.permissions) !== 0;
  }

  /** For whoever tells of the fault that comes of it. */
  private keepFailure(status: WalkStatus, levels: number, high: number, low: number): void {
    const { format, engine } = this;
    const { answer } = this.core;
    const { walker } = engine;
    answer.failed = status;
    answer.width = Math.min(format.granuleShift + format.bitsPerLevel * levels, format.inputWidth ?? 64);
    if (status === WalkStatus.tooWide) return;
    const { level } = walker;
    const index = entryIndex(format, level, high, low);
    answer.level = level;
    answer.entryLow = walker.entryLow;
    answer.entryHigh = walker.entryHigh;
    answer.entryFrame = walker.visited[level << 1]! + (index >>> 9);
    answer.entryOffset = (index & 511) << 3;
  }

  /** Drops what is cached of a range of pages, of any length and alignment. */
  invalidate(tag: number, page: number, pages: number, leafOnly: boolean): void {
    if (pages >= LOGICAL_PAGES) {
      this.engine.invalidateDomain(tag);
      return;
    }
    let at = page;
    let left = pages;
    while (left > 0) {
      let order = 0;
      // The largest aligned block that starts here.
      while (2 ** (order + 1) <= left && at % 2 ** (order + 1) === 0) order++;
      this.engine.invalidatePages(tag, highOf(at), lowOf(at), order, leafOnly);
      at += 2 ** order;
      left -= 2 ** order;
    }
  }
}

function freshStatus(status: WalkStatus, allowed: boolean): number {
  switch (status) {
    case WalkStatus.ok:
      return allowed ? FreshStatus.mapped : FreshStatus.denied;
    case WalkStatus.notPresent:
      return FreshStatus.notPresent;
    case WalkStatus.denied:
      return FreshStatus.denied;
    default:
      return FreshStatus.malformed;
  }
}
