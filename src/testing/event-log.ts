/** The events of a machine, kept for those who ask late. */
import type { MachineEvent } from '../machine/operations-command.ts';

/** Older ones are forgotten. */
const EVENTS_KEPT = 10_000;

export class EventLog {
  private readonly events: MachineEvent[] = [];
  private readonly waiting = new Set<() => void>();

  add(event: MachineEvent): void {
    if (this.events.length === EVENTS_KEPT) this.events.shift();
    this.events.push(event);
    for (const wake of [...this.waiting]) wake();
  }

  forget(): void {
    this.events.length = 0;
  }

  /** Rejects after the time with the last few events there were. */
  async first(takes: (event: MachineEvent) => boolean, timeoutMs: number, what: string): Promise<MachineEvent> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      const found = this.events.find(takes);
      if (found !== undefined) return found;
      const left = end - performance.now();
      if (left <= 0) {
        const last = this.events.slice(-5).map(({ kind, source }) => `${source} ${kind}`);
        throw new Error(`no event ${what} within ${timeoutMs} ms; the last ones: ${last.join(', ') || 'none at all'}`);
      }
      await this.next(left);
    }
  }

  /** Resolves with the next event, or after the time. */
  next(timeoutMs: number): Promise<void> {
    return new Promise(resolve => {
      const done = () => {
        clearTimeout(timer);
        this.waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.waiting.add(done);
    });
  }
}
