/** A connection to a server of the remote API: requests with their answers, and events by their subscriptions. */
import { connect as connectSocket } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocket } from 'ws';
import type { Answer } from '../iommu/dma-iommu/operations.ts';
import { KeepAlive } from '../vfio-user/websocket/keep-alive.ts';
import { unixPathOf } from './access.ts';
import { decodeMessage, encodeMessage } from './codec.ts';
import { answerLimits, MAX_ANSWER_BYTES, type Pulse } from './limits.ts';
import {
  type ErrorCode,
  isLoss,
  MACHINE_REMOVED_EVENT,
  type Named,
  RemoteError,
  type RemoteEvent,
  SUBPROTOCOL,
} from './protocol.ts';
import type { SubscriptionCounts } from './subscriptions.ts';

export interface LinkOptions {
  readonly token?: string | undefined;
  /** For `wss:`: certificates (PEM) that are trusted instead of the system's. */
  readonly ca?: string | Buffer | undefined;
  /** Default: 10 seconds. */
  readonly handshakeMilliseconds?: number | undefined;
  /** Calls off a connection that is being made. */
  readonly signal?: AbortSignal | undefined;
}

/** The server could not be reached, refused the client, or went away. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';

  constructor(
    message: string,
    /** The server's HTTP status, where it refused. */
    readonly status?: number | undefined,
  ) {
    super(message);
  }
}

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

/** Where it gives a promise nothing more is read from the server until that is settled. */
export type EventListener = (event: RemoteEvent) => unknown;

export interface Subscribed {
  readonly subscription: number;
}

export interface LinkRequest {
  readonly operation: string;
  readonly args?: object | undefined;
  readonly machine?: string | undefined;
}

/** What a client of the remote API talks through. */
export interface Link {
  /** Ends with it; tells why. */
  readonly closed: Promise<ConnectionError>;
  /** Rejects with a `ConnectionError` or a `RemoteError`. */
  request(request: LinkRequest): Promise<Named<Answer>>;
  /** A request whose answer tells a subscription; the listener hears its events from the first one on. */
  subscribe<T extends Subscribed>(request: LinkRequest, listener: EventListener): Promise<Named<Answer> & T>;
  unsubscribe(subscription: number): Promise<SubscriptionCounts>;
  close(): Promise<void>;
  /** Ends it at once, without a word: a server that does not answer would keep its end open. */
  abandon(): void;
}

const HANDSHAKE_MILLISECONDS = 10_000;

/** One connection. */
export class RemoteLink implements Link {
  /** Ends with the connection; tells why. */
  readonly closed: Promise<ConnectionError>;
  private readonly waiting = new Map<number, Waiting>();
  private readonly listeners = new Map<number, EventListener>();
  /** Events that came before the answer that told their subscription's number. */
  private early: RemoteEvent[] = [];
  private subscribing = 0;
  private holding = 0;
  private nextId = 1;
  private gone: ConnectionError | undefined;
  private cause: Error | undefined;
  private pulse: KeepAlive | undefined;
  /** After the end: nobody meant it. */
  isLost = false;

  /** Rejects with a `ConnectionError`. */
  static async open(url: string, options: LinkOptions): Promise<RemoteLink> {
    const socket = openSocket(url, options);
    return new RemoteLink(socket, await opened(socket, url, options.signal));
  }

  private constructor(
    private readonly socket: WebSocket,
    private readonly transport: Duplex,
  ) {
    socket.on('message', (data, isBinary) => {
      if (isBinary) this.hear(data as Buffer);
    });
    socket.on('error', error => {
      this.cause = error;
    });
    this.closed = new Promise(resolve => {
      socket.once('close', (code, reason) => {
        this.pulse?.stop();
        this.isLost = isLoss(code);
        const why = reason.length > 0 ? reason.toString() : (this.cause?.message ?? `code ${code}`);
        this.gone = new ConnectionError(`the connection is closed: ${why}`);
        for (const { reject } of this.waiting.values()) reject(this.gone);
        this.waiting.clear();
        this.listeners.clear();
        resolve(this.gone);
      });
    });
  }

  /** From here on a server that is gone without a word is noticed. */
  watchPulse(pulse: Pulse): void {
    if (this.gone) return;
    this.pulse ??= new KeepAlive(this.socket, this.transport, pulse, Number.POSITIVE_INFINITY);
    this.pulse.onDead = reason => {
      this.cause = new Error(`the server is ${reason}`);
    };
  }

  request({ operation, args, machine }: LinkRequest): Promise<Named<Answer>> {
    if (this.gone) return Promise.reject(this.gone);
    return new Promise((resolve, reject) => {
      const id = this.nextId++;
      const bytes = encodeMessage({ id, machine, operation, args });
      this.waiting.set(id, { resolve: answer => resolve(answer as Named<Answer>), reject });
      this.socket.send(bytes);
    });
  }

  async subscribe<T extends Subscribed>(request: LinkRequest, listener: EventListener): Promise<Named<Answer> & T> {
    const ask = async () => (await this.request(request)) as Named<Answer> & T;
    return await this.listening(ask, ({ subscription }) => [[subscription, listener]]);
  }

  /** The same for an answer that tells any number of them. */
  async listening<T>(
    ask: () => Promise<T>,
    listenersOf: (answer: T) => Iterable<readonly [number, EventListener]>,
  ): Promise<T> {
    this.subscribing++;
    try {
      const answer = await ask();
      const subscriptions = new Map(listenersOf(answer));
      for (const [subscription, listener] of subscriptions) this.listeners.set(subscription, listener);
      for (const event of this.early) {
        const listener = subscriptions.get(event.subscription);
        if (listener !== undefined) this.give(listener, event);
      }
      return answer;
    } finally {
      if (--this.subscribing === 0) this.early = [];
    }
  }

  async unsubscribe(subscription: number): Promise<SubscriptionCounts> {
    const { sent, dropped } = (await this.request({
      operation: 'unsubscribe',
      args: { subscription },
    })) as unknown as SubscriptionCounts;
    this.listeners.delete(subscription);
    return { sent, dropped };
  }

  async close(): Promise<void> {
    this.socket.close();
    await this.closed;
  }

  abandon(): void {
    this.socket.terminate();
  }

  private hear(bytes: Uint8Array): void {
    const { message, error } = decodeMessage(bytes, answerLimits);
    if (message === undefined) {
      this.socket.close(1002, `this is no message: ${error}`);
      return;
    }
    if (message.event !== undefined) {
      this.tell(message as unknown as RemoteEvent);
      return;
    }
    const { id, error: refused, ...answer } = message as { id: number; error?: { code: ErrorCode; message: string } };
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    if (refused) waiting?.reject(new RemoteError(refused.code, refused.message));
    else waiting?.resolve(answer as unknown as Answer);
  }

  private tell(event: RemoteEvent): void {
    const listener = this.listeners.get(event.subscription);
    if (listener) this.give(listener, event);
    else if (this.subscribing > 0) this.early.push(event);
  }

  private give(listener: EventListener, event: RemoteEvent): void {
    if (event.event === MACHINE_REMOVED_EVENT) this.listeners.delete(event.subscription);
    const taken = listener(event);
    if (!(taken instanceof Promise)) return;
    if (this.holding++ === 0) this.socket.pause();
    const goOn = () => {
      if (--this.holding === 0) this.socket.resume();
    };
    taken.then(goOn, goOn);
  }
}

function openSocket(
  url: string,
  { token, ca, handshakeMilliseconds = HANDSHAKE_MILLISECONDS }: LinkOptions,
): WebSocket {
  const path = unixPathOf(url);
  try {
    return new WebSocket(path === undefined ? url : 'ws://localhost/', SUBPROTOCOL, {
      headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
      maxPayload: MAX_ANSWER_BYTES,
      perMessageDeflate: false,
      handshakeTimeout: handshakeMilliseconds,
      ...(ca === undefined ? {} : { ca }),
      // By itself `ws` takes escapes and colons in a path for what they are not.
      ...(path === undefined ? {} : { createConnection: () => connectSocket(path) }),
    });
  } catch (error) {
    throw new ConnectionError(
      `'${url}' is not an address such as ws://127.0.0.1:8123 or ws+unix:/run/viommu/server.sock:/: ${(error as Error).message}`,
    );
  }
}

/** Gives what is under the WebSocket. */
function opened(socket: WebSocket, url: string, signal: AbortSignal | undefined): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(new ConnectionError(`cannot connect to ${url}: ${error.message}`));
    const callOff = () => {
      fail(new Error('it was called off'));
      socket.terminate();
    };
    let transport: Duplex;
    socket.on('error', fail);
    socket.once('upgrade', response => {
      transport = response.socket;
    });
    socket.once('unexpected-response', (_request, response) => {
      response.setEncoding('utf8');
      let body = '';
      response.on('data', (text: string) => {
        body += text;
      });
      response.once('end', () => {
        const status = response.statusCode;
        reject(new ConnectionError(`${url} refused: ${status} ${body.trim()}`, status));
        socket.terminate();
      });
    });
    socket.once('close', () => signal?.removeEventListener('abort', callOff));
    socket.once('open', () => {
      socket.off('error', fail);
      signal?.removeEventListener('abort', callOff);
      resolve(transport);
    });
    signal?.addEventListener('abort', callOff);
    if (signal?.aborted) callOff();
  });
}
