import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RecordStore } from '../../../src/inspector/page/store/record-store.ts';
import { SearchResults } from '../../../src/inspector/page/store/search-results.ts';
import { TraceSearch } from '../../../src/inspector/page/store/trace-search.ts';
import type { RecordPredicate } from '../../../src/trace/event-filter.ts';
import { batchOf, slotsOf } from '../../trace/records.ts';
import { storeWith } from './support.ts';

const dma = (time: number) => slotsOf({ kind: 'dma.read', time, payload: [0x100, 0, 0x1000, 64, -1] });
const even: RecordPredicate = cursor => cursor.time % 2 === 0;

function found({ results }: TraceSearch): number[] {
  return Array.from({ length: results.length }, (_, index) => results.at(index));
}

/** A clock that goes on by a second with each look: every step does one thing. */
function slowClock(): () => number {
  let time = 0;
  return () => (time += 1000);
}

function filled(count: number, limit?: number): RecordStore {
  const store = storeWith([], limit);
  store.append(batchOf(...Array.from({ length: count }, (_, n) => dma(n))));
  return store;
}

describe('the search through records', () => {
  it('finds what is there already, in order', () => {
    const search = new TraceSearch(filled(10), even);
    search.step();
    expect(found(search)).toEqual([0, 2, 4, 6, 8]);
    expect(search.isComplete).toBe(true);
  });

  it('begins with the newest', () => {
    const store = filled(20_000);
    const search = new TraceSearch(store, even);
    expect(search.step(1, slowClock())).toBe(true);
    expect(search.results.at(search.results.length - 1)).toBe(19_998);
    expect(search.progress).toBeGreaterThan(0);
    expect(search.progress).toBeLessThan(1);
    while (search.step(1, slowClock()));
    expect(found(search)).toEqual(Array.from({ length: 10_000 }, (_, n) => n * 2));
    expect(search.progress).toBe(1);
  });

  it('finds what comes while it is still on its way back', () => {
    const store = filled(20_000);
    const search = new TraceSearch(store, even);
    search.step(1, slowClock());
    store.append(batchOf(dma(20_000), dma(20_001), dma(20_002)));
    while (search.step(1, slowClock()));
    expect(search.results.length).toBe(10_002);
    expect(search.results.at(10_001)).toBe(20_002);
  });

  it('looks at each record once, whatever comes in which portions', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 9000 }), { maxLength: 8 }), portions => {
        const store = filled(portions[0] ?? 0);
        const search = new TraceSearch(store, even);
        let next = portions[0] ?? 0;
        for (const portion of portions.slice(1)) {
          search.step(1, slowClock());
          if (portion > 0) store.append(batchOf(...Array.from({ length: portion }, () => dma(next++))));
        }
        while (search.step(1, slowClock()));
        expect(found(search)).toEqual(Array.from({ length: Math.ceil(next / 2) }, (_, n) => n * 2));
      }),
      { numRuns: 20 },
    );
  });

  it('forgets results that are not kept any more, and says how many', () => {
    const store = filled(8192, 8192);
    const search = new TraceSearch(store, even);
    search.step();
    store.append(batchOf(...Array.from({ length: 8192 }, (_, n) => dma(8192 + n))));
    search.step();
    expect(store.first).toBe(8192);
    expect(search.forget()).toBe(4096);
    expect(search.results.at(0)).toBe(8192);
    expect(search.results.length).toBe(4096);
  });

  it('is complete where everything it had to look at is gone', () => {
    const store = filled(100);
    const search = new TraceSearch(store, even);
    store.clear();
    expect(search.step()).toBe(false);
    expect(found(search)).toEqual([]);
  });
});

describe('search results', () => {
  it('are as a plain list would have them', () => {
    const operation = fc.oneof(
      fc.record({ what: fc.constant('older' as const), by: fc.integer({ min: 1, max: 5 }) }),
      fc.record({ what: fc.constant('newer' as const), by: fc.integer({ min: 1, max: 5 }) }),
      fc.record({ what: fc.constant('forget' as const), by: fc.integer({ min: 0, max: 20 }) }),
    );
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), operations => {
        const results = new SearchResults();
        let list: number[] = [];
        let low = 1_000_000;
        let high = 1_000_000;
        for (const { what, by } of operations) {
          if (what === 'older') {
            low -= by;
            results.addOlder(low);
            list.unshift(low);
          } else if (what === 'newer') {
            results.addNewer(high);
            list.push(high);
            high += by;
          } else {
            const before = (list[0] ?? low) + by;
            const kept = list.filter(one => one >= before);
            expect(results.forgetBefore(before)).toBe(list.length - kept.length);
            list = kept;
          }
          expect(Array.from({ length: results.length }, (_, n) => results.at(n))).toEqual(list);
          const middle = list[list.length >> 1] ?? 0;
          expect(results.indexFrom(middle)).toBe(
            list.findIndex(one => one >= middle) < 0 ? list.length : list.findIndex(one => one >= middle),
          );
        }
      }),
    );
  });
});
