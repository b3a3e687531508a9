/**
 * Looks through the kept records for those that pass, from the newest back to the oldest, chunk by chunk, so that what is looked at
 * first is there at once; records that come meanwhile are looked at as they come.
 */

import type { RecordPredicate } from '../../../trace/event-filter.ts';
import { RecordCursor } from '../../../trace/record-cursor.ts';
import { SLOT_WORDS_SHIFT } from '../../../trace/record-layout.ts';
import type { RecordStore } from './record-store.ts';
import { SearchResults } from './search-results.ts';

/** How long one call of `step` may take, in milliseconds, where the caller says nothing else. */
export const STEP_MILLISECONDS = 12;

export class TraceSearch {
  readonly results = new SearchResults();
  /** Records before this number have not been looked at yet. */
  private backwards: number;
  /** Records from this number on have not been looked at yet. */
  private forwards: number;
  private readonly total: number;
  private readonly cursor: RecordCursor;
  private readonly found: number[] = [];

  constructor(
    private readonly store: RecordStore,
    private readonly passes: RecordPredicate,
  ) {
    this.backwards = store.next;
    this.forwards = store.next;
    this.total = store.count;
    this.cursor = new RecordCursor(store.decoder, store.sources);
  }

  get isComplete(): boolean {
    return this.backwards <= this.store.first;
  }

  /** 0 to 1. */
  get progress(): number {
    if (this.total === 0 || this.isComplete) return 1;
    return 1 - (this.backwards - this.store.first) / this.total;
  }

  /** Looks at what came since, then goes further back until the time is over; false: there is nothing left to do. */
  step(milliseconds = STEP_MILLISECONDS, now: () => number = () => performance.now()): boolean {
    const end = now() + milliseconds;
    this.lookForward();
    while (!this.isComplete) {
      this.lookBack();
      if (now() >= end) break;
    }
    return !this.isComplete;
  }

  /** Results that went with their records, so that those who count by index can follow. */
  forget(): number {
    return this.results.forgetBefore(this.store.first);
  }

  private lookForward(): void {
    const { store } = this;
    if (this.forwards < store.first) this.forwards = store.first;
    while (this.forwards < store.next) {
      const chunk = store.chunkOf(this.forwards)!;
      this.look(chunk.first, this.forwards, chunk.first + chunk.count, number => this.results.addNewer(number));
      this.forwards = chunk.first + chunk.count;
    }
  }

  private lookBack(): void {
    const chunk = this.store.chunkOf(this.backwards - 1);
    if (chunk === undefined) {
      this.backwards = this.store.first;
      return;
    }
    const { found } = this;
    found.length = 0;
    this.look(chunk.first, chunk.first, this.backwards, number => found.push(number));
    for (let index = found.length - 1; index >= 0; index--) this.results.addOlder(found[index]!);
    this.backwards = chunk.first;
  }

  /** Records `from` to `to` (exclusive) of the chunk that begins with the record `first`. */
  private look(first: number, from: number, to: number, take: (number: number) => void): void {
    const chunk = this.store.chunkOf(first)!;
    const { cursor, passes } = this;
    const slot = chunk.starts[from - first]!;
    const end = to - first < chunk.count ? chunk.starts[to - first]! : chunk.used;
    cursor.load(chunk.words.subarray(slot << SLOT_WORDS_SHIFT, end << SLOT_WORDS_SHIFT));
    for (let number = from; cursor.next(); number++) if (passes(cursor)) take(number);
  }
}
