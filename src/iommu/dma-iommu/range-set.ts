/** Ranges of pages that never overlap, in order of address; what a domain knows of its address space. */

import { type Budget, unlimited } from './budget.ts';

/** Why a range is taken. */
export type RangeKind = 'logical' | 'identity' | 'reserved' | 'hole' | 'token';

export interface PageRange {
  /** Address >> 12. */
  readonly start: number;
  readonly pages: number;
  readonly kind: RangeKind;
  /** `Permission` bits; 0 where nothing is mapped. */
  readonly permissions: number;
}

/** Ranges are kept in chunks of at most this many, so that an insertion moves little. */
const CHUNK_RANGES = 256;

const end = (range: PageRange) => range.start + range.pages;

export class RangeSet {
  /** None is empty. */
  #chunks: PageRange[][] = [];
  #size = 0;
  readonly #budget: Budget;

  constructor(budget: Budget = unlimited()) {
    this.#budget = budget;
  }

  get size(): number {
    return this.#size;
  }

  *[Symbol.iterator](): Generator<PageRange> {
    for (const chunk of this.#chunks) yield* chunk;
  }

  /** The first range that ends after the page. */
  from(page: number): PageRange | undefined {
    const chunk = this.#chunks[this.#chunkOf(page)];
    return chunk?.[indexIn(chunk, page)];
  }

  overlaps(start: number, pages: number): boolean {
    const next = this.from(start);
    return next !== undefined && next.start < start + pages;
  }

  /** Whether ranges of that kind, and no gaps, make up all of it. */
  covers(start: number, pages: number, kind: RangeKind): boolean {
    let at = start;
    while (at < start + pages) {
      const range = this.from(at);
      if (range === undefined || range.start > at || range.kind !== kind) return false;
      at = end(range);
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
    return range !== undefined && range.start < start && end(range) > start + pages;
  }

  /** The caller has made sure that nothing overlaps it. False where there is no room: nothing has changed then. */
  insert(range: PageRange): boolean {
    if (!this.#budget.take(1)) return false;
    this.#size++;
    if (this.#chunks.length === 0) {
      this.#chunks.push([range]);
      return true;
    }
    const at = Math.min(this.#chunkOf(range.start), this.#chunks.length - 1);
    const chunk = this.#chunks[at]!;
    chunk.splice(indexIn(chunk, range.start), 0, range);
    if (chunk.length > CHUNK_RANGES) this.#chunks.splice(at + 1, 0, chunk.splice(CHUNK_RANGES >>> 1));
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
      const at = this.#chunkOf(start);
      const chunk = this.#chunks[at];
      if (chunk === undefined) return true;
      const index = indexIn(chunk, start);
      const range = chunk[index]!;
      if (range.start >= stop) return true;
      chunk.splice(index, 1);
      this.#size--;
      this.#budget.give(1);
      if (chunk.length === 0) this.#chunks.splice(at, 1);
      if (range.start < start) this.insert({ ...range, pages: start - range.start });
      if (end(range) > stop) this.insert({ ...range, start: stop, pages: end(range) - stop });
    }
  }

  /** Forgets all. */
  clear(): void {
    this.#budget.give(this.#size);
    this.#size = 0;
    this.#chunks = [];
  }

  /** The first chunk that has a range ending after the page; beyond the last if none has. */
  #chunkOf(page: number): number {
    const chunks = this.#chunks;
    let low = 0;
    let high = chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const chunk = chunks[middle]!;
      if (end(chunk[chunk.length - 1]!) <= page) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The first of the chunk's ranges that ends after the page. */
function indexIn(chunk: readonly PageRange[], page: number): number {
  let low = 0;
  let high = chunk.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (end(chunk[middle]!) <= page) low = middle + 1;
    else high = middle;
  }
  return low;
}
