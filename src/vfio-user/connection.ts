/** Whole messages in and out of one stream socket; knows headers, and nothing of what the messages mean. */
import { hasHungUp } from '../posix/epoll.ts';
import { SystemError } from '../posix/errors.ts';
import { type EventLoop, PollEvents } from '../posix/event-loop.ts';
import type { Watch } from '../posix/loop-watch.ts';
import { StreamSocket } from '../posix/socket.ts';
import type { TraceValue } from '../trace/trace.ts';
import { Arrivals } from './arrivals.ts';
import { Header } from './header.ts';
import { type Limits, largestMessage } from './limits.ts';
import { ReceiveAgain } from './receive-again.ts';
import { SendQueue } from './send-queue.ts';
import { HEADER_BYTES, HeaderFlag } from './spec.ts';

export type Detail = Readonly<Record<string, TraceValue>>;

const NO_DETAIL: Detail = {};
// The hot path's own names: the compiler folds constants of this file, and loads those of others each time.
const GONE = PollEvents.error | PollEvents.hangup | PollEvents.invalid;
const IN = PollEvents.in;
const OUT = PollEvents.out;
const COMMAND = HeaderFlag.typeCommand;
const REPLY = HeaderFlag.typeReply;
const HEADER = HEADER_BYTES;
/** Receives of one turn, after which other descriptors have theirs. */
const RECEIVES_PER_TURN = 16;
/** Bytes of a receive after which the turn ends too: who sends so much at a time waits for no answer. */
const MUCH = 4096;

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

export class Connection {
  readonly input: Uint8Array;
  readonly inputView: DataView;
  readonly output: Uint8Array;
  readonly outputView: DataView;
  bytesReceived = 0;
  /** True while a message is with the handler. */
  dispatching = false;
  /** Told when some of what waited has been sent, so that there may be room again. Never within a message. */
  onRoom: (() => void) | undefined;

  private readonly socket: StreamSocket;
  private readonly outgoing: SendQueue;
  private watch: Watch;
  private watching = true;
  private readonly header = new Header();
  private readonly largest: number;
  private isClosed = false;
  private paused = false;
  /** What follows the message at hand is for the next round. */
  private resting = false;
  /** Closed, paused or resting: nothing more is handled. One flag, so that the hot path looks at one. */
  private halted = false;
  /** While paused, the peer was found to be gone. What it has sent before is still to be handled. */
  private sawEnd = false;

  private readonly again = new ReceiveAgain();
  private lastReceived = 0;

  private inHead = 0;
  private inTail = 0;
  /** The message at `inHead` waits for room in the output. */
  private held = false;
  private readonly arrivals = new Arrivals();

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
    this.outgoing = new SendQueue(this.socket, limits.maxQueuedMessages);
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

  get bytesSent(): number {
    return this.outgoing.bytesSent;
  }

  /** The peer has gone; what it sent before may still have to be received. */
  get isDeserted(): boolean {
    return hasHungUp(this.socket.fd);
  }

  /** Everything committed has reached the kernel. */
  get drained(): boolean {
    return this.outgoing.isEmpty;
  }

  hasRoom(size: number): boolean {
    return this.outgoing.hasRoom(size);
  }

  /**
   * Where in the output a message of at most `size` bytes can be put together, or -1 where there is no room or nobody to send
   * it to. Valid until the next call.
   */
  reserve(size: number): number {
    return this.isClosed ? -1 : this.outgoing.reserve(size);
  }

  /** Sends the `size` bytes that now stand at the reserved place. The descriptors must stay open until `drained`. */
  commit(size: number, descriptors?: readonly number[]): void {
    if (this.isClosed) return;
    if (!this.outgoing.commit(size, descriptors)) return;
    this.flush();
    if (!this.outgoing.isEmpty) this.updateInterest();
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
    this.endRest();
    this.updateInterest();
  }

  /**
   * From within `message`: the messages behind it wait for the next round. What this one has made go on is further then, and what they
   * ask about it is answered as it is by then.
   */
  rest(): void {
    this.resting = true;
    this.halted = true;
  }

  /** Before a job waits for this peer: takes what is likely to be there by now. */
  receiveAhead(): void {
    this.receiveOn();
    this.endRest();
    this.updateInterest();
  }

  /** Takes what the peer has sent, up to `receives` times; true if it is still there after that. */
  pump(receives: number): boolean {
    if (!this.outgoing.isEmpty) this.flushAndResume();
    this.processAll();
    for (let i = 0; i < receives && !this.halted && !this.held && this.receive(); i++) this.processAll();
    this.updateInterest();
    return !this.isClosed;
  }

  close(reason: string, detail: Detail = NO_DETAIL): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.halted = true;
    this.watch.stop();
    this.arrivals.close();
    this.outgoing.clear();
    this.socket.close();
    this.handler.closed(reason, detail);
  }

  private ready(events: number): void {
    if (events & OUT) this.flushAndResume();
    if (this.halted) {
      if ((events & GONE) !== 0) this.sawEnd = true;
      this.endRest();
      this.updateInterest();
      return;
    }
    if (!this.held) {
      if (events & (IN | GONE) && this.receive()) this.receiveOn();
    } else if (events & GONE) {
      this.close('hung up with answers unread');
    }
    this.endRest();
    this.updateInterest();
  }

  /** Within one turn, as long as there is likely to be something. */
  private receiveOn(): void {
    const { again, loop } = this;
    for (let left = RECEIVES_PER_TURN - 1; left > 0; left--) {
      // What has been asked for is to be done before the next question about it.
      if (this.halted || this.held || loop.hasJobs || this.lastReceived > MUCH || !again.isWorthwhile()) return;
      if (!this.receive()) {
        again.nothing();
        return;
      }
      again.found();
    }
  }

  /** What was put off is handled first of all in the next round. */
  private endRest(): void {
    if (!this.resting) return;
    this.resting = false;
    this.halted = this.paused || this.isClosed;
    if (this.inTail > this.inHead) this.loop.soon(this.goOn);
  }

  private readonly goOn = () => {
    if (this.halted || this.held) return;
    this.process();
    this.receiveOn();
    this.endRest();
    this.updateInterest();
  };

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
    this.lastReceived = received;
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
      this.arrivals.add(this.inTail - 1, this.socket.takeDescriptors());
    }
    if (!this.socket.descriptorsTruncated) return true;
    this.refuseDescriptors();
    return false;
  }

  private refuseDescriptors(): void {
    this.close('too many descriptors', { limit: this.limits.maxDescriptors });
  }

  /** Also what was put off. */
  private processAll(): void {
    do {
      this.resting = false;
      this.halted = this.paused || this.isClosed;
      if (!this.halted && !this.held) this.process();
    } while (this.resting);
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
      if (this.arrivals.pieces > 1 && this.tooManyUpTo(this.inHead + header.size)) return;
      this.inHead += header.size;
      this.dispatching = true;
      try {
        this.handler.message(header, payload, length, this.arrivals.takeUpTo(this.inHead));
      } finally {
        this.dispatching = false;
      }
    }
    // What is left is a part of one message, but while there is more to handle.
    if (!this.halted && this.arrivals.pieces > 1 && this.tooManyUpTo(this.inTail)) return;
    if (!this.isClosed) this.compactInput();
  }

  /** One receive brings no more than a message may; the pieces of a message may. Closes the connection, then. */
  private tooManyUpTo(end: number): boolean {
    if (this.arrivals.countUpTo(end) <= this.limits.maxDescriptors) return false;
    this.refuseDescriptors();
    return true;
  }

  /** Leaves room for the rest of the largest message. */
  private compactInput(): void {
    if (this.inHead === this.inTail) {
      this.inHead = 0;
      this.inTail = 0;
    } else if (this.input.length - this.inHead < this.largest) {
      this.input.copyWithin(0, this.inHead, this.inTail);
      this.arrivals.moveBy(-this.inHead);
      this.inTail -= this.inHead;
      this.inHead = 0;
    }
  }

  private flush(): void {
    try {
      this.outgoing.flush();
    } catch (error) {
      this.fail('send failed', error);
    }
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
    const interest = (this.held || this.paused ? 0 : IN) | (!this.outgoing.isEmpty ? OUT : 0);
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
