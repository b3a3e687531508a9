/** The client's side: one function of a server elsewhere, over a WebSocket that may be lost and made again. */
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { closeDescriptor } from '../../posix/socket.ts';
import type { TraceValue } from '../../trace/trace.ts';
import { type DialOptions, dial, LinkError } from './dial.ts';
import { defaultLinkLimits, type LinkLimits } from './limits.ts';
import { closeSocket, LinkEnd } from './link-end.ts';
import { CloseCode, type Welcome } from './protocol.ts';
import { newCounters, type SessionCounters } from './session.ts';

export interface LinkOptions {
  /** What `vfioUserUrl` makes: `ws://HOST:PORT/vfio-user/MACHINE/FUNCTION`, or `wss:` or `ws+unix:`. */
  readonly url: string;
  readonly token?: string | undefined;
  /** Certificates in PEM that are trusted in place of the system's, for `wss:`. */
  readonly ca?: string | Buffer | undefined;
  /** How long a lost connection may be away; the server may agree to less. Default: 4 seconds. */
  readonly graceMilliseconds?: number | undefined;
  /** A stream socket whose other end speaks the messages profile; the link's from the call on, also where it fails. */
  readonly descriptor: number;
  readonly limits?: Partial<LinkLimits>;
  /** Calls the first connection off while it is being made: the call rejects. Nothing comes of it afterwards. */
  readonly signal?: AbortSignal | undefined;
  /** `link.lost`, `link.resumed`, `link.closed`, `link.malformed`. */
  readonly note?: ((kind: string, detail: Readonly<Record<string, TraceValue>>) => void) | undefined;
}

export type LinkState = 'open' | 'waiting' | 'closed';

/** Frames that were sent again count again. */
export interface LinkStatistics extends Readonly<SessionCounters> {
  readonly lost: number;
  readonly resumed: number;
}

export interface VfioUserLink {
  /** `waiting`: the connection is lost, and another is being tried. */
  readonly state: LinkState;
  /** Resolves with the reason; never rejects. */
  readonly closed: Promise<string>;
  /** Milliseconds that both sides have agreed on. */
  readonly graceMilliseconds: number;
  readonly statistics: LinkStatistics;
  /** Takes leave of the server and closes the descriptor; what was sent and is still on its way may be lost. */
  close(): Promise<void>;
}

/** Rejects with a `LinkError` where the server cannot be reached, refuses, or does not speak this protocol; or is not wanted any more. */
export async function connectVfioUser(options: LinkOptions): Promise<VfioUserLink> {
  const link = new DialledLink(options);
  await link.dialFirst();
  return link;
}

class DialledLink implements VfioUserLink {
  state: LinkState = 'waiting';
  graceMilliseconds: number;
  readonly closed: Promise<string>;
  private readonly limits: LinkLimits;
  private readonly dialOptions: DialOptions;
  private readonly counters = newCounters();
  private readonly counts = { lost: 0, resumed: 0 };
  private end: LinkEnd | undefined;
  private sessionId = '';
  private redialMilliseconds: number;
  /** Dials of this session so far: the server takes none that it hears of late for the present one. */
  private attempts = 0;
  private resolveClosed: (reason: string) => void = () => {};
  /** Of the outage under way. */
  private deadline = 0;
  private pause = 0;
  private lastFailure = '';
  private cancelAttempt: () => void = () => {};

  constructor(private readonly options: LinkOptions) {
    this.limits = { ...defaultLinkLimits, ...options.limits };
    this.dialOptions = { url: options.url, token: options.token, ca: options.ca, limits: this.limits };
    this.graceMilliseconds = options.graceMilliseconds ?? this.limits.graceMilliseconds;
    this.redialMilliseconds = this.limits.redialMilliseconds;
    this.closed = new Promise(resolve => {
      this.resolveClosed = resolve;
    });
  }

  get statistics(): LinkStatistics {
    return { ...this.counts, ...this.counters };
  }

  dialFirst(): Promise<void> {
    const { url, descriptor, signal } = this.options;
    return new Promise((resolve, reject) => {
      const begun = performance.now();
      const refuse = (error: unknown) => {
        signal?.removeEventListener('abort', callOff);
        closeDescriptor(descriptor);
        reject(error);
      };
      const callOff = () => {
        this.cancelAttempt();
        refuse(new LinkError(`the connection to ${url} was called off`));
      };
      if (signal?.aborted) {
        callOff();
        return;
      }
      signal?.addEventListener('abort', callOff);
      const query = { grace: String(Math.round(this.graceMilliseconds)) };
      try {
        this.cancelAttempt = dial(this.dialOptions, query, this.limits.dialMilliseconds, {
          welcome: (socket, transport, welcome) => {
            signal?.removeEventListener('abort', callOff);
            this.cancelAttempt = () => {};
            const took = performance.now() - begun;
            this.redialMilliseconds = Math.max(this.redialMilliseconds, 3 * took);
            const error = this.begin(socket, transport, welcome);
            if (error === undefined) resolve();
            else reject(error);
          },
          failed: refuse,
        });
      } catch (error) {
        refuse(
          error instanceof LinkError ? error : new LinkError(`'${url}' is not an address: ${(error as Error).message}`),
        );
      }
    });
  }

  async close(): Promise<void> {
    this.end!.end('closed by this side', CloseCode.normal, { flush: false });
    await this.end!.released;
  }

  private begin(socket: WebSocket, transport: Duplex, welcome: Welcome): LinkError | undefined {
    const { limits } = this;
    const { window } = welcome;
    const unfit =
      window.bytes < limits.maxMessage ||
      window.bytes > limits.maxWindowBytes ||
      window.frames > limits.maxWindowFrames;
    if (unfit || window.frames < 1) {
      closeDescriptor(this.options.descriptor);
      const reason = `a window of ${window.bytes} bytes and ${window.frames} frames is not possible here`;
      closeSocket(socket, CloseCode.policyViolation, reason, limits.closeMilliseconds);
      return new LinkError(`${this.options.url}: ${reason}`);
    }
    this.sessionId = welcome.session;
    this.graceMilliseconds = Math.min(this.graceMilliseconds, welcome.grace);
    try {
      this.end = new LinkEnd({
        descriptor: this.options.descriptor,
        limits,
        window,
        counters: this.counters,
        onLost: reason => this.lost(reason),
        onEnded: (reason, malformed) => this.ended(reason, malformed),
      });
    } catch (error) {
      closeSocket(socket, CloseCode.goingAway, 'no local stream', limits.closeMilliseconds);
      return new LinkError(`the descriptor is no stream socket: ${(error as Error).message}`);
    }
    this.state = 'open';
    this.end.attach(socket, transport, welcome.received);
    return undefined;
  }

  private lost(reason: string): void {
    this.state = 'waiting';
    this.counts.lost++;
    this.note('link.lost', { reason, grace: this.graceMilliseconds });
    this.deadline = performance.now() + this.graceMilliseconds;
    this.pause = this.limits.redialPauseMilliseconds;
    this.lastFailure = reason;
    this.redial();
  }

  private redial(): void {
    const left = this.deadline - performance.now();
    if (left <= 0) {
      this.giveUp(
        `the connection is lost, and did not come back within ${this.graceMilliseconds} ms: ${this.lastFailure}`,
      );
      return;
    }
    const query = { session: this.sessionId, received: String(this.end!.received), attempt: String(++this.attempts) };
    this.cancelAttempt = dial(this.dialOptions, query, Math.min(left, this.redialMilliseconds), {
      welcome: (socket, transport, welcome) => this.resumed(socket, transport, welcome),
      failed: error => this.redialFailed(error),
    });
  }

  private redialFailed(error: LinkError): void {
    if (error.final) {
      this.giveUp(`the connection is lost: ${error.message}`);
      return;
    }
    this.lastFailure = error.message;
    const left = Math.max(this.deadline - performance.now(), 0);
    const timer = setTimeout(() => this.redial(), Math.min(this.pause, left));
    this.cancelAttempt = () => clearTimeout(timer);
    this.pause = Math.min(2 * this.pause, this.limits.maxRedialPauseMilliseconds);
  }

  private resumed(socket: WebSocket, transport: Duplex, welcome: Welcome): void {
    this.cancelAttempt = () => {};
    if (welcome.session !== this.sessionId) {
      closeSocket(socket, CloseCode.protocolError, 'another session', this.limits.closeMilliseconds);
      this.giveUp('the server resumed another session');
      return;
    }
    this.state = 'open';
    this.counts.resumed++;
    this.note('link.resumed', { received: welcome.received });
    this.end!.attach(socket, transport, welcome.received);
  }

  private giveUp(reason: string): void {
    this.end!.end(reason, CloseCode.normal);
  }

  private ended(reason: string, malformed: boolean): void {
    this.state = 'closed';
    this.cancelAttempt();
    if (malformed) this.note('link.malformed', { reason });
    this.note('link.closed', { reason });
    this.resolveClosed(reason);
  }

  private note(kind: string, detail: Readonly<Record<string, TraceValue>>): void {
    this.options.note?.(kind, detail);
  }
}
