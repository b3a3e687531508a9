/** Answers the server's DMA_READ and DMA_WRITE from the guest memory that is mapped here. */
import { FRAME_SHIFT, MemoryStatus } from '../memory/guest-memory.ts';
import { FRAME_LIMIT } from '../memory/region-memory.ts';
import type { Trace } from '../trace/trace.ts';
import type { Connection } from '../vfio-user/connection.ts';
import { Errno } from '../vfio-user/device-model.ts';
import { type Header, writeHeader } from '../vfio-user/header.ts';
import type { Limits } from '../vfio-user/limits.ts';
import { Command, commandName, DmaAccess, HEADER_BYTES, HeaderFlag } from '../vfio-user/spec.ts';
import type { ClientDma, ClientDmaRequest } from './client-dma.ts';
import type { RelayCounters } from './counters.ts';
import { type GuestRegions, Way } from './guest-regions.ts';
import { answerError, copyBytes, isPosted } from './pass-on.ts';

/** The region does not allow this access (asm-generic/errno-base.h). */
const EACCES = 13;
const ANSWER_BYTES = HEADER_BYTES + DmaAccess.bytes;
const OFFSET_MASK = (1 << FRAME_SHIFT) - 1;
/** Upper words of addresses below this have a frame number (an int32). */
const HIGH_LIMIT = FRAME_LIMIT / 2 ** (32 - FRAME_SHIFT);
const NO_BYTES = new Uint8Array(0);

export interface DmaDeskOptions {
  readonly name: string;
  readonly trace: Trace;
  readonly server: Connection;
  readonly memory: GuestRegions;
  readonly client: ClientDma;
  readonly limits: Limits;
  readonly counters: RelayCounters;
}

export class DmaDesk {
  constructor(private readonly options: DmaDeskOptions) {}

  /** What the answer takes at most, in bytes. */
  room(header: Header, payload: number, length: number): number {
    const { server, limits } = this.options;
    if (header.command !== Command.dmaRead || length < DmaAccess.bytes) return ANSWER_BYTES;
    const count = server.inputView.getUint32(payload + DmaAccess.count, true);
    return ANSWER_BYTES + Math.min(count, limits.maxDataTransfer);
  }

  /** One message of the server; there is room for its answer. */
  serve(header: Header, payload: number, length: number): void {
    const { server, memory, limits } = this.options;
    const writing = header.command === Command.dmaWrite;
    if (length < DmaAccess.bytes) {
      this.refuse(header, Errno.EINVAL, 0n, 0);
      return;
    }
    const view = server.inputView;
    const low = view.getUint32(payload + DmaAccess.address, true);
    const high = view.getUint32(payload + DmaAccess.address + 4, true);
    const count = view.getUint32(payload + DmaAccess.count, true);
    const tooLong = view.getUint32(payload + DmaAccess.count + 4, true) !== 0 || count > limits.maxDataTransfer;
    if (tooLong || length !== DmaAccess.bytes + (writing ? count : 0)) {
      this.refuse(header, tooLong ? Errno.E2BIG : Errno.EINVAL, addressOf(high, low), count);
      return;
    }
    // The last byte, too, must have a frame number.
    if (high >= HIGH_LIMIT || (high === HIGH_LIMIT - 1 && low + count > 2 ** 32)) {
      this.refuse(header, Errno.EFAULT, addressOf(high, low), count);
      return;
    }
    const frame = (high << (32 - FRAME_SHIFT)) | (low >>> FRAME_SHIFT);
    const offset = low & OFFSET_MASK;
    if (this.options.client.busy || memory.way(writing, frame, offset, count) === Way.client) {
      this.queue(header, frame, offset, count, payload);
      return;
    }
    const at = server.reserve(ANSWER_BYTES + (writing ? 0 : count));
    if (at < 0) return;
    const data = at + ANSWER_BYTES;
    const status = writing
      ? memory.write(frame, offset, server.input, payload + DmaAccess.data, count)
      : memory.read(frame, offset, server.output, data, count);
    if (status === MemoryStatus.ok) this.answer(header, at, payload, count, writing);
    else this.refuse(header, errnoOf(status), addressOf(high, low), count);
  }

  private answer(header: Header, at: number, payload: number, count: number, writing: boolean): void {
    const { server, counters } = this.options;
    if (writing) counters.dmaBytesWritten += count;
    else counters.dmaBytesRead += count;
    if (isPosted(header)) return;
    const size = ANSWER_BYTES + (writing ? 0 : count);
    writeHeader(server.outputView, at, header.id, header.command, size, HeaderFlag.typeReply, 0);
    copyBytes(server.input, payload, server.output, at + HEADER_BYTES, DmaAccess.bytes);
    server.commit(size);
  }

  /** One that waited its turn. Undefined: only QEMU reaches that memory. */
  serveLater({ command, frame, offset, count, bytes }: ClientDmaRequest, target: Uint8Array): number | undefined {
    const { memory, counters } = this.options;
    const writing = command === Command.dmaWrite;
    if (memory.way(writing, frame, offset, count) === Way.client) return undefined;
    const status = writing
      ? memory.write(frame, offset, bytes, 0, count)
      : memory.read(frame, offset, target, 0, count);
    if (status !== MemoryStatus.ok) {
      const errno = errnoOf(status);
      this.noteRefusal(command, errno, addressOf(frame >>> 20, (frame << FRAME_SHIFT) | offset), count);
      return errno;
    }
    if (writing) counters.dmaBytesWritten += count;
    else counters.dmaBytesRead += count;
    return Errno.ok;
  }

  private queue(header: Header, frame: number, offset: number, count: number, payload: number): void {
    const { client, server } = this.options;
    const writing = header.command === Command.dmaWrite;
    if (!client.takes(writing ? count : 0)) {
      this.refuse(header, Errno.ENOMEM, addressOf(frame >>> 20, (frame << FRAME_SHIFT) | offset), count);
      return;
    }
    const from = payload + DmaAccess.data;
    const { id, command } = header;
    const bytes = writing ? server.input.slice(from, from + count) : NO_BYTES;
    client.add({ id, command, posted: isPosted(header), frame, offset, count, bytes });
  }

  private refuse(header: Header, errno: number, address: bigint, count: number): void {
    this.noteRefusal(header.command, errno, address, count);
    answerError(this.options.server, header, errno);
  }

  private noteRefusal(command: number, errno: number, address: bigint, count: number): void {
    const { counters, trace, name } = this.options;
    counters.refused++;
    trace.note('dma.refused', name, { command: commandName(command), address, count, errno });
  }
}

function addressOf(high: number, low: number): bigint {
  return (BigInt(high) << 32n) | BigInt(low >>> 0);
}

function errnoOf(status: MemoryStatus): number {
  if (status === MemoryStatus.unmapped) return Errno.EFAULT;
  return status === MemoryStatus.denied ? EACCES : Errno.EIO;
}
