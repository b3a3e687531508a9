/** The server's side: sessions of vfio-user clients that come over WebSockets. */
import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { closeDescriptor } from '../../posix/socket.ts';
import type { TraceValue } from '../../trace/trace.ts';
import { defaultLinkLimits, type LinkLimits } from './limits.ts';
import { closeSocket, LinkEnd } from './link-end.ts';
import { CloseCode, type LinkTarget, VFIO_USER_SUBPROTOCOL, type Welcome } from './protocol.ts';
import { type LinkRefusal, refuseUpgrade } from './refusal.ts';
import { newCounters, type SessionCounters } from './session.ts';
import { parseUpgrade, type ResumeRequest, type UpgradeRequest } from './upgrade-request.ts';

const SESSION_ID_BYTES = 16;

/** `link.opened`, `link.lost`, `link.resumed`, `link.closed`, `link.malformed`, `link.refused`. */
export type LinkNote = (kind: string, detail: Readonly<Record<string, TraceValue>>) => void;

export interface AcceptorOptions {
  /**
   * Resolves with a stream socket to a function of a machine, on which the messages profile is spoken, and which is the acceptor's
   * from then on. Rejects with an Error that tells the client why not.
   */
  open(machine: string, name: string): Promise<number>;
  readonly limits?: Partial<LinkLimits>;
  readonly note?: LinkNote;
}

/** Since the acceptor was made; frames that were sent again count again. */
export interface AcceptorStatistics extends Readonly<SessionCounters> {
  /** Now. */
  readonly sessions: number;
  /** Those of them that wait for their client to come back. */
  readonly waiting: number;
  readonly opened: number;
  readonly refused: number;
  readonly lost: number;
  readonly resumed: number;
  /** Their client did not come back in time. */
  readonly expired: number;
}

interface Accepted {
  readonly id: string;
  readonly target: LinkTarget;
  readonly grace: number;
  readonly end: LinkEnd;
  graceTimer: NodeJS.Timeout | undefined;
  /** Until when it waits for its client, as `performance.now` has it; without a meaning while that is connected. */
  deadline: number;
  /** The client's dial that made the present connection. */
  attempt: number;
  /** Who wants to know when the session goes on or ends. */
  readonly watchers: (() => void)[];
}

export class VfioUserAcceptor {
  private readonly limits: LinkLimits;
  private readonly note: LinkNote;
  private readonly counters = newCounters();
  private readonly counts = { opened: 0, refused: 0, lost: 0, resumed: 0, expired: 0 };
  private readonly server: WebSocketServer;
  private readonly sessions = new Map<string, Accepted>();
  /** Ends of sessions that are over, whose streams have not taken all that came for them. */
  private readonly releasing = new Set<LinkEnd>();
  /** Handshakes whose stream is being opened; each may become a session. */
  private opening = 0;
  private closing = false;
  private readonly stopped: Promise<void>;
  private stop: () => void = () => {};

  constructor(private readonly options: AcceptorOptions) {
    this.limits = { ...defaultLinkLimits, ...options.limits };
    this.note = options.note ?? (() => {});
    this.stopped = new Promise(resolve => {
      this.stop = resolve;
    });
    this.server = new WebSocketServer({
      noServer: true,
      maxPayload: this.limits.maxMessage,
      perMessageDeflate: false,
      handleProtocols: () => VFIO_USER_SUBPROTOCOL,
    });
  }

  get statistics(): AcceptorStatistics {
    let waiting = 0;
    for (const { end } of this.sessions.values()) if (!end.connected) waiting++;
    return { sessions: this.sessions.size, waiting, ...this.counts, ...this.counters };
  }

  /** Takes a handshake whose client may connect: token, host and origin are its caller's business. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // Without a listener, a client that goes away during its handshake would end the process.
    socket.on('error', () => socket.destroy());
    const asked = parseUpgrade(request);
    if ('status' in asked) this.refuse(socket, asked);
    else if (this.closing) this.refuse(socket, { status: 503, reason: 'the server stops' });
    else if (asked.resume !== undefined) this.resume(request, socket, head, asked, asked.resume);
    else this.begin(request, socket, head, asked).catch(error => this.fail(socket, error));
  }

  /** Takes leave of every client and closes every stream. */
  async close(): Promise<void> {
    this.closing = true;
    this.stop();
    const left = [...this.server.clients].map(socket => new Promise<void>(resolve => socket.once('close', resolve)));
    for (const end of [...Array.from(this.sessions.values(), accepted => accepted.end), ...this.releasing]) {
      end.end('the server stops', CloseCode.goingAway, { flush: false });
      left.push(end.released);
    }
    await Promise.all(left);
  }

  private resume(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    { target }: UpgradeRequest,
    { session, received, attempt }: ResumeRequest,
  ): void {
    const accepted = this.sessions.get(session);
    if (accepted === undefined || !isSame(accepted.target, target)) {
      this.refuse(socket, { status: 410, reason: 'there is no such session any more' }, target);
      return;
    }
    // One that its client has called off comes late, maybe: what the session has by now must not suffer from it.
    const problem =
      attempt !== undefined && attempt <= accepted.attempt
        ? `attempt ${attempt} comes after attempt ${accepted.attempt}`
        : accepted.end.problemWith(received);
    if (problem !== undefined) {
      this.refuse(socket, { status: 409, reason: problem }, target);
      return;
    }
    this.shake(request, socket, head, client => {
      accepted.attempt = attempt ?? accepted.attempt;
      clearTimeout(accepted.graceTimer);
      this.counts.resumed++;
      this.note('link.resumed', { ...target, received });
      this.attach(accepted, client, socket, received);
      wake(accepted);
    });
  }

  private async begin(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    { target, grace }: UpgradeRequest,
  ): Promise<void> {
    if (this.sessions.size + this.opening >= this.limits.maxSessions) {
      const reason = `the limit of ${this.limits.maxSessions} sessions is reached`;
      this.refuse(socket, { status: 503, reason }, target);
      return;
    }
    this.opening++;
    let descriptor: number | LinkRefusal;
    try {
      descriptor = (await this.freeTarget(target)) ?? (await this.open(target));
    } finally {
      this.opening--;
    }
    if (typeof descriptor !== 'number') {
      this.refuse(socket, descriptor, target);
      return;
    }
    if (this.closing) {
      closeDescriptor(descriptor);
      this.refuse(socket, { status: 503, reason: 'the server stops' }, target);
      return;
    }
    let shaken = false;
    this.shake(request, socket, head, client => {
      shaken = true;
      this.welcome(target, grace, descriptor, client, socket);
    });
    // The client was gone, or its handshake was no WebSocket's.
    if (!shaken) closeDescriptor(descriptor);
  }

  /**
   * A client that died may still have its session; the one that comes in its place waits until that is over, or is told where that
   * would be longer than it waits itself.
   */
  private async freeTarget(target: LinkTarget): Promise<LinkRefusal | undefined> {
    const waiting = [...this.sessions.values()].find(one => isSame(one.target, target) && !one.end.connected);
    if (waiting === undefined) return undefined;
    const left = Math.max(0, Math.ceil(waiting.deadline - performance.now()));
    if (left > this.limits.successorMilliseconds) {
      return { status: 409, reason: `its last client may come back for ${left} ms` };
    }
    await new Promise<void>(resolve => waiting.watchers.push(resolve));
    return undefined;
  }

  private async open({ machine, name }: LinkTarget): Promise<number | LinkRefusal> {
    let given = false;
    const opened = this.options.open(machine, name).then(
      descriptor => {
        if (given) closeDescriptor(descriptor);
        return descriptor;
      },
      (error: unknown): LinkRefusal => ({
        status: 409,
        reason: error instanceof Error ? error.message : String(error),
      }),
    );
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<LinkRefusal>(resolve => {
      const reason = `the machine did not answer for ${this.limits.openMilliseconds} ms`;
      timer = setTimeout(() => resolve({ status: 504, reason }), this.limits.openMilliseconds);
    });
    const stopped = this.stopped.then((): LinkRefusal => ({ status: 503, reason: 'the server stops' }));
    const first = await Promise.race([stopped, opened, late]);
    clearTimeout(timer);
    if (typeof first !== 'number') given = true;
    return first;
  }

  private welcome(
    target: LinkTarget,
    proposed: number | undefined,
    descriptor: number,
    client: WebSocket,
    transport: Duplex,
  ): void {
    const { limits } = this;
    const grace = Math.min(proposed ?? limits.graceMilliseconds, limits.maxGraceMilliseconds);
    let end: LinkEnd;
    const id = randomBytes(SESSION_ID_BYTES).toString('hex');
    try {
      end = new LinkEnd({
        descriptor,
        limits,
        window: { bytes: limits.windowBytes, frames: limits.windowFrames },
        counters: this.counters,
        onLost: reason => this.lost(accepted, reason),
        onEnded: (reason, malformed) => this.ended(accepted, reason, malformed),
      });
    } catch (error) {
      const reason = `the machine gave no stream: ${(error as Error).message}`;
      this.note('link.refused', { ...target, reason });
      closeSocket(client, CloseCode.goingAway, reason, limits.closeMilliseconds);
      return;
    }
    const accepted: Accepted = {
      id,
      target,
      grace,
      end,
      graceTimer: undefined,
      deadline: 0,
      attempt: 0,
      watchers: [],
    };
    this.sessions.set(id, accepted);
    this.counts.opened++;
    this.note('link.opened', { ...target, grace });
    this.attach(accepted, client, transport, 0);
  }

  private attach({ id, grace, end }: Accepted, client: WebSocket, transport: Duplex, received: number): void {
    const { windowBytes: bytes, windowFrames: frames } = this.limits;
    const welcome: Welcome = { type: 'welcome', session: id, grace, received: end.received, window: { bytes, frames } };
    client.send(JSON.stringify(welcome));
    end.attach(client, transport, received);
  }

  private lost(accepted: Accepted, reason: string): void {
    this.counts.lost++;
    this.note('link.lost', { ...accepted.target, reason, grace: accepted.grace });
    accepted.deadline = performance.now() + accepted.grace;
    accepted.graceTimer = setTimeout(() => {
      this.counts.expired++;
      accepted.end.end(`the client did not come back within ${accepted.grace} ms`, CloseCode.normal);
    }, accepted.grace);
  }

  private ended(accepted: Accepted, reason: string, malformed: boolean): void {
    clearTimeout(accepted.graceTimer);
    this.sessions.delete(accepted.id);
    if (malformed) this.note('link.malformed', { ...accepted.target, reason });
    this.note('link.closed', { ...accepted.target, reason });
    this.releasing.add(accepted.end);
    void accepted.end.released.then(() => this.releasing.delete(accepted.end));
    wake(accepted);
  }

  /** Calls `done` before it returns, or never: then the handshake has been answered with an error, or the client is gone. */
  private shake(request: IncomingMessage, socket: Duplex, head: Buffer, done: (client: WebSocket) => void): void {
    this.server.handleUpgrade(request, socket, head, client => {
      // Those of a session listen themselves, but not from its first moment to its last.
      client.on('error', () => {});
      done(client);
    });
  }

  private refuse(socket: Duplex, refusal: LinkRefusal, target?: LinkTarget): void {
    this.counts.refused++;
    this.note('link.refused', { ...target, status: refusal.status, reason: refusal.reason });
    refuseUpgrade(socket, refusal);
  }

  private fail(socket: Duplex, error: unknown): void {
    this.note('link.refused', { reason: `internal error: ${String(error)}` });
    socket.destroy();
  }
}

function isSame(one: LinkTarget, other: LinkTarget): boolean {
  return one.machine === other.machine && one.name === other.name;
}

function wake(accepted: Accepted): void {
  for (const watcher of accepted.watchers.splice(0)) watcher();
}
