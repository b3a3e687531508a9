import { FRAME_BYTES } from '../../src/memory/guest-memory.ts';
import { RegionMemory, type RemoteMemory } from '../../src/memory/region-memory.ts';
import { createMemfd, type MemfdOptions, writeAt } from '../../src/posix/memfd.ts';
import { WindowPool } from '../../src/posix/window-pool.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import type { DmaRegion } from '../../src/vfio-user/device-model.ts';

export const PAGE = FRAME_BYTES;

/** A client's own memory, by messages; page by page, so that any address will do. */
export class FakeRemote implements RemoteMemory {
  readonly messages: string[] = [];
  /** The errno of every answer. */
  answer = 0;
  /** Called before each answer. */
  before: () => void = () => {};
  readonly #pages = new Map<number, Uint8Array>();

  page(frame: number): Uint8Array {
    let page = this.#pages.get(frame);
    if (page === undefined) {
      page = new Uint8Array(PAGE);
      this.#pages.set(frame, page);
    }
    return page;
  }

  dmaRead(frame: number, offset: number, target: Uint8Array, at: number, length: number): number {
    this.messages.push(`read ${frame.toString(16)}+${offset} ${length}`);
    this.before();
    if (this.answer !== 0) return this.answer;
    for (let i = 0; i < length; i++) {
      const byte = offset + i;
      target[at + i] = this.page(frame + Math.floor(byte / PAGE))[byte % PAGE]!;
    }
    return 0;
  }

  dmaWrite(frame: number, offset: number, source: Uint8Array, at: number, length: number): number {
    this.messages.push(`write ${frame.toString(16)}+${offset} ${length}`);
    this.before();
    if (this.answer !== 0) return this.answer;
    for (let i = 0; i < length; i++) {
      const byte = offset + i;
      this.page(frame + Math.floor(byte / PAGE))[byte % PAGE] = source[at + i]!;
    }
    return 0;
  }
}

export interface Setup {
  readonly memory: RegionMemory;
  readonly trace: TraceLog;
  readonly pool: WindowPool;
}

export function setUp(maxRegions?: number): Setup {
  const trace = new TraceLog();
  const pool = new WindowPool();
  const options = { name: 'memory', trace, pool };
  return { memory: new RegionMemory(maxRegions === undefined ? options : { ...options, maxRegions }), trace, pool };
}

/** A file of `pages` pages, each filled with `first`, `first + 1` and so on. */
export function pagesFile(pages: number, first = 1, options: MemfdOptions = { seal: true }): number {
  const fd = createMemfd('guest-memory', pages * PAGE, options);
  const page = new Uint8Array(PAGE);
  for (let i = 0; i < pages; i++) writeAt(fd, page.fill(first + i), 0, PAGE, i * PAGE);
  return fd;
}

/** A region of `frames` pages at `frame`; without a descriptor by default. */
export function at(frame: number, frames: number, more: Partial<DmaRegion> = {}): DmaRegion {
  return {
    address: BigInt(frame) * BigInt(PAGE),
    size: BigInt(frames) * BigInt(PAGE),
    readable: true,
    writable: true,
    descriptor: -1,
    offset: 0n,
    ...more,
  };
}

export function unmap(memory: RegionMemory, frame: number, frames: number): number {
  return memory.unmap(BigInt(frame) * BigInt(PAGE), BigInt(frames) * BigInt(PAGE));
}

/** One byte, or the name of what went wrong. */
export function byteAt(memory: RegionMemory, frame: number, offset = 0): number | string {
  const target = new Uint8Array(1);
  const status = memory.read(frame, offset, target, 0, 1);
  return status === 0 ? target[0]! : ['ok', 'unmapped', 'denied', 'failed'][status]!;
}
