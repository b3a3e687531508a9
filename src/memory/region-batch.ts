/**
 * A row of accesses to a guest's regions: as long as one after the other lies behind messages they are only sent. Any other one
 * waits for those before it, so that what the guest sees of writes keeps its order.
 */
import { FRAME_BYTES, type MemoryBatch, MemoryStatus } from './guest-memory.ts';
import { PageFlag } from './page-flags.ts';
import type { Region } from './region-table.ts';
import type { RemoteMemory } from './remote-memory.ts';

/** What it needs of the memory that it belongs to. */
export interface BatchedMemory {
  readonly remote: RemoteMemory | undefined;
  read(frame: number, offset: number, target: Uint8Array, at: number, length: number): MemoryStatus;
  write(frame: number, offset: number, source: Uint8Array, at: number, length: number): MemoryStatus;
}

export interface RegionBatchOptions {
  readonly memory: BatchedMemory;
  readonly flagsAt: (frame: number) => number;
  readonly find: (frame: number) => Region | undefined;
  /** A write is about to be sent; and again when it is answered, or nobody will. */
  readonly writes: (frame: number, offset: number, length: number) => void;
  /** Bytes that went through messages. */
  readonly count: (bytes: number) => void;
  /** A message to this page failed: what that means for who asked. */
  readonly failed: (remote: RemoteMemory, frame: number, writing: boolean, errno: number) => MemoryStatus;
}

export class RegionBatch implements MemoryBatch {
  moved = 0;
  private status: MemoryStatus = MemoryStatus.ok;
  /** Sent and not collected: over which client, whether to write, and how many bytes. */
  private open: RemoteMemory | undefined;
  private writing = false;
  private sent = 0;
  /** Frame, offset and length of each write that is sent and not collected; and a list that is free for the next. */
  private runs: number[] = [];
  private freeRuns: number[] = [];

  constructor(private readonly options: RegionBatchOptions) {}

  begin(): void {
    // Left behind by somebody who began and did not end.
    if (this.open !== undefined) this.collect();
    this.moved = 0;
    this.status = MemoryStatus.ok;
  }

  read(frame: number, offset: number, target: Uint8Array, at: number, length: number): MemoryStatus {
    return this.run(false, frame, offset, target, at, length);
  }

  write(frame: number, offset: number, source: Uint8Array, at: number, length: number): MemoryStatus {
    return this.run(true, frame, offset, source, at, length);
  }

  end(): MemoryStatus {
    if (this.open !== undefined) this.collect();
    return this.status;
  }

  private run(
    writing: boolean,
    frame: number,
    offset: number,
    buffer: Uint8Array,
    at: number,
    length: number,
  ): MemoryStatus {
    let remote = this.remoteFor(writing, frame, offset, length);
    if (this.open !== undefined && (this.open !== remote || this.writing !== writing)) {
      this.collect();
      // Regions may come and go while one waits.
      remote = this.remoteFor(writing, frame, offset, length);
    }
    if (this.status !== MemoryStatus.ok) return this.status;
    if (remote !== undefined) return this.send(remote, writing, frame, offset, buffer, at, length);
    const { memory } = this.options;
    this.status = writing
      ? memory.write(frame, offset, buffer, at, length)
      : memory.read(frame, offset, buffer, at, length);
    if (this.status === MemoryStatus.ok) this.moved += length;
    return this.status;
  }

  /** To whom the whole run can be sent; undefined where it is to be done at once. */
  private remoteFor(writing: boolean, frame: number, offset: number, length: number): RemoteMemory | undefined {
    const { flagsAt, find, memory } = this.options;
    const needed = PageFlag.remote | (writing ? PageFlag.writable : PageFlag.readable);
    if ((flagsAt(frame) & needed) !== needed) return undefined;
    const region = find(frame)!;
    // One that failed before is asked alone, so that its failures and its recovery are told as ever.
    if (region.failure !== '') return undefined;
    if ((frame - region.firstFrame) * FRAME_BYTES + offset + length > region.frames * FRAME_BYTES) return undefined;
    return memory.remote?.dmaBatch === undefined ? undefined : memory.remote;
  }

  private send(
    remote: RemoteMemory,
    writing: boolean,
    frame: number,
    offset: number,
    buffer: Uint8Array,
    at: number,
    length: number,
  ): MemoryStatus {
    const batch = remote.dmaBatch!;
    if (this.open === undefined) {
      this.open = remote;
      this.writing = writing;
      batch.begin();
    }
    if (writing) {
      this.options.writes(frame, offset, length);
      this.runs.push(frame, offset, length);
    }
    const mark = this.sent;
    this.sent += length;
    if (!batch.send(writing, frame, offset, buffer, at, length, mark)) this.collect();
    return this.status;
  }

  private collect(): void {
    const { sent, writing, runs } = this;
    const remote = this.open!;
    const batch = remote.dmaBatch!;
    this.open = undefined;
    this.sent = 0;
    this.runs = this.freeRuns;
    const errno = batch.end();
    this.tellAgain(runs);
    const through = errno === 0 ? sent : batch.failedMark;
    this.moved += through;
    this.options.count(through);
    if (errno !== 0) this.status = this.options.failed(remote, batch.failedFrame, writing, errno);
  }

  /** While they were waited for the log of writes may have been read, or begun; of those that failed nobody knows how far they got. */
  private tellAgain(runs: number[]): void {
    for (let at = 0; at < runs.length; at += 3) this.options.writes(runs[at]!, runs[at + 1]!, runs[at + 2]!);
    runs.length = 0;
    this.freeRuns = runs;
  }
}
