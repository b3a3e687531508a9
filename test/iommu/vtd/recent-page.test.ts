/** What is remembered of the last translation answers as the caches do, and no longer. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Bench, DOMAIN, READ, RID, WRITE } from './support.ts';

const PAGE = 4096n;
const PAGE_SIZE = 0x80n;
const IOVA = 0x10_0000n;
const LARGE = 0x4000_0000n;
const OTHER_DOMAIN = DOMAIN + 1;

/** Asks often enough that the answer is remembered, and expects it to be this frame. */
function settle(bench: Bench, iova: bigint, frame: number): void {
  for (let i = 0; i < 3; i++) {
    expect(bench.translate(iova)).toBe(true);
    expect(bench.out.frame).toBe(frame);
  }
}

function mapped(options = {}): Bench {
  const bench = new Bench(options);
  bench.setContext(RID, { domain: DOMAIN });
  bench.map(IOVA, 40);
  bench.map(IOVA + PAGE, 41);
  bench.setEntry(LARGE, 2, (512n << 12n) | PAGE_SIZE | 3n);
  return bench.enable().enableQueue();
}

const iotlbPage = (iova: bigint, order = 0): [bigint, bigint] => [
  (BigInt(DOMAIN) << 16n) | 0x32n,
  iova | BigInt(order),
];

describe('a page that comes again', () => {
  it('is counted as often as it comes', () => {
    const bench = mapped();
    settle(bench, IOVA, 40);
    const { statistics } = bench.unit;
    expect([statistics.translations, statistics.contextHits, statistics.contextMisses]).toEqual([3, 2, 1]);
    expect([statistics.engine.hits, statistics.engine.misses]).toEqual([2, 1]);
  });

  it('stays as it was while nothing is invalidated', () => {
    const bench = mapped();
    settle(bench, IOVA, 40);
    bench.map(IOVA, 60);
    settle(bench, IOVA, 40);
  });

  it('is looked up anew after an invalidation', () => {
    const bench = mapped();
    settle(bench, IOVA, 40);
    bench.map(IOVA, 60);
    bench.submit([...iotlbPage(IOVA)]);
    settle(bench, IOVA, 60);
  });

  it('in a large page has its own frame', () => {
    const bench = mapped();
    settle(bench, LARGE, 512);
    settle(bench, LARGE + 5n * PAGE, 517);
    settle(bench, LARGE + 511n * PAGE, 1023);
  });

  it('does not hide a small page within, which was known before', () => {
    const bench = new Bench();
    bench.setContext(RID, { domain: DOMAIN });
    bench.map(LARGE + PAGE, 77);
    bench.enable().enableQueue();
    settle(bench, LARGE + PAGE, 77);
    bench.setEntry(LARGE, 2, (512n << 12n) | PAGE_SIZE | 3n);
    // What leads to the small page's table is forgotten, the small page is not.
    bench.submit([...iotlbPage(LARGE + 8n * PAGE)]);
    settle(bench, LARGE + 2n * PAGE, 514);
    settle(bench, LARGE + PAGE, 77);
  });

  it('is not for an access that it does not allow', () => {
    const bench = mapped();
    bench.map(IOVA, 40, 1n);
    settle(bench, IOVA, 40);
    expect(bench.translate(IOVA, WRITE)).toBe(false);
    expect(bench.reason).toBe(5);
  });

  it('is nothing to another requester', () => {
    const bench = mapped();
    settle(bench, IOVA, 40);
    const other = bench.newTable();
    bench.setContext(RID + 1, { domain: OTHER_DOMAIN, table: other });
    const high = Number(IOVA >> 32n);
    expect(bench.unit.translate(RID + 1, high, Number(IOVA), READ, bench.out)).toBe(false);
    settle(bench, IOVA, 40);
  });

  it('is gone with its context entry', () => {
    const bench = mapped();
    settle(bench, IOVA, 40);
    bench.setContext(RID, { present: false });
    settle(bench, IOVA, 40);
    bench.submit([0x11n, 0n]);
    expect(bench.translate(IOVA)).toBe(false);
    expect(bench.reason).toBe(2);
  });

  it('is gone with a reset', () => {
    const bench = mapped();
    settle(bench, IOVA, 40);
    bench.unit.reset();
    expect(bench.translate(IOVA)).toBe(true);
    expect(bench.out.frame).toBe(Number(IOVA / PAGE));
  });

  it('is not for an address that differs above 2^32', () => {
    const bench = mapped();
    settle(bench, IOVA, 40);
    expect(bench.translate(IOVA + (1n << 32n))).toBe(false);
  });
});

describe('the interrupt range', () => {
  it('is never got into, neither as address nor as frame', () => {
    const bench = mapped();
    bench.setEntry(0xfee0_0000n, 2, (1024n << 12n) | PAGE_SIZE | 3n);
    bench.setEntry(0x20_0000n, 2, (0xfee00n << 12n) | PAGE_SIZE | 3n);
    for (let i = 0; i < 2; i++) {
      settle(bench, 0xfef0_0000n, 1024 + 256);
      expect(bench.translate(0xfee0_0000n)).toBe(false);
      settle(bench, 0x30_0000n, 0xfef00);
      expect(bench.translate(0x20_0000n)).toBe(false);
    }
  });
});

/** Of a unit that is made to forget before every request, by one of another requester, nothing is told apart. */
const SPARE = 0x18;
const PAGES = 5;
type Step =
  | { readonly kind: 'ask'; readonly page: number; readonly access: number }
  | { readonly kind: 'map'; readonly page: number; readonly frame: number; readonly permissions: number }
  | { readonly kind: 'large'; readonly frame: number }
  | { readonly kind: 'small' }
  | { readonly kind: 'invalidate'; readonly page: number; readonly order: number }
  | { readonly kind: 'contexts' }
  | { readonly kind: 'domain'; readonly domain: number };

const page = fc.nat(PAGES - 1);
const access = fc.constantFrom(READ, WRITE);
const steps: fc.Arbitrary<Step>[] = [
  fc.record({ kind: fc.constant('ask'), page, access }),
  fc.record({ kind: fc.constant('ask'), page, access }),
  fc.record({ kind: fc.constant('ask'), page, access }),
  fc.record({ kind: fc.constant('map'), page, frame: fc.integer({ min: 32, max: 90 }), permissions: fc.nat(3) }),
  fc.record({ kind: fc.constant('large'), frame: fc.integer({ min: 1, max: 9 }) }),
  fc.record({ kind: fc.constant('small') }),
  fc.record({ kind: fc.constant('invalidate'), page, order: fc.nat(3) }),
  fc.record({ kind: fc.constant('contexts') }),
  fc.record({ kind: fc.constant('domain'), domain: fc.constantFrom(DOMAIN, DOMAIN + 2) }),
];

function unit() {
  const bench = mapped();
  bench.setContext(SPARE, { domain: OTHER_DOMAIN });
  bench.map(IOVA + 2n * PAGE, 50);
  const table = bench.newTable();
  const useTable = () => bench.setEntry(LARGE, 2, (BigInt(table) << 12n) | 3n);
  return { bench, table, useTable };
}

function take({ bench, table, useTable }: ReturnType<typeof unit>, step: Step) {
  const flags = PAGE_SIZE | 3n;
  switch (step.kind) {
    case 'ask':
      if (!bench.translate(LARGE + BigInt(step.page) * PAGE, step.access)) return false;
      return [bench.out.frame, bench.out.shift, bench.out.permissions];
    case 'map':
      bench.memory.write64(table, step.page * 8, (BigInt(step.frame) << 12n) | BigInt(step.permissions));
      return undefined;
    case 'large':
      bench.setEntry(LARGE, 2, (BigInt(step.frame * 512) << 12n) | flags);
      return undefined;
    case 'small':
      useTable();
      return undefined;
    case 'invalidate':
      bench.submit([...iotlbPage(LARGE + BigInt((step.page >> step.order) << step.order) * PAGE, step.order)]);
      return undefined;
    case 'contexts':
      bench.submit([0x11n, 0n]);
      return undefined;
    case 'domain':
      bench.setContext(RID, { domain: step.domain });
      return undefined;
  }
}

it('answers as a unit that remembers nothing', () => {
  let repeated = 0;
  fc.assert(
    fc.property(fc.array(fc.oneof(...steps), { maxLength: 60 }), all => {
      const remembering = unit();
      const forgetting = unit();
      for (const step of all) {
        const expected = take(forgetting, step);
        expect(take(remembering, step)).toEqual(expected);
        if (expected) repeated++;
        expect(forgetting.bench.translate(IOVA + 2n * PAGE, READ, SPARE)).toBe(true);
      }
      const { hits, misses } = forgetting.bench.unit.statistics.engine;
      const { engine } = remembering.bench.unit.statistics;
      expect(hits + misses - engine.hits - engine.misses).toBe(all.length);
    }),
    { numRuns: 150 },
  );
  expect(repeated).toBeGreaterThan(100);
});
