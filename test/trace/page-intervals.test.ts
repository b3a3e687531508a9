import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type PageInterval, PageIntervals } from '../../src/trace/page-intervals.ts';

const MANY = 1000;

function filled(...intervals: readonly [start: number, pages: number][]): PageIntervals<PageInterval> {
  const made = new PageIntervals();
  for (const [start, pages] of intervals) made.insert({ start, pages });
  return made;
}

describe('intervals of pages', () => {
  it('are in order of address, however they came', () => {
    const made = filled([20, 5], [0, 2], [10, 1]);
    expect([...made].map(({ start }) => start)).toEqual([0, 10, 20]);
    expect(made.size).toBe(3);
  });

  it('are found by the page at which or after which they end', () => {
    const made = filled([10, 2], [12, 3]);
    expect(made.from(0)?.start).toBe(10);
    expect(made.from(11)?.start).toBe(10);
    expect(made.from(12)?.start).toBe(12);
    expect(made.from(15)).toBeUndefined();
  });

  it('overlap what shares a page with them, and not what is beside them', () => {
    const made = filled([10, 2]);
    expect(made.firstOverlap(0, 10)).toBeUndefined();
    expect(made.firstOverlap(12, 5)).toBeUndefined();
    expect(made.firstOverlap(11, 1)?.start).toBe(10);
    expect(made.firstOverlap(0, 11)?.start).toBe(10);
  });

  it('are taken out one by one, the first one first', () => {
    const made = filled([0, 1], [10, 2], [20, 2]);
    expect(made.takeOverlap(1, 21)?.start).toBe(10);
    expect(made.takeOverlap(1, 21)?.start).toBe(20);
    expect(made.takeOverlap(1, 21)).toBeUndefined();
    expect([...made]).toEqual([{ start: 0, pages: 1 }]);
  });

  it('go all at once', () => {
    const made = filled([0, 1], [10, 2]);
    made.clear();
    expect(made.size).toBe(0);
    expect(made.from(0)).toBeUndefined();
  });

  it('are found among more than one chunk holds, and there is nothing left when all are taken', () => {
    const made = new PageIntervals();
    for (let i = MANY - 1; i >= 0; i--) made.insert({ start: i * 3, pages: 2 });
    for (let i = 0; i < MANY; i++) expect(made.from(i * 3 + 1)?.start).toBe(i * 3);
    for (let i = 0; i < MANY; i++) expect(made.takeOverlap(0, MANY * 3)?.start).toBe(i * 3);
    expect([made.size, [...made]]).toEqual([0, []]);
  });

  it('are those that a plain list would hold', () => {
    const step = fc.record({ start: fc.nat(600), pages: fc.integer({ min: 1, max: 4 }), insert: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { minLength: 200, maxLength: 900 }), steps => {
        const made = new PageIntervals();
        let plain: PageInterval[] = [];
        for (const { start, pages, insert } of steps) {
          const first = plain.find(one => one.start < start + pages && one.start + one.pages > start);
          expect(made.firstOverlap(start, pages)).toEqual(first);
          if (insert && first === undefined) {
            made.insert({ start, pages });
            plain = [...plain, { start, pages }].sort((a, b) => a.start - b.start);
          } else {
            expect(made.takeOverlap(start, start + pages)).toEqual(first);
            plain = plain.filter(one => one !== first);
          }
        }
        expect([...made]).toEqual(plain);
      }),
      { numRuns: 50 },
    );
  });
});
