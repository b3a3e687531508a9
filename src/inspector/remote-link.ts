/** A connection to a server of the remote API: requests with their answers, and events by their subscriptions. */
import { connect as connectSocket } from 'node:net';
import { WebSocket } from 'ws';
import type { Answer } from '../iommu/dma-iommu/operations.ts';
import { unixPathOf } from './access.ts';
import { decodeMessage, encodeMessage } from './codec.ts';
import { answerLimits, MAX_ANSWER_BYTES } from './limits.ts';
import {
  type ErrorCode,
  MACHINE_REMOVED_EVENT,
  type Named,
  RemoteError,
  type RemoteEvent,
  SUBPROTOCOL,
} from './protocol.ts';

export interface LinkOptions {
  readonly token?: string | undefined;
  /** For `wss:`: certificates (PEM) that are trusted instead of the system's. */
  readonly ca?: string | Buffer | undefined;
  /** Default: 10 seconds. */
  readonly handshakeMilliseconds?: number | undefined;
}

/** The server could not be reached, refused the client, or went away. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
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

const HANDSHAKE_MILLISECONDS = 10_000;

export class RemoteLink {
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

  /** Rejects with a `ConnectionError`. */
  static async open(url: string, options: LinkOptions): Promise<RemoteLink> {
    const socket = openSocket(url, options);
    await opened(socket, url);
    return new RemoteLink(socket);
  }

  private constructor(private readonly socket: WebSocket) {
    socket.on('message', (data, isBinary) => {
      if (isBinary) this.hear(data as Buffer);
    });
    let cause: Error | undefined;
    socket.on('error', error => {
      cause = error;
    });
    this.closed = new Promise(resolve => {
      socket.once('close', (code, reason) => {
        const why = reason.length > 0 ? reason.toString() : (cause?.message ?? `code ${code}`);
        this.gone = new ConnectionError(`the connection is closed: ${why}`);
        for (const { reject } of this.waiting.values()) reject(this.gone);
        this.waiting.clear();
        this.listeners.clear();
        resolve(this.gone);
      });
    });
  }

  request(operation: string, args: object | undefined, machine: string | undefined): Promise<Named<Answer>> {
    if (this.gone) return Promise.reject(this.gone);
    return new Promise((resolve, reject) => {
      const id = this.nextId++;
      const bytes = encodeMessage({ id, machine, operation, args });
      this.waiting.set(id, { resolve: answer => resolve(answer as Named<Answer>), reject });
      this.socket.send(bytes);
    });
  }

  /** `ask` is a request whose answer tells a subscription; the listener hears its events from the first one on. */
  async listening<T extends Subscribed>(ask: () => Promise<T>, listener: EventListener): Promise<T> {
    this.subscribing++;
    try {
      const answer = await ask();
      this.listeners.set(answer.subscription, listener);
      for (const event of this.early) if (event.subscription === answer.subscription) this.give(listener, event);
      return answer;
    } finally {
      if (--this.subscribing === 0) this.early = [];
    }
  }

  forget(subscription: number): void {
    this.listeners.delete(subscription);
  }

  async close(): Promise<void> {
    this.socket.close();
    await this.closed;
  }

  /** Ends the connection at once: a server that does not answer would keep its end open. */
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
    if (event.event === MACHINE_REMOVED_EVENT) this.forget(event.subscription);
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

function opened(socket: WebSocket, url: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(new ConnectionError(`cannot connect to ${url}: ${error.message}`));
    socket.on('error', fail);
    socket.once('unexpected-response', (_request, response) => {
      response.setEncoding('utf8');
      let body = '';
      response.on('data', (text: string) => {
        body += text;
      });
      response.once('end', () => {
        reject(new ConnectionError(`${url} refused: ${response.statusCode} ${body.trim()}`));
        socket.terminate();
      });
    });
    socket.once('open', () => {
      socket.off('error', fail);
      resolve();
    });
  });
}
