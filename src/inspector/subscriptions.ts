/** Which events a client wants, and how many of them it lost. */
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

export class Subscription {
  sent = 0;
  dropped = 0;
  /** Of `dropped`, as the client was last told. */
  private told = 0;
  private readonly exact: ReadonlySet<string>;
  private readonly prefixes: readonly string[];

  constructor(
    readonly id: number,
    private readonly request: SubscriptionRequest,
  ) {
    const isPrefix = (kind: string) => kind.endsWith('*');
    this.exact = new Set(request.kinds.filter(kind => !isPrefix(kind)));
    this.prefixes = request.kinds.filter(isPrefix).map(kind => kind.slice(0, -1));
  }

  get machine(): string {
    return this.request.machine;
  }

  wants(machine: string, kind: string): boolean {
    if (machine !== this.request.machine) return false;
    return this.exact.has(kind) || this.prefixes.some(prefix => kind.startsWith(prefix));
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
