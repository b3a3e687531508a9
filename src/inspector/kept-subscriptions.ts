/** Subscriptions to a leased machine whose client is away: they lose everything, and count it. */
import type { MachineEvent } from '../machine/operations-command.ts';
import type { MachinePort } from './machine-port.ts';
import { FINDING_EVENT } from './protocol.ts';
import type { Subscription } from './subscriptions.ts';

export class KeptSubscriptions {
  private readonly onEvent = ({ kind }: MachineEvent) => this.lose(kind);
  private readonly onFinding = () => this.lose(FINDING_EVENT);

  /** Records are counted by whoever takes them. */
  constructor(
    private readonly port: MachinePort,
    private readonly subscriptions: readonly Subscription[],
  ) {
    port.events.on('event', this.onEvent);
    port.newFindings?.on('finding', this.onFinding);
  }

  /** Ends it. */
  give(): readonly Subscription[] {
    this.port.events.off('event', this.onEvent);
    this.port.newFindings?.off('finding', this.onFinding);
    return this.subscriptions;
  }

  private lose(kind: string): void {
    for (const subscription of this.subscriptions) {
      if (subscription.wants(subscription.machine, kind)) subscription.dropped++;
    }
  }
}
