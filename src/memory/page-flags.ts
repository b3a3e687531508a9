/**
 * What is at each guest page, one byte per 2 MiB chunk; only a chunk whose pages differ has a byte per page. So a check is
 * one load for nearly all of memory, and a guest of any size needs little.
 */

export const PageFlag = {
  readable: 1,
  writable: 2,
  /** In a window. */
  mapped: 4,
  /** In a file that cannot be mapped, or not safely: positioned reads and writes. */
  positioned: 8,
  /** Reached by messages. */
  remote: 16,
  /** Besides one of the three before: writes are logged. */
  logged: 32,
} as const;

/** A chunk's value where its pages differ; never a page's. */
export const MIXED = 128;
export const CHUNK_FRAME_SHIFT = 9;
export const CHUNK_FRAMES = 512;
export const CHUNK_FRAME_MASK = 511;

const NONE = -1;

/** The flags of each page of a chunk. */
class ChunkPages {
  readonly bytes = new Uint8Array(CHUNK_FRAMES);
  /** How many pages differ from the one before them: so that one page more costs the same whatever the others are. */
  private edges = 0;

  get areUniform(): boolean {
    return this.edges === 0;
  }

  fill(from: number, to: number, flags: number): void {
    const { bytes } = this;
    let { edges } = this;
    const last = Math.min(to, CHUNK_FRAMES - 1);
    for (let page = Math.max(from, 1); page <= last; page++) if (bytes[page - 1] !== bytes[page]) edges--;
    // To fill is a call, which costs more than to set one.
    if (to - from === 1) bytes[from] = flags;
    else bytes.fill(flags, from, to);
    if (from > 0 && bytes[from - 1] !== flags) edges++;
    if (to < CHUNK_FRAMES && bytes[to] !== flags) edges++;
    this.edges = edges;
  }
}

export class PageFlags {
  /** By `frame >>> 9`; what lies beyond its end is zero. Replaced when it grows. For reading only. */
  chunks: Uint8Array = new Uint8Array(512);
  /** Of the chunks that are mixed, and of the one that ceased to be last: a region that comes and goes there changes no map. */
  readonly #pages = new Map<number, ChunkPages>();
  /** That one, or NONE. */
  #parked = NONE;

  /** The flags of one page; zero where nothing is. */
  at(frame: number): number {
    const chunk = frame >>> CHUNK_FRAME_SHIFT;
    const flags = chunk < this.chunks.length ? this.chunks[chunk]! : 0;
    return flags === MIXED ? this.#pages.get(chunk)!.bytes[frame & CHUNK_FRAME_MASK]! : flags;
  }

  /** How many pages from `frame` on have the flags of `frame`: at least 1, and not beyond the end of its chunk. */
  run(frame: number): number {
    const chunk = frame >>> CHUNK_FRAME_SHIFT;
    const first = frame & CHUNK_FRAME_MASK;
    if (chunk >= this.chunks.length || this.chunks[chunk] !== MIXED) return CHUNK_FRAMES - first;
    const pages = this.#pages.get(chunk)!.bytes;
    const flags = pages[first];
    let end = first + 1;
    while (end < CHUNK_FRAMES && pages[end] === flags) end++;
    return end - first;
  }

  /** Gives `count` pages from `frame` on these flags. */
  fill(frame: number, count: number, flags: number): void {
    const end = frame + count;
    this.#grow(Math.ceil(end / CHUNK_FRAMES));
    let at = frame;
    while (at < end) {
      const chunk = Math.floor(at / CHUNK_FRAMES);
      const whole = Math.floor(end / CHUNK_FRAMES);
      if (at % CHUNK_FRAMES === 0 && whole > chunk) {
        this.#fillChunks(chunk, whole, flags);
        at = whole * CHUNK_FRAMES;
      } else {
        const stop = Math.min(end, (chunk + 1) * CHUNK_FRAMES);
        this.#fillPages(chunk, at % CHUNK_FRAMES, stop - chunk * CHUNK_FRAMES, flags);
        at = stop;
      }
    }
  }

  clear(): void {
    this.chunks.fill(0);
    this.#pages.clear();
    this.#parked = NONE;
  }

  /** For tests: how many chunks keep a byte per page. */
  get mixedChunks(): number {
    return this.#pages.size - (this.#parked === NONE ? 0 : 1);
  }

  #fillChunks(from: number, to: number, flags: number): void {
    const { chunks } = this;
    if (this.#pages.size > 0) {
      for (let chunk = from; chunk < to; chunk++) {
        if (chunks[chunk] === MIXED) this.#pages.delete(chunk);
      }
    }
    chunks.fill(flags, from, to);
  }

  #fillPages(chunk: number, from: number, to: number, flags: number): void {
    const before = this.chunks[chunk]!;
    if (before === flags) return;
    let pages = this.#pages.get(chunk);
    if (pages === undefined) {
      pages = new ChunkPages();
      this.#pages.set(chunk, pages);
    }
    if (before !== MIXED) {
      if (chunk === this.#parked) this.#parked = NONE;
      if (pages.bytes[0] !== before) pages.fill(0, CHUNK_FRAMES, before);
      this.chunks[chunk] = MIXED;
    }
    pages.fill(from, to, flags);
    if (!pages.areUniform) return;
    this.chunks[chunk] = flags;
    if (this.#parked !== NONE) this.#pages.delete(this.#parked);
    this.#parked = chunk;
  }

  #grow(chunks: number): void {
    if (chunks <= this.chunks.length) return;
    let length = this.chunks.length;
    while (length < chunks) length *= 2;
    const grown = new Uint8Array(length);
    grown.set(this.chunks);
    this.chunks = grown;
  }
}
