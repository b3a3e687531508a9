/** What the parts of a unit share. */
import type { JobQueue } from '../../pci/ports.ts';
import { noEvents } from '../../trace/events.ts';
import type { Trace, TraceValue } from '../../trace/trace.ts';
import { Budget } from './budget.ts';
import { HandleTable } from './handles.ts';
import { KnownMappings } from './known-mappings.ts';
import { LastAnswer } from './last-answer.ts';
import { BUDDY_NODES_MAX, RANGES_MAX } from './limits.ts';
import type { PendingWork } from './pending-work.ts';
import type { DmaIommuStatistics } from './statistics.ts';
import type { Compat, DeviceDirectory } from './types.ts';
import { UnitEvents } from './unit-events.ts';

export interface CoreParts {
  readonly name: string;
  readonly devices: DeviceDirectory;
  readonly jobs: JobQueue;
  readonly trace: Trace;
  readonly compat: Compat;
  readonly statistics: DmaIommuStatistics;
  readonly work: PendingWork;
}

export class Core {
  readonly handles = new HandleTable();
  /** Ranges that all domains and tokens keep. */
  readonly ranges = new Budget(RANGES_MAX);
  /** Nodes of all allocators. */
  readonly buddyNodes = new Budget(BUDDY_NODES_MAX);
  readonly devices: DeviceDirectory;
  readonly compat: Compat;
  readonly statistics: DmaIommuStatistics;
  readonly work: PendingWork;
  /** Counts resets: what was under way then must not go on. */
  generation = 0;
  readonly events: UnitEvents;
  /** About the translation that is under way. */
  readonly answer = new LastAnswer();
  /** Of the domains whose tables are their callers'. */
  readonly known: KnownMappings;
  readonly #parts: CoreParts;

  constructor(parts: CoreParts) {
    this.#parts = parts;
    this.devices = parts.devices;
    this.compat = parts.compat;
    this.statistics = parts.statistics;
    this.work = parts.work;
    this.events = new UnitEvents(parts.trace.records ?? noEvents, parts.name);
    this.known = new KnownMappings(this.events.mappings);
  }

  note(kind: string, detail: Readonly<Record<string, TraceValue>>): void {
    this.#parts.trace.note(kind, this.#parts.name, detail);
  }

  /** Queues work that a reset calls off. */
  later(job: () => void): void {
    const { generation } = this;
    this.#parts.jobs.push(() => {
      if (generation === this.generation) job();
    });
  }
}
