import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TranslationCache } from '../../src/iommu/translation-cache.ts';
import { words } from './support.ts';

const SHIFTS = [12, 21, 30, 39, 48];
const KiB4 = 4096n;

const create = (sets = 16, ways = 4) => new TranslationCache(sets, ways, SHIFTS);
const insert = (cache: TranslationCache, domain: number, address: bigint, shift: number, frame = 1) =>
  cache.insert(domain, ...words(address), shift, frame, 3);
const has = (cache: TranslationCache, domain: number, address: bigint, shift: number) =>
  cache.find(domain, ...words(address), shift) >= 0;

describe('finding', () => {
  it.each(SHIFTS)('finds an entry of 2^%d bytes at its first and its last byte, and not beyond', shift => {
    const cache = create();
    const size = 1n << BigInt(shift);
    const base = 0x1ff_0000_0000_0000n & -size;
    insert(cache, 7, base + size / 2n, shift, 42);
    expect(cache.frameOf(cache.find(7, ...words(base), shift))).toBe(42);
    expect(has(cache, 7, base + size - 1n, shift)).toBe(true);
    expect(has(cache, 7, base + size, shift)).toBe(false);
    expect(has(cache, 7, base - 1n, shift)).toBe(false);
  });

  it('tells domains apart, negative ones included', () => {
    const cache = create();
    insert(cache, -1, 0n, 12);
    expect(has(cache, -1, 0n, 12)).toBe(true);
    expect(has(cache, 0xffff, 0n, 12)).toBe(false);
    expect(has(cache, 0, 0n, 12)).toBe(false);
  });

  it('tells sizes apart', () => {
    const cache = create();
    insert(cache, 1, 0n, 21);
    expect(SHIFTS.map(shift => has(cache, 1, 0n, shift))).toEqual([false, true, false, false, false]);
  });

  it('tells addresses apart that differ in bit 63 only', () => {
    const cache = create();
    insert(cache, 1, 1n << 63n, 12);
    expect(has(cache, 1, 0n, 12)).toBe(false);
    expect(has(cache, 1, 1n << 63n, 12)).toBe(true);
  });

  it('finds nothing in an empty cache, whose words are all zero', () => {
    expect(has(create(), 0, 0n, 12)).toBe(false);
  });

  it('keeps frame and permissions up to the largest frame', () => {
    const cache = create();
    cache.insert(1, 0, 0, 12, 0x7fffffff, 1);
    const entry = cache.find(1, 0, 0, 12);
    expect([cache.frameOf(entry), cache.permissionsOf(entry)]).toEqual([0x7fffffff, 1]);
  });
});

describe('replacing', () => {
  it('replaces what was known of the same prefix', () => {
    const cache = create();
    insert(cache, 1, 0n, 12, 5);
    insert(cache, 1, 0n, 12, 6);
    expect(cache.size).toBe(1);
    expect(cache.frameOf(cache.find(1, 0, 0, 12))).toBe(6);
  });

  it('fills all ways before it replaces, then goes round', () => {
    const cache = create(1, 4);
    for (let page = 0n; page < 4n; page++) insert(cache, 1, page * KiB4, 12);
    expect(cache.size).toBe(4);
    insert(cache, 1, 4n * KiB4, 12);
    insert(cache, 1, 5n * KiB4, 12);
    const kept = [0n, 1n, 2n, 3n, 4n, 5n].map(page => has(cache, 1, page * KiB4, 12));
    expect(kept).toEqual([false, false, true, true, true, true]);
    expect(cache.size).toBe(4);
  });

  it('keeps as many consecutive pages as it has entries', () => {
    const cache = create(16, 4);
    for (let page = 0n; page < 64n; page++) insert(cache, 3, page * KiB4, 12);
    expect(cache.size).toBe(64);
  });

  it('counts the size that was replaced, not the one that came', () => {
    const cache = create(1, 1);
    insert(cache, 1, 0n, 21);
    insert(cache, 1, 0n, 12);
    expect([cache.live[12], cache.live[21]]).toEqual([1, 0]);
  });
});

describe('invalidating', () => {
  it('drops everything and says how much', () => {
    const cache = create();
    for (const shift of SHIFTS) insert(cache, shift, 0n, shift);
    expect(cache.invalidateAll()).toBe(SHIFTS.length);
    for (const shift of SHIFTS) expect(has(cache, shift, 0n, shift)).toBe(false);
    expect(cache.invalidateAll()).toBe(0);
  });

  it('drops one domain', () => {
    const cache = create();
    for (const shift of SHIFTS) {
      insert(cache, 1, 0n, shift);
      insert(cache, 2, 0n, shift);
    }
    expect(cache.invalidateDomain(1)).toBe(SHIFTS.length);
    for (const shift of SHIFTS) expect([has(cache, 1, 0n, shift), has(cache, 2, 0n, shift)]).toEqual([false, true]);
  });

  it.each(SHIFTS)('drops an entry of 2^%d bytes for any one page within', shift => {
    const size = 1n << BigInt(shift);
    for (const at of [0n, size / 2n, size - KiB4]) {
      const cache = create();
      insert(cache, 1, size * 5n, shift);
      expect(cache.invalidatePages(1, ...words(size * 5n + at), 0)).toBe(1);
    }
    const cache = create();
    insert(cache, 1, size * 5n, shift);
    expect(cache.invalidatePages(1, ...words(size * 5n - KiB4), 0)).toBe(0);
    expect(cache.invalidatePages(1, ...words(size * 6n), 0)).toBe(0);
  });

  it.each([0, 1, 2, 6, 7, 9, 18, 20, 27, 36, 51])('aligns the address down to 2^%d pages', order => {
    const size = KiB4 << BigInt(order);
    const cache = create();
    insert(cache, 1, size * 3n, 12);
    insert(cache, 1, size * 4n - KiB4, 12, 2);
    insert(cache, 1, size * 3n - KiB4, 12);
    insert(cache, 1, size * 4n, 12);
    const inside = order === 0 ? 1 : 2;
    expect(cache.invalidatePages(1, ...words(size * 3n + size / 2n), order)).toBe(inside);
    const address = (at: bigint) => BigInt.asUintN(64, at);
    expect(has(cache, 1, address(size * 3n - KiB4), 12)).toBe(true);
    expect(has(cache, 1, address(size * 4n), 12)).toBe(true);
  });

  it.each([52, 60, 63, 64, 100])('drops the whole domain for 2^%d pages', order => {
    const cache = create();
    insert(cache, 1, 0n, 12);
    insert(cache, 1, 1n << 63n, 21);
    insert(cache, 2, 0n, 12);
    expect(cache.invalidatePages(1, 0, 0, order)).toBe(2);
    expect(has(cache, 2, 0n, 12)).toBe(true);
  });
});

describe('invalidating a few large prefixes', () => {
  it.each([21, 30, 39, 48])('finds each of 64 entries of 2^%d bytes', shift => {
    const size = 1n << BigInt(shift);
    for (const nth of [0n, 1n, 3n, 4n, 31n, 63n]) {
      const cache = create();
      insert(cache, 1, 64n * size + nth * size, shift);
      expect(cache.invalidatePages(1, ...words(64n * size), shift - 12 + 6)).toBe(1);
    }
    const cache = create();
    insert(cache, 1, 128n * size, shift);
    insert(cache, 1, 63n * size, shift);
    expect(cache.invalidatePages(1, ...words(64n * size), shift - 12 + 6)).toBe(0);
  });
});

describe('construction', () => {
  it.each([
    [0, 4],
    [3, 4],
    [-4, 4],
    [16, 0],
    [16, 17],
    [16, 1.5],
  ])('refuses %d sets of %d ways', (sets, ways) => {
    expect(() => create(sets, ways)).toThrow(RangeError);
  });
});

describe('any sequence', () => {
  const address = fc
    .tuple(fc.constantFrom(0n, 1n, 255n, 256n, 0xffffn), fc.constantFrom(0n, 1n, 511n), fc.nat(3), fc.nat(3))
    .map(([top, gib, two, page]) => (top << 48n) | (gib << 30n) | (BigInt(two) << 21n) | (BigInt(page) << 12n));
  const domain = fc.constantFrom(0, 1, -5);
  const operation = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant('insert' as const), domain, address, shift: fc.constantFrom(...SHIFTS) }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('pages' as const), domain, address, order: fc.nat(53) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('domain' as const), domain }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('all' as const) }) },
  );

  it('holds exactly what was inserted and neither invalidated nor replaced', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), operations => {
        // Room for everything, so that nothing is replaced: the model is then exact.
        const cache = create(1, 16);
        let model: { domain: number; first: bigint; shift: number }[] = [];
        const drop = (gone: (entry: (typeof model)[number]) => boolean): number => {
          const before = model.length;
          model = model.filter(entry => !gone(entry));
          return before - model.length;
        };
        for (const op of operations) {
          if (op.do === 'insert') {
            const first = (op.address >> BigInt(op.shift)) << BigInt(op.shift);
            const known = model.some(e => e.domain === op.domain && e.first === first && e.shift === op.shift);
            if (!known && model.length === 16) continue;
            if (!known) model.push({ domain: op.domain, first, shift: op.shift });
            insert(cache, op.domain, op.address, op.shift);
          } else if (op.do === 'pages') {
            const size = KiB4 << BigInt(op.order);
            const start = (op.address / size) * size;
            const gone = drop(
              e => e.domain === op.domain && e.first < start + size && start < e.first + (1n << BigInt(e.shift)),
            );
            expect(cache.invalidatePages(op.domain, ...words(op.address), op.order)).toBe(gone);
          } else if (op.do === 'domain') {
            expect(cache.invalidateDomain(op.domain)).toBe(drop(e => e.domain === op.domain));
          } else {
            expect(cache.invalidateAll()).toBe(drop(() => true));
          }
          expect(cache.size).toBe(model.length);
          for (const e of model) expect(has(cache, e.domain, e.first, e.shift)).toBe(true);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('probes and scans to the same end', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(address, fc.constantFrom(...SHIFTS)), { maxLength: 40 }),
        address,
        fc.nat(51),
        (entries, start, order) => {
          const cache = create(16, 4);
          for (const [at, shift] of entries) insert(cache, 1, at, shift);
          const size = KiB4 << BigInt(order);
          const first = (start / size) * size;
          const present = entries.filter(([at, shift]) => has(cache, 1, at, shift));
          cache.invalidatePages(1, ...words(start), order);
          for (const [at, shift] of present) {
            const bytes = 1n << BigInt(shift);
            const from = (at / bytes) * bytes;
            expect(has(cache, 1, at, shift)).toBe(!(from < first + size && first < from + bytes));
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});
