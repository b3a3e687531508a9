import type { Events } from './events.ts';

/**
 * What every room says when something deserves to be noticed: an unknown register, a reserved bit, a malformed message,
 * a fault. Rooms get a `Trace` and never know who listens. Rare events only: counts of common ones live in counters.
 */
export type TraceValue = string | number | bigint | boolean;

export interface TraceEvent {
  /** Dotted and stable, e.g. `register.unknown`, `fault.recorded`, `client.closed`. */
  readonly kind: string;
  /** Who says so: the block, function or connection, e.g. `vtd`, `edu0`, `iommu.sock`. */
  readonly source: string;
  /** The facts, by name; addresses as bigint, so that readers print them in hexadecimal. */
  readonly detail: Readonly<Record<string, TraceValue>>;
}

export interface Trace {
  note(kind: string, source: string, detail: Readonly<Record<string, TraceValue>>): void;
  /** What happens all the time, as records. Missing where nobody can want them: then `noEvents` stands in. */
  readonly records?: Events;
}

/** Drops everything; for benchmarks and tests that look elsewhere. */
export const silentTrace: Trace = { note() {} };

/** Keeps everything; for tests. */
export class TraceLog implements Trace {
  readonly events: TraceEvent[] = [];

  note(kind: string, source: string, detail: Readonly<Record<string, TraceValue>>): void {
    this.events.push({ kind, source, detail });
  }

  kinds(): string[] {
    return this.events.map(event => event.kind);
  }
}
