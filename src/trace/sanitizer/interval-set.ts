/** Intervals of pages, none overlapping another, in order of address. */

export interface Interval {
  /** IOVA >> 12. */
  readonly start: number;
  /** At least 1. */
  readonly pages: number;
}

/** Intervals are kept in chunks of at most this many, so that an insertion moves little. */
const CHUNK = 256;

const endOf = (interval: Interval) => interval.start + interval.pages;

export class IntervalSet<T extends Interval> {
  /** None is empty. */
  #chunks: T[][] = [];
  #size = 0;

  /** `cut` makes the part of an interval that lies within [start, end); they overlap. */
  constructor(private readonly cut: (interval: T, start: number, end: number) => T) {}

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

  at(page: number): T | undefined {
    const found = this.from(page);
    return found !== undefined && found.start <= page ? found : undefined;
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
    if (chunk.length > CHUNK) this.#chunks.splice(at + 1, 0, chunk.splice(CHUNK >>> 1));
  }

  /**
   * Takes [start, start + pages) out and hands over what was there, piece by piece; intervals across the borders are cut. Where that
   * makes two of one, and it must not grow, the upper one is forgotten: then true.
   */
  remove(start: number, pages: number, mayGrow: boolean, taken: (piece: T) => void): boolean {
    const stop = start + pages;
    let forgot = false;
    for (;;) {
      const at = this.#chunkOf(start);
      const chunk = this.#chunks[at];
      if (chunk === undefined) return forgot;
      const index = indexIn(chunk, start);
      const found = chunk[index]!;
      if (found.start >= stop) return forgot;
      chunk.splice(index, 1);
      this.#size--;
      if (chunk.length === 0) this.#chunks.splice(at, 1);
      if (found.start < start) this.insert(this.cut(found, found.start, start));
      if (endOf(found) > stop) {
        if (mayGrow || found.start >= start) this.insert(this.cut(found, stop, endOf(found)));
        else forgot = true;
      }
      taken(this.cut(found, start, stop));
    }
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
function indexIn(chunk: readonly Interval[], page: number): number {
  let low = 0;
  let high = chunk.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (endOf(chunk[middle]!) <= page) low = middle + 1;
    else high = middle;
  }
  return low;
}
