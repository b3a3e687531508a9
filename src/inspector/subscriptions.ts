/** Which events a client wants, and how many of them it lost. */
import type { RecordTap } from '../machine/record-taps.ts';
import { DROPPED_EVENT, type RemoteEvent } from './protocol.ts';

export interface SubscriptionRequest {
  readonly machine: string;
  /** Kinds of events; one that ends with `*` stands for all that begin so. */
  readonly kinds: readonly string[];
  readonly context?: unknown;
}

/** Trace events, calls of callbacks, records. */
export interface SubscribedEvent {
  readonly kind: string;
  readonly source: string;
  readonly detail: object;
}

export interface SubscriptionCounts {
  readonly sent: number;
  readonly dropped: number;
}

/** Where records come from. */
export interface Recording {
  readonly classes: number;
  readonly tap: RecordTap;
}

/** `kinds`: exact ones, or beginnings followed by `*`. */
export function kindMatcher(kinds: readonly string[]): (kind: string) => boolean {
  const isPrefix = (kind: string) => kind.endsWith('*');
  const exact = new Set(kinds.filter(kind => !isPrefix(kind)));
  const prefixes = kinds.filter(isPrefix).map(kind => kind.slice(0, -1));
  return kind => exact.has(kind) || prefixes.some(prefix => kind.startsWith(prefix));
}

export class Subscription {
  sent = 0;
  dropped = 0;
  /** Of a subscription by `record`. */
  recording: Recording | undefined;
  /** What takes its records now; only compared. */
  taker: unknown;
  /** Of `dropped`, as the client was last told. */
  private told = 0;
  private readonly matches: (kind: string) => boolean;

  constructor(
    public id: number,
    private readonly request: SubscriptionRequest,
  ) {
    this.matches = kindMatcher(request.kinds);
  }

  get machine(): string {
    return this.request.machine;
  }

  wants(machine: string, kind: string): boolean {
    return machine === this.request.machine && this.matches(kind);
  }

  eventFor({ kind, source, detail }: SubscribedEvent): RemoteEvent {
    this.sent++;
    return this.message(kind, source, { ...detail });
  }

  /** What tells the client of losses that no event told it of yet; undefined: there are none. */
  takeLoss(): RemoteEvent | undefined {
    if (this.dropped === this.told) return undefined;
    return this.message(DROPPED_EVENT, 'remote', {});
  }

  /** Belongs to another connection, whose client is told by other means what it has lost until now. */
  carryOver(id: number): SubscriptionCounts {
    this.id = id;
    this.told = this.dropped;
    return this.counts();
  }

  /** Takes no more records. */
  stop(): void {
    this.recording?.tap.stop();
    this.recording = undefined;
  }

  counts(): SubscriptionCounts {
    return { sent: this.sent, dropped: this.dropped };
  }

  private message(event: string, source: string, detail: Readonly<Record<string, unknown>>): RemoteEvent {
    this.told = this.dropped;
    const { context, machine } = this.request;
    return {
      event,
      subscription: this.id,
      ...(context === undefined ? {} : { context }),
      machine,
      source,
      detail,
      dropped: this.dropped,
    };
  }
}
