/**
 * Times between two records that belong together as far as records can say: a device's register written, and its next transfer; a fault
 * of a requester, and the IOMMU's next interrupt. The clock is the machine's, read when the event was recorded.
 */
import { Kind } from '../../../trace/event-kinds.ts';
import type { RecordCursor } from '../../../trace/record-cursor.ts';

/** Of each sort; older ones are forgotten. */
export const MAX_LATENCIES = 2000;

export interface LatencySummary {
  readonly count: number;
  /** Nanoseconds; NaN where there is none. */
  readonly median: number;
  readonly p99: number;
  readonly longest: number;
}

/** The last so many values. */
export class LatencyWindow {
  count = 0;
  private readonly values = new Float64Array(MAX_LATENCIES);

  add(nanoseconds: number): void {
    this.values[this.count++ % MAX_LATENCIES] = nanoseconds;
  }

  summary(): LatencySummary {
    const sorted = this.values.slice(0, Math.min(this.count, MAX_LATENCIES)).sort();
    const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN;
    return { count: this.count, median: at(0.5), p99: at(0.99), longest: at(1) };
  }
}

export class Latencies {
  readonly doorbell = new LatencyWindow();
  readonly faultInterrupt = new LatencyWindow();
  /** Time of the last register write that no transfer followed yet, by the function's name. */
  private readonly written = new Map<string, number>();
  private faulted: number | undefined;

  /** `functionOf`: the name of the function with a requester id. */
  constructor(private readonly functionOf: (requesterId: number) => string | undefined) {}

  record(cursor: RecordCursor): void {
    switch (cursor.kind) {
      case Kind['register.write']:
        // Of configuration space (region 7) no DMA is begun.
        if ((cursor.word(0) & 0xf) !== 7) this.written.set(cursor.sourceName, cursor.time);
        break;
      case Kind['dma.read']:
      case Kind['dma.write']:
        this.transfer(cursor);
        break;
      case Kind.fault:
        this.faulted ??= cursor.time;
        break;
      case Kind.interrupt:
        if (this.faulted !== undefined && cursor.sourceName === 'iommu' && ((cursor.word(0) >>> 4) & 0xf) === 0) {
          this.faultInterrupt.add(cursor.time - this.faulted);
          this.faulted = undefined;
        }
        break;
      case Kind.dropped:
        // What lies between is not known.
        this.written.clear();
        this.faulted = undefined;
        break;
    }
  }

  private transfer(cursor: RecordCursor): void {
    const name = this.functionOf(cursor.word(0) & 0xffff);
    const since = name === undefined ? undefined : this.written.get(name);
    if (since === undefined) return;
    this.doorbell.add(cursor.time - since);
    this.written.delete(name!);
  }
}
