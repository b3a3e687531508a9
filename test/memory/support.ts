import { createHash } from 'node:crypto';
import { FRAME_BYTES } from '../../src/memory/guest-memory.ts';
import { RegionMemory, type RemoteMemory } from '../../src/memory/region-memory.ts';
import { createMemfd, type MemfdOptions, writeAt } from '../../src/posix/memfd.ts';
import { WindowPool } from '../../src/posix/window-pool.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import type { AnnouncedRegion, DmaBatch } from '../../src/vfio-user/device-model.ts';

export const PAGE = FRAME_BYTES;

/** A client's own memory, by messages; page by page, so that any address will do. */
export class FakeRemote implements RemoteMemory {
  readonly messages: string[] = [];
  /** The errno of every answer, and of answers about one page. */
  answer = 0;
  readonly answers = new Map<number, number>();
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
    const errno = this.errnoFor(frame, offset, length);
    if (errno !== 0) return errno;
    for (let i = 0; i < length; i++) {
      const byte = offset + i;
      target[at + i] = this.page(frame + Math.floor(byte / PAGE))[byte % PAGE]!;
    }
    return 0;
  }

  dmaWrite(frame: number, offset: number, source: Uint8Array, at: number, length: number): number {
    this.messages.push(`write ${frame.toString(16)}+${offset} ${length}`);
    this.before();
    const errno = this.errnoFor(frame, offset, length);
    if (errno !== 0) return errno;
    for (let i = 0; i < length; i++) {
      const byte = offset + i;
      this.page(frame + Math.floor(byte / PAGE))[byte % PAGE] = source[at + i]!;
    }
    return 0;
  }

  private errnoFor(frame: number, offset: number, length: number): number {
    if (this.answer !== 0) return this.answer;
    for (let page = frame; page * PAGE < frame * PAGE + offset + length; page++) {
      const errno = this.answers.get(page);
      if (errno !== undefined) return errno;
    }
    return 0;
  }
}

interface Sent {
  readonly mark: number;
  readonly frame: number;
  readonly work: () => number;
}

/** The same, which lets messages wait until the batch ends or `window` of them do, and then serves them in order. */
export class BatchedRemote extends FakeRemote implements DmaBatch {
  readonly dmaBatch = this;
  failedMark = 0;
  failedFrame = 0;
  /** How many messages each wait was for. */
  readonly waits: number[] = [];
  private sent: Sent[] = [];
  private errno = 0;
  private isOpen = false;

  constructor(readonly window: number = Number.POSITIVE_INFINITY) {
    super();
  }

  begin(): void {
    if (this.isOpen) throw new Error('a batch within a batch');
    this.isOpen = true;
    this.errno = 0;
  }

  send(
    writing: boolean,
    frame: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    length: number,
    mark: number,
  ): boolean {
    if (!this.isOpen) throw new Error('sent outside a batch');
    const source = writing ? bytes.slice(at, at + length) : bytes;
    const work = writing
      ? () => this.dmaWrite(frame, offset, source, 0, length)
      : () => this.dmaRead(frame, offset, bytes, at, length);
    this.sent.push({ mark, frame, work });
    if (this.sent.length >= this.window) this.wait();
    return this.errno === 0;
  }

  end(): number {
    this.wait();
    this.isOpen = false;
    return this.errno;
  }

  private wait(): void {
    const sent = this.sent;
    this.sent = [];
    if (sent.length > 0) this.waits.push(sent.length);
    for (const { mark, frame, work } of sent) {
      const errno = work();
      if (errno === 0 || this.errno !== 0) continue;
      this.errno = errno;
      this.failedMark = mark;
      this.failedFrame = frame;
    }
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

/** Short enough to be shown where it differs. */
export function digest(bytes: Uint8Array): string {
  return createHash('sha1').update(bytes).digest('hex').slice(0, 12);
}

/** A region of `frames` pages at `frame`; without a descriptor by default. */
export function at(frame: number, frames: number, more: Partial<AnnouncedRegion> = {}): AnnouncedRegion {
  return {
    address: frame * PAGE,
    size: frames * PAGE,
    readable: true,
    writable: true,
    descriptor: -1,
    offset: 0,
    access: undefined,
    ...more,
  };
}

export function unmap(memory: RegionMemory, frame: number, frames: number): number {
  return memory.unmap(frame * PAGE, frames * PAGE);
}

/** One byte, or the name of what went wrong. */
export function byteAt(memory: RegionMemory, frame: number, offset = 0): number | string {
  const target = new Uint8Array(1);
  const status = memory.read(frame, offset, target, 0, 1);
  return status === 0 ? target[0]! : ['ok', 'unmapped', 'denied', 'failed'][status]!;
}
