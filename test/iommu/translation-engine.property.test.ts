/**
 * Random drivers: they write table entries, let devices translate, and invalidate, or forget to. Every answer must be one that a cache
 * may give: each entry on the way as the tables have it now, or as they had it at some time since the last invalidation covering the
 * address. Where nothing was written since that, only the tables as they are now answer so.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TranslationEngine } from '../../src/iommu/translation-engine.ts';
import { Translation } from '../../src/iommu/translator.ts';
import { vtdSecondStage } from '../../src/page-tables/vtd-second-stage.ts';
import { WalkStatus } from '../../src/page-tables/walker.ts';
import { possibleResults, referenceWalk } from './reference.ts';
import { FakeMemory, GiB1, MiB2, PS, R, RW, W, words } from './support.ts';

const FRAMES = 7;
const HOLE = FRAMES - 1;
const OPTIONS = { hostAddressWidth: 39, largePages: { '2M': true, '1G': true } };
const STATUS = Object.keys(WalkStatus);

const index = fc.constantFrom(0n, 1n);
const anywhere = fc
  .tuple(index, index, index, index, index)
  .map(([a, b, c, d, e]) => (a << 48n) | (b << 39n) | (c << 30n) | (d << 21n) | (e << 12n));
// A few neighbours most of the time, so that the same page is asked for again.
const iova = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(0n, 0x1000n, MiB2, GiB1) },
  { weight: 1, arbitrary: anywhere },
);
const domain = fc.constantFrom(1, 1, 1, 2);
const flags = fc.constantFrom(RW, RW, RW, RW, R, W);
const entry = fc.oneof(
  { weight: 9, arbitrary: fc.tuple(fc.nat(FRAMES - 1), flags).map(([f, bits]) => (BigInt(f) << 12n) | bits) },
  { weight: 3, arbitrary: fc.tuple(fc.nat(7), flags).map(([n, bits]) => (BigInt(n) * MiB2) | bits | PS) },
  { weight: 2, arbitrary: fc.tuple(fc.nat(7), flags).map(([n, bits]) => (BigInt(n) * GiB1) | bits | PS) },
  { weight: 3, arbitrary: fc.constant(0n) },
  { weight: 1, arbitrary: fc.nat(63).map(bit => RW | (1n << BigInt(bit))) },
);

const write = fc.record({ do: fc.constant('write' as const), frame: fc.nat(FRAMES - 1), index, entry });
const operation = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('translate' as const),
      domain,
      iova,
      access: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 6, arbitrary: write },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('pages' as const),
      domain,
      iova,
      order: fc.oneof(fc.nat(10), fc.nat(52)),
      leafOnly: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('domain' as const), domain }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('all' as const) }) },
);

/** Table memory that remembers what every entry held when. */
class History {
  readonly memory = new FakeMemory(FRAMES * 4096, { holes: [HOLE] });
  private now = 0;
  private readonly log = new Map<bigint, { since: number; value: bigint }[]>();
  private readonly invalidations: {
    at: number;
    leafOnly: boolean;
    covers: (domain: number, iova: bigint) => boolean;
  }[] = [];

  write(frame: number, offset: number, value: bigint): void {
    this.memory.write64(frame, offset, value);
    const address = BigInt(frame * 4096 + offset);
    const log = this.log.get(address) ?? [{ since: 0, value: 0n }];
    log.push({ since: ++this.now, value });
    this.log.set(address, log);
  }

  invalidated(leafOnly: boolean, covers: (domain: number, iova: bigint) => boolean): void {
    this.invalidations.push({ at: ++this.now, leafOnly, covers });
  }

  /** What the entry held at that time and ever since. */
  valuesSince(address: bigint, time: number): (bigint | undefined)[] {
    const current = this.memory.word(address);
    if (current === undefined) return [undefined];
    const log = this.log.get(address) ?? [{ since: 0, value: 0n }];
    return [...new Set(log.filter((_, i) => (log[i + 1]?.since ?? Number.POSITIVE_INFINITY) > time).map(e => e.value))];
  }

  lastCovering(domain: number, iova: bigint, leafOnlyCounts: boolean): number {
    const last = this.invalidations.findLast(i => i.covers(domain, iova) && (leafOnlyCounts || !i.leafOnly));
    return last?.at ?? 0;
  }
}

function run(
  levels: number,
  options: ConstructorParameters<typeof TranslationEngine>[2],
  initial: readonly { frame: number; index: bigint; entry: bigint }[],
  operations: readonly (typeof operation extends fc.Arbitrary<infer T> ? T : never)[],
): { stale: number; hits: number } {
  const history = new History();
  const { memory } = history;
  const engine = new TranslationEngine(vtdSecondStage(OPTIONS), memory, options);
  const out = new Translation();
  const rootOf = (d: number) => d - 1;
  let stale = 0;
  for (const w of initial) history.write(w.frame, Number(w.index) * 8, w.entry);
  for (const op of operations) {
    switch (op.do) {
      case 'write':
        history.write(op.frame, Number(op.index) * 8, op.entry);
        break;
      case 'all':
        engine.invalidateAll();
        history.invalidated(false, () => true);
        break;
      case 'domain':
        engine.invalidateDomain(op.domain);
        history.invalidated(false, d => d === op.domain);
        break;
      case 'pages': {
        engine.invalidatePages(op.domain, ...words(op.iova), op.order, op.leafOnly);
        const shift = BigInt(op.order + 12);
        history.invalidated(op.leafOnly, (d, at) => d === op.domain && at >> shift === op.iova >> shift);
        break;
      }
      case 'translate': {
        const at = op.iova & ((1n << BigInt(12 + 9 * levels)) - 1n);
        const status = engine.translate(op.domain, rootOf(op.domain), levels, ...words(at), op.access, out);
        const got =
          status === WalkStatus.ok
            ? { status: 'ok', frame: out.frame, shift: out.shift, permissions: out.permissions }
            : { status: STATUS[status] };
        const current = referenceWalk(a => memory.word(a), OPTIONS, rootOf(op.domain), levels, at, op.access);
        if (JSON.stringify(got) === JSON.stringify(current)) break;
        stale++;
        const pointersSince = history.lastCovering(op.domain, at, false);
        const endsSince = history.lastCovering(op.domain, at, true);
        const values = {
          pointers: (a: bigint) => history.valuesSince(a, pointersSince),
          ends: (a: bigint) => history.valuesSince(a, endsSince),
        };
        // In caching mode, that a page was found not present by one kind of access answers every other.
        const accesses = got.status === 'notPresent' && options?.cacheNotPresent ? [1, 2, 3] : [op.access];
        const possible = accesses.flatMap(access =>
          possibleResults(values, OPTIONS, rootOf(op.domain), levels, at, access),
        );
        expect(possible).toContainEqual(got);
        break;
      }
    }
  }
  return { stale, hits: engine.counters.hits };
}

const initial = fc.array(write, { minLength: 10, maxLength: 30 });

describe('random sequences', () => {
  it.each([
    ['as it comes', {}],
    ['with caches of a few entries', { iotlbSets: 1, iotlbWays: 2, pagingStructureEntries: 4 }],
    ['in caching mode', { cacheNotPresent: true }],
  ])('gives only answers that a cache may give, %s', (_name, options) => {
    let stale = 0;
    let hits = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(3, 4, 5),
        initial,
        fc.array(operation, { minLength: 30, maxLength: 80 }),
        (levels, writes, operations) => {
          const result = run(levels, options, writes, operations);
          stale += result.stale;
          hits += result.hits;
        },
      ),
      { numRuns: 150 },
    );
    // The property would say nothing if no answer ever came from a cache, or none was ever out of date.
    expect(hits).toBeGreaterThan(100);
    expect(stale).toBeGreaterThan(10);
  });

  it('gives what the tables say now, right after a covering invalidation', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(3, 4, 5),
        initial,
        fc.array(operation, { maxLength: 40 }),
        domain,
        iova,
        fc.nat(52),
        fc.constantFrom('all', 'domain', 'pages'),
        fc.integer({ min: 1, max: 3 }),
        fc.boolean(),
        (levels, writes, operations, asked, anyAddress, order, kind, access, cacheNotPresent) => {
          const address = anyAddress & ((1n << BigInt(12 + 9 * levels)) - 1n);
          const ask = { do: 'translate' as const, domain: asked, iova: address, access };
          const invalidate =
            kind === 'all'
              ? { do: 'all' as const }
              : kind === 'domain'
                ? { do: 'domain' as const, domain: asked }
                : { do: 'pages' as const, domain: asked, iova: address, order, leafOnly: false };
          const before = run(levels, { cacheNotPresent }, writes, operations).stale;
          const after = run(levels, { cacheNotPresent }, writes, [...operations, invalidate, ask]).stale;
          expect(after).toBe(before);
        },
      ),
      { numRuns: 150 },
    );
  });
});
