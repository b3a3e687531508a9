import { FRAME_BYTES, FRAME_SHIFT, MemoryStatus, WINDOW_FRAME_MASK, WINDOW_FRAME_SHIFT } from './guest-memory.ts';
import { PageFlag } from './page-flags.ts';
import { WindowedMemory } from './windowed-memory.ts';

const WINDOW_BYTES = 2 ** (WINDOW_FRAME_SHIFT + FRAME_SHIFT);

/** Guest memory in this process alone: RAM from address zero on, for in-process machines and for tests. */
export class LocalMemory extends WindowedMemory {
  readonly #frames: number;

  /** `bytes` of zeros, a multiple of 4096, all readable and writable. */
  constructor(bytes: number) {
    super();
    const frames = bytes / FRAME_BYTES;
    if (!Number.isInteger(frames) || frames < 1 || frames > 2 ** 31) throw new RangeError(`${bytes} bytes of memory`);
    this.#frames = frames;
    for (let at = 0; at < bytes; at += WINDOW_BYTES) {
      const buffer = new ArrayBuffer(Math.min(WINDOW_BYTES, bytes - at));
      this.windows.push({ bytes: new Uint8Array(buffer), words: new Int32Array(buffer) });
    }
    this.flags.fill(0, frames, PageFlag.mapped | PageFlag.readable | PageFlag.writable);
  }

  /** Puts a 64-bit little-endian word there, whatever the protection: the CPU's side. Naturally aligned. */
  write64(frame: number, offset: number, value: bigint): void {
    if (frame < 0 || frame >= this.#frames || (offset & ~0xff8) !== 0) {
      throw new RangeError(`no 64-bit word at frame ${frame}, offset ${offset}`);
    }
    const words = this.windows[frame >>> WINDOW_FRAME_SHIFT]!.words;
    const index = ((frame & WINDOW_FRAME_MASK) << 10) + (offset >> 2);
    words[index] = Number(BigInt.asIntN(32, value));
    words[index + 1] = Number(BigInt.asIntN(32, value >> 32n));
  }

  /** What devices may do with these pages. Both false: as if no memory allowed anything there. Windows still show them. */
  protect(frame: number, pages: number, allowed: { readable: boolean; writable: boolean }): void {
    if (frame < 0 || pages < 1 || frame + pages > this.#frames) throw new RangeError(`no ${pages} pages at ${frame}`);
    const flags =
      PageFlag.mapped | (allowed.readable ? PageFlag.readable : 0) | (allowed.writable ? PageFlag.writable : 0);
    this.flags.fill(frame, pages, flags);
    this.generation++;
  }

  protected override transferElsewhere(): MemoryStatus {
    return MemoryStatus.unmapped;
  }
}
