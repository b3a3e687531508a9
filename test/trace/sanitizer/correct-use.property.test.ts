import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  EVENT_KINDS,
  FaultCause,
  LONG_PAYLOAD_WORDS,
  MappingSource,
  ResetWhat,
} from '../../../src/trace/event-kinds.ts';
import { InvalidationLog } from '../../../src/trace/sanitizer/invalidation-log.ts';
import { LatestByPage } from '../../../src/trace/sanitizer/latest-by-page.ts';
import { LiveMappings } from '../../../src/trace/sanitizer/live-mappings.ts';
import { MappingHistory } from '../../../src/trace/sanitizer/mapping-history.ts';
import { PastMappings } from '../../../src/trace/sanitizer/past-mappings.ts';
import { EDU0, EDU1, GRACE, MS, Scenario } from './scenario.ts';

const PAGES = 24;

describe('correct use gives no finding', () => {
  const step = fc.oneof(
    fc.record({ what: fc.constant('map' as const), page: fc.nat(PAGES), pages: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ what: fc.constant('unmap' as const), page: fc.nat(PAGES), pages: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ what: fc.constant('wait' as const), page: fc.constant(0), pages: fc.constant(1) }),
    fc.record({ what: fc.constant('attach' as const), page: fc.nat(1), pages: fc.constant(1) }),
    fc.record({ what: fc.constant('reset' as const), page: fc.nat(1), pages: fc.constant(1) }),
  );

  it.each([
    ['walks', MappingSource.walk],
    ['operations', MappingSource.operation],
  ])('of a driver whose mappings are known by %s', (_, how) => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), steps => {
        const scenario = new Scenario().memory(0, 0x10000000).attach().attach(EDU1);
        const mapped = new Set<number>();
        for (const { what, page, pages } of steps) {
          scenario.after(MS);
          const all = Array.from({ length: pages }, (_unused, i) => page + i);
          if (what === 'map' && !all.some(one => mapped.has(one))) {
            scenario.map(page * 4096, pages, { how, frame: 0x1000 + page });
            for (const one of all) mapped.add(one);
          } else if (what === 'unmap' && all.every(one => mapped.has(one))) {
            const gone = how === MappingSource.walk ? MappingSource.invalidation : how;
            scenario.flush(page * 4096, pages).unmap(page * 4096, pages, { how: gone });
            for (const one of all) mapped.delete(one);
          } else if (what === 'wait') {
            scenario.wait();
          } else if (what === 'attach') {
            // The other device stays, so that the domain does.
            scenario.detach(EDU1).attach(EDU1);
          } else if (what === 'reset') {
            scenario.reset(ResetWhat.functionLevel, page === 0 ? 'edu0' : 'edu1');
          }
          const shadow = scenario.sanitizer.mappings();
          expect(shadow.reduce((sum, one) => sum + one.pages, 0)).toBe(mapped.size);
        }
        for (const one of mapped) scenario.unmap(one * 4096);
        scenario.detach().detach(EDU1).finish();
        expect(scenario.names).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });

  it('a boot of Linux with VFIO: attach, walk, invalidate, detach', () => {
    const scenario = new Scenario().reset(ResetWhat.client).resetIommu().memory(0, 0x20000000);
    for (let round = 0; round < 3; round++) {
      scenario.attach(EDU0, 10 + round).after(MS);
      scenario
        .map(0x1230000, 1, { domain: 10 + round })
        .after(MS)
        .flush(0x1230000, 1, 10 + round);
      scenario
        .unmap(0x1230000, 1, { domain: 10 + round })
        .after(MS)
        .flushDomain(10 + round);
      scenario
        .detach(EDU0, 10 + round)
        .reset(ResetWhat.functionLevel, 'edu0')
        .after(GRACE);
    }
    expect(scenario.finish().names).toEqual([]);
  });
});

describe('the history agrees with one that is kept page by page', () => {
  const change = fc.record({
    what: fc.constantFrom('added', 'removed', 'changed') as fc.Arbitrary<'added' | 'removed' | 'changed'>,
    domain: fc.integer({ min: 1, max: 2 }),
    start: fc.nat(PAGES),
    pages: fc.integer({ min: 1, max: 8 }),
    frame: fc.oneof(fc.constant(-1), fc.integer({ min: 100, max: 140 })),
    permissions: fc.integer({ min: 1, max: 3 }),
    how: fc.constantFrom<number>(MappingSource.walk, MappingSource.operation, MappingSource.invalidation),
  });

  it('for what is there and what was there last', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 60 }), changes => {
        const history = new MappingHistory();
        const live = new Map<string, { frame: number; permissions: number; since: number }>();
        const gone = new Map<string, number>();
        changes.forEach(({ what, ...mapped }, time) => {
          history[what](mapped, time);
          for (let i = 0; i < mapped.pages; i++) {
            const key = `${mapped.domain} ${mapped.start + i}`;
            const before = live.get(key);
            if (what === 'removed') {
              live.delete(key);
              gone.set(key, time);
              continue;
            }
            const frame = mapped.frame < 0 ? -1 : mapped.frame + i;
            const same = before?.frame === frame && before.permissions === mapped.permissions;
            if (same && what === 'added' && mapped.how !== MappingSource.operation) continue;
            if (before !== undefined) gone.set(key, time);
            live.set(key, { frame, permissions: mapped.permissions, since: time });
          }
        });
        for (const domain of [1, 2]) {
          for (let page = 0; page < PAGES + 10; page++) {
            const key = `${domain} ${page}`;
            const found = history.at(domain, page);
            const expected = live.get(key);
            const frame = found === undefined || found.frame < 0 ? found?.frame : found.frame + page - found.start;
            expect(found && { frame, permissions: found.permissions, since: found.since }).toEqual(expected);
            expect(history.past.find(domain, page)?.removed).toBe(gone.get(key));
          }
        }
        expect(history.live).toBe(
          [...history.domains()].reduce((sum, domain) => sum + [...history.of(domain)].length, 0),
        );
      }),
      { numRuns: 300 },
    );
  });

  it('also where intervals fill many chunks', () => {
    const live = new LiveMappings();
    const pages = Array.from({ length: 3000 }, (_, i) => (i * 1237) % 3000);
    for (const start of pages)
      live.insert({ start: 2 * start, pages: 1, frame: start, permissions: 3, how: 1, since: 0 });
    expect([...live].map(one => one.start)).toEqual(Array.from({ length: 3000 }, (_, i) => 2 * i));
    let taken = 0;
    live.remove(1000, 3001, true, () => taken++);
    expect(taken).toBe(1501);
    expect(live.size).toBe(1499);
    expect(live.at(998)?.frame).toBe(499);
    expect(live.at(1000)).toBeUndefined();
    expect(live.from(1000)?.start).toBe(4002);
  });
});

describe('what is gone is found', () => {
  const gone = fc.record({
    domain: fc.integer({ min: 1, max: 3 }),
    start: fc.nat(30),
    pages: fc.integer({ min: 1, max: 12 }),
  });

  it('as a look through all that is remembered says', () => {
    fc.assert(
      fc.property(fc.array(gone, { maxLength: 120 }), fc.integer({ min: 1, max: 9 }), (list, indexedPerSearch) => {
        const past = new PastMappings(8, indexedPerSearch);
        list.forEach(({ domain, start, pages }, time) => {
          past.add(domain, { start, pages, frame: 1, permissions: 3, how: 1, since: time }, time, 2);
          // Some are in the index, others not yet.
          if (time % 5 === 0) past.find(1, 0);
        });
        for (let page = 0; page < 45; page++) {
          for (let domain = 1; domain <= 3; domain++) {
            const latest = (mine: boolean) =>
              list.findLastIndex(
                (one, time) =>
                  (one.domain === domain) === mine &&
                  time >= list.length - 8 &&
                  page >= one.start &&
                  page < one.start + one.pages,
              );
            expect(past.find(domain, page)?.removed ?? -1).toBe(latest(true));
            expect(past.findElsewhere(domain, page)?.removed ?? -1).toBe(latest(false));
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  it('with a bounded number of pieces, however often ranges cut one another', () => {
    const latest = new LatestByPage(16);
    for (let number = 0; number < 5000; number++) {
      latest.add(number, number % 3, (number * 7919) % 1000, 1 + ((number * 31) % 400));
      expect(latest.pieces).toBeLessThanOrEqual(4 * 16 + 2);
    }
  });
});

describe('invalidations cover', () => {
  it('what a plain look through all of them says', () => {
    const one = fc.record({
      domain: fc.integer({ min: -1, max: 2 }),
      start: fc.nat(20),
      pages: fc.integer({ min: 1, max: 8 }),
      target: fc.nat(1),
      scope: fc.nat(3),
    });
    fc.assert(
      fc.property(fc.array(one, { maxLength: 40 }), fc.nat(24), fc.nat(40), (list, page, until) => {
        const log = new InvalidationLog(16);
        const rest = { source: 'iommu', origin: 0, leafOnly: false, requesterId: 0 };
        list.forEach((invalidation, time) => {
          log.add({ ...rest, ...invalidation, time });
        });
        let expected: number | undefined;
        list.forEach(({ domain, start, pages, target, scope }, time) => {
          if (time < list.length - 16 || time > until || target === 1) return;
          const mine = domain === 1 || domain === -1;
          const inside = page >= start && page < start + pages;
          if (scope === 0 || (mine && (scope !== 2 || inside))) expected = time;
        });
        expect(log.lastCovering(1, page, until)?.time).toBe(expected);
      }),
    );
  });

  it('by name what a plain look through all of them says', () => {
    const one = fc.record({
      domain: fc.integer({ min: -1, max: 2 }),
      start: fc.nat(20),
      pages: fc.integer({ min: 0, max: 8 }),
      target: fc.nat(1),
      scope: fc.integer({ min: 1, max: 2 }),
    });
    fc.assert(
      fc.property(fc.array(one, { maxLength: 60 }), list => {
        const log = new InvalidationLog(8);
        const rest = { source: 'iommu', origin: 0, leafOnly: false, requesterId: 0 };
        list.forEach((invalidation, time) => {
          log.add({ ...rest, ...invalidation, time });
        });
        for (let page = 0; page < 30; page++) {
          const named = list.findLastIndex(
            ({ domain, start, pages, target, scope }, time) =>
              (domain === 1 || domain === -1) &&
              target === 0 &&
              scope === 2 &&
              time >= list.length - 8 &&
              page >= start &&
              page < start + pages,
          );
          expect(log.lastNaming(1, page)?.time ?? -1).toBe(named);
        }
      }),
    );
  });
});

describe('anything at all', () => {
  it('is taken without harm', () => {
    const kinds = EVENT_KINDS.filter(kind => !('text' in kind)).map(kind => kind.code);
    const words = fc.array(fc.oneof(fc.integer(), fc.constantFrom(0, -1, 1, 0x100, 0x1ff, 5 << 16)), {
      minLength: LONG_PAYLOAD_WORDS,
      maxLength: LONG_PAYLOAD_WORDS,
    });
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom(...kinds, 99), words), { maxLength: 60 }), events => {
        const scenario = new Scenario({ policy: 'all' });
        events.forEach(([kind, payload], i) => {
          scenario.sanitizer.event(kind, 'iommu', i * GRACE, Int32Array.from(payload));
        });
        scenario.sanitizer.tick(events.length * GRACE);
        scenario.sanitizer.finish(events.length * GRACE);
        for (const { summary, explanation, evidence } of scenario.findings) {
          const text = [summary, explanation, ...evidence.map(one => one.text)].join(' ');
          expect(text).not.toMatch(/undefined|NaN|\[object/);
        }
        scenario.sanitizer.mappings();
        scenario.sanitizer.attachments();
      }),
      { numRuns: 300 },
    );
  });

  it('faults of every cause are some finding', () => {
    for (const cause of Object.values(FaultCause)) {
      expect(new Scenario().fault(0x5000, { cause, domain: -1 }).failed(0x5000, 4).names).toHaveLength(1);
    }
    expect(new Scenario().fault(0x5000, { cause: 63 }).failed(0x5000, 4).names).toEqual(['never-mapped']);
  });
});
