/** The mappings of one domain that are there now: intervals of pages, none overlapping another, in order of address. */

export interface LiveInterval {
  /** IOVA >> 12. */
  readonly start: number;
  readonly pages: number;
  /** Where the first page leads; -1: the pages do not follow one another. */
  readonly frame: number;
  /** 1 read, 2 write. */
  readonly permissions: number;
  /** `MappingSource`. */
  readonly how: number;
  /** Nanoseconds. */
  readonly since: number;
}

/** Intervals are kept in chunks of at most this many, so that an insertion moves little. */
const CHUNK = 256;

const endOf = (interval: LiveInterval) => interval.start + interval.pages;

/** The part of an interval within [start, end); they overlap. */
export function clip(interval: LiveInterval, start: number, end: number): LiveInterval {
  const from = Math.max(interval.start, start);
  const to = Math.min(endOf(interval), end);
  if (from === interval.start && to === endOf(interval)) return interval;
  const { permissions, how, since } = interval;
  const frame = interval.frame < 0 ? -1 : interval.frame + (from - interval.start);
  return { start: from, pages: to - from, frame, permissions, how, since };
}

export class LiveMappings {
  /** None is empty. */
  #chunks: LiveInterval[][] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  *[Symbol.iterator](): Generator<LiveInterval> {
    for (const chunk of this.#chunks) yield* chunk;
  }

  /** The first interval that ends after the page. */
  from(page: number): LiveInterval | undefined {
    const chunk = this.#chunks[this.#chunkOf(page)];
    return chunk?.[indexIn(chunk, page)];
  }

  at(page: number): LiveInterval | undefined {
    const found = this.from(page);
    return found !== undefined && found.start <= page ? found : undefined;
  }

  firstOverlap(start: number, pages: number): LiveInterval | undefined {
    const found = this.from(start);
    return found !== undefined && found.start < start + pages ? found : undefined;
  }

  /** The caller has made sure that nothing overlaps it. */
  insert(interval: LiveInterval): void {
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
  remove(start: number, pages: number, mayGrow: boolean, taken: (piece: LiveInterval) => void): boolean {
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
      if (found.start < start) this.insert(clip(found, found.start, start));
      if (endOf(found) > stop) {
        if (mayGrow || found.start >= start) this.insert(clip(found, stop, endOf(found)));
        else forgot = true;
      }
      taken(clip(found, start, stop));
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
function indexIn(chunk: readonly LiveInterval[], page: number): number {
  let low = 0;
  let high = chunk.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (endOf(chunk[middle]!) <= page) low = middle + 1;
    else high = middle;
  }
  return low;
}
