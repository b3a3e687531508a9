/** The events of a machine, kept for those who ask late. */
import type { MachineEvent } from '../machine/operations-command.ts';
import type { Arrivals } from './arrivals.ts';

/** Older ones are forgotten. */
export const EVENTS_KEPT = 10_000;
const SHOWN = 5;

export class EventLog {
  private events: MachineEvent[] = [];

  constructor(private readonly arrivals: Arrivals) {}

  get all(): readonly MachineEvent[] {
    return this.events;
  }

  add(event: MachineEvent): void {
    // Half of them at once: each would have to be moved for one.
    if (this.events.length === EVENTS_KEPT) this.events = this.events.slice(EVENTS_KEPT / 2);
    this.events.push(event);
    this.arrivals.announce();
  }

  forget(): void {
    this.events = [];
  }

  /** Rejects after the time, and where the machine ends before, with the last few events there were. */
  async first(takes: (event: MachineEvent) => boolean, timeoutMs: number, what: string): Promise<MachineEvent> {
    const found = await this.arrivals.until(() => this.events.find(takes), timeoutMs);
    if (found !== undefined) return found;
    const last = this.events.slice(-SHOWN).map(({ kind, source }) => `${source} ${kind}`);
    const when = this.arrivals.closed ? 'before the machine ended' : `within ${timeoutMs} ms`;
    throw new Error(`there was no event ${what} ${when}; the last ones: ${last.join(', ') || 'none at all'}`);
  }
}
