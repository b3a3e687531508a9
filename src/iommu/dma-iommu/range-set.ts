/** Ranges of pages that never overlap, in order of address; what a domain knows of its address space. */
import { endOf, type PageInterval, PageIntervals } from '../../trace/page-intervals.ts';
import { type Budget, unlimited } from './budget.ts';

/** Why a range is taken. */
export type RangeKind = 'logical' | 'identity' | 'reserved' | 'hole' | 'token';

export interface PageRange extends PageInterval {
  readonly kind: RangeKind;
  /** `Permission` bits; 0 where nothing is mapped. */
  readonly permissions: number;
}

export class RangeSet {
  readonly #ranges = new PageIntervals<PageRange>();
  readonly #budget: Budget;

  constructor(budget: Budget = unlimited()) {
    this.#budget = budget;
  }

  get size(): number {
    return this.#ranges.size;
  }

  [Symbol.iterator](): Generator<PageRange> {
    return this.#ranges[Symbol.iterator]();
  }

  /** The first range that ends after the page. */
  from(page: number): PageRange | undefined {
    return this.#ranges.from(page);
  }

  overlaps(start: number, pages: number): boolean {
    return this.#ranges.firstOverlap(start, pages) !== undefined;
  }

  /** Whether ranges of that kind, and no gaps, make up all of it. */
  covers(start: number, pages: number, kind: RangeKind): boolean {
    let at = start;
    while (at < start + pages) {
      const range = this.from(at);
      if (range === undefined || range.start > at || range.kind !== kind) return false;
      at = endOf(range);
    }
    return true;
  }

  /** Whether there is room for another range. */
  get hasRoom(): boolean {
    return this.#budget.left > 0;
  }

  /** Whether one range goes on on both sides of these pages, so that taking them out makes two of it. */
  splits(start: number, pages: number): boolean {
    const range = this.from(start);
    return range !== undefined && range.start < start && endOf(range) > start + pages;
  }

  /** The caller has made sure that nothing overlaps it. False where there is no room: nothing has changed then. */
  insert(range: PageRange): boolean {
    if (!this.#budget.take(1)) return false;
    this.#ranges.insert(range);
    return true;
  }

  /**
   * Takes [start, start + pages) out: ranges that lie across its borders are cut. False where that makes two of one and there is no
   * room: nothing has changed then.
   */
  remove(start: number, pages: number): boolean {
    if (!this.hasRoom && this.splits(start, pages)) return false;
    const stop = start + pages;
    for (;;) {
      const range = this.#ranges.takeOverlap(start, stop);
      if (range === undefined) return true;
      this.#budget.give(1);
      if (range.start < start) this.insert({ ...range, pages: start - range.start });
      if (endOf(range) > stop) this.insert({ ...range, start: stop, pages: endOf(range) - stop });
    }
  }

  /** Forgets all. */
  clear(): void {
    this.#budget.give(this.size);
    this.#ranges.clear();
  }
}
