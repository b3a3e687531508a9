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

export class PageFlags {
  /** By `frame >>> 9`; what lies beyond its end is zero. Replaced when it grows. For reading only. */
  chunks: Uint8Array = new Uint8Array(512);
  readonly #pages = new Map<number, Uint8Array>();

  /** The flags of one page; zero where nothing is. */
  at(frame: number): number {
    const chunk = frame >>> CHUNK_FRAME_SHIFT;
    const flags = chunk < this.chunks.length ? this.chunks[chunk]! : 0;
    return flags === MIXED ? this.#pages.get(chunk)![frame & CHUNK_FRAME_MASK]! : flags;
  }

  /** How many pages from `frame` on have the flags of `frame`: at least 1, and not beyond the end of its chunk. */
  run(frame: number): number {
    const chunk = frame >>> CHUNK_FRAME_SHIFT;
    const first = frame & CHUNK_FRAME_MASK;
    if (chunk >= this.chunks.length || this.chunks[chunk] !== MIXED) return CHUNK_FRAMES - first;
    const pages = this.#pages.get(chunk)!;
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
  }

  /** For tests: how many chunks keep a byte per page. */
  get mixedChunks(): number {
    return this.#pages.size;
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
      pages = new Uint8Array(CHUNK_FRAMES).fill(before);
      this.#pages.set(chunk, pages);
      this.chunks[chunk] = MIXED;
    }
    pages.fill(flags, from, to);
    if (pages.every(page => page === flags)) {
      this.chunks[chunk] = flags;
      this.#pages.delete(chunk);
    }
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
