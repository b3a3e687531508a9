import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Budget } from '../../../src/iommu/dma-iommu/budget.ts';
import { type RangeKind, RangeSet } from '../../../src/iommu/dma-iommu/range-set.ts';

const at = (start: number, pages: number, kind: RangeKind = 'logical') => ({ start, pages, kind, permissions: 3 });
const listed = (set: RangeSet) => [...set].map(({ start, pages }) => [start, pages]);

describe('a set of ranges', () => {
  it('keeps them in order', () => {
    const set = new RangeSet();
    for (const start of [40, 0, 20]) set.insert(at(start, 5));
    expect(listed(set)).toEqual([
      [0, 5],
      [20, 5],
      [40, 5],
    ]);
    expect(set.size).toBe(3);
  });

  it('knows what overlaps', () => {
    const set = new RangeSet();
    set.insert(at(10, 5));
    expect([set.overlaps(5, 5), set.overlaps(5, 6), set.overlaps(14, 1), set.overlaps(15, 9)]).toEqual([
      false,
      true,
      true,
      false,
    ]);
  });

  it('cuts ranges that lie across the borders', () => {
    const set = new RangeSet();
    set.insert(at(0, 100));
    set.remove(10, 5);
    expect(listed(set)).toEqual([
      [0, 10],
      [15, 85],
    ]);
    set.remove(5, 20);
    expect(listed(set)).toEqual([
      [0, 5],
      [25, 75],
    ]);
  });

  it('covers with neighbours of one kind, without gaps', () => {
    const set = new RangeSet();
    set.insert(at(0, 5));
    set.insert(at(5, 5));
    set.insert(at(10, 5, 'identity'));
    expect([set.covers(2, 8, 'logical'), set.covers(2, 9, 'logical'), set.covers(12, 4, 'identity')]).toEqual([
      true,
      false,
      false,
    ]);
  });

  it('inserts and cuts within its budget only, and changes nothing beyond', () => {
    const budget = new Budget(2);
    const set = new RangeSet(budget);
    expect(set.insert(at(0, 10))).toBe(true);
    expect(set.insert(at(20, 10))).toBe(true);
    expect(set.insert(at(40, 10))).toBe(false);
    expect(set.remove(3, 2)).toBe(false);
    expect(listed(set)).toEqual([
      [0, 10],
      [20, 10],
    ]);
    expect(set.remove(8, 14)).toBe(true);
    expect(listed(set)).toEqual([
      [0, 8],
      [22, 8],
    ]);
    expect(set.remove(22, 8)).toBe(true);
    expect(set.remove(3, 2)).toBe(true);
    expect(budget.left).toBe(0);
    set.clear();
    expect([set.size, budget.left, listed(set)]).toEqual([0, 2, []]);
  });

  it('is the same as a map of pages, with many ranges too', () => {
    const step = fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 1, max: 6 }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 1200, size: 'max' }), steps => {
        const set = new RangeSet();
        const pages = new Set<number>();
        for (const [insert, start, count] of steps) {
          const all = Array.from({ length: count }, (_, i) => start + i);
          const overlaps = all.some(page => pages.has(page));
          expect(set.overlaps(start, count)).toBe(overlaps);
          expect(set.covers(start, count, 'logical')).toBe(all.every(page => pages.has(page)));
          if (insert && !overlaps) {
            set.insert(at(start, count));
            for (const page of all) pages.add(page);
          } else if (!insert) {
            set.remove(start, count);
            for (const page of all) pages.delete(page);
          }
        }
        const inOrder = [...set].flatMap(({ start, pages: n }) => Array.from({ length: n }, (_, i) => start + i));
        expect(inOrder).toEqual([...pages].sort((a, b) => a - b));
        expect([...set].length).toBe(set.size);
      }),
      { numRuns: 60 },
    );
  });
});
