/** The remote API from the client's side. */
import { WebSocket } from 'ws';
import type { Answer, OperationName } from '../iommu/dma-iommu/operations.ts';
import type { Snapshot } from '../iommu/dma-iommu/snapshot.ts';
import type { ProbeAnswer } from '../iommu/dma-iommu/unit.ts';
import type {
  InterfaceArguments,
  OperationAnswer,
  OperationArguments,
  ProbeArguments,
} from '../machine/operations-command.ts';
import type { InterfaceAnswer } from '../machine/remote-commands.ts';
import { decodeMessage, encodeMessage } from './codec.ts';
import { answerLimits, MAX_ANSWER_BYTES } from './limits.ts';
import {
  type ErrorCode,
  type Named,
  RemoteError,
  type RemoteEvent,
  type ServiceName,
  SUBPROTOCOL,
} from './protocol.ts';
import type { SubscriptionCounts } from './subscriptions.ts';

export interface ConnectOptions {
  readonly token?: string | undefined;
  /** Which of the server's machines is meant; may be missing where it has one. */
  readonly machine?: string | undefined;
  /** Default: 10 seconds. */
  readonly handshakeMilliseconds?: number;
}

/** The server could not be reached, refused the client, or went away. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
}

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

type EventListener = (event: RemoteEvent) => void;

const HANDSHAKE_MILLISECONDS = 10_000;

/** A machine on a running server. */
export class RemoteMachine {
  /** Ends with the connection; tells why. */
  readonly closed: Promise<ConnectionError>;
  private readonly waiting = new Map<number, Waiting>();
  private readonly listeners = new Map<number, EventListener>();
  /** Events that came before the answer that told their subscription's number. */
  private early: RemoteEvent[] = [];
  private subscribing = 0;
  private nextId = 1;
  private gone: ConnectionError | undefined;

  /** Rejects with a `ConnectionError`. */
  static async connect(url: string, options: ConnectOptions = {}): Promise<RemoteMachine> {
    const socket = open(url, options);
    await opened(socket, url);
    return new RemoteMachine(socket, options.machine);
  }

  private constructor(
    private readonly socket: WebSocket,
    private readonly machine: string | undefined,
  ) {
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

  /** Rejects with a `RemoteError` where the request itself was refused; an operation that failed is an answer. */
  async operate<Name extends OperationName>(
    operation: Name,
    args: OperationArguments[Name],
  ): Promise<Named<OperationAnswer<Name>>> {
    return (await this.request(operation, args)) as Named<OperationAnswer<Name>>;
  }

  async machines(): Promise<string[]> {
    return (await this.serve<{ machines: string[] }>('machines')).machines;
  }

  async getInterface(args: InterfaceArguments): Promise<Named<InterfaceAnswer>> {
    return await this.serve('interface', args);
  }

  async probe(args: ProbeArguments): Promise<ProbeAnswer> {
    return (await this.serve<{ probe: ProbeAnswer }>('probe', args)).probe;
  }

  async statistics(): Promise<Readonly<Record<string, unknown>>> {
    return (await this.serve<{ statistics: Record<string, unknown> }>('statistics')).statistics;
  }

  async snapshot(): Promise<Snapshot> {
    return (await this.serve<{ snapshot: Snapshot }>('snapshot')).snapshot;
  }

  /** Gives the subscription's number. `kinds`: exact ones, or beginnings followed by `*`. */
  async subscribe(
    args: { readonly kinds: readonly string[]; readonly context?: string | number | undefined },
    listener: EventListener,
  ): Promise<number> {
    this.subscribing++;
    try {
      const { subscription } = await this.serve<{ subscription: number }>('subscribe', args);
      this.listeners.set(subscription, listener);
      for (const event of this.early) if (event.subscription === subscription) listener(event);
      return subscription;
    } finally {
      if (--this.subscribing === 0) this.early = [];
    }
  }

  async unsubscribe(subscription: number): Promise<SubscriptionCounts> {
    const { sent, dropped } = await this.serve<SubscriptionCounts>('unsubscribe', { subscription });
    this.listeners.delete(subscription);
    return { sent, dropped };
  }

  /** Any request, unchecked; for those who know operations by name only. */
  request(operation: string, args?: object): Promise<Named<Answer>> {
    if (this.gone) return Promise.reject(this.gone);
    return new Promise((resolve, reject) => {
      const id = this.nextId++;
      const bytes = encodeMessage({ id, machine: this.machine, operation, args });
      this.waiting.set(id, { resolve: answer => resolve(answer as Named<Answer>), reject });
      this.socket.send(bytes);
    });
  }

  async close(): Promise<void> {
    this.socket.close();
    await this.closed;
  }

  private async serve<T>(service: ServiceName, args?: object): Promise<Named<Answer> & T> {
    return (await this.request(service, args)) as Named<Answer> & T;
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
    if (listener) listener(event);
    else if (this.subscribing > 0) this.early.push(event);
  }
}

function open(url: string, { token, handshakeMilliseconds = HANDSHAKE_MILLISECONDS }: ConnectOptions): WebSocket {
  try {
    return new WebSocket(url, SUBPROTOCOL, {
      headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
      maxPayload: MAX_ANSWER_BYTES,
      perMessageDeflate: false,
      handshakeTimeout: handshakeMilliseconds,
    });
  } catch (error) {
    throw new ConnectionError(`'${url}' is not an address such as ws://127.0.0.1:8123: ${(error as Error).message}`);
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
