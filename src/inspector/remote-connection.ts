/** One client of the remote API: its requests under way, its subscriptions, and what waits to be read by it. */
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import type { FindingsAnswer } from '../machine/debug-commands.ts';
import { KeepAlive } from '../vfio-user/websocket/keep-alive.ts';
import { decodeMessage, encodeMessage } from './codec.ts';
import type { LeaseAnswer, LeaseOwner, LeaseRequest, Leases } from './leases.ts';
import { MAX_ANSWER_BYTES, type RemoteLimits, requestLimits } from './limits.ts';
import type { MachinePort } from './machine-port.ts';
import {
  ErrorCode,
  isLoss,
  LEASE_TAKEN_OVER,
  MACHINE_ENDED_EVENT,
  MACHINE_REMOVED_EVENT,
  MACHINES_EVENT,
  RECORDS_EVENT,
  RemoteError,
  type RemoteFailure,
  type RemoteRequest,
} from './protocol.ts';
import {
  answerRequest,
  checkRequest,
  type Machines,
  type ResumedAnswer,
  type ResumeRequest,
  requestId,
  type Subscriber,
} from './requests.ts';
import {
  type SubscribedEvent,
  Subscription,
  type SubscriptionCounts,
  type SubscriptionRequest,
} from './subscriptions.ts';

/** No machine is called so. */
const EVERY_MACHINE = '';

/** Sums over all clients since the server started. */
export interface RemoteCounters {
  requests: number;
  failures: number;
  events: number;
  droppedEvents: number;
}

export interface ConnectionOptions {
  readonly socket: WebSocket;
  /** Under the WebSocket. */
  readonly transport: Duplex;
  readonly machines: Machines;
  readonly limits: RemoteLimits;
  readonly counters: RemoteCounters;
  /** Missing: the server makes no machines. */
  readonly leases?: Leases | undefined;
  /** Told of errors that are nobody's fault but ours. */
  readonly onInternalError: (error: unknown) => void;
}

export class RemoteConnection implements Subscriber, LeaseOwner {
  private readonly subscriptions = new Map<number, Subscription>();
  /** Of subscriptions whose machine is gone, for who still ends them. */
  private readonly ended = new Map<number, SubscriptionCounts>();
  private nextSubscription = 1;
  private inFlight = 0;
  /** Messages that arrived after the socket was paused: what had been received already is still given out. */
  private readonly postponed: Uint8Array[] = [];
  private responded = true;
  private isDisplaced = false;
  /** Of a client that means to come back when it is lost. */
  private pulse: KeepAlive | undefined;
  /** Who waits for the client to read on. */
  private readonly behind: (() => void)[] = [];

  constructor(private readonly options: ConnectionOptions) {
    const { socket } = options;
    socket.on('message', (data, isBinary) => {
      if (isBinary) this.postponed.push(data as Buffer);
      else this.send(failure(null, new RemoteError(ErrorCode.malformed, 'messages are binary frames')));
      this.proceed();
    });
    socket.on('pong', () => {
      this.responded = true;
    });
    socket.once('close', code => {
      this.pulse?.stop();
      // It takes along what belongs to a lease that is kept.
      options.leases
        ?.connectionEnded(this, { isLost: this.isDisplaced || isLoss(code) })
        .catch(options.onInternalError);
      for (const subscription of this.subscriptions.values()) subscription.stop();
      this.subscriptions.clear();
      this.ended.clear();
      this.postponed.length = 0;
      for (const resolve of this.behind.splice(0)) resolve();
    });
  }

  subscribe(request: SubscriptionRequest): number {
    this.checkRoom(1);
    const id = this.nextSubscription++;
    this.subscriptions.set(id, new Subscription(id, request));
    return id;
  }

  unsubscribe(id: number): SubscriptionCounts | undefined {
    const counts = this.subscriptions.get(id)?.counts() ?? this.ended.get(id);
    this.endSubscription(id);
    this.ended.delete(id);
    return counts;
  }

  watch(): number {
    return this.subscribe({ machine: EVERY_MACHINE, kinds: [MACHINES_EVENT] });
  }

  async lease(request: LeaseRequest): Promise<LeaseAnswer> {
    const leases = this.leasesOrRefusal();
    const answer = await leases.lease(request, this);
    this.watchPulse(answer.grace);
    try {
      return { ...answer, subscription: this.subscribe({ machine: answer.machine, kinds: [MACHINE_ENDED_EVENT] }) };
    } catch (error) {
      await leases.release(answer.machine, this);
      throw error;
    }
  }

  async release(machine: string, lease?: string): Promise<FindingsAnswer> {
    return await this.leasesOrRefusal().release(machine, this, lease);
  }

  /** Everything in one go: between what was lost and what comes from here on there is nothing that nobody counts. */
  resumeLease({ lease, subscriptions: wanted = [] }: ResumeRequest): ResumedAnswer {
    // And one to the end of the machine.
    this.checkRoom(wanted.length + 1);
    const { answer, port, subscriptions: found, ended } = this.leasesOrRefusal().resume(lease, this);
    const rest = new Map(found.map(subscription => [subscription.id, subscription]));
    const subscriptions = wanted.map(id => {
      const subscription = rest.get(id);
      rest.delete(id);
      return subscription === undefined ? null : this.adopt(subscription, port);
    });
    for (const subscription of rest.values()) subscription.stop();
    this.watchPulse(answer.grace);
    const subscription = this.subscribe({ machine: answer.machine, kinds: [MACHINE_ENDED_EVENT] });
    return { ...answer, subscription, subscriptions, ...(ended === undefined ? {} : { ended }) };
  }

  handOver(machine: string): readonly Subscription[] {
    const all = [...this.subscriptions.values()].filter(subscription => subscription.machine === machine);
    for (const { id } of all) this.subscriptions.delete(id);
    return all;
  }

  /** Whoever is still there must not try to take it back. */
  displaced(): void {
    const { socket, limits } = this.options;
    this.isDisplaced = true;
    socket.close(LEASE_TAKEN_OVER, 'another connection has taken the lease over');
    const timer = setTimeout(() => socket.terminate(), limits.closeMilliseconds);
    timer.unref();
    socket.once('close', () => clearTimeout(timer));
  }

  record(machine: string, port: MachinePort, classes: number): number {
    const id = this.subscribe({ machine, kinds: [RECORDS_EVENT] });
    this.takeRecords(this.subscriptions.get(id)!, port, classes);
    return id;
  }

  private adopt(subscription: Subscription, port: MachinePort): ResumedAnswer['subscriptions'][number] {
    const id = this.nextSubscription++;
    const counts = subscription.carryOver(id);
    this.subscriptions.set(id, subscription);
    const { recording } = subscription;
    if (recording !== undefined) {
      // First the new one, whose beginning names the sources again.
      this.takeRecords(subscription, port, recording.classes);
      recording.tap.stop();
    }
    return { subscription: id, ...counts };
  }

  private takeRecords(subscription: Subscription, port: MachinePort, classes: number): void {
    const source = 'records';
    // What is lent is copied by the encoding.
    const eventOf = (words: Int32Array) => ({ kind: RECORDS_EVENT, source, detail: { words } });
    const take = (words: Int32Array) => {
      // To begin may bring records at once, also to who took them before and is about to stop.
      if (subscription.taker !== take) return undefined;
      if (!port.replays) return this.offer(subscription, eventOf(words));
      this.tell(subscription, eventOf(words));
      return this.readyForMore();
    };
    subscription.taker = take;
    subscription.recording = { classes, tap: port.record(classes, take) };
  }

  /** Its subscriptions are told, and end. */
  machineRemoved(machine: string, reason: string): void {
    const event = { kind: MACHINE_REMOVED_EVENT, source: 'remote', detail: { reason } };
    for (const subscription of [...this.subscriptions.values()]) {
      if (subscription.machine !== machine) continue;
      // However slow the client is: there comes nothing after it.
      this.tell(subscription, event);
      this.endSubscription(subscription.id);
      this.ended.set(subscription.id, subscription.counts());
      const [oldest] = this.ended.keys();
      if (this.ended.size > this.options.limits.subscriptions) this.ended.delete(oldest!);
    }
  }

  machinesChanged(machines: readonly string[]): void {
    this.hear(EVERY_MACHINE, { kind: MACHINES_EVENT, source: 'remote', detail: { machines } });
  }

  hear(machine: string, event: SubscribedEvent): void {
    for (const subscription of this.subscriptions.values()) {
      if (subscription.wants(machine, event.kind)) this.offer(subscription, event);
    }
  }

  private endSubscription(id: number): void {
    this.subscriptions.get(id)?.stop();
    this.subscriptions.delete(id);
  }

  private checkRoom(more: number): void {
    const { subscriptions } = this.options.limits;
    if (this.subscriptions.size + more <= subscriptions) return;
    throw new RemoteError(ErrorCode.limit, `at most ${subscriptions} subscriptions of one client`);
  }

  private watchPulse(grace: number): void {
    const { socket, transport, limits } = this.options;
    if (grace === 0 || socket.readyState !== socket.OPEN) return;
    this.pulse ??= new KeepAlive(socket, transport, limits.leasePulse, Number.POSITIVE_INFINITY);
  }

  private leasesOrRefusal(): Leases {
    const { leases } = this.options;
    if (leases) return leases;
    throw new RemoteError(ErrorCode.failed, "this server makes no machines: start it with 'viommu serve --on-demand'");
  }

  /** Undefined: at once. */
  private readyForMore(): Promise<void> | undefined {
    const { socket, limits } = this.options;
    if (socket.bufferedAmount <= limits.eventBytesWaiting || socket.readyState !== socket.OPEN) return undefined;
    return new Promise(resolve => this.behind.push(resolve));
  }

  private offer(subscription: Subscription, event: SubscribedEvent): void {
    const { socket, limits } = this.options;
    // Records of a lease whose client is away come here still.
    if (socket.bufferedAmount > limits.eventBytesWaiting || socket.readyState !== socket.OPEN) {
      subscription.dropped++;
      this.options.counters.droppedEvents++;
    } else {
      this.tell(subscription, event);
    }
  }

  /** Pings, or drops a client that did not answer the last one. */
  keepAlive(): void {
    const { socket } = this.options;
    // While we do not read, we cannot hear it either.
    if (socket.isPaused) this.responded = true;
    else if (!this.responded) socket.terminate();
    else if (socket.readyState === socket.OPEN) {
      this.responded = false;
      socket.ping();
    }
  }

  /** Begins what may begin, and reads on or not. */
  private proceed(): void {
    const { socket, limits } = this.options;
    const busy = () => this.inFlight >= limits.requestsInFlight || socket.bufferedAmount > limits.answerBytesWaiting;
    while (this.postponed.length > 0 && !busy()) this.begin(this.postponed.shift()!);
    if (this.postponed.length > 0 || busy()) socket.pause();
    else if (socket.isPaused) socket.resume();
  }

  private begin(bytes: Uint8Array): void {
    this.options.counters.requests++;
    const decoded = decodeMessage(bytes, requestLimits);
    if (decoded.error !== undefined) {
      this.fail(null, new RemoteError(ErrorCode.malformed, `this is no message: ${decoded.error}`));
      return;
    }
    let request: RemoteRequest;
    try {
      request = checkRequest(decoded.message);
    } catch (error) {
      this.fail(requestId(decoded.message), error);
      return;
    }
    this.inFlight++;
    const { id } = request;
    answerRequest(request, this.options.machines, this)
      .then(answer => this.send({ ...answer, id }))
      .catch(error => this.fail(id, error))
      .finally(() => {
        this.inFlight--;
        this.proceed();
      });
  }

  private fail(id: number | null, error: unknown): void {
    this.options.counters.failures++;
    if (error instanceof RemoteError) {
      this.send(failure(id, error));
      return;
    }
    this.options.onInternalError(error);
    this.send(failure(id, new RemoteError(ErrorCode.failed, `internal error: ${String(error)}`)));
  }

  /** An event that cannot be sent must not hurt whoever caused it. */
  private tell(subscription: Subscription, event: SubscribedEvent): void {
    try {
      this.send(subscription.eventFor(event));
      this.options.counters.events++;
    } catch (error) {
      subscription.dropped++;
      this.options.counters.droppedEvents++;
      this.options.onInternalError(error);
    }
  }

  private send(message: object): void {
    const { socket } = this.options;
    if (socket.readyState !== socket.OPEN) return;
    const bytes = encodeMessage(message);
    if (bytes.length > MAX_ANSWER_BYTES) {
      throw new RemoteError(ErrorCode.limit, `the answer is longer than ${MAX_ANSWER_BYTES} bytes`);
    }
    socket.send(bytes, error => {
      // An error here is the end of the socket, which its own events tell.
      if (!error) this.afterSending();
    });
  }

  private afterSending(): void {
    const { socket, limits } = this.options;
    if (socket.bufferedAmount <= limits.eventBytesWaiting) {
      for (const subscription of this.subscriptions.values()) {
        const loss = subscription.takeLoss();
        if (loss) this.send(loss);
      }
      for (const resolve of this.behind.splice(0)) resolve();
    }
    if (socket.isPaused) this.proceed();
  }
}

function failure(id: number | null, { code, message }: RemoteError): RemoteFailure {
  return { id, error: { code, message } };
}
