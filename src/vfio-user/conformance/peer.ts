/**
 * One connection to the server under test. It sends what it is told, right or wrong, and checks of all that comes back what holds
 * for every message (section "Header"). What the server asks (DMA) is answered in a callback, because a server in the same thread
 * may wait for it while nobody else runs.
 */
import { SystemError } from '../../posix/errors.ts';
import { type EventLoop, PollEvents } from '../../posix/event-loop.ts';
import type { Watch } from '../../posix/loop-watch.ts';
import { closeDescriptor, connectUnix, StreamSocket } from '../../posix/socket.ts';
import { Header } from '../header.ts';
import { Command, commandName, HEADER_BYTES, HeaderFlag } from '../spec.ts';
import { fail, isTrue } from './rule.ts';
import { concat, type HeaderFields, message, NOTHING, viewOf } from './wire.ts';

const BUFFER_BYTES = 1 << 18;
/** So many may come with one reply; linux allows 253. */
const DESCRIPTORS = 64;
/** The largest message that any server may send here: the default transfer size, and room for what goes with it. */
const LARGEST_MESSAGE = 1048576 + 65536;
const ERRNO_LIMIT = 4096;

export interface Received {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly error: number;
  readonly payload: Uint8Array;
  /** Open until the peer is closed. */
  readonly descriptors: readonly number[];
}

export interface SendOptions extends HeaderFields {
  readonly descriptors?: readonly number[];
}

export type RequestHandler = (request: Received) => void;

/** Waits while the queue of the server is full. A server that nobody can connect to breaks whatever rule is tried. */
export function connectPatiently(loop: EventLoop, path: string, patience: number): number {
  const end = performance.now() + patience;
  for (;;) {
    const fd = connectOnce(path);
    if (fd >= 0) return fd;
    if (performance.now() > end) fail(`the server has accepted nobody for ${patience} ms`);
    loop.runOnce(1);
  }
}

/** -1 where the queue of the server is full. */
export function connectOnce(path: string): number {
  try {
    return connectUnix(path);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    if (error.code === 'EAGAIN') return -1;
    fail(`the server cannot be reached: ${error.message}`);
  }
}

export class Peer {
  /** Told of each DMA_READ and DMA_WRITE. By default they are refused with EINVAL. */
  onRequest: RequestHandler = request => this.answer(request, 22, NOTHING);
  /** Told of each reply before anybody else; takes it where it says true. */
  onReply: ((reply: Received) => boolean) | undefined;
  /** What the server asked so far. */
  readonly requests: Received[] = [];
  private readonly replies: Received[] = [];
  private readonly socket: StreamSocket;
  private readonly watch: Watch;
  private readonly header = new Header();
  private pending: Uint8Array = NOTHING;
  private descriptors: number[] = [];
  private kept: number[] = [];
  private isEnded = false;
  private isClosed = false;
  private lastId = 100;
  /** Something that no server may send. */
  private problem: string | undefined;

  constructor(
    private readonly loop: EventLoop,
    fd: number,
    private readonly patience: number,
  ) {
    this.socket = new StreamSocket(fd, BUFFER_BYTES, BUFFER_BYTES, DESCRIPTORS);
    this.watch = loop.watch(this.socket.fd, PollEvents.in, () => this.drain());
  }

  /** The server closed the connection. */
  get ended(): boolean {
    return this.isEnded;
  }

  /** All of it, unless the server closes the connection meanwhile. */
  send(bytes: Uint8Array, descriptors: readonly number[] = []): void {
    let attached = descriptors;
    for (let from = 0; from < bytes.length; from += BUFFER_BYTES) {
      const part = bytes.subarray(from, from + BUFFER_BYTES);
      this.socket.output.set(part);
      for (let at = 0; at < part.length && !this.isEnded; ) {
        const sent = this.attempt(() => this.socket.send(at, part.length - at, attached));
        if (sent > 0) attached = [];
        if (sent > 0) at += sent;
        else if (!this.isEnded) this.awaitRoom();
      }
    }
  }

  /** Sends a command without waiting; returns its id. */
  tell(command: number, payload: Uint8Array, options: SendOptions = {}): number {
    const id = options.id ?? this.nextId();
    this.send(message(command, payload, { ...options, id }), options.descriptors);
    return id;
  }

  /** Sends a command and waits for its reply, whatever it says. */
  ask(command: number, payload: Uint8Array, options: SendOptions = {}): Received {
    const id = this.tell(command, payload, options);
    return this.reply(id, command);
  }

  /** Sends a command that the server must do. */
  succeed(command: number, payload: Uint8Array, options: SendOptions = {}): Received {
    const reply = this.ask(command, payload, options);
    if (isFailed(reply)) fail(`${commandName(command)} failed with errno ${reply.error}`);
    return reply;
  }

  /** Sends a command that the server must refuse; returns the errno, which may be 0. */
  refuse(command: number, payload: Uint8Array, why: string, options: SendOptions = {}): number {
    const reply = this.ask(command, payload, options);
    isTrue(isFailed(reply), `${commandName(command)} succeeded with ${why}`);
    return reply.error;
  }

  /** The next reply, which must be to this command. */
  reply(id: number, command: number): Received {
    const reply = this.next(`the reply to ${commandName(command)}`);
    if (reply.id !== id || reply.command !== command) {
      fail(
        `expected the reply to ${commandName(command)} (id ${id}), got one to ${commandName(reply.command)} (id ${reply.id})`,
      );
    }
    return reply;
  }

  /** The next reply of all. */
  next(what: string): Received {
    this.until(() => this.replies.length > 0, what);
    return this.replies.shift()!;
  }

  /** What came of a message that the server may refuse in more than one way. */
  outcome(what: string): 'answered' | 'refused' | 'closed' {
    const reply = this.nextOrEnd(what);
    if (reply === undefined) return 'closed';
    return isFailed(reply) ? 'refused' : 'answered';
  }

  /** The next reply, or nothing where the server ended the connection instead. */
  nextOrEnd(what: string): Received | undefined {
    this.loop.waitUntil(() => this.replies.length > 0 || this.isEnded, this.patience);
    this.complain();
    const reply = this.replies.shift();
    if (reply !== undefined || this.isEnded) return reply;
    fail(`neither an answer to ${what} nor the end of the connection within ${this.patience} ms`);
  }

  /** Runs the loop until the condition holds; the end of the connection and silence are violations. */
  until(condition: () => boolean, what: string): void {
    this.loop.waitUntil(() => condition() || this.isEnded || this.problem !== undefined, this.patience);
    this.complain();
    if (condition()) return;
    fail(
      this.isEnded
        ? `the server closed the connection instead of: ${what}`
        : `${what}: nothing within ${this.patience} ms`,
    );
  }

  untilEnd(what: string): void {
    this.loop.waitUntil(() => this.isEnded, this.patience);
    isTrue(this.isEnded, `${what}: not within ${this.patience} ms`);
  }

  /** The server is still there: it answers a command, and nothing came before that answer. */
  alive(): void {
    this.succeed(Command.deviceGetInfo, new Uint8Array(Uint32Array.of(16, 0, 0, 0).buffer));
  }

  answer(request: Received, errno: number, payload: Uint8Array): void {
    const flags = HeaderFlag.typeReply | (errno === 0 ? 0 : HeaderFlag.error);
    this.send(message(request.command, payload, { id: request.id, flags, error: errno }));
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.isEnded = true;
    this.watch.stop();
    this.socket.close();
    for (const descriptor of [...this.kept, ...this.descriptors]) closeDescriptor(descriptor);
  }

  private nextId(): number {
    this.lastId = (this.lastId + 1) & 0xffff;
    return this.lastId;
  }

  private awaitRoom(): void {
    this.watch.interest = PollEvents.in | PollEvents.out;
    this.loop.runOnce(this.patience);
    this.watch.interest = PollEvents.in;
  }

  private attempt(call: () => number): number {
    try {
      return call();
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.isEnded = true;
      return -1;
    }
  }

  private drain(): void {
    while (!this.isEnded) {
      const count = this.attempt(() => this.socket.receive(0, this.socket.input.length));
      if (count < 0) break;
      this.descriptors.push(...this.socket.takeDescriptors());
      if (count === 0) this.isEnded = true;
      else this.pending = concat(this.pending, this.socket.input.subarray(0, count));
    }
    this.split();
    // Reported at every wait from here on, and no news.
    if (this.isEnded) this.watch.stop();
  }

  private split(): void {
    while (this.pending.length >= HEADER_BYTES && this.problem === undefined && !this.isClosed) {
      this.header.read(viewOf(this.pending), 0);
      const { id, command, size, flags, error } = this.header;
      if (size < HEADER_BYTES || size > LARGEST_MESSAGE) {
        this.problem = `the server sent a header with a size of ${size}`;
        return;
      }
      if (this.pending.length < size) return;
      const payload = this.pending.slice(HEADER_BYTES, size);
      this.pending = this.pending.subarray(size);
      const descriptors = this.descriptors.splice(0);
      this.kept.push(...descriptors);
      this.take({ id, command, flags, error, payload, descriptors });
    }
  }

  private take(received: Received): void {
    const type = received.flags & HeaderFlag.typeMask;
    if (type === HeaderFlag.typeCommand) {
      this.requests.push(received);
      this.onRequest(received);
      return;
    }
    const name = commandName(received.command);
    if (type !== HeaderFlag.typeReply) this.problem = `the server sent a message of type ${type}`;
    if (isFailed(received) && received.payload.length > 0) {
      this.problem = `the error reply to ${name} carries ${received.payload.length} bytes of payload`;
    }
    if (isFailed(received) && received.error >= ERRNO_LIMIT) {
      this.problem = `the error reply to ${name} carries ${received.error}, which is no errno`;
    }
    if (this.onReply?.(received) !== true) this.replies.push(received);
  }

  private complain(): void {
    if (this.problem !== undefined) fail(this.problem);
  }
}

export function isFailed(reply: Received): boolean {
  return (reply.flags & HeaderFlag.error) !== 0;
}
