import { describe, expect, it } from 'vitest';
import { TranslationEngine, type TranslationEngineOptions } from '../../src/iommu/translation-engine.ts';
import { Access, Translation } from '../../src/iommu/translator.ts';
import { vtdSecondStage } from '../../src/page-tables/vtd-second-stage.ts';
import { WalkStatus } from '../../src/page-tables/walker.ts';
import { FakeMemory, GiB1, MiB2, PS, R, RW, TableBuilder, W, words } from './support.ts';

const format = vtdSecondStage({ hostAddressWidth: 46, largePages: { '2M': true, '1G': true } });
const DOMAIN = 7;
const KiB4 = 0x1000n;

function setup(options: TranslationEngineOptions = {}, levels = 4) {
  const memory = new FakeMemory(128 * 4096);
  const tables = new TableBuilder(memory, levels);
  const engine = new TranslationEngine(format, memory, options);
  const out = new Translation();
  const translate = (iova: bigint, access: number = Access.read, domain = DOMAIN): WalkStatus =>
    engine.translate(domain, tables.root, levels, ...words(iova), access, out);
  const frameOf = (iova: bigint, access?: number, domain?: number): number | string => {
    const status = translate(iova, access, domain);
    return status === WalkStatus.ok ? out.frame : Object.keys(WalkStatus)[status]!;
  };
  const invalidate = (iova: bigint, order = 0, leafOnly = false, domain = DOMAIN) =>
    engine.invalidatePages(domain, ...words(iova), order, leafOnly);
  return { memory, tables, engine, out, translate, frameOf, invalidate };
}

/** Each page size: the level whose entry maps it, and its log2. */
const SIZES = [
  { name: '4 KiB', level: 1, shift: 12, flags: RW },
  { name: '2 MiB', level: 2, shift: 21, flags: RW | PS },
  { name: '1 GiB', level: 3, shift: 30, flags: RW | PS },
];

/** An address well inside a page of every size. */
const IOVA = 5n * GiB1 + 3n * MiB2 + 7n * KiB4;

describe.each(SIZES)('a page of $name', ({ level, shift, flags }) => {
  const before = 2n * GiB1;
  const after = 9n * GiB1;
  const expected = (base: bigint, iova = IOVA) => Number((base + (iova & ((1n << BigInt(shift)) - 1n))) >> 12n);

  function cached(options: TranslationEngineOptions = {}) {
    const room = setup(options);
    room.tables.set(IOVA, level, before | flags);
    expect(room.frameOf(IOVA)).toBe(expected(before));
    return room;
  }

  it('is walked once, then found', () => {
    const { engine, out, frameOf } = cached();
    expect(frameOf(IOVA)).toBe(expected(before));
    expect([out.shift, out.permissions]).toEqual([shift, 3]);
    expect([engine.counters.hits, engine.counters.misses]).toEqual([1, 1]);
    expect(engine.iotlbSize).toBe(1);
  });

  it('gives the frame of the very page asked for', () => {
    const { frameOf } = cached();
    const last = (IOVA | ((1n << BigInt(shift)) - 1n)) & ~0xfffn;
    expect(frameOf(last)).toBe(expected(before, last));
  });

  it('stays in use after the tables change, until it is invalidated', () => {
    const { tables, frameOf, invalidate } = cached();
    tables.set(IOVA, level, after | flags);
    expect(frameOf(IOVA)).toBe(expected(before));
    invalidate(IOVA);
    expect(frameOf(IOVA)).toBe(expected(after));
  });

  it('stays in use after it is unmapped, until it is invalidated', () => {
    const { tables, frameOf, invalidate } = cached();
    tables.set(IOVA, level, 0n);
    expect(frameOf(IOVA)).toBe(expected(before));
    invalidate(IOVA);
    expect(frameOf(IOVA)).toBe('notPresent');
  });

  it('keeps a permission that was taken away, until it is invalidated', () => {
    const { tables, frameOf, invalidate } = cached();
    tables.set(IOVA, level, before | (flags & ~W));
    expect(frameOf(IOVA, Access.write)).toBe(expected(before));
    invalidate(IOVA);
    expect(frameOf(IOVA, Access.write)).toBe('denied');
  });

  it('is gone after a global invalidation', () => {
    const { tables, engine, frameOf } = cached();
    tables.set(IOVA, level, after | flags);
    engine.invalidateAll();
    expect(frameOf(IOVA)).toBe(expected(after));
    expect([engine.counters.invalidateAll, engine.counters.iotlbDropped]).toEqual([1, 1]);
  });

  it('is gone after an invalidation of its domain, not of another', () => {
    const { tables, engine, frameOf } = cached();
    tables.set(IOVA, level, after | flags);
    engine.invalidateDomain(DOMAIN + 1);
    expect(frameOf(IOVA)).toBe(expected(before));
    engine.invalidateDomain(DOMAIN);
    expect(frameOf(IOVA)).toBe(expected(after));
    expect([engine.counters.invalidateDomain, engine.counters.iotlbDropped]).toEqual([2, 1]);
  });

  it('survives an invalidation of the same pages in another domain', () => {
    const { tables, frameOf, invalidate } = cached();
    tables.set(IOVA, level, after | flags);
    invalidate(IOVA, 0, false, DOMAIN + 1);
    expect(frameOf(IOVA)).toBe(expected(before));
  });

  it.each([0, 1, 3, 9, 12, 18, 30])('is gone after an invalidation of 2^%d pages that touches it', order => {
    const size = KiB4 << BigInt(order);
    const { tables, frameOf, invalidate } = cached();
    tables.set(IOVA, level, after | flags);
    // Given by the range's last page, so that alignment matters.
    invalidate((IOVA / size + 1n) * size - KiB4, order);
    expect(frameOf(IOVA)).toBe(expected(after));
  });

  it.each([0, 3, 9, 12, 18])('survives an invalidation of the 2^%d pages beside it', order => {
    const unit = order + 12 > shift ? KiB4 << BigInt(order) : 1n << BigInt(shift);
    const { tables, frameOf, invalidate } = cached();
    tables.set(IOVA, level, after | flags);
    invalidate((IOVA / unit + 1n) * unit, order);
    invalidate((IOVA / unit) * unit - KiB4, order);
    expect(frameOf(IOVA)).toBe(expected(before));
  });

  it('is gone after an invalidation of leaves only, which keeps the paging-structure cache', () => {
    const { tables, engine, frameOf, invalidate } = cached();
    tables.set(IOVA, level, after | flags);
    const known = engine.pagingStructureSize;
    expect(known).toBe(4 - level);
    invalidate(IOVA, 0, true);
    expect([engine.iotlbSize, engine.pagingStructureSize]).toEqual([0, known]);
    expect(frameOf(IOVA)).toBe(expected(after));
    expect(engine.counters.levelsSkipped).toBe(4 - level);
    expect([engine.counters.invalidatePagesLeafOnly, engine.counters.invalidatePages]).toEqual([1, 0]);
  });
});

describe('pages of different sizes', () => {
  it('live side by side', () => {
    const { tables, frameOf, engine } = setup();
    tables.set(0n, 1, 0x5000n | RW);
    tables.set(MiB2, 2, (4n * MiB2) | PS | RW);
    tables.set(GiB1, 3, (4n * GiB1) | PS | RW);
    const all = () => [frameOf(0n), frameOf(MiB2 + KiB4), frameOf(GiB1 + KiB4)];
    expect(all()).toEqual(all());
    expect([engine.counters.hits, engine.counters.misses]).toEqual([3, 3]);
  });

  it('keeps small pages in use after they are joined to a large one without invalidation', () => {
    const { tables, frameOf, invalidate } = setup();
    tables.set(0n, 1, 0x5000n | RW);
    frameOf(0n);
    tables.set(0n, 2, (4n * MiB2) | PS | RW);
    expect(frameOf(0n)).toBe(5);
    invalidate(0n);
    expect(frameOf(0n)).toBe(0x800);
  });

  it('drops all sizes around one page at once', () => {
    const { tables, engine, frameOf, invalidate } = setup();
    tables.set(0n, 1, 0x5000n | RW);
    frameOf(0n);
    tables.set(0n, 2, (4n * MiB2) | PS | RW);
    // The way to the small page's table is known still, so the large page is found from another page only after this.
    invalidate(KiB4, 0, false);
    frameOf(KiB4);
    expect(engine.iotlbSize).toBe(2);
    invalidate(0n, 0, true);
    expect(engine.iotlbSize).toBe(0);
  });
});

describe('domains', () => {
  it('do not see each other', () => {
    const { memory, tables, engine, out, frameOf } = setup();
    const other = new TableBuilder(memory, 4, 40);
    tables.set(IOVA, 1, 0x5000n | RW);
    other.set(IOVA, 1, 0x6000n | RW);
    expect(frameOf(IOVA)).toBe(5);
    engine.translate(DOMAIN + 1, other.root, 4, ...words(IOVA), Access.read, out);
    expect(out.frame).toBe(6);
    expect(frameOf(IOVA)).toBe(5);
    expect(engine.counters.hits).toBe(1);
  });

  it('keeps the old tables in use when only the root changes', () => {
    const { memory, tables, engine, out, frameOf } = setup();
    const other = new TableBuilder(memory, 4, 40);
    tables.set(IOVA, 1, 0x5000n | RW);
    other.set(IOVA, 1, 0x6000n | RW);
    frameOf(IOVA);
    const viaOther = () => {
      engine.translate(DOMAIN, other.root, 4, ...words(IOVA), Access.read, out);
      return out.frame;
    };
    expect(viaOther()).toBe(5);
    engine.invalidatePages(DOMAIN, ...words(IOVA), 0, true);
    expect(viaOther()).toBe(5);
    engine.invalidateDomain(DOMAIN);
    expect(viaOther()).toBe(6);
  });
});

describe('permissions', () => {
  it('walks afresh when the cached entry lacks the permission', () => {
    const { tables, engine, frameOf } = setup();
    tables.set(IOVA, 1, 0x5000n | R);
    frameOf(IOVA, Access.read);
    tables.set(IOVA, 1, 0x6000n | RW);
    expect(frameOf(IOVA, Access.read)).toBe(5);
    expect(frameOf(IOVA, Access.write)).toBe(6);
    expect(frameOf(IOVA, Access.read)).toBe(6);
    expect(engine.counters.permissionMisses).toBe(1);
  });

  it('walks afresh when the cached way lacks the permission', () => {
    const { tables, frameOf } = setup();
    tables.set(IOVA, 1, 0x5000n | RW, R);
    frameOf(IOVA, Access.read);
    for (const level of [4, 3, 2]) {
      const at = BigInt(tables.table(IOVA, level) * 4096 + TableBuilder.offset(IOVA, level));
      tables.set(IOVA, level, tables.memory.word(at)! | W);
    }
    expect(frameOf(IOVA, Access.write)).toBe(5);
  });

  it('drops the entry even where the tables deny the access as well', () => {
    const { tables, engine, frameOf } = setup();
    tables.set(IOVA, 1, 0x5000n | R);
    frameOf(IOVA, Access.read);
    expect(frameOf(IOVA, Access.write)).toBe('denied');
    expect(engine.iotlbSize).toBe(0);
  });
});

describe('what is not cached', () => {
  it('asks the tables again after a page was not present', () => {
    const { tables, engine, frameOf } = setup();
    tables.set(IOVA, 1, 0n);
    expect(frameOf(IOVA)).toBe('notPresent');
    tables.set(IOVA, 1, 0x5000n | RW);
    expect(frameOf(IOVA)).toBe(5);
    expect(engine.counters.misses).toBe(2);
  });

  it.each([
    ['denied', W],
    ['reserved', RW | (1n << 62n)],
  ])('asks the tables again after %s, in caching mode too', (status, entry) => {
    const { tables, frameOf } = setup({ cacheNotPresent: true });
    tables.set(IOVA, 1, entry);
    expect(frameOf(IOVA)).toBe(status);
    tables.set(IOVA, 1, 0x5000n | RW);
    expect(frameOf(IOVA)).toBe(5);
  });

  it('leaves the result of the caller alone on a failure', () => {
    const { out, translate } = setup();
    out.frame = 99;
    expect(translate(IOVA)).toBe(WalkStatus.notPresent);
    expect(out.frame).toBe(99);
  });

  it('answers an address that is too wide before any cache is asked', () => {
    const { tables, engine, out, translate } = setup({}, 5);
    tables.set(1n << 48n, 1, 0x5000n | RW);
    expect(translate(1n << 48n)).toBe(WalkStatus.ok);
    expect(engine.translate(DOMAIN, tables.root, 4, ...words(1n << 48n), Access.read, out)).toBe(WalkStatus.tooWide);
    expect(engine.counters.tooWide).toBe(1);
  });
});

describe('caching mode', () => {
  it('remembers that a page was not present until it is invalidated', () => {
    const { tables, engine, frameOf, invalidate } = setup({ cacheNotPresent: true });
    expect(frameOf(IOVA)).toBe('notPresent');
    tables.set(IOVA, 1, 0x5000n | RW);
    expect(frameOf(IOVA)).toBe('notPresent');
    expect(engine.counters.notPresentHits).toBe(1);
    invalidate(IOVA, 0, true);
    expect(frameOf(IOVA)).toBe(5);
  });

  it('remembers it of the one page only', () => {
    const { tables, frameOf } = setup({ cacheNotPresent: true });
    frameOf(IOVA);
    tables.set(IOVA, 1, 0x5000n | RW);
    tables.set(IOVA + KiB4, 1, 0x6000n | RW);
    expect(frameOf(IOVA + KiB4)).toBe(6);
    expect(frameOf(IOVA)).toBe('notPresent');
  });
});

describe('the paging-structure cache', () => {
  it('starts the walk for a neighbour at the last table', () => {
    const { tables, engine, frameOf } = setup();
    tables.set(IOVA, 1, 0x5000n | RW);
    tables.set(IOVA + KiB4, 1, 0x6000n | RW);
    frameOf(IOVA);
    expect(frameOf(IOVA + KiB4)).toBe(6);
    expect(engine.counters.levelsSkipped).toBe(3);
    expect([...engine.counters.walksByLevelsRead]).toEqual([0, 1, 0, 0, 1, 0]);
  });

  it('starts one level higher for a page of another table', () => {
    const { tables, engine, frameOf } = setup();
    tables.set(0n, 1, 0x5000n | RW);
    tables.set(MiB2, 1, 0x6000n | RW);
    tables.set(GiB1, 1, 0x7000n | RW);
    expect([frameOf(0n), frameOf(MiB2), frameOf(GiB1)]).toEqual([5, 6, 7]);
    expect(engine.counters.levelsSkipped).toBe(2 + 1);
  });

  it('goes on using a table that is no longer linked, until it is invalidated', () => {
    const { memory, tables, frameOf, invalidate } = setup();
    tables.set(IOVA, 1, 0x5000n | RW);
    tables.set(IOVA + KiB4, 1, 0x6000n | RW);
    frameOf(IOVA);
    memory.write64(60, TableBuilder.offset(IOVA + KiB4, 1), 0x7000n | RW);
    tables.set(IOVA, 2, (60n << 12n) | RW);
    expect(frameOf(IOVA + KiB4)).toBe(6);
    invalidate(IOVA + KiB4, 0, true);
    expect(frameOf(IOVA + KiB4)).toBe(6);
    invalidate(IOVA + KiB4, 0, false);
    expect(frameOf(IOVA + KiB4)).toBe(7);
  });

  it('forgets what any page beneath a prefix invalidates', () => {
    const { tables, engine, frameOf, invalidate } = setup();
    tables.set(IOVA, 1, 0x5000n | RW);
    frameOf(IOVA);
    invalidate(IOVA + KiB4, 0, false);
    expect([engine.iotlbSize, engine.pagingStructureSize]).toEqual([1, 0]);
    expect(engine.counters.pagingStructureDropped).toBe(3);
  });

  it('hands down the permissions of the levels it skips', () => {
    const { tables, frameOf } = setup();
    tables.set(IOVA, 1, 0x5000n | RW, R);
    tables.set(IOVA + KiB4, 1, 0x6000n | RW, R);
    frameOf(IOVA);
    expect(frameOf(IOVA + KiB4)).toBe(6);
    expect(frameOf(IOVA + KiB4, Access.write)).toBe('denied');
  });

  it('works with 3 and 5 levels', () => {
    for (const levels of [3, 5]) {
      const { tables, engine, frameOf } = setup({}, levels);
      const iova = 3n * GiB1;
      tables.set(iova, 1, 0x5000n | RW);
      tables.set(iova + KiB4, 1, 0x6000n | RW);
      expect([frameOf(iova), frameOf(iova + KiB4)]).toEqual([5, 6]);
      expect(engine.counters.levelsSkipped).toBe(levels - 1);
    }
  });
});

describe('memory regions that change', () => {
  it('are no invalidation', () => {
    const { memory, tables, frameOf } = setup();
    tables.set(IOVA, 1, 0x5000n | RW);
    frameOf(IOVA);
    tables.set(IOVA, 1, 0x6000n | RW);
    memory.generation++;
    expect(frameOf(IOVA)).toBe(5);
  });
});

describe('counters', () => {
  it('count walks by how they ended', () => {
    const { tables, engine, frameOf } = setup();
    tables.set(IOVA, 1, R);
    frameOf(IOVA, Access.write);
    frameOf(IOVA);
    frameOf(0n);
    expect([...engine.counters.walksByStatus]).toEqual([1, 1, 1, 0, 0, 0, 0, 0]);
  });
});

describe('construction', () => {
  it.each([{ iotlbSets: 3 }, { iotlbWays: 0 }, { pagingStructureEntries: 2 }, { pagingStructureEntries: 12 }])(
    'refuses %o',
    options => {
      expect(() => new TranslationEngine(format, new FakeMemory(4096), options)).toThrow(RangeError);
    },
  );
});

describe('an access of zero', () => {
  it.each([
    ['read', R],
    ['write', W],
    ['both', RW],
  ])('is allowed by a page for %s, and hits from then on', (_what, flags) => {
    const { tables, engine, frameOf } = setup();
    tables.set(IOVA, 1, 0x5000n | flags);
    expect([frameOf(IOVA, 0), frameOf(IOVA, 0)]).toEqual([5, 5]);
    expect([engine.counters.hits, engine.counters.misses]).toEqual([1, 1]);
  });

  it('finds nothing where nothing is', () => {
    expect(setup().frameOf(IOVA, 0)).toBe('notPresent');
  });

  it.each([false, true])(
    'is denied, and nothing cached, where entries allow nothing together; caching mode %s',
    mode => {
      const { tables, engine, frameOf } = setup({ cacheNotPresent: mode });
      tables.set(IOVA, 1, 0x5000n | R, W);
      expect([frameOf(IOVA, 0), frameOf(IOVA, 0)]).toEqual(['denied', 'denied']);
      expect([engine.iotlbSize, engine.counters.notPresentHits]).toEqual([0, 0]);
    },
  );
});
