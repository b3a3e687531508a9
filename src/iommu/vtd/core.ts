/** What the parts of one VT-d unit share. */
import type { GuestMemory } from '../../memory/guest-memory.ts';
import type { InterruptMessages, JobQueue } from '../../pci/ports.ts';
import type { RegisterFile } from '../../pci/registers.ts';
import { type Events, noEvents } from '../../trace/events.ts';
import type { Trace, TraceValue } from '../../trace/trace.ts';
import type { VtdCapabilities } from './capabilities.ts';
import type { VtdStatistics } from './statistics.ts';

/** What a unit queues for a job, each at most once at a time. */
export const VTD_WORK = ['queue', 'context', 'iotlb', 'faultEvent', 'completionEvent'] as const;
export type VtdWork = (typeof VTD_WORK)[number];

export interface VtdParts {
  readonly name: string;
  readonly memory: GuestMemory;
  readonly messages: InterruptMessages;
  readonly jobs: JobQueue;
  readonly trace: Trace;
  readonly registers: RegisterFile;
  readonly capabilities: VtdCapabilities;
  readonly statistics: VtdStatistics;
}

export class VtdCore {
  readonly memory: GuestMemory;
  readonly messages: InterruptMessages;
  readonly registers: RegisterFile;
  readonly capabilities: VtdCapabilities;
  readonly statistics: VtdStatistics;
  readonly events: Events;
  /** The unit's number in events. */
  readonly source: number;
  /** Grows with every reset: whoever waited for guest memory compares it and gives up. */
  generation = 0;
  /** Queued and not begun, in this order. */
  readonly pending: VtdWork[] = [];

  constructor(private readonly parts: VtdParts) {
    this.memory = parts.memory;
    this.messages = parts.messages;
    this.registers = parts.registers;
    this.capabilities = parts.capabilities;
    this.statistics = parts.statistics;
    this.events = parts.trace.records ?? noEvents;
    this.source = this.events.sourceId(parts.name);
  }

  /** Queues work that a reset in between cancels. */
  later(what: VtdWork, job: () => void): void {
    const generation = this.generation;
    this.pending.push(what);
    this.parts.jobs.push(() => {
      if (generation !== this.generation) return;
      this.pending.splice(this.pending.indexOf(what), 1);
      job();
    });
  }

  /** Whatever waits or is queued gives up. */
  cancel(): void {
    this.generation++;
    this.pending.length = 0;
  }

  note(kind: string, detail: Readonly<Record<string, TraceValue>>): void {
    this.parts.trace.note(kind, this.parts.name, detail);
  }
}

/** The page frame of an address whose bits above the host address width are zero. */
export function frameOf(high: number, low: number): number {
  return (high << 20) | (low >>> 12);
}
