/**
 * DMA of the server to memory that only QEMU reaches: without a descriptor, or the interrupt controller's. One message after the
 * other, each in a job of its own, because it waits for QEMU, and QEMU waits for register reads whose answers come meanwhile.
 */
import type { EventLoop } from '../posix/event-loop.ts';
import type { Connection } from '../vfio-user/connection.ts';
import { writeHeader } from '../vfio-user/header.ts';
import { Command, DmaAccess, HEADER_BYTES, HeaderFlag } from '../vfio-user/spec.ts';
import { ANSWER_TIMEOUT, MAX_CLIENT_DMA_BYTES, MAX_CLIENT_DMA_MESSAGES } from './limits.ts';
import { sendError } from './pass-on.ts';

const ANSWER_BYTES = HEADER_BYTES + DmaAccess.bytes;
const NO_BYTES = new Uint8Array(0);

/** QEMU's side: `DmaMessages` of vfio-user. */
export interface ClientMemory {
  read(frame: number, offset: number, target: Uint8Array, at: number, length: number): number;
  write(frame: number, offset: number, source: Uint8Array, at: number, length: number): number;
}

export interface ClientDmaRequest {
  readonly id: number;
  readonly command: number;
  readonly posted: boolean;
  readonly frame: number;
  readonly offset: number;
  readonly count: number;
  /** What a write writes: a copy. */
  readonly bytes: Uint8Array;
}

export interface ClientDmaOptions {
  readonly loop: EventLoop;
  readonly server: Connection;
  readonly memory: ClientMemory;
  /** A message was answered; `errno` 0: QEMU did it. */
  readonly done: (request: ClientDmaRequest, errno: number) => void;
}

export class ClientDma {
  private readonly queue: ClientDmaRequest[] = [];
  private bytes = 0;
  private closed = false;

  constructor(private readonly options: ClientDmaOptions) {}

  /** Whether one more that writes so many bytes may wait. */
  hasRoom(bytes: number): boolean {
    return this.queue.length < MAX_CLIENT_DMA_MESSAGES && this.bytes + bytes <= MAX_CLIENT_DMA_BYTES;
  }

  /** There must be room. */
  add(request: ClientDmaRequest): void {
    this.queue.push(request);
    this.bytes += request.bytes.length;
    this.options.loop.push(() => this.next());
  }

  /** Nothing is answered from here on. */
  close(): void {
    this.closed = true;
    this.queue.length = 0;
    this.bytes = 0;
  }

  private next(): void {
    const request = this.queue.shift();
    if (request === undefined) return;
    this.bytes -= request.bytes.length;
    const { memory } = this.options;
    const { command, frame, offset, count } = request;
    const reads = command === Command.dmaRead;
    const target = reads ? new Uint8Array(count) : NO_BYTES;
    const errno = reads
      ? memory.read(frame, offset, target, 0, count)
      : memory.write(frame, offset, request.bytes, 0, count);
    if (this.closed) return;
    this.options.done(request, errno);
    if (!request.posted) this.answer(request, errno, target);
  }

  private answer({ id, command, frame, offset, count }: ClientDmaRequest, errno: number, data: Uint8Array): void {
    const { loop, server } = this.options;
    const size = ANSWER_BYTES + data.length;
    if (!server.hasRoom(size)) loop.waitUntil(() => server.closed || server.hasRoom(size), ANSWER_TIMEOUT);
    if (server.closed) return;
    if (!server.hasRoom(size)) {
      server.close('the server does not read');
      return;
    }
    if (errno !== 0) {
      sendError(server, id, command, errno);
      return;
    }
    const at = server.reserve(size);
    const { outputView: view } = server;
    const payload = at + HEADER_BYTES;
    writeHeader(view, at, id, command, size, HeaderFlag.typeReply, 0);
    view.setUint32(payload + DmaAccess.address, ((frame << 12) | offset) >>> 0, true);
    view.setUint32(payload + DmaAccess.address + 4, frame >>> 20, true);
    view.setUint32(payload + DmaAccess.count, count, true);
    view.setUint32(payload + DmaAccess.count + 4, 0, true);
    server.output.set(data, payload + DmaAccess.data);
    server.commit(size);
  }
}
