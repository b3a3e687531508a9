import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Folding, mergeStretches } from '../../../src/inspector/page/address-space/folding.ts';
import { frameOf, mappingAt, neighbour, spaceModel } from '../../../src/inspector/page/address-space/space-model.ts';
import { around, bounded, pan, zoom } from '../../../src/inspector/page/address-space/viewport.ts';
import { TouchedPages } from '../../../src/inspector/page/store/touches.ts';
import type { Mapping } from '../../../src/inspector/page/wire.ts';

const PAGES = 2 ** 36;
const stretches = fc
  .array(fc.tuple(fc.integer({ min: 0, max: PAGES - 3000 }), fc.integer({ min: 1, max: 2000 })), { maxLength: 30 })
  .map(list => mergeStretches(list.map(([start, pages]) => ({ start, pages }))));

describe('a folded line', () => {
  it('is the whole address space where nothing is used, or nothing is to be folded', () => {
    expect(new Folding([], PAGES).length).toBe(PAGES);
    expect(new Folding([{ start: 5, pages: 1 }], PAGES, false).length).toBe(PAGES);
  });

  it('folds what is empty and leaves a margin beside what is used', () => {
    const folding = new Folding([{ start: 0x1000, pages: 10 }], PAGES);
    expect(folding.segments.map(({ start, pages, folded }) => ({ start, pages, folded }))).toEqual([
      { start: 0, pages: 0xffe, folded: true },
      { start: 0xffe, pages: 14, folded: false },
      { start: 0x100c, pages: PAGES - 0x100c, folded: true },
    ]);
  });

  it('does not fold what is short', () => {
    const folding = new Folding(
      [
        { start: 0, pages: 10 },
        { start: 30, pages: 10 },
      ],
      60,
    );
    expect(folding.segments).toEqual([{ start: 0, pages: 60, at: 0, length: 60, folded: false }]);
  });

  it('covers every page once, in order', () => {
    fc.assert(
      fc.property(stretches, used => {
        const folding = new Folding(used, PAGES);
        let page = 0;
        let at = 0;
        for (const segment of folding.segments) {
          expect(segment.start).toBe(page);
          expect(segment.at).toBeCloseTo(at, 6);
          page += segment.pages;
          at += segment.length;
        }
        expect(page).toBe(PAGES);
        expect(folding.length).toBeCloseTo(at, 6);
      }),
    );
  });

  it('never folds what is used', () => {
    fc.assert(
      fc.property(stretches, used => {
        const folding = new Folding(used, PAGES);
        for (const { start, pages } of used) {
          expect(folding.segmentAt(folding.position(start))?.folded).toBe(false);
          expect(folding.position(start + pages) - folding.position(start)).toBeCloseTo(pages, 6);
        }
      }),
    );
  });

  it('finds the page back at its position', () => {
    fc.assert(
      fc.property(stretches, fc.integer({ min: 0, max: PAGES - 1 }), (used, page) => {
        const folding = new Folding(used, PAGES);
        const found = folding.page(folding.position(page));
        // Within a fold a position stands for very many pages.
        const { folded, pages } = folding.segmentAt(folding.position(page))!;
        expect(Math.abs(found - page)).toBeLessThanOrEqual(folded ? pages * 1e-9 + 1e-3 : 1e-3);
      }),
    );
  });

  it('tells which parts are between two positions', () => {
    const folding = new Folding([{ start: 0x1000, pages: 10 }], PAGES);
    const [, used] = folding.segments;
    expect(folding.between(used!.at, used!.at + 1)).toEqual([used]);
    expect(folding.between(0, folding.length)).toEqual(folding.segments);
  });

  it('makes one of stretches that touch or overlap', () => {
    expect(
      mergeStretches([
        { start: 10, pages: 5 },
        { start: 0, pages: 10 },
        { start: 12, pages: 1 },
      ]),
    ).toEqual([{ start: 0, pages: 15 }]);
  });
});

describe('the viewport', () => {
  const view = { from: 100, to: 200 };

  it('keeps what is under the pointer in its place', () => {
    const nearer = zoom(view, 0.5, 120, 1000);
    expect(nearer).toEqual({ from: 110, to: 160 });
    expect((120 - nearer.from) / (nearer.to - nearer.from)).toBeCloseTo(0.2);
  });

  it('ends at one page and at the whole line', () => {
    expect(zoom(view, 1e-9, 150, 1000).to - zoom(view, 1e-9, 150, 1000).from).toBe(1);
    expect(zoom(view, 1e9, 150, 1000)).toEqual({ from: 0, to: 1000 });
  });

  it('stays within the line', () => {
    expect(pan(view, -5, 1000)).toEqual({ from: 0, to: 100 });
    expect(pan(view, 50, 1000)).toEqual({ from: 900, to: 1000 });
    expect(bounded({ from: -10, to: 5000 }, 1000)).toEqual({ from: 0, to: 1000 });
  });

  it('has what is gone to in the middle', () => {
    const { from, to } = around(500, 1, 1000);
    expect((from + to) / 2).toBe(500.5);
  });
});

describe('the address space of a domain', () => {
  const mapping = (page: number, pages: number, domain = 1): Mapping => ({
    domain,
    page,
    pages,
    frame: 0x100,
    permissions: 3,
    since: 0,
  });

  it('has the mappings of its domain, in order', () => {
    const model = spaceModel(1, [mapping(20, 1), mapping(5, 2), mapping(7, 1, 2)], undefined, true);
    expect(model.mappings.map(one => one.page)).toEqual([5, 20]);
  });

  it('finds the mapping of a page, and its neighbours', () => {
    const { mappings } = spaceModel(1, [mapping(5, 2), mapping(20, 1)], undefined, true);
    expect(mappingAt(mappings, 4)).toBeUndefined();
    expect(mappingAt(mappings, 6)?.page).toBe(5);
    expect(mappingAt(mappings, 7)).toBeUndefined();
    expect(neighbour(mappings, 6, 1)?.page).toBe(20);
    expect(neighbour(mappings, 20, -1)?.page).toBe(5);
    expect(neighbour(mappings, 20, 1)).toBeUndefined();
  });

  it('tells where a page leads, where that is known', () => {
    expect(frameOf(mapping(5, 2), 6)).toBe(0x101);
    expect(frameOf({ ...mapping(5, 2), frame: -1 }, 6)).toBe(-1);
  });

  it('does not fold pages that were touched without a mapping', () => {
    const touched = new TouchedPages();
    touched.add(0x500000, 2, 0, 1, true);
    const { folding } = spaceModel(1, [mapping(5, 2)], touched, true);
    expect(folding.segmentAt(folding.position(0x500000))?.folded).toBe(false);
  });

  it('is as wide as its widest mapping', () => {
    const { folding } = spaceModel(1, [mapping(2 ** 45, 1)], undefined, false);
    expect(folding.length).toBe(2 ** 45 + 1);
  });
});
