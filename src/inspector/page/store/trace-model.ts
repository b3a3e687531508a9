/** The trace view's state: the filter, the search through the records, and whether what comes is followed. */
import { signal } from '@preact/signals';
import type { RecordPredicate } from '../../../trace/event-filter.ts';
import { FilterError } from '../../../trace/event-filter.ts';
import type { RecordStore } from './record-store.ts';
import { compileTraceFilter, type DeviceNames, type TraceFilter } from './trace-filter.ts';
import { STEP_MILLISECONDS, TraceSearch } from './trace-search.ts';

/** The first look after a change of the filter may take longer: then something is to be seen at once. */
const FIRST_STEP_MILLISECONDS = 40;

export class TraceModel {
  /** Raised with every change of what is to be seen. */
  readonly version = signal(0);
  readonly error = signal('');
  readonly follow = signal(true);
  search: TraceSearch;
  /** Results that went at the start, all together. */
  shifted = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly store: RecordStore) {
    this.search = new TraceSearch(store, () => true);
  }

  /** Begins anew; a filter that cannot be understood leaves the last one in place. */
  setFilter(filter: TraceFilter, devices: DeviceNames): void {
    let passes: RecordPredicate;
    try {
      passes = compileTraceFilter(filter, this.store.decoder, devices);
      this.error.value = '';
    } catch (error) {
      if (!(error instanceof FilterError)) throw error;
      this.error.value = error.message;
      return;
    }
    this.search = new TraceSearch(this.store, passes);
    this.shifted = 0;
    this.step(FIRST_STEP_MILLISECONDS);
  }

  /** New records are there. */
  advance(): void {
    this.step(STEP_MILLISECONDS);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  /** Number of the record in a row; undefined: there is no such row. */
  numberAt(row: number): number | undefined {
    return row >= 0 && row < this.search.results.length ? this.search.results.at(row) : undefined;
  }

  private step(milliseconds: number): void {
    const isMore = this.search.step(milliseconds);
    this.shifted += this.search.forget();
    this.version.value++;
    if (!isMore || this.timer !== undefined) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.step(STEP_MILLISECONDS);
    });
  }
}
