/** One format of page tables in one memory: the engine that translates with them, and a second look at the tables themselves. */
import type { GuestMemory } from '../../memory/guest-memory.ts';
import type { PageTableFormat } from '../../page-tables/format.ts';
import { Walker, WalkStatus } from '../../page-tables/walker.ts';
import { type Peeked, TranslationEngine } from '../translation-engine.ts';
import type { Translation } from '../translator.ts';
import type { Core } from './core.ts';
import { LOGICAL_PAGES } from './limits.ts';

const PAGES_PER_HIGH = 2 ** 20;

/** The words of the address of a page number; up to 2^52. */
export function highOf(page: number): number {
  return Math.floor(page / PAGES_PER_HIGH) | 0;
}

export function lowOf(page: number): number {
  return (page % PAGES_PER_HIGH) << 12;
}

export interface TableProbe extends Peeked {
  /** A fresh walk of the tables as they are now, from the root, ends otherwise. */
  readonly stale: boolean;
}

export class TableEngine {
  readonly engine: TranslationEngine;
  /** Only looks: it sets no accessed or dirty bits. */
  private readonly walker: Walker;

  constructor(
    readonly format: PageTableFormat,
    memory: GuestMemory,
    private readonly core: Core,
    private readonly checkStale: boolean,
  ) {
    this.engine = new TranslationEngine(format, memory);
    this.walker = new Walker(format, memory, false);
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
    const { hits } = engine.counters;
    const status = engine.translate(tag, root, levels, high, low, access, out);
    // A reset while the tables were read: the walk may have filled the caches after they had been emptied.
    if (generation !== core.generation) {
      engine.invalidateAll();
      return WalkStatus.badPointer;
    }
    if (this.checkStale && this.differs(status, out, root, levels, high, low, access)) {
      core.statistics.staleHits++;
      core.note('dma-iommu.staleHit', {
        tag,
        address: (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0),
        from: engine.counters.hits !== hits ? 'iotlb' : 'paging-structure',
        frame: status === WalkStatus.ok ? out.frame : -1,
        freshFrame: this.walker.frame,
      });
    }
    return status;
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
    return { ...peeked, stale: this.differs(peeked.status, out, root, levels, high, low, access) };
  }

  /** Whether a walk from the root gives another answer than this one. */
  private differs(
    status: WalkStatus,
    given: Translation,
    root: number,
    levels: number,
    high: number,
    low: number,
    access: number,
  ): boolean {
    const { walker } = this;
    const fresh = walker.walk(root, levels, high, low, access);
    if (status !== WalkStatus.ok || fresh !== WalkStatus.ok)
      return (status === WalkStatus.ok) !== (fresh === WalkStatus.ok);
    // Fewer permissions than the tables give are never stale: a request that needs more walks again.
    return given.frame !== walker.frame || (given.permissions & ~walker.permissions) !== 0;
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
