/** What the parts of one function share. */
import type { GuestMemory } from '../../../memory/guest-memory.ts';
import type { InterruptLine, JobQueue } from '../../../pci/ports.ts';
import type { RegisterFile } from '../../../pci/registers.ts';
import { type Events, noEvents } from '../../../trace/events.ts';
import type { Trace, TraceValue } from '../../../trace/trace.ts';
import type { PendingWork } from '../pending-work.ts';

export interface FunctionParts {
  readonly name: string;
  readonly memory: GuestMemory;
  readonly line: InterruptLine;
  readonly jobs: JobQueue;
  readonly trace: Trace;
  readonly registers: RegisterFile;
  /** Default: a new one. */
  readonly work?: PendingWork | undefined;
}

export class FunctionCore {
  readonly memory: GuestMemory;
  readonly line: InterruptLine;
  readonly registers: RegisterFile;
  /** Grows whenever the rings are enabled, disabled or reset: whoever waited for guest memory compares it and gives up. */
  cycle = 0;

  /** What is queued: a change of `cycle` calls it off, but for the probe. */
  readonly work: PendingWork;
  readonly records: Events;
  /** Its number in events. */
  readonly source: number;

  constructor(private readonly parts: FunctionParts) {
    this.records = parts.trace.records ?? noEvents;
    this.source = this.records.sourceId(parts.name);
    this.work = parts.work ?? new Set();
    this.memory = parts.memory;
    this.line = parts.line;
    this.registers = parts.registers;
  }

  /** Queues work that a change of `cycle` calls off. */
  later(job: () => void): void {
    const { cycle } = this;
    this.parts.jobs.push(() => {
      if (cycle === this.cycle) job();
    });
  }

  note(kind: string, detail: Readonly<Record<string, TraceValue>>): void {
    this.parts.trace.note(kind, this.parts.name, detail);
  }
}

export function bitOf(number: number): number {
  return 1 << number;
}
