import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Region, RegionTable } from '../../src/memory/region-table.ts';

function region(firstFrame: number, frames: number): Region {
  return { firstFrame, frames, readable: true, writable: true, flags: 0, descriptor: -1, fileOffset: 0, failure: '' };
}

function tableOf(...regions: Region[]): RegionTable {
  const table = new RegionTable();
  for (const each of regions) table.add(each);
  return table;
}

describe('RegionTable', () => {
  const low = region(0, 10);
  const middle = region(20, 5);
  const high = region(2 ** 31 - 1, 1);

  it('finds the region of any frame, whatever the order they came in', () => {
    const table = tableOf(high, low, middle);
    expect([0, 9, 10, 19, 20, 24, 25, 2 ** 31 - 2, 2 ** 31 - 1].map(frame => table.find(frame))).toEqual([
      low,
      low,
      undefined,
      undefined,
      middle,
      middle,
      undefined,
      undefined,
      high,
    ]);
    expect(table.all()).toEqual([low, middle, high]);
  });

  it.each([
    [10, 10, false],
    [9, 1, true],
    [9, 12, true],
    [19, 2, true],
    [15, 5, false],
    [24, 100, true],
    [25, 100, false],
    [0, 2 ** 31, true],
    [21, 1, true],
  ])('knows whether frames from %s, %s of them, overlap one', (frame, frames, expected) => {
    expect(tableOf(low, middle, high).overlaps(frame, frames)).toBe(expected);
  });

  it('removes one and leaves the others', () => {
    const table = tableOf(low, middle, high);
    table.remove(middle);
    expect(table.find(20)).toBeUndefined();
    expect(table.all()).toEqual([low, high]);
    expect(() => table.remove(middle)).toThrow(/not in the table/);
  });

  it('empties', () => {
    const table = tableOf(low, middle);
    table.clear();
    expect(table.size).toBe(0);
    expect(table.find(0)).toBeUndefined();
    expect(table.overlaps(0, 100)).toBe(false);
  });
});

describe('RegionTable, with many regions', () => {
  /** Every other page of so many, by a permutation. */
  const frames = (count: number) => Array.from({ length: count }, (_, i) => ((i * 40503) % count) * 2);

  it('keeps its order, and finds each region and no hole', () => {
    const count = 5000;
    const table = tableOf(...frames(count).map(frame => region(frame, 1)));
    expect(table.size).toBe(count);
    expect(table.all().map(one => one.firstFrame)).toEqual(Array.from({ length: count }, (_, i) => 2 * i));
    for (let frame = 0; frame < 2 * count; frame++) {
      expect(table.find(frame)?.firstFrame).toBe(frame % 2 === 0 ? frame : undefined);
    }
  });

  it('is empty when all are gone, in whatever order', () => {
    const regions = frames(2000).map(frame => region(frame, 1));
    const table = tableOf(...[...regions].reverse());
    for (const one of regions) table.remove(one);
    expect(table.size).toBe(0);
    expect(table.all()).toEqual([]);
    expect(table.find(0)).toBeUndefined();
    table.add(regions[0]!);
    expect(table.find(regions[0]!.firstFrame)).toBe(regions[0]);
  });

  it('agrees with a plain list', () => {
    const step = fc.record({ frame: fc.integer({ min: 0, max: 1500 }), frames: fc.integer({ min: 1, max: 3 }) });
    fc.assert(
      fc.property(fc.array(step, { minLength: 300, maxLength: 1500 }), steps => {
        const table = new RegionTable();
        let list: Region[] = [];
        for (const { frame, frames: count } of steps) {
          const overlapping = list.filter(one => one.firstFrame < frame + count && one.firstFrame + one.frames > frame);
          expect(table.overlaps(frame, count)).toBe(overlapping.length > 0);
          expect(table.find(frame)).toBe(
            list.find(one => one.firstFrame <= frame && frame < one.firstFrame + one.frames),
          );
          const [first] = overlapping;
          if (first === undefined) {
            const added = region(frame, count);
            table.add(added);
            list.push(added);
          } else if (frame % 2 === 0) {
            table.remove(first);
            list = list.filter(one => one !== first);
          }
        }
        expect(table.size).toBe(list.length);
        expect(table.all()).toEqual([...list].sort((a, b) => a.firstFrame - b.firstFrame));
      }),
      { numRuns: 20 },
    );
  });
});
