/** A subscription that goes on over several connections: its number stays, and what it loses is counted. */
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { MachineEnd } from './machine-port.ts';
import {
  DROPPED_EVENT,
  FINDING_EVENT,
  MACHINE_ENDED_EVENT,
  MACHINE_REMOVED_EVENT,
  MACHINES_EVENT,
  type RemoteEvent,
} from './protocol.ts';
import type { EventListener, LinkRequest } from './remote-link.ts';
import type { ResumedSubscription } from './requests.ts';
import { kindMatcher, type SubscriptionCounts } from './subscriptions.ts';

export class StandingSubscription {
  /** By which the server knows it on the present connection. */
  remoteId = 0;
  /** Nothing comes any more. */
  isOver = false;
  readonly wants: (kind: string) => boolean;
  readonly wantsFindings: boolean;
  private readonly context: unknown;
  /** Findings that need not be told any more, by their ids. */
  private readonly told = new Set<string>();
  /** As the server counts, but for those that went with a connection. */
  private received = 0;
  private dropped = 0;
  private lostOnTheWay = 0;

  constructor(
    /** By which its owner knows it. */
    readonly id: number,
    readonly request: LinkRequest,
    private readonly listener: EventListener,
  ) {
    const { kinds = [], context } = (request.args ?? {}) as { kinds?: readonly string[]; context?: unknown };
    this.context = context;
    this.wants = kindMatcher(kinds);
    this.wantsFindings = this.wants(FINDING_EVENT);
  }

  get machine(): string {
    return this.request.machine ?? '';
  }

  hear(event: RemoteEvent): unknown {
    const { dropped, detail } = event;
    this.dropped = dropped;
    if (event.event !== DROPPED_EVENT) this.received++;
    this.isOver ||= event.event === MACHINE_REMOVED_EVENT;
    if (event.event === FINDING_EVENT) {
      const { id } = (detail as { readonly finding: Finding }).finding;
      if (this.told.has(id)) return undefined;
      this.told.add(id);
    }
    return this.listener({ ...event, subscription: this.id, dropped: this.lost });
  }

  /** These were there before it was. */
  knows(findings: readonly Finding[]): void {
    for (const { id } of findings) this.told.add(id);
  }

  /** The server has kept it, and says what it sent and what it lost. */
  goOn({ subscription, sent, dropped }: ResumedSubscription): void {
    const before = this.lost;
    this.remoteId = subscription;
    this.lostOnTheWay += Math.max(sent - this.received, 0);
    this.received = sent;
    this.dropped = dropped;
    if (this.lost > before) this.tell(DROPPED_EVENT, 'remote', {});
  }

  /** It was made anew; how much came meanwhile nobody knows. */
  restart(answer: object): void {
    this.lostOnTheWay = this.lost + 1;
    this.received = 0;
    this.dropped = 0;
    this.tell(DROPPED_EVENT, 'remote', {});
    if (this.request.operation !== 'watch') return;
    this.tell(MACHINES_EVENT, 'remote', { machines: (answer as { readonly machines: readonly string[] }).machines });
  }

  /** Unless it has been told. */
  tellFinding(finding: Finding): void {
    if (!this.wantsFindings || this.told.has(finding.id)) return;
    this.told.add(finding.id);
    this.tell(FINDING_EVENT, 'sanitizer', { finding });
  }

  tellEnd(end: MachineEnd): void {
    this.tell(MACHINE_ENDED_EVENT, 'machine', { ...end });
  }

  tellRemoved(reason: string): void {
    this.tell(MACHINE_REMOVED_EVENT, 'remote', { reason });
  }

  counts(): SubscriptionCounts {
    return { sent: this.received, dropped: this.lost };
  }

  countsOf({ sent, dropped }: SubscriptionCounts): SubscriptionCounts {
    return { sent, dropped: dropped + this.lostOnTheWay };
  }

  private get lost(): number {
    return this.dropped + this.lostOnTheWay;
  }

  private tell(event: string, source: string, detail: Readonly<Record<string, unknown>>): void {
    const { id: subscription, context, machine, lost: dropped } = this;
    this.listener({
      event,
      subscription,
      ...(context === undefined ? {} : { context }),
      machine,
      source,
      detail,
      dropped,
    });
  }
}
