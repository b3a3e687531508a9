/** The way to a leased machine: connections to its server, one after the other, each taking the lease over where the last was lost. */
import { setTimeout as wait } from 'node:timers/promises';
import type { Answer } from '../iommu/dma-iommu/operations.ts';
import type { FindingsAnswer } from '../machine/debug-commands.ts';
import type { MachineDescription } from '../machine/description.ts';
import type { LeaseAnswer } from './leases.ts';
import { defaultRedialLimits, leasePulse, type Pulse, type RedialLimits } from './limits.ts';
import type { MachineEnd } from './machine-port.ts';
import {
  MACHINE_ENDED_EVENT,
  MACHINE_REMOVED_EVENT,
  type Named,
  RemoteError,
  type RemoteEvent,
  type ServiceName,
} from './protocol.ts';
import {
  ConnectionError,
  type EventListener,
  type Link,
  type LinkOptions,
  type LinkRequest,
  RemoteLink,
  type Subscribed,
} from './remote-link.ts';
import type { ResumedAnswer } from './requests.ts';
import { StandingSubscription } from './standing-subscription.ts';
import type { SubscriptionCounts } from './subscriptions.ts';

/** Answered twice they are as good as once: repeated where the connection broke before the answer. */
const REPEATABLE: ReadonlySet<string> = new Set<ServiceName>([
  'machines',
  'describe',
  'interface',
  'probe',
  'statistics',
  'snapshot',
  'findings',
  'mappings',
  'injections',
  'inspect',
  'registers',
  'walk',
  'tlb',
  'queue',
  'pause',
  'resume',
  'release',
]);
/** Where the first connection was quick, it may still be slow to come back. */
const PATIENCE_FACTOR = 3;

export interface LeaseOptions extends LinkOptions {
  /** Missing: the server's own choice. */
  readonly description?: MachineDescription | undefined;
  /** As `viommu serve --sanitize` takes it, e.g. `all`. */
  readonly sanitize?: string | undefined;
  /**
   * How long a lost connection may take to come back; the machine is kept for so long. The server may agree to less. Default: 0, the
   * machine ends with the connection.
   */
  readonly graceMilliseconds?: number | undefined;
  /** Told when the connection is lost, and when it is back. */
  readonly onConnection?: ((state: 'lost' | 'resumed', reason: string) => void) | undefined;
  readonly limits?: Partial<Pulse & RedialLimits> | undefined;
}

export class LeaseLink implements Link {
  /** Ends when the grace time is over, too. */
  readonly closed: Promise<ConnectionError>;
  /** Of the machine. */
  readonly ended: Promise<MachineEnd>;
  private readonly limits: Pulse & RedialLimits;
  private readonly subscriptions = new Map<number, StandingSubscription>();
  private readonly leaving = new AbortController();
  private nextSubscription = 1;
  /** undefined: it is lost. */
  private current: RemoteLink | undefined;
  /** Of the outage under way; rejects when there will be no other connection. */
  private coming: Promise<RemoteLink> | undefined;
  private gone: ConnectionError | undefined;
  private releasing = false;
  private close_: (error: ConnectionError) => void = () => {};
  private end: (end: MachineEnd) => void = () => {};

  /** Rejects with a `ConnectionError`, or a `RemoteError` where the server refuses. */
  static async open(url: string, options: LeaseOptions): Promise<LeaseLink> {
    const begun = performance.now();
    const link = await RemoteLink.open(url, options);
    const took = performance.now() - begun;
    try {
      const { description, sanitize, graceMilliseconds = 0 } = options;
      const grace = Math.round(graceMilliseconds);
      const args = { description, sanitize, ...(grace > 0 ? { grace } : {}) };
      const early: RemoteEvent[] = [];
      let hear: EventListener = event => early.push(event);
      const request = { operation: 'lease', args };
      const lease = await link.subscribe<Required<LeaseAnswer>>(request, event => hear(event));
      // Servers of before know of no grace.
      const leased = new LeaseLink(url, options, { ...lease, grace: lease.grace ?? 0 }, took, link);
      hear = event => leased.hearOfEnd(event);
      for (const event of early) leased.hearOfEnd(event);
      return leased;
    } catch (error) {
      await link.close();
      throw error;
    }
  }

  private constructor(
    private readonly url: string,
    private readonly options: LeaseOptions,
    readonly lease: LeaseAnswer,
    took: number,
    link: RemoteLink,
  ) {
    const limits = { ...leasePulse, ...defaultRedialLimits, ...options.limits };
    const redialMilliseconds = Math.max(limits.redialMilliseconds, PATIENCE_FACTOR * took);
    this.limits = { ...limits, redialMilliseconds };
    this.closed = new Promise(resolve => {
      this.close_ = resolve;
    });
    this.ended = new Promise(resolve => {
      this.end = resolve;
    });
    void this.closed.then(({ message }) => this.end({ reason: message, stoppedByFinding: false }));
    this.attach(link);
  }

  async request(request: LinkRequest): Promise<Named<Answer>> {
    this.releasing ||= request.operation === 'release';
    const asked = this.isAnsweredAgain(request)
      ? { ...request, args: { ...request.args, lease: this.lease.lease } }
      : request;
    for (;;) {
      const link = await this.connection();
      try {
        return await link.request(asked);
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        await link.closed;
        if (this.gone) throw this.gone;
        if (!REPEATABLE.has(request.operation)) {
          throw new ConnectionError(
            `the connection broke while '${request.operation}' was under way, so that it may be done or not: ${error.message}`,
          );
        }
      }
    }
  }

  async subscribe<T extends Subscribed>(request: LinkRequest, listener: EventListener): Promise<Named<Answer> & T> {
    const subscription = new StandingSubscription(this.nextSubscription++, request, listener);
    for (;;) {
      const link = await this.connection();
      try {
        const answer = await this.begin<T>(link, subscription);
        return { ...answer, subscription: subscription.id };
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        await link.closed;
      }
    }
  }

  async unsubscribe(id: number): Promise<SubscriptionCounts> {
    const subscription = this.subscriptions.get(id);
    // It has ended with its machine, or never was.
    if (subscription === undefined) return await (await this.connection()).unsubscribe(id);
    // The next connection does not ask for it.
    this.subscriptions.delete(id);
    const link = await this.connection();
    try {
      return subscription.countsOf(await link.unsubscribe(subscription.remoteId));
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      return subscription.counts();
    }
  }

  async close(): Promise<void> {
    this.leaving.abort();
    if (this.current === undefined) this.finish(new ConnectionError('the connection is closed: by this side'));
    else await this.current.close();
    await this.closed;
  }

  abandon(): void {
    this.leaving.abort();
    this.current?.abandon();
    this.finish(new ConnectionError('the connection is closed: this side gave it up'));
  }

  /** `release` with the lease's id, by whichever connection; without a grace time there is but one. */
  private isAnsweredAgain({ operation }: LinkRequest): boolean {
    return operation === 'release' && this.lease.grace > 0;
  }

  private async connection(): Promise<RemoteLink> {
    if (this.gone) throw this.gone;
    return this.current ?? (await this.coming!);
  }

  private attach(link: RemoteLink): void {
    this.current = link;
    this.coming = undefined;
    if (this.lease.grace > 0) link.watchPulse(this.limits);
    void link.closed.then(error => this.lost(link, error));
  }

  private lost(link: RemoteLink, error: ConnectionError): void {
    this.current = undefined;
    if (this.gone) return;
    if (!link.isLost || this.lease.grace === 0 || this.leaving.signal.aborted) {
      this.finish(error);
      return;
    }
    this.coming = this.comeBack(error);
    // Whoever asks meanwhile hears it.
    this.coming.catch((why: ConnectionError) => this.finish(why));
    this.options.onConnection?.('lost', error.message);
  }

  private finish(error: ConnectionError): void {
    if (this.gone) return;
    this.gone = error;
    this.subscriptions.clear();
    this.close_(error);
  }

  /** Rejects with a `ConnectionError`. */
  private async comeBack(cause: ConnectionError): Promise<RemoteLink> {
    const { grace } = this.lease;
    const deadline = performance.now() + grace;
    let pause = this.limits.redialPauseMilliseconds;
    let last: Error = cause;
    for (;;) {
      const left = deadline - performance.now();
      if (left <= 0) break;
      try {
        const link = await this.resume(Math.min(left, this.limits.redialMilliseconds));
        this.options.onConnection?.('resumed', cause.message);
        return link;
      } catch (error) {
        if (this.leaving.signal.aborted) throw new ConnectionError('the connection is closed: by this side');
        last = error as Error;
        if (isFinal(error)) throw new ConnectionError(`the connection was lost: ${last.message}`);
      }
      await wait(Math.min(pause, Math.max(deadline - performance.now(), 0)), undefined, {
        signal: this.leaving.signal,
      }).catch(() => {
        throw new ConnectionError('the connection is closed: by this side');
      });
      pause = Math.min(2 * pause, this.limits.maxRedialPauseMilliseconds);
    }
    throw new ConnectionError(`the connection is lost, and did not come back within ${grace} ms: ${last.message}`);
  }

  private async resume(milliseconds: number): Promise<RemoteLink> {
    const attempt = AbortSignal.any([this.leaving.signal, AbortSignal.timeout(Math.ceil(milliseconds))]);
    const link = await RemoteLink.open(this.url, { ...this.options, signal: attempt });
    const abandon = () => link.abandon();
    attempt.addEventListener('abort', abandon);
    if (attempt.aborted) abandon();
    let answer: ResumedAnswer | undefined;
    try {
      answer = await this.takeOver(link);
    } catch (error) {
      // A lease that is over because of its release has left an answer.
      if (!(this.releasing && error instanceof RemoteError)) {
        link.abandon();
        throw error;
      }
    } finally {
      attempt.removeEventListener('abort', abandon);
    }
    this.attach(link);
    if (answer === undefined) return link;
    if (answer.ended !== undefined) this.tellEnd(answer.ended);
    void this.catchUp(link);
    return link;
  }

  private async takeOver(link: RemoteLink): Promise<ResumedAnswer> {
    const carried = [...this.subscriptions.values()].filter(({ machine }) => machine === this.lease.machine);
    const args = { lease: this.lease.lease, subscriptions: carried.map(({ remoteId }) => remoteId) };
    return await link.listening(
      async () => (await link.request({ operation: 'resumeLease', args })) as unknown as ResumedAnswer,
      ({ subscription, subscriptions }) => {
        const listeners: [number, EventListener][] = [[subscription, event => this.hearOfEnd(event)]];
        for (const [index, standing] of carried.entries()) {
          const resumed = subscriptions[index];
          if (resumed == null) this.drop(standing, 'its subscription is gone');
          else {
            standing.goOn(resumed);
            listeners.push([resumed.subscription, event => this.hear(standing, event)]);
          }
        }
        return listeners;
      },
    );
  }

  /** What can be had again of what was missed. */
  private async catchUp(link: RemoteLink): Promise<void> {
    try {
      const all = [...this.subscriptions.values()];
      for (const one of all) if (one.machine !== this.lease.machine) await this.beginAgain(link, one);
      if (all.some(one => one.wantsFindings)) await this.tellMissedFindings(link);
    } catch (error) {
      // Broken again: the next connection does it.
      if (!(error instanceof ConnectionError)) throw error;
    }
  }

  private async tellMissedFindings(link: RemoteLink): Promise<void> {
    const findings = await findingsOf(link, this.lease.machine);
    for (const one of this.subscriptions.values()) {
      if (one.machine === this.lease.machine) for (const finding of findings) one.tellFinding(finding);
    }
  }

  private tellEnd(end: MachineEnd): void {
    for (const one of this.subscriptions.values()) {
      if (one.machine === this.lease.machine && one.wants(MACHINE_ENDED_EVENT)) one.tellEnd(end);
    }
    this.end(end);
  }

  private hearOfEnd({ event, detail }: RemoteEvent): void {
    if (event === MACHINE_ENDED_EVENT) this.end(detail as unknown as MachineEnd);
    else if (event === MACHINE_REMOVED_EVENT) this.end({ reason: String(detail.reason), stoppedByFinding: false });
  }

  private async begin<T extends Subscribed>(link: RemoteLink, one: StandingSubscription): Promise<Named<Answer> & T> {
    const answer = await link.subscribe<T>(one.request, event => this.hear(one, event));
    one.remoteId = answer.subscription;
    // By the same connection: the events of what is new come before this answer, or never.
    if (one.wantsFindings && one.machine === this.lease.machine) one.knows(await findingsOf(link, this.lease.machine));
    if (!one.isOver) this.subscriptions.set(one.id, one);
    return answer;
  }

  /** Of something else than the machine, which the server does not keep. */
  private async beginAgain(link: RemoteLink, one: StandingSubscription): Promise<void> {
    try {
      one.restart(await this.begin(link, one));
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error;
      this.drop(one, error.message);
    }
  }

  private drop(one: StandingSubscription, reason: string): void {
    this.subscriptions.delete(one.id);
    one.tellRemoved(reason);
  }

  private hear(one: StandingSubscription, event: RemoteEvent): unknown {
    if (event.event === MACHINE_REMOVED_EVENT) this.subscriptions.delete(one.id);
    return one.hear(event);
  }
}

/** Rejects with a `ConnectionError`. */
async function findingsOf(link: RemoteLink, machine: string): Promise<FindingsAnswer['findings']> {
  try {
    return ((await link.request({ operation: 'findings', machine })) as unknown as FindingsAnswer).findings;
  } catch (error) {
    // The machine has ended, which is told by itself.
    if (error instanceof RemoteError) return [];
    throw error;
  }
}

/** Another attempt would end like this one. Gateways that miss their server answer with 502 to 504. */
function isFinal(error: unknown): boolean {
  if (error instanceof ConnectionError) return error.status !== undefined && error.status < 500;
  return error instanceof RemoteError;
}
