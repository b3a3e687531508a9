/** Ranges of pages that never overlap, in order of address; what a domain knows of its address space. */

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
  readonly #chunks: PageRange[][] = [];
  #size = 0;

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

  /** The caller has made sure that nothing overlaps it. */
  insert(range: PageRange): void {
    this.#size++;
    if (this.#chunks.length === 0) {
      this.#chunks.push([range]);
      return;
    }
    const at = Math.min(this.#chunkOf(range.start), this.#chunks.length - 1);
    const chunk = this.#chunks[at]!;
    chunk.splice(indexIn(chunk, range.start), 0, range);
    if (chunk.length > CHUNK_RANGES) this.#chunks.splice(at + 1, 0, chunk.splice(CHUNK_RANGES >>> 1));
  }

  /** Takes [start, start + pages) out: ranges that lie across its borders are cut. */
  remove(start: number, pages: number): void {
    const stop = start + pages;
    for (;;) {
      const at = this.#chunkOf(start);
      const chunk = this.#chunks[at];
      if (chunk === undefined) return;
      const index = indexIn(chunk, start);
      const range = chunk[index]!;
      if (range.start >= stop) return;
      chunk.splice(index, 1);
      this.#size--;
      if (chunk.length === 0) this.#chunks.splice(at, 1);
      if (range.start < start) this.insert({ ...range, pages: start - range.start });
      if (end(range) > stop) this.insert({ ...range, start: stop, pages: end(range) - stop });
    }
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
