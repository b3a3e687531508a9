/**
 * Guest-physical memory as the rest of the house sees it. An address is a page-frame number (GPA >> 12, a non-negative
 * int32: 8 TiB) and an offset into that page, so that no BigInt and no double is on the way.
 */

export const FRAME_SHIFT = 12;
export const FRAME_BYTES = 4096;
/** A window spans 1 GiB: `frame >>> WINDOW_FRAME_SHIFT` is its index, `frame & WINDOW_FRAME_MASK` the page within. */
export const WINDOW_FRAME_SHIFT = 18;
export const WINDOW_FRAME_MASK = 0x3ffff;

export const MemoryStatus = {
  ok: 0,
  /** No DMA region covers (all of) the range. */
  unmapped: 1,
  /** The region is there but does not allow this access. */
  denied: 2,
  /** The memory is reached by messages and the client refused, answered wrongly or went away. */
  failed: 3,
} as const;
export type MemoryStatus = (typeof MemoryStatus)[keyof typeof MemoryStatus];

/** Two views over the same gibibyte. Both stay valid for good: what is unmapped reads as zero. */
export interface MemoryWindow {
  readonly bytes: Uint8Array;
  /** Little-endian 32-bit words, signed so that they stay small integers. */
  readonly words: Int32Array;
}

/**
 * Accesses in a row, none of which waits for its own answer. Between `begin` and `end` targets hold nothing yet that may be read; at
 * `end` all is as if the accesses had been made one by one, but for those behind the first that failed: they may have been made too.
 */
export interface MemoryBatch {
  begin(): void;
  /** As in `GuestMemory`. Another status than `ok`: one of the accesses so far has failed, and no more are to follow. */
  read(frame: number, offset: number, target: Uint8Array, at: number, length: number): MemoryStatus;
  write(frame: number, offset: number, source: Uint8Array, at: number, length: number): MemoryStatus;
  /** Waits for what has no answer yet: how the first access that failed did, or `ok`. */
  end(): MemoryStatus;
  /** After `end`: bytes of the accesses before the first that failed. */
  readonly moved: number;
}

export interface GuestMemory {
  /**
   * Directly readable windows, by `frame >>> 18`. Where no region is mapped, and where memory is reached by other means than
   * mapping, they read as zero (or are missing): a reader that finds zero, or no window, must ask `load64` or `read` before it
   * believes it. Never written through except by `write` and `store32`.
   */
  readonly windows: readonly (MemoryWindow | undefined)[];

  /** Grows with every change of the regions; whoever remembers anything derived from them compares it. */
  readonly generation: number;

  /** Physically contiguous guest memory from (frame, offset) to `target[at, at + length)`; may cross pages. */
  read(frame: number, offset: number, target: Uint8Array, at: number, length: number): MemoryStatus;
  write(frame: number, offset: number, source: Uint8Array, at: number, length: number): MemoryStatus;

  /** For many accesses in a row. Missing where none of the memory is waited for. */
  readonly batch?: MemoryBatch | undefined;

  /** The naturally aligned 64-bit word there, into `low` and `high`. */
  load64(frame: number, offset: number): MemoryStatus;
  /** The result of the last successful `load64`, as int32. */
  readonly low: number;
  readonly high: number;
  /** A naturally aligned 32-bit word, stored in one piece and visible to the guest in order (status writes). */
  store32(frame: number, offset: number, value: number): MemoryStatus;
  /**
   * Stores `value` in a naturally aligned 32-bit word if that holds `expected`, in one step as other processors see it; only memory
   * that is not mapped is read and written one after the other. `low` says what the word held: after `ok`, `expected` if it was stored.
   */
  compareExchange32(frame: number, offset: number, expected: number, value: number): MemoryStatus;
}
