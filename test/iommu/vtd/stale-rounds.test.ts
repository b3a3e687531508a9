/** How soon a way through the tables that changed is found, where the rounds of the device thread are told. */
import { describe, expect, it } from 'vitest';
import { EventLog } from '../event-log.ts';
import { Bench, DOMAIN, READ, RID } from './support.ts';

const PAGE = 0x1000n;
const IOVA = 0x20_0000n;
const PAGES = 16;
const FIRST_FRAME = 300;
/** Words of 64 bits on the way through four levels at most: each is looked at once in so many pages, one after the other. */
const WORDS = 8;

/** A unit whose IOTLB knows all pages, at the start of a round. */
function started(): { bench: Bench; events: EventLog; access(page: number): void; stale(): number } {
  const events = new EventLog(true);
  const bench = new Bench({}, { checks: true, trace: events });
  bench.setContext(RID, { domain: DOMAIN });
  bench.enable().enableQueue();
  for (let page = 0; page < PAGES; page++) bench.map(IOVA + BigInt(page) * PAGE, FIRST_FRAME + page);
  const access = (page: number) => {
    expect(bench.translate(IOVA + BigInt(page) * PAGE, READ)).toBe(true);
  };
  for (let page = 0; page < PAGES; page++) access(page);
  events.endRound();
  return { bench, events, access, stale: () => events.of('stale').length };
}

describe('an entry above the pages that is cleared', () => {
  it('is found by the first transfer of the next round', () => {
    for (let page = 0; page < PAGES; page++) {
      const { bench, events, access, stale } = started();
      access(page);
      bench.setEntry(IOVA, 2, 0n);
      events.endRound();
      access(page);
      expect(stale()).toBe(1);
    }
  });

  it('is found within eight pages of the same round', () => {
    for (const level of [2, 3]) {
      const { bench, access, stale } = started();
      access(0);
      bench.setEntry(IOVA, level, 0n);
      for (let page = 1; page <= WORDS; page++) access(page);
      expect(stale()).toBeGreaterThan(0);
    }
  });

  it('is found at once by another way through the tables', () => {
    const { bench, access, stale } = started();
    const other = IOVA + 0x20_0000n;
    bench.map(other, FIRST_FRAME);
    expect(bench.translate(other, READ)).toBe(true);
    access(0);
    bench.setEntry(other, 3, 0n);
    expect(bench.translate(other, READ)).toBe(true);
    expect(stale()).toBe(1);
  });
});

describe("a page's own entry", () => {
  it('is looked at in each transfer', () => {
    const { bench, access, stale } = started();
    access(0);
    for (let page = 1; page < PAGES; page++) {
      bench.map(IOVA + BigInt(page) * PAGE, FIRST_FRAME + 100);
      access(page);
      expect(stale()).toBe(page);
    }
  });
});

describe('a context entry', () => {
  it('in the cache that is not the one in memory is found although the way is known', () => {
    const { bench, events, access, stale } = started();
    access(0);
    // What is cached comes from an entry that was there for a while only.
    bench.setContext(RID, { domain: DOMAIN + 1 });
    bench.submit([0x11n, 0n]);
    access(1);
    const before = stale();
    bench.setContext(RID, { domain: DOMAIN });
    events.endRound();
    access(2);
    expect(stale()).toBe(before + 1);
    expect(events.of('stale').at(-1)).toMatchObject({ what: 'context' });
  });
});
