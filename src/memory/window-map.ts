/** Files in the windows of one guest: mapped in place, across window borders, and taken out again. */
import type { MappedWindow, WindowPool } from '../posix/window-pool.ts';
import { FRAME_BYTES, type MemoryWindow, WINDOW_FRAME_MASK } from './guest-memory.ts';

const WINDOW_FRAMES = WINDOW_FRAME_MASK + 1;

export class WindowMap {
  readonly #pool: WindowPool;
  readonly #visible: (MemoryWindow | undefined)[];
  readonly #windows = new Map<number, MappedWindow>();

  /** `visible` is the array that readers look at, by window number. */
  constructor(pool: WindowPool, visible: (MemoryWindow | undefined)[]) {
    this.#pool = pool;
    this.#visible = visible;
  }

  /** Throws a SystemError; nothing is mapped then. */
  map(frame: number, frames: number, fd: number, fileOffset: number, writable: boolean): void {
    let at = frame;
    try {
      while (at < frame + frames) {
        const count = piece(at, frame + frames);
        const offset = fileOffset + (at - frame) * FRAME_BYTES;
        this.#window(at).mapFile(windowOffset(at), count * FRAME_BYTES, fd, offset, writable);
        at += count;
      }
    } catch (error) {
      this.clear(frame, at - frame);
      throw error;
    }
  }

  /** What `map` put there. */
  clear(frame: number, frames: number): void {
    for (let at = frame; at < frame + frames; ) {
      const count = piece(at, frame + frames);
      this.#windows.get(Math.floor(at / WINDOW_FRAMES))!.clear(windowOffset(at), count * FRAME_BYTES);
      at += count;
    }
  }

  /** Everything, and the windows go back to the pool. */
  release(): void {
    this.#visible.length = 0;
    for (const window of this.#windows.values()) this.#pool.release(window);
    this.#windows.clear();
  }

  #window(frame: number): MappedWindow {
    const index = Math.floor(frame / WINDOW_FRAMES);
    let window = this.#windows.get(index);
    if (window === undefined) {
      window = this.#pool.acquire();
      this.#windows.set(index, window);
      // Filled up, so that the array stays a dense one.
      while (this.#visible.length <= index) this.#visible.push(undefined);
      this.#visible[index] = window;
    }
    return window;
  }
}

/** Frames from `frame` to `end`, or to the end of its window. */
function piece(frame: number, end: number): number {
  return Math.min(end - frame, WINDOW_FRAMES - (frame & WINDOW_FRAME_MASK));
}

function windowOffset(frame: number): number {
  return (frame & WINDOW_FRAME_MASK) * FRAME_BYTES;
}
