/** Intervals of pages, none overlapping another, in order of address. */

export interface PageInterval {
  /** Address >> 12. */
  readonly start: number;
  /** At least 1. */
  readonly pages: number;
}

/** Intervals are kept in chunks of at most this many, so that an insertion moves little. */
const CHUNK_INTERVALS = 256;

/** The page behind the last one. */
export const endOf = (interval: PageInterval): number => interval.start + interval.pages;

export class PageIntervals<T extends PageInterval> {
  /** None is empty. */
  #chunks: T[][] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  *[Symbol.iterator](): Generator<T> {
    for (const chunk of this.#chunks) yield* chunk;
  }

  /** The first interval that ends after the page. */
  from(page: number): T | undefined {
    const chunk = this.#chunks[this.#chunkOf(page)];
    return chunk?.[indexIn(chunk, page)];
  }

  firstOverlap(start: number, pages: number): T | undefined {
    const found = this.from(start);
    return found !== undefined && found.start < start + pages ? found : undefined;
  }

  /** The caller has made sure that nothing overlaps it. */
  insert(interval: T): void {
    this.#size++;
    if (this.#chunks.length === 0) {
      this.#chunks.push([interval]);
      return;
    }
    const at = Math.min(this.#chunkOf(interval.start), this.#chunks.length - 1);
    const chunk = this.#chunks[at]!;
    chunk.splice(indexIn(chunk, interval.start), 0, interval);
    if (chunk.length > CHUNK_INTERVALS) this.#chunks.splice(at + 1, 0, chunk.splice(CHUNK_INTERVALS >>> 1));
  }

  /** Takes the first interval out, whole, that overlaps [start, stop); undefined: none does. */
  takeOverlap(start: number, stop: number): T | undefined {
    const at = this.#chunkOf(start);
    const chunk = this.#chunks[at];
    if (chunk === undefined) return undefined;
    const index = indexIn(chunk, start);
    const found = chunk[index]!;
    if (found.start >= stop) return undefined;
    chunk.splice(index, 1);
    this.#size--;
    if (chunk.length === 0) this.#chunks.splice(at, 1);
    return found;
  }

  /** Forgets all. */
  clear(): void {
    this.#size = 0;
    this.#chunks = [];
  }

  /** The first chunk that has an interval ending after the page; beyond the last if none has. */
  #chunkOf(page: number): number {
    const chunks = this.#chunks;
    let low = 0;
    let high = chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const chunk = chunks[middle]!;
      if (endOf(chunk[chunk.length - 1]!) <= page) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The first of the chunk's intervals that ends after the page. */
function indexIn(chunk: readonly PageInterval[], page: number): number {
  let low = 0;
  let high = chunk.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (endOf(chunk[middle]!) <= page) low = middle + 1;
    else high = middle;
  }
  return low;
}
