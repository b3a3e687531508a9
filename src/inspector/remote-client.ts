/** The remote API from the client's side. */
import { WebSocket } from 'ws';
import type { Answer, OperationName } from '../iommu/dma-iommu/operations.ts';
import type { Snapshot } from '../iommu/dma-iommu/snapshot.ts';
import type { ProbeAnswer } from '../iommu/dma-iommu/unit.ts';
import type { FindingsAnswer, MappingsAnswer } from '../machine/debug-commands.ts';
import type { MachineDescription } from '../machine/description.ts';
import type { InjectionRule, InjectionState } from '../machine/injection/rules.ts';
import type {
  InspectionAnswer,
  QueueAnswer,
  RegistersAnswer,
  StateAnswer,
  StepAnswer,
  StepWhat,
  TlbAnswer,
  WalkAnswer,
} from '../machine/inspection.ts';
import type {
  InterfaceArguments,
  OperationAnswer,
  OperationArguments,
  ProbeArguments,
} from '../machine/operations-command.ts';
import type { InterfaceAnswer } from '../machine/remote-commands.ts';
import type { EventKind } from '../trace/event-kinds.ts';
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

/** Records as they come from a running machine. */
export interface RemoteRecording {
  readonly machine: MachineDescription;
  /** What the records mean. */
  readonly kinds: readonly EventKind[];
  stop(): Promise<void>;
}

/** Whole records in slots of 32 bytes; `dropped`: batches lost so far because this client did not read fast enough. */
export type RemoteRecords = (words: Int32Array, dropped: number) => void;

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
    const request = () => this.serve<{ subscription: number }>('subscribe', args);
    return (await this.listening(request, listener)).subscription;
  }

  async unsubscribe(subscription: number): Promise<SubscriptionCounts> {
    const { sent, dropped } = await this.serve<SubscriptionCounts>('unsubscribe', { subscription });
    this.listeners.delete(subscription);
    return { sent, dropped };
  }

  async findings(): Promise<FindingsAnswer> {
    return await this.serve<FindingsAnswer>('findings');
  }

  async mappings(): Promise<MappingsAnswer> {
    return await this.serve<MappingsAnswer>('mappings');
  }

  /** `classes`: `EventClass` bits; what others record comes along. The first batch names the sources. */
  async record(classes: number, take: RemoteRecords): Promise<RemoteRecording> {
    const listen: EventListener = ({ detail, dropped }) => take(wordsOf(detail.words as Uint8Array), dropped);
    const { subscription, machine, kinds } = await this.listening(
      () => this.serve<Omit<RemoteRecording, 'stop'> & { subscription: number }>('record', { classes }),
      listen,
    );
    return {
      machine,
      kinds,
      stop: async () => {
        await this.unsubscribe(subscription);
      },
    };
  }

  /** Answers with the rule's id. */
  async inject(rule: InjectionRule): Promise<number> {
    return (await this.serve<{ injection: number }>('inject', rule)).injection;
  }

  /** Lets go what the rule holds. */
  async releaseInjection(injection: number): Promise<void> {
    await this.serve('releaseInjection', { injection });
  }

  async removeInjection(injection: number): Promise<void> {
    await this.serve('removeInjection', { injection });
  }

  async injections(): Promise<readonly InjectionState[]> {
    return (await this.serve<{ injections: InjectionState[] }>('injections')).injections;
  }

  /** Definitions of all registers, what functions there are, and whether the machine runs. */
  async inspect(): Promise<InspectionAnswer> {
    return await this.serve<InspectionAnswer>('inspect');
  }

  /** What the registers of a function hold. */
  async registers(name: string): Promise<RegistersAnswer> {
    return await this.serve<RegistersAnswer>('registers', { function: name });
  }

  /** The way of an address of a device through all tables. `pasid`: missing for requests without one. */
  async walk(requesterId: number, iova: bigint, pasid?: number): Promise<WalkAnswer> {
    return (await this.serve<{ walk: WalkAnswer }>('walk', { requesterId, iova, pasid })).walk;
  }

  /** What the IOTLB holds, at most so many entries. */
  async tlb(limit: number): Promise<TlbAnswer> {
    return await this.serve<TlbAnswer>('tlb', { limit });
  }

  /** VT-d's invalidation queue around its head and tail. */
  async queue(): Promise<QueueAnswer> {
    return await this.serve<QueueAnswer>('queue');
  }

  async pause(): Promise<StateAnswer> {
    return await this.serve<StateAnswer>('pause');
  }

  /** While paused: one transfer of an endpoint, or one register access of the guest. */
  async step(what: StepWhat): Promise<StepAnswer> {
    return await this.serve<StepAnswer>('step', { what });
  }

  async resume(): Promise<StateAnswer> {
    return await this.serve<StateAnswer>('resume');
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

  private async listening<T extends { readonly subscription: number }>(
    request: () => Promise<T>,
    listener: EventListener,
  ): Promise<T> {
    this.subscribing++;
    try {
      const answer = await request();
      this.listeners.set(answer.subscription, listener);
      for (const event of this.early) if (event.subscription === answer.subscription) listener(event);
      return answer;
    } finally {
      if (--this.subscribing === 0) this.early = [];
    }
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

function wordsOf(bytes: Uint8Array): Int32Array {
  // A copy: what came may lie at any address.
  return new Int32Array(bytes.slice().buffer);
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
