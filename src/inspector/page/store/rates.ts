/** Counters that were read again and again, as rates over time. */
import type { CounterName, Counters } from './counters.ts';

/** At two a second, ten minutes. */
export const MAX_SAMPLES = 1200;

export type RateName =
  | 'registers'
  | 'dma'
  | 'bytesRead'
  | 'bytesWritten'
  | 'hitRate'
  | 'walks'
  | 'invalidations'
  | 'faults';
export type Rates = Readonly<Record<RateName, number | null>>;

export const NO_RATES: Rates = {
  registers: null,
  dma: null,
  bytesRead: null,
  bytesWritten: null,
  hitRate: null,
  walks: null,
  invalidations: null,
  faults: null,
};

/** Between two readings; null where it cannot be said: the machine was started anew, or there was nothing to be a part of. */
export function ratesBetween(before: Counters, after: Counters, seconds: number): Rates {
  if (seconds <= 0) return NO_RATES;
  const rate = (...names: CounterName[]) => {
    const change = names.reduce((sum, name) => sum + after[name] - before[name], 0);
    return change < 0 ? null : change / seconds;
  };
  const hits = after.tlbHits - before.tlbHits;
  const lookups = hits + after.tlbMisses - before.tlbMisses;
  return {
    registers: rate('registerAccesses'),
    dma: rate('dmaReads', 'dmaWrites'),
    bytesRead: rate('bytesRead'),
    bytesWritten: rate('bytesWritten'),
    hitRate: lookups > 0 && hits >= 0 ? hits / lookups : null,
    walks: rate('tlbMisses'),
    invalidations: rate('invalidations'),
    faults: rate('faults'),
  };
}

export class RateHistory {
  /** Seconds, as `Date.now() / 1000`, one for each entry of each series. */
  readonly times: number[] = [];
  readonly series: Readonly<Record<RateName, (number | null)[]>> = {
    registers: [],
    dma: [],
    bytesRead: [],
    bytesWritten: [],
    hitRate: [],
    walks: [],
    invalidations: [],
    faults: [],
  };
  latest: Rates = NO_RATES;
  private last: { readonly time: number; readonly counters: Counters } | undefined;

  constructor(
    private readonly limit = MAX_SAMPLES,
    /** Seconds after which a line is not drawn through: nobody looked meanwhile. */
    private readonly gap = 3,
  ) {}

  /** `time` in seconds. */
  add(time: number, counters: Counters): void {
    const { last } = this;
    this.last = { time, counters };
    if (last === undefined || time <= last.time) return;
    if (time - last.time > this.gap) {
      this.latest = NO_RATES;
      this.push(last.time + this.gap / 2, NO_RATES);
    } else {
      this.latest = ratesBetween(last.counters, counters, time - last.time);
    }
    this.push(time, this.latest);
  }

  clear(): void {
    this.times.length = 0;
    for (const list of Object.values(this.series)) list.length = 0;
    this.last = undefined;
    this.latest = NO_RATES;
  }

  private push(time: number, rates: Rates): void {
    this.times.push(time);
    for (const name of Object.keys(this.series) as RateName[]) this.series[name].push(rates[name]);
    if (this.times.length <= this.limit) return;
    this.times.shift();
    for (const list of Object.values(this.series)) list.shift();
  }
}

/** Rates of each device between two readings of its counters. */
export function perSecond(before: number | undefined, after: number | undefined, seconds: number): number {
  if (before === undefined || after === undefined || seconds <= 0 || after < before) return Number.NaN;
  return (after - before) / seconds;
}
