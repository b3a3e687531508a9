/** The remote API from a page: one WebSocket, requests with their answers, and what was subscribed to. docs/remote-api.md */
import { decodeMessage, encodeMessage } from '../codec.ts';
import { answerLimits } from '../limits.ts';
import { SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX } from '../protocol.ts';
import { type Answer, toNumber, toRecord, toText } from './wire.ts';

/** What the page needs of a `WebSocket`. */
export interface Socket {
  binaryType: string;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(bytes: Uint8Array): void;
  close(code?: number, reason?: string): void;
}
export type OpenSocket = (url: string, protocols: string[]) => Socket;

/** The server refused the request itself; `code` is one of the remote API's error codes. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';

  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** There is no connection, or none any more. */
export class DisconnectedError extends Error {
  override readonly name = 'DisconnectedError';
}

export interface RemoteNotice {
  readonly event: string;
  readonly detail: Answer;
  /** Events that this subscription lost so far. */
  readonly dropped: number;
}
type Listener = (notice: RemoteNotice) => void;

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
  /** Its answer tells the number of a subscription, whose events go here. */
  readonly listener: Listener | undefined;
}

export interface ConnectionOptions {
  readonly url: string;
  readonly token: string | undefined;
  readonly open: OpenSocket;
  readonly onOpen: () => void;
  /** Once, with the reason; also where it could not be opened at all. */
  readonly onClose: (reason: string) => void;
}

const PROTOCOL_ERROR = 4002;

export class Connection {
  /** Messages and bytes that came. */
  readonly received = { messages: 0, bytes: 0 };
  private readonly socket: Socket;
  private readonly waiting = new Map<number, Waiting>();
  private readonly listeners = new Map<number, Listener>();
  /** Events that came before the answer that tells their subscription's number; only while such an answer is waited for. */
  private early: { readonly subscription: number; readonly notice: RemoteNotice }[] = [];
  private subscribing = 0;
  private nextId = 1;
  private wasOpen = false;
  private gone: DisconnectedError | undefined;

  constructor(private readonly options: ConnectionOptions) {
    const { url, token } = options;
    const protocols = token === undefined ? [SUBPROTOCOL] : [SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX + token];
    this.socket = options.open(url, protocols);
    this.socket.binaryType = 'arraybuffer';
    this.socket.onopen = () => {
      this.wasOpen = true;
      options.onOpen();
    };
    this.socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) this.hear(new Uint8Array(data));
    };
    this.socket.onclose = ({ code, reason }) => this.end(code, reason);
  }

  /**
   * Rejects with a `RefusedError` or a `DisconnectedError`. A `listener` is for requests whose answer holds a `subscription`: it hears
   * its events, from the first one on, after the promise's reactions have been queued.
   */
  request(operation: string, args?: object, machine?: string, listener?: Listener): Promise<Answer> {
    if (this.gone) return Promise.reject(this.gone);
    if (!this.wasOpen) return Promise.reject(new DisconnectedError('not connected yet'));
    return new Promise((resolve, reject) => {
      const id = this.nextId++;
      this.waiting.set(id, { resolve, reject, listener });
      if (listener) this.subscribing++;
      this.socket.send(encodeMessage({ id, machine, operation, args }));
    });
  }

  async unsubscribe(subscription: number): Promise<void> {
    this.listeners.delete(subscription);
    await this.request('unsubscribe', { subscription });
  }

  close(): void {
    this.socket.close(1000, 'the page is left');
  }

  private hear(bytes: Uint8Array): void {
    this.received.messages++;
    this.received.bytes += bytes.length;
    const { message, error } = decodeMessage(bytes, answerLimits);
    if (message === undefined) {
      this.socket.close(PROTOCOL_ERROR, `this is no message: ${error}`.slice(0, 100));
      return;
    }
    if (message.event !== undefined) this.tell(message);
    else this.answer(message);
  }

  private tell(message: Answer): void {
    const notice = {
      event: toText(message.event),
      detail: toRecord(message.detail),
      dropped: toNumber(message.dropped),
    };
    const subscription = toNumber(message.subscription);
    const listener = this.listeners.get(subscription);
    if (listener) listener(notice);
    else if (this.subscribing > 0) this.early.push({ subscription, notice });
  }

  private answer(message: Answer): void {
    const { id, error, ...answer } = message;
    const waiting = this.waiting.get(toNumber(id));
    if (waiting === undefined) return;
    this.waiting.delete(toNumber(id));
    if (error !== undefined) {
      const { code, message: words } = toRecord(error);
      waiting.reject(new RefusedError(toText(code), toText(words)));
    } else {
      waiting.resolve(answer);
    }
    if (waiting.listener) this.subscribed(waiting.listener, error === undefined ? answer : undefined);
  }

  /** Whoever asked sees the answer before the events: these wait for the next turn. */
  private subscribed(listener: Listener, answer: Answer | undefined): void {
    setTimeout(() => {
      this.subscribing--;
      if (answer !== undefined && this.gone === undefined) {
        const subscription = toNumber(answer.subscription);
        this.listeners.set(subscription, listener);
        for (const one of this.early) if (one.subscription === subscription) listener(one.notice);
        this.early = this.early.filter(one => one.subscription !== subscription);
      }
      if (this.subscribing === 0) this.early = [];
    });
  }

  private end(code: number, reason: string): void {
    const why = reason || (this.wasOpen ? `code ${code}` : 'the server is not there, or it wants a token (#token=...)');
    this.gone = new DisconnectedError(why);
    for (const { reject } of this.waiting.values()) reject(this.gone);
    this.waiting.clear();
    this.listeners.clear();
    this.options.onClose(why);
  }
}
