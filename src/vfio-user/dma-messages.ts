/**
 * DMA through the client's process (vfio-user, sections "VFIO_USER_DMA_READ" and "VFIO_USER_DMA_WRITE"), from jobs only. Messages
 * are sent one behind the other up to a window, and their answers taken in whatever order they come.
 */
import type { EventLoop } from '../posix/event-loop.ts';
import type { Trace } from '../trace/trace.ts';
import type { Connection } from './connection.ts';
import { type DmaBatch, Errno } from './device-model.ts';
import { repeatsDma } from './dma-echo.ts';
import { DmaExchange, Pending } from './dma-exchange.ts';
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

export interface DmaMessagesOptions {
  readonly connection: Connection;
  readonly loop: Pick<EventLoop, 'waitUntil'>;
  readonly limits: Limits;
  readonly trace: Trace;
  readonly name: string;
}

export class DmaMessages implements DmaBatch {
  /** Bytes in one message; zero until the handshake is done. */
  maxTransfer = 0;
  messages = 0;
  failedMark = 0;
  failedFrame = 0;
  private readonly pending = new Map<number, Pending>();
  private readonly sparePending: Pending[] = [];
  private readonly spareExchanges: DmaExchange[] = [];
  /** Those of which something is still to be sent. */
  private readonly sending: DmaExchange[] = [];
  private batch: DmaExchange | undefined;
  /** The window: messages that a waiter waits for, and the bytes that they carry or ask for. */
  private inFlight = 0;
  private bytesInFlight = 0;
  private answered = 0;
  /** Exchanges given up of which replies may still come. */
  private unanswered = 0;
  private lastId = 0;

  /** Where the messages go: the client's own connection, or the twin of it. */
  private channel: Connection;

  constructor(private readonly options: DmaMessagesOptions) {
    this.channel = options.connection;
  }

  /** Before the first message. */
  moveTo(channel: Connection): void {
    this.channel = channel;
  }

  read(frame: number, offset: number, target: Uint8Array, at: number, length: number): number {
    return this.transfer(Command.dmaRead, frame, offset, target, at, length);
  }

  write(frame: number, offset: number, source: Uint8Array, at: number, length: number): number {
    return this.transfer(Command.dmaWrite, frame, offset, source, at, length);
  }

  begin(): void {
    // Somebody began and never ended: what he asked for must not be written into his buffers later on.
    if (this.batch !== undefined) this.end();
    this.batch = this.open();
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
    const batch = this.batch!;
    batch.mark = mark;
    this.sendAll(batch, writing ? Command.dmaWrite : Command.dmaRead, frame, offset, bytes, at, length);
    return batch.errno === 0;
  }

  end(): number {
    const batch = this.batch!;
    this.batch = undefined;
    const errno = this.collect(batch);
    this.failedMark = batch.failedMark;
    this.failedFrame = batch.failedFrame;
    return errno;
  }

  /** The client took these pages away: nothing more is asked of them. */
  unmapped(firstFrame: number, frames: number): void {
    for (const exchange of this.sending) {
      if (exchange.firstFrame < firstFrame + frames && exchange.lastFrame >= firstFrame) exchange.stop(Errno.EFAULT);
    }
  }

  /** A reply from the client. Closes the connection where it answers nothing that we asked, or in another form. */
  reply(header: Header, payload: number, length: number): void {
    const { channel: connection, options } = this;
    const { trace, name } = options;
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
    const exchange = pending.exchange!;
    if (exchange.givenUp) {
      this.retire(pending);
      if (exchange.outstanding === 0) this.unanswered--;
      trace.note('dma.answered-late', name, { id: header.id, command: commandName(header.command) });
      return;
    }
    if (header.flags & HeaderFlag.error) {
      // The error field may be zero even then (section "Header").
      this.finish(pending, header.error > 0 && header.error < 4096 ? header.error : Errno.EIO);
    } else {
      if (!repeatsDma(connection, pending, payload, length)) return;
      if (pending.target !== undefined) this.copyIn(pending, payload + DmaAccess.data);
      this.finish(pending, Errno.ok);
    }
    // Whoever waits goes on first: a client that sends a read behind its last answer asks what came of it.
    if (exchange.outstanding === 0) connection.rest();
  }

  /** The connection is gone: nobody will answer. */
  abandon(): void {
    this.maxTransfer = 0;
    for (const pending of [...this.pending.values()]) {
      if (pending.exchange!.givenUp) this.retire(pending);
      else this.finish(pending, Errno.ENODEV);
    }
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
    const exchange = this.open();
    this.sendAll(exchange, command, frame, offset, bytes, at, length);
    return this.collect(exchange);
  }

  private open(): DmaExchange {
    if (this.options.connection.dispatching) {
      throw new Error('DMA messages wait for the client, which waits for its own answer first: use a job');
    }
    return (this.spareExchanges.pop() ?? new DmaExchange()).begin();
  }

  /** Waits for the window alone. Ends early where something of the exchange has failed. */
  private sendAll(
    exchange: DmaExchange,
    command: number,
    frame: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    length: number,
  ): void {
    const low = ((frame << 12) | offset) >>> 0;
    const high = frame >>> 20;
    exchange.firstFrame = frame;
    exchange.lastFrame = frame + Math.floor((offset + length - 1) / 4096);
    this.sending.push(exchange);
    for (let done = 0; done < length && exchange.errno === 0; ) {
      const { maxTransfer } = this;
      const limit = command === Command.dmaRead ? Math.min(maxTransfer, this.options.limits.maxDmaRead) : maxTransfer;
      const count = Math.min(length - done, limit);
      const size = REQUEST_BYTES + (command === Command.dmaWrite ? count : 0);
      if (maxTransfer === 0) exchange.stop(Errno.ENODEV);
      else if (this.fits(size, count) || this.waitToFit(exchange, size, count)) {
        const sum = low + done;
        const carry = Math.floor(sum / TWO_TO_32);
        this.post(exchange, command, high + carry, sum >>> 0, bytes, at + done, count, size);
        done += count;
      }
    }
    this.sending.pop();
  }

  /** A message that is larger than the window goes alone. */
  private fits(size: number, count: number): boolean {
    const { channel: connection } = this;
    const { limits } = this.options;
    if (this.inFlight === 0) return connection.hasRoom(size);
    return (
      this.inFlight < limits.maxDmaMessages &&
      this.bytesInFlight + count <= limits.maxDmaBytes &&
      connection.hasRoom(size)
    );
  }

  /** False: it failed, or the client may now want it in other pieces. */
  private waitToFit(exchange: DmaExchange, size: number, count: number): boolean {
    const { channel: connection } = this;
    const settled = () => connection.closed || exchange.errno !== 0 || this.fits(size, count);
    if (this.patiently(settled)) return !connection.closed && exchange.errno === 0;
    if (exchange.outstanding > 0) this.giveUp(exchange);
    else exchange.stop(ETIMEDOUT);
    return false;
  }

  /** False where nothing was answered for as long as a message may take. */
  private patiently(settled: () => boolean): boolean {
    const { loop, limits } = this.options;
    for (;;) {
      const { answered } = this;
      if (loop.waitUntil(settled, limits.dmaTimeout)) return true;
      if (this.answered === answered) return false;
    }
  }

  private post(
    exchange: DmaExchange,
    command: number,
    high: number,
    low: number,
    bytes: Uint8Array,
    at: number,
    count: number,
    size: number,
  ): void {
    const { channel: connection } = this;
    const out = connection.reserve(size);
    const pending = this.sparePending.pop() ?? new Pending();
    pending.id = this.nextId();
    pending.command = command;
    pending.high = high;
    pending.low = low;
    pending.count = count;
    pending.target = command === Command.dmaRead ? bytes : undefined;
    pending.at = at;
    pending.sequence = exchange.nextSequence++;
    pending.mark = exchange.mark;
    pending.exchange = exchange;
    this.pending.set(pending.id, pending);
    exchange.outstanding++;
    this.inFlight++;
    this.bytesInFlight += count;
    this.messages++;

    const { outputView: view } = connection;
    const payload = out + HEADER_BYTES;
    writeHeader(view, out, pending.id, command, size, HeaderFlag.typeCommand, 0);
    view.setUint32(payload + DmaAccess.address, low, true);
    view.setUint32(payload + DmaAccess.address + 4, high, true);
    view.setUint32(payload + DmaAccess.count, count, true);
    view.setUint32(payload + DmaAccess.count + 4, 0, true);
    if (command === Command.dmaWrite) copy(bytes, at, connection.output, payload + DmaAccess.data, count);
    // May find the client gone.
    connection.commit(size);
  }

  /** Waits for every answer. */
  private collect(exchange: DmaExchange): number {
    if (exchange.outstanding > 0 && !exchange.givenUp) this.channel.receiveAhead();
    if (exchange.outstanding > 0 && !exchange.givenUp && !this.patiently(exchange.isDone)) {
      this.giveUp(exchange);
    }
    if (!exchange.givenUp) this.spareExchanges.push(exchange);
    return exchange.errno;
  }

  private giveUp(exchange: DmaExchange): void {
    const { channel: connection } = this;
    const { limits, trace, name } = this.options;
    exchange.givenUp = true;
    this.unanswered++;
    let first: Pending | undefined;
    for (const pending of this.pending.values()) {
      if (pending.exchange !== exchange) continue;
      pending.target = undefined;
      this.leaveWindow(pending);
      if (first === undefined || pending.sequence < first.sequence) first = pending;
    }
    const { id, command, high, low, count, sequence, mark } = first!;
    exchange.fail(sequence, ETIMEDOUT, mark, frameOf(first!));
    trace.note('dma.unanswered', name, {
      id,
      command: commandName(command),
      address: (BigInt(high) << 32n) | BigInt(low),
      count,
      messages: exchange.outstanding,
      milliseconds: limits.dmaTimeout,
    });
    // What is in flight next must find an id that is free.
    const fewIds = this.pending.size > ID_COUNT - limits.maxDmaMessages;
    if (this.unanswered > limits.maxUnanswered || fewIds) {
      connection.close('too many DMA messages unanswered', {
        limit: limits.maxUnanswered,
        messages: this.pending.size,
      });
    }
  }

  private finish(pending: Pending, errno: number): void {
    const exchange = pending.exchange!;
    if (errno !== Errno.ok) exchange.fail(pending.sequence, errno, pending.mark, frameOf(pending));
    this.answered++;
    this.leaveWindow(pending);
    this.retire(pending);
  }

  private leaveWindow(pending: Pending): void {
    this.inFlight--;
    this.bytesInFlight -= pending.count;
  }

  private retire(pending: Pending): void {
    this.pending.delete(pending.id);
    pending.exchange!.outstanding--;
    pending.exchange = undefined;
    pending.target = undefined;
    this.sparePending.push(pending);
  }

  private copyIn(pending: Pending, from: number): void {
    copy(this.channel.input, from, pending.target!, pending.at, pending.count);
  }

  /** Ids are ours alone (section "Header"); one that may still be answered is not used again. */
  private nextId(): number {
    do {
      this.lastId = (this.lastId + 1) % ID_COUNT;
    } while (this.pending.has(this.lastId));
    return this.lastId;
  }
}

function frameOf(pending: Pending): number {
  return pending.high * 0x100000 + (pending.low >>> 12);
}

function copy(source: Uint8Array, from: number, target: Uint8Array, to: number, length: number): void {
  if (length > LOOP_COPY_BYTES) target.set(source.subarray(from, from + length), to);
  else for (let i = 0; i < length; i++) target[to + i] = source[from + i]!;
}
