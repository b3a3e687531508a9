/** The mappings of one domain that are there now. */
import type { PageInterval } from '../page-intervals.ts';
import { IntervalSet } from './interval-set.ts';

export interface LiveInterval extends PageInterval {
  /** Where the first page leads; -1: the pages do not follow one another. */
  readonly frame: number;
  /** 1 read, 2 write. */
  readonly permissions: number;
  /** `MappingSource`. */
  readonly how: number;
  /** Nanoseconds. */
  readonly since: number;
}

export class LiveMappings extends IntervalSet<LiveInterval> {
  constructor() {
    super(clip);
  }
}

/** The part of an interval within [start, end); they overlap. */
function clip(interval: LiveInterval, start: number, end: number): LiveInterval {
  const from = Math.max(interval.start, start);
  const to = Math.min(interval.start + interval.pages, end);
  if (from === interval.start && to === interval.start + interval.pages) return interval;
  const { permissions, how, since } = interval;
  const frame = interval.frame < 0 ? -1 : interval.frame + (from - interval.start);
  return { start: from, pages: to - from, frame, permissions, how, since };
}
