import type { Trace, TraceEvent, TraceValue } from './trace.ts';

/** Events under way to a reader at once; beyond that they are dropped and counted, so that no guest can fill memory. */
export const MAX_EVENTS_UNDER_WAY = 4096;

/**
 * Forwards events to a reader in another thread. The reader counts what it has taken in a shared Int32, so that a slow one
 * costs the device thread nothing but dropped events.
 */
export class BoundedForwarder<Event extends object = TraceEvent> implements Trace {
  sent = 0;
  dropped = 0;
  private readonly taken: Int32Array;

  constructor(
    taken: SharedArrayBuffer,
    private readonly forward: (event: Event | TraceEvent) => void,
  ) {
    this.taken = new Int32Array(taken);
  }

  note(kind: string, source: string, detail: Readonly<Record<string, TraceValue>>): void {
    this.send({ kind, source, detail });
  }

  /** The same for what is no trace event but goes to the same reader. */
  send(event: Event | TraceEvent): void {
    // Both counters wrap at 2^32; their difference does not care.
    if (((this.sent | 0) - Atomics.load(this.taken, 0)) >>> 0 >= MAX_EVENTS_UNDER_WAY) {
      this.dropped++;
      return;
    }
    this.sent++;
    this.forward(event);
  }
}
