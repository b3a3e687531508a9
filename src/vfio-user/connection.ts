/** Whole messages in and out of one stream socket; knows headers, and nothing of what the messages mean. */
import { SystemError } from '../posix/errors.ts';
import { type EventLoop, PollEvents, type Watch } from '../posix/event-loop.ts';
import { closeDescriptor, StreamSocket } from '../posix/socket.ts';
import type { TraceValue } from '../trace/trace.ts';
import { Header } from './header.ts';
import { type Limits, largestMessage } from './limits.ts';
import { HEADER_BYTES, HeaderFlag } from './spec.ts';

export type Detail = Readonly<Record<string, TraceValue>>;

const NO_DESCRIPTORS: number[] = [];
const NO_DETAIL: Detail = {};
// The hot path's own names: the compiler folds constants of this file, and loads those of others each time.
const GONE = PollEvents.error | PollEvents.hangup | PollEvents.invalid;
const IN = PollEvents.in;
const OUT = PollEvents.out;
const COMMAND = HeaderFlag.typeCommand;
const REPLY = HeaderFlag.typeReply;
const HEADER = HEADER_BYTES;

export interface MessageHandler {
  /**
   * Bytes that the answer to this message may take. Until the output has that much room the message is held back, and with it
   * all that follow: a peer that does not read its answers is not read from.
   */
  replyRoom(header: Header, payload: number, length: number): number;
  /**
   * One whole message, its payload at `input[payload, payload + length)`. The descriptors that came with it belong to the
   * handler. Must not run the event loop.
   */
  message(header: Header, payload: number, length: number, descriptors: number[]): void;
  /** The connection ended, for the reason given; nothing is called after this. */
  closed(reason: string, detail: Detail): void;
}

interface Attached {
  at: number;
  readonly descriptors: readonly number[];
}

/** Descriptors that one receive brought, and where in the input the last byte lies that came with them. */
interface Arrival {
  at: number;
  readonly descriptors: number[];
}

export class Connection {
  readonly input: Uint8Array;
  readonly inputView: DataView;
  readonly output: Uint8Array;
  readonly outputView: DataView;
  bytesReceived = 0;
  bytesSent = 0;
  /** True while a message is with the handler. */
  dispatching = false;
  /** Told when some of what waited has been sent, so that there may be room again. Never within a message. */
  onRoom: (() => void) | undefined;

  private readonly socket: StreamSocket;
  private watch: Watch;
  private watching = true;
  private readonly header = new Header();
  private readonly largest: number;
  private isClosed = false;
  private paused = false;
  /** Closed or paused: nothing more is handled. One flag, so that the hot path looks at one. */
  private halted = false;
  /** While paused, the peer was found to be gone. What it has sent before is still to be handled. */
  private sawEnd = false;

  private inHead = 0;
  private inTail = 0;
  /** The message at `inHead` waits for room in the output. */
  private held = false;
  /** Descriptors received and not yet handed on, in order. */
  private readonly arrivals: Arrival[] = [];

  private outHead = 0;
  private outTail = 0;
  /** Bytes still to send of each queued message: each goes out by itself, so that none of QEMU's reads ends in a header. */
  private readonly queue: Int32Array;
  private queueFirst = 0;
  private queueLength = 0;
  private attached: Attached[] = [];

  /** Owns `fd` from here on. Throws a SystemError where the loop can't watch it (ENOSPC, ENOMEM). */
  constructor(
    fd: number,
    private readonly loop: EventLoop,
    private readonly limits: Limits,
    private handler: MessageHandler,
  ) {
    this.largest = largestMessage(limits);
    this.socket = new StreamSocket(
      fd,
      this.largest + limits.receiveAhead,
      Math.max(this.largest, limits.maxQueuedBytes),
      limits.maxDescriptors,
    );
    this.input = this.socket.input;
    this.output = this.socket.output;
    this.inputView = viewOf(this.input);
    this.outputView = viewOf(this.output);
    this.queue = new Int32Array(limits.maxQueuedMessages);
    try {
      this.watch = this.watchFor(IN);
    } catch (error) {
      this.socket.close();
      throw error;
    }
  }

  get closed(): boolean {
    return this.isClosed;
  }

  /** Everything committed has reached the kernel. */
  get drained(): boolean {
    return this.queueLength === 0;
  }

  hasRoom(size: number): boolean {
    return this.queueLength < this.queue.length && this.output.length - (this.outTail - this.outHead) >= size;
  }

  /**
   * Where in the output a message of at most `size` bytes can be put together, or -1 where there is no room or nobody to send
   * it to. Valid until the next call.
   */
  reserve(size: number): number {
    if (this.isClosed || !this.hasRoom(size)) return -1;
    if (this.outTail + size > this.output.length) this.compactOutput();
    return this.outTail;
  }

  /** Sends the `size` bytes that now stand at the reserved place. The descriptors must stay open until `drained`. */
  commit(size: number, descriptors?: readonly number[]): void {
    if (this.isClosed) return;
    if (descriptors !== undefined && descriptors.length > 0) this.attached.push({ at: this.outTail, descriptors });
    this.queue[(this.queueFirst + this.queueLength) % this.queue.length] = size;
    this.queueLength++;
    this.outTail += size;
    if (this.queueLength === 1) {
      this.flush();
      if (this.queueLength > 0) this.updateInterest();
    }
  }

  /** Who gets the messages from here on. Also from within `message`. */
  handTo(handler: MessageHandler): void {
    this.handler = handler;
  }

  /**
   * Handles and receives nothing more until `resume`, not even the end of the stream; what was to be sent still goes out. Also from
   * within `message`.
   */
  pause(): void {
    if (this.paused || this.isClosed) return;
    this.paused = true;
    this.halted = true;
    this.updateInterest();
  }

  /** Goes on where `pause` ended. Messages that are there already are handled at once, up to the next `pause`. */
  resume(): void {
    if (!this.paused || this.isClosed) return;
    this.paused = false;
    this.halted = false;
    this.sawEnd = false;
    this.process();
    this.updateInterest();
  }

  /** Takes what the peer has sent, up to `receives` times; true if it is still there after that. */
  pump(receives: number): boolean {
    if (this.queueLength > 0) this.flushAndResume();
    for (let i = 0; i < receives && !this.halted && !this.held; i++) {
      if (!this.receive()) break;
    }
    this.updateInterest();
    return !this.isClosed;
  }

  close(reason: string, detail: Detail = NO_DETAIL): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.halted = true;
    this.watch.stop();
    for (const { descriptors } of this.arrivals.splice(0)) for (const one of descriptors) closeDescriptor(one);
    this.queueLength = 0;
    this.attached = [];
    this.socket.close();
    this.handler.closed(reason, detail);
  }

  private ready(events: number): void {
    if (events & OUT) this.flushAndResume();
    if (this.halted) {
      if ((events & GONE) !== 0) this.sawEnd = true;
      this.updateInterest();
      return;
    }
    if (!this.held) {
      if (events & (IN | GONE)) this.receive();
    } else if (events & GONE) {
      this.close('hung up with answers unread');
    }
    this.updateInterest();
  }

  /** Receives once and handles what is whole; false where nothing was there or the connection is over. */
  private receive(): boolean {
    let received: number;
    try {
      received = this.socket.receive(this.inTail, this.input.length - this.inTail);
    } catch (error) {
      this.fail('receive failed', error);
      return false;
    }
    if (received < 0) return false;
    if (received === 0) {
      this.close(this.inTail > this.inHead ? 'end of stream inside a message' : 'end of stream');
      return false;
    }
    this.inTail += received;
    this.bytesReceived += received;
    if (!this.takeDescriptors()) return false;
    this.process();
    return !this.isClosed;
  }

  /**
   * The kernel ends a receive after the data that descriptors came with, so these belong to the message that holds the last
   * byte received, whole or not.
   */
  private takeDescriptors(): boolean {
    if (this.socket.receivedDescriptors > 0) {
      this.arrivals.push({ at: this.inTail - 1, descriptors: this.socket.takeDescriptors() });
    }
    if (!this.socket.descriptorsTruncated) return true;
    this.refuseDescriptors();
    return false;
  }

  private refuseDescriptors(): void {
    this.close('too many descriptors', { limit: this.limits.maxDescriptors });
  }

  private process(): void {
    if (this.dispatching) throw new Error('the event loop was run while a message was with its handler');
    const { header } = this;
    this.held = false;
    while (!this.halted && this.inTail - this.inHead >= HEADER) {
      header.read(this.inputView, this.inHead);
      if (header.size < HEADER || header.size > this.largest) {
        this.close('message size out of range', { size: header.size, limit: this.largest, command: header.command });
        return;
      }
      if (header.type !== COMMAND && header.type !== REPLY) {
        this.close('unknown message type', { type: header.type, command: header.command });
        return;
      }
      if (this.inTail - this.inHead < header.size) break;
      const payload = this.inHead + HEADER;
      const length = header.size - HEADER;
      if (!this.hasRoom(this.handler.replyRoom(header, payload, length))) {
        this.held = true;
        return;
      }
      if (this.arrivals.length > 1 && this.tooManyUpTo(this.inHead + header.size)) return;
      this.inHead += header.size;
      this.dispatching = true;
      try {
        this.handler.message(header, payload, length, this.descriptorsUpTo(this.inHead));
      } finally {
        this.dispatching = false;
      }
    }
    // What is left is a part of one message, but while there is more to handle.
    if (!this.halted && this.arrivals.length > 1 && this.tooManyUpTo(this.inTail)) return;
    if (!this.isClosed) this.compactInput();
  }

  /** One receive brings no more than a message may; the pieces of a message may. Closes the connection, then. */
  private tooManyUpTo(end: number): boolean {
    let count = 0;
    for (const { at, descriptors } of this.arrivals) if (at < end) count += descriptors.length;
    if (count <= this.limits.maxDescriptors) return false;
    this.refuseDescriptors();
    return true;
  }

  /** Of one message: the pieces in which it came may each have brought some. */
  private descriptorsUpTo(end: number): number[] {
    const { arrivals } = this;
    if (arrivals.length === 0 || arrivals[0]!.at >= end) return NO_DESCRIPTORS;
    let { descriptors } = arrivals.shift()!;
    while (arrivals.length > 0 && arrivals[0]!.at < end)
      descriptors = descriptors.concat(arrivals.shift()!.descriptors);
    return descriptors;
  }

  /** Leaves room for the rest of the largest message. */
  private compactInput(): void {
    if (this.inHead === this.inTail) {
      this.inHead = 0;
      this.inTail = 0;
    } else if (this.input.length - this.inHead < this.largest) {
      this.input.copyWithin(0, this.inHead, this.inTail);
      for (const arrival of this.arrivals) arrival.at -= this.inHead;
      this.inTail -= this.inHead;
      this.inHead = 0;
    }
  }

  private compactOutput(): void {
    this.output.copyWithin(0, this.outHead, this.outTail);
    for (const attached of this.attached) attached.at -= this.outHead;
    this.outTail -= this.outHead;
    this.outHead = 0;
  }

  private flush(): void {
    while (this.queueLength > 0) {
      const left = this.queue[this.queueFirst]!;
      const first = this.attached[0];
      const descriptors = first !== undefined && first.at === this.outHead ? first.descriptors : undefined;
      let sent: number;
      try {
        sent = this.socket.send(this.outHead, left, descriptors);
      } catch (error) {
        this.fail('send failed', error);
        return;
      }
      if (sent < 0) return;
      if (descriptors !== undefined && sent > 0) this.attached.shift();
      this.outHead += sent;
      this.bytesSent += sent;
      if (sent < left) {
        this.queue[this.queueFirst] = left - sent;
      } else {
        this.queueFirst = (this.queueFirst + 1) % this.queue.length;
        this.queueLength--;
      }
    }
    this.outHead = 0;
    this.outTail = 0;
  }

  /** What was held back must go on whenever room is made: once the queue is empty nothing would wake us for it. */
  private flushAndResume(): void {
    this.flush();
    this.onRoom?.();
    if (this.held && !this.isClosed) this.process();
  }

  private fail(reason: string, error: unknown): void {
    if (!(error instanceof SystemError)) throw error;
    // The end of the connection is handled with everything else, later.
    if (this.paused) this.sawEnd = true;
    else this.close(reason, { code: error.code });
  }

  private updateInterest(): void {
    if (this.isClosed) return;
    const interest = (this.held || this.paused ? 0 : IN) | (this.queueLength > 0 ? OUT : 0);
    // The kernel reports that the peer is gone whatever is asked for, again and again.
    if (this.paused && (interest === 0 || this.sawEnd)) this.unwatch();
    else if (!this.watching) this.rewatch(interest);
    else if (this.watch.interest !== interest) this.watch.interest = interest;
  }

  private unwatch(): void {
    this.watching = false;
    this.watch.stop();
  }

  private rewatch(interest: number): void {
    try {
      this.watch = this.watchFor(interest);
      this.watching = true;
    } catch (error) {
      this.fail('cannot be watched', error);
    }
  }

  private watchFor(interest: number): Watch {
    return this.loop.watch(this.socket.fd, interest, events => this.ready(events));
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
