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
