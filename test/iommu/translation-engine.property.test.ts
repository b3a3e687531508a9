/**
 * Random drivers: they write table entries, let devices translate, and invalidate, or forget to. Every answer must be one that a cache
 * may give: each entry on the way as the tables have it now, or as they had it at some time since the last invalidation covering the
 * address. Where nothing was written since that, only the tables as they are now answer so.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TranslationEngine } from '../../src/iommu/translation-engine.ts';
import { Translation } from '../../src/iommu/translator.ts';
import { arm64Stage1 } from '../../src/page-tables/arm64-stage1.ts';
import type { PageTableFormat } from '../../src/page-tables/format.ts';
import { vtdSecondStage } from '../../src/page-tables/vtd-second-stage.ts';
import { WalkStatus } from '../../src/page-tables/walker.ts';
import { x64FirstLevel } from '../../src/page-tables/x64-first-level.ts';
import { possibleResults, type ReferenceFormat, referenceWalk } from './reference.ts';
import { arm64Reference, vtdReference, x64Reference } from './reference-formats.ts';
import { FakeMemory, GiB1, MiB2, PS, R, RW, W, words } from './support.ts';

/** Tables, the last of them where there is no memory. */
const TABLES = 7;
const OPTIONS = { hostAddressWidth: 39, largePages: { '2M': true, '1G': true } };
const ARM64_OPTIONS = { outputAddressBits: 40, privilege: 'unprivileged' } as const;
const STATUS = Object.keys(WalkStatus);

/** A format, the same written plainly, and the entries that a driver of it writes. */
interface Kind {
  readonly name: string;
  readonly format: PageTableFormat;
  readonly reference: ReferenceFormat;
  readonly depths: readonly number[];
  /** Addresses that share tables and pages with each other. */
  readonly near: readonly bigint[];
  readonly entry: fc.Arbitrary<bigint>;
}

const vtdFlags = fc.constantFrom(RW, RW, RW, RW, R, W);
const vtd: Kind = {
  name: 'VT-d second-stage',
  format: vtdSecondStage(OPTIONS),
  reference: vtdReference(OPTIONS),
  depths: [3, 4, 5],
  near: [0n, 0x1000n, MiB2, GiB1],
  entry: fc.oneof(
    { weight: 9, arbitrary: fc.tuple(fc.nat(TABLES - 1), vtdFlags).map(([f, bits]) => (BigInt(f) << 12n) | bits) },
    { weight: 3, arbitrary: fc.tuple(fc.nat(7), vtdFlags).map(([n, bits]) => (BigInt(n) * MiB2) | bits | PS) },
    { weight: 2, arbitrary: fc.tuple(fc.nat(7), vtdFlags).map(([n, bits]) => (BigInt(n) * GiB1) | bits | PS) },
    { weight: 3, arbitrary: fc.constant(0n) },
    { weight: 1, arbitrary: fc.nat(63).map(bit => RW | (1n << BigInt(bit))) },
  ),
};

// Present, writable, user; some accessed, some dirty.
const x64Flags = fc.constantFrom(7n, 7n, 7n, 7n, 7n, 7n, 0x27n, 0x27n, 0x67n, 0x67n, 5n, 3n);
const x64: Kind = {
  name: 'x86-64 first-level',
  format: x64FirstLevel(OPTIONS),
  reference: x64Reference(OPTIONS),
  depths: [4, 5],
  near: vtd.near,
  entry: fc.oneof(
    { weight: 9, arbitrary: fc.tuple(fc.nat(TABLES - 1), x64Flags).map(([f, bits]) => (BigInt(f) << 12n) | bits) },
    { weight: 3, arbitrary: fc.tuple(fc.nat(7), x64Flags).map(([n, bits]) => (BigInt(n) * MiB2) | bits | PS) },
    { weight: 2, arbitrary: fc.tuple(fc.nat(7), x64Flags).map(([n, bits]) => (BigInt(n) * GiB1) | bits | PS) },
    { weight: 3, arbitrary: fc.constant(0n) },
    { weight: 1, arbitrary: fc.nat(63).map(bit => 7n | (1n << BigInt(bit))) },
  ),
};

function arm64(granule: 4 | 16 | 64): Kind {
  const shift = BigInt(10 + Math.log2(granule));
  const bits = shift - 3n;
  // Access flag and AP[1] mostly; some read-only; some tables that deny.
  const flags = fc.constantFrom(
    0x443n,
    0x443n,
    0x443n,
    0x4c3n,
    0x403n,
    0x043n,
    0x443n | (1n << 62n),
    0x443n | (1n << 61n),
  );
  const block = flags.map(value => value & ~2n);
  const entry = fc.oneof(
    { weight: 9, arbitrary: fc.tuple(fc.nat(TABLES - 1), flags).map(([t, f]) => (BigInt(t) << shift) | f) },
    { weight: 3, arbitrary: fc.tuple(fc.nat(7), block).map(([n, f]) => (BigInt(n) << (shift + bits)) | f) },
    { weight: 1, arbitrary: fc.tuple(fc.nat(7), block).map(([n, f]) => (BigInt(n) << (shift + 2n * bits)) | f) },
    { weight: 3, arbitrary: fc.constant(0n) },
    { weight: 1, arbitrary: fc.nat(63).map(bit => 0x443n | (1n << BigInt(bit))) },
  );
  const format = arm64Stage1({ granule, ...ARM64_OPTIONS });
  return {
    name: `Arm stage 1, ${granule} KiB`,
    format,
    reference: arm64Reference({ granule, ...ARM64_OPTIONS }),
    depths: format.depths.filter(depth => depth > 1),
    near: [0n, 0x1000n, 1n << shift, 1n << (shift + bits), 1n << (shift + 2n * bits)],
    entry,
  };
}

const index: fc.Arbitrary<bigint> = fc.constantFrom(0n, 1n);
const domain = fc.constantFrom(1, 1, 1, 2);

function generators({ near, format, entry }: Kind) {
  const anywhere = fc
    .tuple(index, index, index, index, index)
    .map(all => all.reduce((sum, one, i) => sum | (one << BigInt(format.granuleShift + i * format.bitsPerLevel)), 0n));
  // A few neighbours most of the time, so that the same page is asked for again.
  const iova = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...near) }, { weight: 1, arbitrary: anywhere });
  const write = fc.record({ do: fc.constant('write' as const), table: fc.nat(TABLES - 1), index, entry });
  const access = fc.integer({ min: 1, max: 3 });
  const translate = fc.record({ do: fc.constant('translate' as const), domain, iova, access });
  const order = fc.oneof(fc.nat(10), fc.nat(52));
  const pages = fc.record({ do: fc.constant('pages' as const), domain, iova, order, leafOnly: fc.boolean() });
  const operation = fc.oneof(
    { weight: 12, arbitrary: translate },
    { weight: 6, arbitrary: write },
    { weight: 3, arbitrary: pages },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('domain' as const), domain }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('all' as const) }) },
  );
  const initial = fc.array(write, { minLength: 10, maxLength: 30 });
  return { iova, write, operation, initial };
}

type Generated<T> = T extends fc.Arbitrary<infer V> ? V : never;
type Write = Generated<ReturnType<typeof generators>['write']>;
type Operation = Generated<ReturnType<typeof generators>['operation']>;

/** Table memory that remembers what every entry held when. */
class History {
  readonly memory: FakeMemory;
  private now = 0;
  private readonly log = new Map<bigint, { since: number; value: bigint }[]>();
  private readonly invalidations: {
    at: number;
    leafOnly: boolean;
    covers: (domain: number, iova: bigint) => boolean;
  }[] = [];

  constructor(tableFrames: number) {
    const holes = Array.from({ length: tableFrames }, (_, i) => (TABLES - 1) * tableFrames + i);
    this.memory = new FakeMemory(TABLES * tableFrames * 4096, { holes });
  }

  write(frame: number, offset: number, value: bigint): void {
    this.memory.write64(frame, offset, value);
    this.wrote(BigInt(frame * 4096 + offset), value);
  }

  /** What the engine itself has marked in the entries. */
  marked(): void {
    for (const [frame, offset, stored] of this.memory.exchanges.splice(0)) {
      const address = BigInt(frame * 4096 + offset);
      if (stored) this.wrote(address, this.memory.word(address)!);
    }
  }

  private wrote(address: bigint, value: bigint): void {
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
  { format, reference }: Kind,
  levels: number,
  options: ConstructorParameters<typeof TranslationEngine>[2],
  initial: readonly Write[],
  operations: readonly Operation[],
): { stale: number; hits: number } {
  const tableFrames = 1 << (format.granuleShift - 12);
  const history = new History(tableFrames);
  const { memory } = history;
  const engine = new TranslationEngine(format, memory, options);
  const out = new Translation();
  const rootOf = (d: number) => (d - 1) * tableFrames;
  let stale = 0;
  const write = (w: Write) => history.write(w.table * tableFrames, Number(w.index) * 8, w.entry);
  for (const w of initial) write(w);
  for (const op of operations) {
    switch (op.do) {
      case 'write':
        write(op);
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
        const at = op.iova & ((1n << BigInt(reference.inputWidth(levels))) - 1n);
        const status = engine.translate(op.domain, rootOf(op.domain), levels, ...words(at), op.access, out);
        history.marked();
        const got =
          status === WalkStatus.ok
            ? { status: 'ok', frame: out.frame, shift: out.shift, permissions: out.permissions }
            : { status: STATUS[status] };
        const current = referenceWalk(a => memory.word(a), reference, rootOf(op.domain), levels, at, op.access);
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
          possibleResults(values, reference, rootOf(op.domain), levels, at, access),
        );
        expect(possible).toContainEqual(got);
        break;
      }
    }
  }
  return { stale, hits: engine.counters.hits };
}

const KINDS = [vtd, x64, arm64(4), arm64(16), arm64(64)];

describe.each(KINDS)('random sequences with tables of $name', kind => {
  const { iova, operation, initial } = generators(kind);
  const depth = fc.constantFrom(...kind.depths);

  it.each([
    ['as it comes', {}],
    ['with caches of a few entries', { iotlbSets: 1, iotlbWays: 2, pagingStructureEntries: 4 }],
    ['in caching mode', { cacheNotPresent: true }],
  ])('gives only answers that a cache may give, %s', (_name, options) => {
    let stale = 0;
    let hits = 0;
    fc.assert(
      fc.property(
        depth,
        initial,
        fc.array(operation, { minLength: 30, maxLength: 80 }),
        (levels, writes, operations) => {
          const result = run(kind, levels, options, writes, operations);
          stale += result.stale;
          hits += result.hits;
        },
      ),
      { numRuns: 300 },
    );
    // The property would say nothing if no answer ever came from a cache, or none was ever out of date.
    expect(hits).toBeGreaterThan(50);
    expect(stale).toBeGreaterThan(10);
  });

  it('gives what the tables say now, right after a covering invalidation', () => {
    fc.assert(
      fc.property(
        depth,
        initial,
        fc.array(operation, { maxLength: 40 }),
        domain,
        iova,
        fc.nat(52),
        fc.constantFrom('all', 'domain', 'pages'),
        fc.integer({ min: 1, max: 3 }),
        fc.boolean(),
        (levels, writes, operations, asked, anyAddress, order, by, access, cacheNotPresent) => {
          const address = anyAddress & ((1n << BigInt(kind.reference.inputWidth(levels))) - 1n);
          const ask = { do: 'translate' as const, domain: asked, iova: address, access };
          const invalidate =
            by === 'all'
              ? { do: 'all' as const }
              : by === 'domain'
                ? { do: 'domain' as const, domain: asked }
                : { do: 'pages' as const, domain: asked, iova: address, order, leafOnly: false };
          const before = run(kind, levels, { cacheNotPresent }, writes, operations).stale;
          const after = run(kind, levels, { cacheNotPresent }, writes, [...operations, invalidate, ask]).stale;
          expect(after).toBe(before);
        },
      ),
      { numRuns: 150 },
    );
  });
});
