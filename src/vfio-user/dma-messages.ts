/** DMA through the client's process (vfio-user, sections "VFIO_USER_DMA_READ" and "VFIO_USER_DMA_WRITE"), from jobs only. */
import type { EventLoop } from '../posix/event-loop.ts';
import type { Trace } from '../trace/trace.ts';
import type { Connection } from './connection.ts';
import { Errno } from './device-model.ts';
import { type Header, writeHeader } from './header.ts';
import type { Limits } from './limits.ts';
import { Command, commandName, DmaAccess, HEADER_BYTES, HeaderFlag } from './spec.ts';

/** The client did not answer in time (asm-generic/errno.h). */
export const ETIMEDOUT = 110;

const REQUEST_BYTES = HEADER_BYTES + DmaAccess.bytes;
const ID_COUNT = 0x10000;
const TWO_TO_32 = 0x100000000;
/** Below this a loop is faster than `set` with a view of its own. */
const LOOP_COPY_BYTES = 64;

/** One message on its way. Reused, so that a wait allocates nothing. */
class Pending {
  command = 0;
  high = 0;
  low = 0;
  count = 0;
  target: Uint8Array | undefined;
  at = 0;
  done = false;
  errno = 0;
  /** Given up by its waiter: the reply, if it still comes, is dropped. */
  unanswered = false;
  readonly isDone = (): boolean => this.done;

  finish(errno: number): void {
    this.errno = errno;
    this.done = true;
    this.target = undefined;
  }
}

export interface DmaMessagesOptions {
  readonly connection: Connection;
  readonly loop: EventLoop;
  readonly limits: Limits;
  readonly trace: Trace;
  readonly name: string;
}

export class DmaMessages {
  /** Bytes in one message; zero until the handshake is done. */
  maxTransfer = 0;
  messages = 0;
  private readonly pending = new Map<number, Pending>();
  private readonly spare: Pending[] = [];
  private unanswered = 0;
  private lastId = 0;

  constructor(private readonly options: DmaMessagesOptions) {}

  read(frame: number, offset: number, target: Uint8Array, at: number, length: number): number {
    return this.transfer(Command.dmaRead, frame, offset, target, at, length);
  }

  write(frame: number, offset: number, source: Uint8Array, at: number, length: number): number {
    return this.transfer(Command.dmaWrite, frame, offset, source, at, length);
  }

  /** A reply from the client. Closes the connection where it answers nothing that we asked, or in another form. */
  reply(header: Header, payload: number, length: number): void {
    const { connection, trace, name } = this.options;
    const pending = this.pending.get(header.id);
    if (pending === undefined) {
      connection.close('reply to no request', { id: header.id, command: commandName(header.command) });
      return;
    }
    if (pending.command !== header.command) {
      connection.close('reply to another command', {
        id: header.id,
        asked: commandName(pending.command),
        answered: commandName(header.command),
      });
      return;
    }
    if (pending.unanswered) {
      this.pending.delete(header.id);
      this.unanswered--;
      trace.note('dma.answered-late', name, { id: header.id, command: commandName(header.command) });
      return;
    }
    if (header.flags & HeaderFlag.error) {
      // The error field may be zero even then (section "Header").
      this.finish(header.id, pending, header.error > 0 && header.error < 4096 ? header.error : Errno.EIO);
      return;
    }
    if (!this.checkEcho(pending, payload, length)) return;
    if (pending.target !== undefined) this.copyIn(pending, payload + DmaAccess.data);
    this.finish(header.id, pending, Errno.ok);
  }

  /** The connection is gone: nobody will answer. */
  abandon(): void {
    this.maxTransfer = 0;
    for (const [id, pending] of this.pending) {
      if (!pending.unanswered) this.finish(id, pending, Errno.ENODEV);
    }
    this.pending.clear();
    this.unanswered = 0;
  }

  private transfer(
    command: number,
    frame: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    length: number,
  ): number {
    if (this.options.connection.dispatching) {
      throw new Error('DMA messages wait for the client, which waits for its own answer first: use a job');
    }
    const low = ((frame << 12) | offset) >>> 0;
    const high = frame >>> 20;
    for (let done = 0; done < length; ) {
      const { maxTransfer } = this;
      if (maxTransfer === 0) return Errno.ENODEV;
      const limit = command === Command.dmaRead ? Math.min(maxTransfer, this.options.limits.maxDmaRead) : maxTransfer;
      const count = Math.min(length - done, limit);
      const sum = low + done;
      const carry = Math.floor(sum / TWO_TO_32);
      const errno = this.exchange(command, high + carry, sum >>> 0, bytes, at + done, count);
      if (errno !== Errno.ok) return errno;
      done += count;
    }
    return Errno.ok;
  }

  private exchange(command: number, high: number, low: number, bytes: Uint8Array, at: number, count: number): number {
    const { connection, loop, limits } = this.options;
    const size = REQUEST_BYTES + (command === Command.dmaWrite ? count : 0);
    if (!connection.hasRoom(size)) {
      loop.waitUntil(() => connection.closed || connection.hasRoom(size), limits.dmaTimeout);
    }
    const out = connection.reserve(size);
    if (out < 0) return connection.closed ? Errno.ENODEV : ETIMEDOUT;

    const id = this.nextId();
    const pending = this.spare.pop() ?? new Pending();
    pending.command = command;
    pending.high = high;
    pending.low = low;
    pending.count = count;
    pending.target = command === Command.dmaRead ? bytes : undefined;
    pending.at = at;
    pending.done = false;
    pending.unanswered = false;
    this.pending.set(id, pending);
    this.messages++;

    const { outputView: view } = connection;
    const payload = out + HEADER_BYTES;
    writeHeader(view, out, id, command, size, HeaderFlag.typeCommand, 0);
    view.setUint32(payload + DmaAccess.address, low, true);
    view.setUint32(payload + DmaAccess.address + 4, high, true);
    view.setUint32(payload + DmaAccess.count, count, true);
    view.setUint32(payload + DmaAccess.count + 4, 0, true);
    if (command === Command.dmaWrite) copy(bytes, at, connection.output, payload + DmaAccess.data, count);
    connection.commit(size);

    if (!pending.done && !loop.waitUntil(pending.isDone, limits.dmaTimeout)) return this.giveUp(id, pending);
    const { errno } = pending;
    this.spare.push(pending);
    return errno;
  }

  private giveUp(id: number, pending: Pending): number {
    const { connection, limits, trace, name } = this.options;
    pending.unanswered = true;
    pending.target = undefined;
    this.unanswered++;
    trace.note('dma.unanswered', name, {
      id,
      command: commandName(pending.command),
      address: (BigInt(pending.high) << 32n) | BigInt(pending.low),
      count: pending.count,
      milliseconds: limits.dmaTimeout,
    });
    if (this.unanswered > limits.maxUnanswered) {
      connection.close('too many DMA messages unanswered', { limit: limits.maxUnanswered });
    }
    return ETIMEDOUT;
  }

  private finish(id: number, pending: Pending, errno: number): void {
    this.pending.delete(id);
    pending.finish(errno);
  }

  /**
   * The reply must repeat address and count, in 8 bytes each. Some clients count in 4 bytes, or answer a write with a header
   * alone; these also expect the data 4 bytes earlier than we send it, so going on would corrupt the guest's memory.
   */
  private checkEcho(pending: Pending, payload: number, length: number): boolean {
    const { connection } = this.options;
    const expected = DmaAccess.bytes + (pending.target === undefined ? 0 : pending.count);
    if (length !== expected) {
      connection.close('DMA reply in another layout', {
        command: commandName(pending.command),
        expected,
        received: length,
      });
      return false;
    }
    const view = connection.inputView;
    const matches =
      view.getUint32(payload + DmaAccess.address, true) === pending.low &&
      view.getUint32(payload + DmaAccess.address + 4, true) === pending.high &&
      view.getUint32(payload + DmaAccess.count, true) === pending.count &&
      view.getUint32(payload + DmaAccess.count + 4, true) === 0;
    if (matches) return true;
    connection.close('DMA reply repeats another address or count', {
      command: commandName(pending.command),
      address: view.getBigUint64(payload + DmaAccess.address, true),
      count: view.getBigUint64(payload + DmaAccess.count, true),
      expectedAddress: (BigInt(pending.high) << 32n) | BigInt(pending.low),
      expectedCount: pending.count,
    });
    return false;
  }

  private copyIn(pending: Pending, from: number): void {
    copy(this.options.connection.input, from, pending.target!, pending.at, pending.count);
  }

  /** Ids are ours alone (section "Header"); one that may still be answered is not used again. */
  private nextId(): number {
    do {
      this.lastId = (this.lastId + 1) % ID_COUNT;
    } while (this.pending.has(this.lastId));
    return this.lastId;
  }
}

function copy(source: Uint8Array, from: number, target: Uint8Array, to: number, length: number): void {
  if (length > LOOP_COPY_BYTES) target.set(source.subarray(from, from + length), to);
  else for (let i = 0; i < length; i++) target[to + i] = source[from + i]!;
}
