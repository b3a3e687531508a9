/** What the parts of a unit share. */
import type { JobQueue } from '../../pci/ports.ts';
import type { Trace, TraceValue } from '../../trace/trace.ts';
import { Budget } from './budget.ts';
import { HandleTable } from './handles.ts';
import { BUDDY_NODES_MAX, RANGES_MAX } from './limits.ts';
import type { DmaIommuStatistics } from './statistics.ts';
import type { Compat, DeviceDirectory } from './types.ts';

export interface CoreParts {
  readonly name: string;
  readonly devices: DeviceDirectory;
  readonly jobs: JobQueue;
  readonly trace: Trace;
  readonly compat: Compat;
  readonly statistics: DmaIommuStatistics;
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
  /** Counts resets: what was under way then must not go on. */
  generation = 0;
  readonly #parts: CoreParts;

  constructor(parts: CoreParts) {
    this.#parts = parts;
    this.devices = parts.devices;
    this.compat = parts.compat;
    this.statistics = parts.statistics;
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
