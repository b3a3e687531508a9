import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  extentOf,
  isScaled,
  lastTop,
  MAX_EXTENT,
  ROW_HEIGHT,
  rowsIn,
  scrollTopOf,
  topRow,
  topShowing,
} from '../../../src/inspector/page/components/row-window.ts';

const HEIGHT = 600;
const anyRows = fc.integer({ min: 0, max: 3_000_000 });

describe('the window of rows', () => {
  it('is as high as its rows while browsers can do that', () => {
    expect(extentOf(100)).toBe(100 * ROW_HEIGHT);
    expect(isScaled(100)).toBe(false);
    expect(extentOf(1_000_000)).toBe(MAX_EXTENT);
    expect(isScaled(1_000_000)).toBe(true);
  });

  it('has the first row at one end of the scroll bar and the last at the other', () => {
    for (const rows of [1000, 1_000_000]) {
      expect(topRow(0, rows, HEIGHT)).toBe(0);
      expect(topRow(extentOf(rows) - HEIGHT, rows, HEIGHT) + rowsIn(HEIGHT)).toBeCloseTo(rows, 3);
    }
  });

  it('finds back the row that it scrolled to', () => {
    fc.assert(
      fc.property(anyRows, fc.double({ min: 0, max: 1, noNaN: true }), (rows, part) => {
        const top = part * lastTop(rows, HEIGHT);
        expect(topRow(scrollTopOf(top, rows, HEIGHT), rows, HEIGHT)).toBeCloseTo(top, 3);
      }),
    );
  });

  it('shows a row wholly, and moves no more than needed', () => {
    expect(topShowing(5, 10, 1000, HEIGHT)).toBe(5);
    expect(topShowing(15, 10, 1000, HEIGHT)).toBe(10);
    expect(topShowing(999, 10, 1000, HEIGHT)).toBe(1000 - rowsIn(HEIGHT));
    fc.assert(
      fc.property(anyRows, fc.nat(), fc.nat(), (rows, row, top) => {
        fc.pre(row < rows);
        const shown = topShowing(row, Math.min(top, lastTop(rows, HEIGHT)), rows, HEIGHT);
        expect(shown).toBeLessThanOrEqual(row);
        expect(shown + rowsIn(HEIGHT)).toBeGreaterThanOrEqual(row + 1 - 1e-6);
      }),
    );
  });
});
