/**
 * One end of a link: the local stream on one side, the session's present WebSocket, if there is one, on the other. The same for
 * server and client; they differ in who makes connections, which is not known here.
 */
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { closeDescriptor } from '../../posix/socket.ts';
import { KeepAlive } from './keep-alive.ts';
import type { LinkLimits } from './limits.ts';
import { frameProblem, MessageFramer } from './message-framer.ts';
import { type Ack, CloseCode, clip, isFinal, parseControl } from './protocol.ts';
import { Session, type SessionCounters, type Window, type Wire } from './session.ts';

/** Bytes that the local stream takes ahead of its reader. */
const LOCAL_BUFFER_BYTES = 256 * 1024;

export interface LinkEndOptions {
  /** A stream socket with the messages profile on its other end; closed with the link, or where this cannot be made. */
  readonly descriptor: number;
  readonly limits: LinkLimits;
  readonly window: Window;
  readonly counters: SessionCounters;
  /** The connection ended, the session did not. */
  readonly onLost: (reason: string) => void;
  /** Over for good; nothing is called after this. */
  readonly onEnded: (reason: string, malformed: boolean) => void;
}

export class LinkEnd {
  /** Resolves when the descriptor is closed: after the end, as soon as what is left has gone where it was to go. */
  readonly released: Promise<void>;
  private readonly local: Socket;
  private readonly framer: MessageFramer;
  private readonly session: Session;
  private connection: Connection | undefined;
  private ackTimer: NodeJS.Timeout | undefined;
  /** Why the session is to end as soon as everything before it has arrived. */
  private finishing: string | undefined;
  private lingerTimer: NodeJS.Timeout | undefined;
  private over = false;

  /** Throws where the descriptor is no stream. */
  constructor(private readonly options: LinkEndOptions) {
    const { descriptor, limits, window, counters } = options;
    try {
      this.local = new Socket({ fd: descriptor, writableHighWaterMark: LOCAL_BUFFER_BYTES } as { fd: number });
    } catch (error) {
      closeDescriptor(descriptor);
      throw error;
    }
    this.session = new Session(window, limits, frame => this.toLocal(frame), counters);
    this.framer = new MessageFramer(limits.maxMessage, message => this.session.submit(message));
    this.local.on('data', chunk => this.fromLocal(chunk));
    this.local.on('drain', () => {
      this.session.localReady();
      this.scheduleAck();
    });
    this.local.on('end', () => {
      if (this.framer.partial) this.end('the local stream ended inside a message', CloseCode.goingAway);
      else this.finish('the local stream ended');
    });
    // Its end follows.
    let cause = 'the local stream is closed';
    this.local.on('error', error => {
      cause = `the local stream is broken: ${error.message}`;
    });
    this.released = new Promise(resolve => {
      this.local.on('close', () => {
        this.finish(cause);
        resolve();
      });
    });
  }

  get connected(): boolean {
    return this.connection !== undefined;
  }

  /** Frames of the other side that went into the local stream. */
  get received(): number {
    return this.session.received;
  }

  /** What is wrong with a number of frames that the peer of a new connection says it has received; undefined: nothing. */
  problemWith(peerReceived: number): string | undefined {
    return this.session.problemWith(peerReceived);
  }

  /**
   * Goes on over this connection, whose other side has received so many frames of ours, and knows of `received`. A connection
   * that is still there is given up. Returns what is wrong with the number, or undefined.
   */
  attach(socket: WebSocket, transport: Duplex, peerReceived: number): string | undefined {
    this.connection?.abandon();
    this.detach();
    const connection = new Connection(socket, transport, this.options, {
      frame: bytes => this.frame(bytes),
      text: text => this.control(text),
      closed: (code, reason, malformed) => this.disconnected(code, reason, malformed),
    });
    this.connection = connection;
    const problem = this.session.attach(connection, peerReceived);
    if (problem !== undefined) {
      this.violated(problem);
      return problem;
    }
    if (this.finishing !== undefined) this.linger(this.finishing);
    this.update();
    return undefined;
  }

  /** Ends when all that came from the local stream has arrived; what comes for it still goes there. */
  finish(reason: string): void {
    if (this.over || this.finishing !== undefined) return;
    this.finishing = reason;
    if (this.connected) this.linger(reason);
    this.update();
  }

  /**
   * Ends at once; the peer, if it is there, is told. `flush` false: nor does what is left reach the local stream, also where
   * the end was before.
   */
  end(reason: string, code: number, { malformed = false, flush = true } = {}): void {
    if (this.over) {
      if (!flush) this.local.destroy();
      return;
    }
    this.over = true;
    clearTimeout(this.ackTimer);
    clearTimeout(this.lingerTimer);
    const { connection } = this;
    this.connection = undefined;
    this.session.detach();
    connection?.close(code, reason);
    if (flush) this.local.destroySoon();
    else this.local.destroy();
    this.options.onEnded(reason, malformed);
  }

  private fromLocal(chunk: Buffer): void {
    if (this.over) return;
    const problem = this.framer.push(chunk);
    if (problem !== undefined) {
      this.end(`the local stream is broken: ${problem}`, CloseCode.goingAway, { malformed: true, flush: false });
      return;
    }
    if (this.session.full) this.local.pause();
  }

  private toLocal(frame: Buffer): boolean {
    // Where nobody reads any more, what comes is taken and dropped.
    return !this.local.writable || this.local.write(frame);
  }

  private frame(bytes: Buffer): void {
    const problem = frameProblem(bytes) ?? this.session.arrived(bytes);
    if (problem === undefined) this.scheduleAck();
    else this.violated(problem);
  }

  private control(text: string): void {
    const message = parseControl(text);
    if (message?.type === 'ack') {
      const problem = this.session.acknowledge(message.received);
      if (problem === undefined) this.update();
      else this.violated(problem);
    } else if (message?.type === 'bye') {
      this.byeCame(message.reason);
    } else {
      this.violated('a text frame that is no control message');
    }
  }

  private byeCame(reason: string): void {
    this.session.handOver();
    this.end(`the peer took its leave: ${reason || 'no reason given'}`, CloseCode.normal);
  }

  private violated(problem: string): void {
    this.end(problem, CloseCode.protocolError, { malformed: true });
  }

  private disconnected(code: number, reason: string, malformed: boolean): void {
    this.detach();
    const text = reason === '' ? `code ${code}` : reason;
    // The library has told the peer already.
    if (malformed) this.end(text, CloseCode.protocolError, { malformed });
    else if (isFinal(code)) this.end(`the peer closed the connection: ${text}`, CloseCode.normal);
    else if (!this.over) this.options.onLost(text);
  }

  private detach(): void {
    this.connection = undefined;
    clearTimeout(this.ackTimer);
    clearTimeout(this.lingerTimer);
    this.ackTimer = undefined;
    this.session.detach();
  }

  /** After frames of ours have gone or were acknowledged. */
  private update(): void {
    if (this.over) return;
    if (!this.session.full && this.local.isPaused()) this.local.resume();
    if (this.finishing !== undefined && this.session.settled && this.connected) {
      this.end(this.finishing, CloseCode.normal);
    }
  }

  /** A peer that does not acknowledge is not waited for; without a connection it is the grace time that ends it. */
  private linger(reason: string): void {
    this.lingerTimer = setTimeout(() => this.end(reason, CloseCode.normal), this.options.limits.lingerMilliseconds);
  }

  private scheduleAck(): void {
    if (this.ackTimer !== undefined || !this.session.owesAck) return;
    this.ackTimer = setTimeout(() => {
      this.ackTimer = undefined;
      this.session.sendAck();
    }, this.options.limits.ackMilliseconds);
  }
}

interface ConnectionEvents {
  frame(bytes: Buffer): void;
  text(text: string): void;
  /** `malformed`: what came was no WebSocket frame, or too long. */
  closed(code: number, reason: string, malformed: boolean): void;
}

/** How the codes of the library's errors about what a peer has sent begin. */
const FRAME_ERROR = 'WS_ERR_';

/** One WebSocket of a session, until it is lost, given up or closed. */
class Connection implements Wire {
  private readonly keepAlive: KeepAlive;
  private current = true;
  private cause = '';

  constructor(
    private readonly socket: WebSocket,
    transport: Duplex,
    private readonly options: Pick<LinkEndOptions, 'limits' | 'window'>,
    events: ConnectionEvents,
  ) {
    const { limits, window } = options;
    this.keepAlive = new KeepAlive(socket, transport, limits, window.bytes + limits.maxControlBacklog);
    this.keepAlive.onDead = reason => {
      this.cause = reason;
    };
    socket.on('message', (data, isBinary) => {
      if (!this.current) return;
      if (isBinary) events.frame(data as Buffer);
      else events.text(data.toString());
    });
    let malformed = false;
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.cause = error.message;
      malformed = error.code?.startsWith(FRAME_ERROR) ?? false;
    });
    socket.on('close', (code, reason) => {
      this.keepAlive.stop();
      if (!this.current) return;
      this.current = false;
      events.closed(code, this.cause || reason.toString(), malformed);
    });
  }

  sendFrame(frame: Buffer): void {
    if (this.socket.readyState === this.socket.OPEN) this.socket.send(frame);
  }

  sendAck(ack: Ack): void {
    if (this.socket.readyState === this.socket.OPEN) this.socket.send(JSON.stringify(ack));
  }

  abandon(): void {
    this.current = false;
    this.keepAlive.stop();
    this.socket.terminate();
  }

  close(code: number, reason: string): void {
    this.current = false;
    this.keepAlive.stop();
    closeSocket(this.socket, code, reason, this.options.limits.closeMilliseconds);
  }
}

/** Says bye and closes; a peer that does not do its part of it is cut off. */
export function closeSocket(socket: WebSocket, code: number, reason: string, milliseconds: number): void {
  const text = clip(reason);
  if (socket.readyState === socket.OPEN) socket.send(JSON.stringify({ type: 'bye', reason: text }));
  const impatience = setTimeout(() => socket.terminate(), milliseconds);
  socket.once('close', () => clearTimeout(impatience));
  socket.close(code, text);
}
