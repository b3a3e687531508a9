import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Iotlb } from '../../src/iommu/iotlb.ts';
import { vtdSecondStage } from '../../src/page-tables/vtd-second-stage.ts';
import { words } from './support.ts';

const format = vtdSecondStage({ hostAddressWidth: 46, largePages: { '2M': true, '1G': true } });
const SHIFTS = [12, 21, 30];

const create = (sets = 16) => new Iotlb(format, sets, 4);

describe('pages of several sizes around an address', () => {
  it.each([
    ['the smallest first', [30, 21, 12]],
    ['the smallest first, whatever came last', [12, 21, 30]],
  ])('are found %s', (_what, order) => {
    const iotlb = create();
    for (const shift of order) iotlb.insert(1, 0, 0x3000, shift, 0x40000 * shift, 3);
    expect(iotlb.lookup(1, 0, 0x3000)).toBe(true);
    expect(iotlb.shift).toBe(12);
    iotlb.cache.drop(iotlb.find(1, 0, 0x3000));
    expect(iotlb.lookup(1, 0, 0x3000)).toBe(true);
    expect(iotlb.shift).toBe(21);
    iotlb.cache.drop(iotlb.find(1, 0, 0x3000));
    expect(iotlb.lookup(1, 0, 0x3000)).toBe(true);
    expect(iotlb.shift).toBe(30);
    iotlb.cache.drop(iotlb.find(1, 0, 0x3000));
    expect(iotlb.lookup(1, 0, 0x3000)).toBe(false);
  });

  it('tell the frame of the very page asked for', () => {
    const iotlb = create();
    iotlb.insert(1, 2, 0x8020_5000 | 0, 21, 0x1034, 3);
    expect(iotlb.frameAt(iotlb.find(1, 2, 0x8021_f123 | 0), 2, 0x8021_f123 | 0)).toBe(0x101f);
  });
});

const address = fc
  .record({ gib: fc.nat(2), large: fc.nat(3), page: fc.nat(20) })
  .map(({ gib, large, page }) => (BigInt(gib) << 30n) + (BigInt(large * 64) << 21n) + BigInt(page * 4096));
const domain = fc.nat(3);
const shift = fc.constantFrom(...SHIFTS);
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('insert' as const), domain, address, shift }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pages' as const), domain, address, order: fc.nat(12) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('domain' as const), domain }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('drop' as const), domain, address }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('all' as const) }) },
);

describe('leaving out sizes that cannot be there', () => {
  it('never misses what is there', () => {
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 5, maxLength: 120 }),
        fc.array(address, { minLength: 8 }),
        (steps, asked) => {
          const iotlb = create();
          const { cache } = iotlb;
          for (const one of steps) {
            if (one.kind === 'insert') iotlb.insert(one.domain, ...words(one.address), one.shift, 0x40000, 3);
            else if (one.kind === 'pages') cache.invalidatePages(one.domain, ...words(one.address), one.order);
            else if (one.kind === 'domain') cache.invalidateDomain(one.domain);
            else if (one.kind === 'all') cache.invalidateAll();
            else if (iotlb.lookup(one.domain, ...words(one.address)))
              cache.drop(iotlb.find(one.domain, ...words(one.address)));
          }
          const addresses = [...asked, ...steps.flatMap(one => ('address' in one ? [one.address] : []))];
          for (const at of addresses) {
            for (let id = 0; id < 4; id++) {
              const there = SHIFTS.map(size => cache.find(id, ...words(at), size)).find(entry => entry >= 0) ?? -1;
              expect(iotlb.find(id, ...words(at))).toBe(there);
            }
          }
          expect(cache.groups.reduce((sum, count) => sum + count, 0)).toBe(cache.live[12]);
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('counting pages in a row', () => {
  const row = (frames: readonly number[], permissions = 3) => {
    const iotlb = create(256);
    frames.forEach((frame, i) => {
      iotlb.insert(1, 0, i << 12, 12, frame, permissions);
    });
    return iotlb.cache;
  };

  it('counts those whose frames follow each other, and no more than asked', () => {
    const cache = row([5, 6, 7, 9]);
    expect(cache.countPages(1, 0, 0, 5, 1, 10)).toBe(3);
    expect(cache.countPages(1, 0, 0, 5, 1, 2)).toBe(2);
    expect(cache.countPages(1, 0, 0x1000, 6, 1, 10)).toBe(2);
  });

  it('says that the first does not follow, and tells that from not knowing it', () => {
    const cache = row([5, 6]);
    expect(cache.countPages(1, 0, 0, 6, 1, 10)).toBe(-1);
    expect(cache.countPages(1, 0, 0x5000, 6, 1, 10)).toBe(0);
    expect(cache.countPages(2, 0, 0, 5, 1, 10)).toBe(0);
  });

  it.each([
    [1, 1, 2],
    [1, 2, -1],
    [2, 1, -1],
    [3, 3, 2],
    [4, 0, -1],
    [4, 1, -1],
  ])('of permissions %d for access %d finds %d', (permissions, access, count) => {
    expect(row([5, 6], permissions).countPages(1, 0, 0, 5, access, 10)).toBe(count);
  });

  it('forgets what was invalidated', () => {
    const cache = row([5, 6, 7]);
    cache.invalidatePages(1, 0, 0x1000, 0);
    expect(cache.countPages(1, 0, 0, 5, 1, 10)).toBe(1);
    cache.invalidateAll();
    expect(cache.countPages(1, 0, 0, 5, 1, 10)).toBe(0);
  });
});
