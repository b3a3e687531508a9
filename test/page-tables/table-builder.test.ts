import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/iommu/translator.ts';
import { TableBuilder } from '../../src/page-tables/table-builder.ts';
import { TableMemory } from '../../src/page-tables/table-memory.ts';
import { vtdSecondStage } from '../../src/page-tables/vtd-second-stage.ts';
import { Walker, WalkStatus } from '../../src/page-tables/walker.ts';

const RW = Access.read | Access.write;
const format = vtdSecondStage({ hostAddressWidth: 46, largePages: { '2M': true, '1G': true } });

/** The two int32 words of the address of a page. */
const at = (page: number): [high: number, low: number] => [Math.floor(page / 2 ** 20) | 0, (page << 12) | 0];

function setup(levels = 4, maxPages?: number) {
  const memory = new TableMemory(maxPages === undefined ? {} : { maxPages });
  const builder = new TableBuilder(format, memory, levels);
  const root = builder.createRoot();
  const walker = new Walker(format, memory);
  /** Frame and permissions of a page, by the walker; undefined if it allows nothing. */
  const look = (page: number): [number, number] | undefined => {
    for (const access of [RW, Access.read, Access.write]) {
      const status = walker.walk(root, levels, ...at(page), access);
      if (status === WalkStatus.ok) return [walker.frame, walker.permissions];
    }
    return undefined;
  };
  const map = (page: number, frame: number, pages: number, permissions = RW) =>
    builder.map(root, ...at(page), frame, pages, permissions);
  const unmap = (page: number, pages: number, keep = false) => builder.unmap(root, ...at(page), pages, keep);
  const first = (page: number, pages: number) => builder.firstMapped(root, ...at(page), pages);
  return { memory, builder, root, look, map, unmap, first };
}

describe.each([3, 4, 5])('tables of %d levels', levels => {
  const end = 512 ** levels;

  it('map the first and the last page', () => {
    const { look, map, memory } = setup(levels);
    expect(map(0, 5, 1)).toBe(true);
    expect(map(end - 1, 6, 1)).toBe(true);
    expect([look(0), look(end - 1), look(1)]).toEqual([[5, RW], [6, RW], undefined]);
    expect(memory.pagesInUse).toBe(1 + 2 * (levels - 1));
  });

  it('map a range across tables of every level', () => {
    const { look, map, unmap, memory } = setup(levels);
    const middle = end / 2;
    map(middle - 3, 0x1000, 6);
    for (let i = 0; i < 6; i++) expect(look(middle - 3 + i)).toEqual([0x1000 + i, RW]);
    expect([look(middle - 4), look(middle + 3)]).toEqual([undefined, undefined]);
    expect(unmap(middle - 3, 6)).toBe(6);
    expect(memory.pagesInUse).toBe(1);
  });

  it('have no place beyond', () => {
    const { builder, root } = setup(levels);
    expect(builder.covers(...at(0), end)).toBe(true);
    expect(builder.covers(...at(end - 1), 2)).toBe(false);
    expect(() => builder.map(root, ...at(end), 0, 1, RW)).toThrow(RangeError);
    expect(() => builder.firstMapped(root, ...at(end - 1), 2)).toThrow(RangeError);
    expect(() => builder.unmap(root, ...at(1), end, false)).toThrow(RangeError);
    expect(() => builder.reserve(root, -1, -4096, 1)).toThrow(RangeError);
  });
});

describe('mapping', () => {
  it.each([
    [Access.read, Access.read],
    [Access.write, Access.write],
    [RW, RW],
  ])('allows permissions %d as they are', (permissions, seen) => {
    const { look, map } = setup();
    map(7, 9, 1, permissions);
    expect(look(7)).toEqual([9, seen]);
  });

  it('keeps a page that allows nothing: mapped, of frame zero too', () => {
    const { look, map, first, unmap } = setup();
    map(7, 0, 2, 0);
    expect(look(7)).toBeUndefined();
    expect(first(0, 100)).toBe(7);
    expect(unmap(0, 100)).toBe(2);
  });

  it('takes frames as they come', () => {
    const { builder, root, look } = setup();
    const frames = Int32Array.of(-1, 8, 0, 0x3fffffff, 8, -1);
    expect(builder.mapFrames(root, ...at(510), frames, 1, 4, RW)).toBe(true);
    expect([509, 510, 511, 512, 513, 514].map(page => look(page)?.[0])).toEqual([
      undefined,
      8,
      0,
      0x3fffffff,
      8,
      undefined,
    ]);
  });

  it('takes a contiguous range after scattered frames', () => {
    const { builder, root, look, map } = setup();
    builder.mapFrames(root, ...at(0), Int32Array.of(5, 3), 0, 2, RW);
    map(2, 100, 2);
    expect([0, 1, 2, 3].map(page => look(page)?.[0])).toEqual([5, 3, 100, 101]);
  });

  it('replaces what was there, counted once', () => {
    const { look, map, unmap, memory } = setup();
    map(0, 5, 3);
    map(1, 50, 3, Access.read);
    expect([0, 1, 2, 3].map(look)).toEqual([
      [5, RW],
      [50, 1],
      [51, 1],
      [52, 1],
    ]);
    expect(unmap(0, 512)).toBe(4);
    expect(memory.pagesInUse).toBe(1);
  });

  it('refuses frames that do not exist', () => {
    const { builder, root, map, memory } = setup();
    expect(() => map(0, -1, 1)).toThrow(RangeError);
    expect(() => map(0, 0x7fffffff, 2)).toThrow(RangeError);
    expect(map(0, 0x7fffffff, 1)).toBe(true);
    expect(() => builder.mapFrames(root, ...at(9), Int32Array.of(1, -2), 0, 2, RW)).toThrow(RangeError);
    expect(() => builder.mapFrames(root, ...at(9), Int32Array.of(1, 2), 1, 2, RW)).toThrow(RangeError);
    expect(memory.pagesInUse).toBe(4);
  });

  it('does nothing for no pages', () => {
    const { map, unmap, first, memory, builder, root } = setup();
    expect([map(5, 5, 0), unmap(5, 0), first(5, 0)]).toEqual([true, 0, -1]);
    expect(builder.reserve(root, ...at(5), 0)).toBe(true);
    builder.release(root, ...at(5), 0);
    expect(memory.pagesInUse).toBe(1);
  });
});

describe('finding what is mapped', () => {
  it('gives the offset from the start of the range', () => {
    const { map, first } = setup();
    map(1000, 0, 10);
    map(600_000, 0, 1);
    expect(first(0, 1000)).toBe(-1);
    expect(first(0, 1001)).toBe(1000);
    expect(first(1005, 100)).toBe(0);
    expect(first(1010, 600_000)).toBe(600_000 - 1010);
  });

  it('passes over tables that are absent or empty', () => {
    const { builder, root, map, first } = setup(5);
    map(512 ** 5 - 1, 0, 1);
    builder.reserve(root, ...at(0), 512 ** 2);
    expect(first(0, 512 ** 5)).toBe(512 ** 5 - 1);
    expect(first(0, 512 ** 5 - 1)).toBe(-1);
  });
});

describe('unmapping', () => {
  it('counts the pages that were mapped, and frees the tables that are empty', () => {
    const { map, unmap, look, memory } = setup();
    map(0, 0, 512);
    map(512, 0, 512);
    const full = memory.pagesInUse;
    expect(unmap(100, 10)).toBe(10);
    expect(unmap(90, 30)).toBe(20);
    expect(memory.pagesInUse).toBe(full);
    expect(unmap(0, 512)).toBe(482);
    expect(memory.pagesInUse).toBe(full - 1);
    expect(look(512)).toEqual([0, RW]);
    expect(unmap(0, 512 ** 4)).toBe(512);
    expect(memory.pagesInUse).toBe(1);
  });

  it('keeps empty tables if told to, until the next that is not', () => {
    const { map, unmap, memory } = setup();
    map(0, 0, 600);
    const full = memory.pagesInUse;
    expect(unmap(0, 600, true)).toBe(600);
    expect(memory.pagesInUse).toBe(full);
    expect(unmap(0, 600)).toBe(0);
    expect(memory.pagesInUse).toBe(1);
  });

  it('leaves the neighbours in the same table', () => {
    const { map, unmap, look } = setup();
    map(10, 10, 3);
    unmap(11, 1);
    expect([10, 11, 12].map(look)).toEqual([[10, RW], undefined, [12, RW]]);
  });
});

describe('reservations', () => {
  it('let a later map succeed without any memory', () => {
    const { builder, root, map, unmap, memory } = setup(4, 6);
    expect(builder.reserve(root, ...at(500), 20)).toBe(true);
    expect(memory.pagesInUse).toBe(5);
    memory.allocate();
    expect(memory.allocate()).toBe(-1);
    expect(map(500, 7, 20)).toBe(true);
    expect(unmap(500, 20)).toBe(20);
    expect(memory.pagesInUse).toBe(6);
    expect(map(500, 7, 20)).toBe(true);
    expect(map(2000, 7, 1)).toBe(false);
  });

  it('are kept until the last one of a table is released', () => {
    const { builder, root, memory } = setup();
    builder.reserve(root, ...at(0), 10);
    builder.reserve(root, ...at(5), 600);
    builder.release(root, ...at(0), 10);
    expect(memory.pagesInUse).toBe(5);
    builder.release(root, ...at(5), 600);
    expect(memory.pagesInUse).toBe(1);
  });

  it('keep mapped pages and their tables when released', () => {
    const { builder, root, map, look, unmap, memory } = setup();
    builder.reserve(root, ...at(0), 1024);
    map(3, 30, 1);
    builder.release(root, ...at(0), 1024);
    expect(look(3)).toEqual([30, RW]);
    expect(memory.pagesInUse).toBe(4);
    unmap(3, 1);
    expect(memory.pagesInUse).toBe(1);
  });

  it('cannot be released twice', () => {
    const { builder, root } = setup();
    builder.reserve(root, ...at(0), 10);
    builder.release(root, ...at(0), 10);
    expect(() => builder.release(root, ...at(0), 10)).toThrow(RangeError);
  });

  it('change nothing if there is not enough memory', () => {
    const { builder, root, memory, first } = setup(4, 10);
    expect(builder.reserve(root, ...at(0), 512 * 8)).toBe(false);
    expect(memory.pagesInUse).toBe(1);
    expect(first(0, 512 ** 4)).toBe(-1);
    expect(builder.reserve(root, ...at(0), 512 * 7)).toBe(true);
    expect(memory.pagesInUse).toBe(10);
  });
});

describe('the end of table memory', () => {
  it('leaves everything as it was', () => {
    const { look, map, unmap, memory } = setup(4, 8);
    map(0, 5, 10);
    expect(memory.pagesInUse).toBe(4);
    expect(map(5, 900, 512 * 6)).toBe(false);
    expect(look(5)).toEqual([10, RW]);
    expect(look(10)).toBeUndefined();
    expect(memory.pagesInUse).toBe(4);
    expect(map(5, 900, 512 * 4)).toBe(true);
    expect(memory.pagesInUse).toBe(8);
    expect(unmap(0, 512 * 6)).toBe(512 * 4 + 5);
  });

  it('is told when there is none for a root', () => {
    const { builder } = setup(4, 1);
    expect(builder.createRoot()).toBe(-1);
  });
});

describe('destroying', () => {
  it('frees mapped, kept and reserved tables, of that root alone', () => {
    const { builder, root, map, unmap, memory } = setup();
    const other = builder.createRoot();
    builder.map(other, ...at(3), 33, 1, RW);
    map(0, 0, 5000);
    map(1 << 20, 0, 600);
    unmap(1 << 20, 600, true);
    builder.reserve(root, ...at(1 << 30), 10_000);
    builder.destroy(root);
    expect(memory.pagesInUse).toBe(4);
    expect(builder.firstMapped(other, ...at(0), 10)).toBe(3);
    builder.destroy(other);
    expect(memory.pagesInUse).toBe(0);
  });
});

describe('what the caller got wrong', () => {
  it('refuses a depth that the format does not have', () => {
    expect(() => new TableBuilder(format, new TableMemory(), 2)).toThrow(RangeError);
  });

  it('refuses a format that says nothing about writing', () => {
    const { written, ...walkedOnly } = format;
    expect(written).toBeDefined();
    expect(() => new TableBuilder(walkedOnly, new TableMemory(), 4)).toThrow(RangeError);
  });
});

describe('random changes', () => {
  // Around the ends of tables of every level, in ranges that overlap.
  const page = fc
    .tuple(fc.constantFrom(0, 512, 512 ** 2, 512 ** 3), fc.integer({ min: -6, max: 6 }), fc.constantFrom(0, 0, 0, 1024))
    .map(([base, near, more]) => Math.max(0, base + near + more));
  const pages = fc.oneof(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 500, max: 1100 }));
  const operation = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constant('map' as const), page, pages, permissions: fc.nat(3), frame: fc.nat(99) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant('frames' as const),
        page,
        frames: fc.array(fc.nat(99), { maxLength: 9 }),
      }),
    },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('unmap' as const), page, pages, keep: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('reserve' as const), page, pages }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('release' as const), which: fc.nat(5) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('find' as const), page, pages }) },
  );

  /** Table pages that a set of pages needs, the root among them. */
  function tablesFor(wanted: Iterable<number>, levels: number): number {
    const tables = new Set<string>(['root']);
    for (const p of wanted) for (let l = 1; l < levels; l++) tables.add(`${l}:${Math.floor(p / 512 ** l)}`);
    return tables.size;
  }

  it('do what they do to a plain map, and leave no table behind', () => {
    let refused = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(4, 5),
        fc.constantFrom(10, 14, 10_000),
        fc.array(operation, { maxLength: 40 }),
        (levels, maxPages, operations) => {
          const { memory, builder, root, look, map, unmap, first } = setup(levels, maxPages);
          const model = new Map<number, [number, number]>();
          const reserved: [page: number, pages: number][] = [];
          let kept = false;
          for (const op of operations) {
            const before = memory.pagesInUse;
            switch (op.do) {
              case 'map':
                if (map(op.page, op.frame, op.pages, op.permissions)) {
                  for (let i = 0; i < op.pages; i++) model.set(op.page + i, [op.frame + i, op.permissions]);
                } else {
                  refused++;
                  expect(memory.pagesInUse).toBe(before);
                }
                break;
              case 'frames': {
                const frames = Int32Array.from(op.frames);
                if (builder.mapFrames(root, ...at(op.page), frames, 0, frames.length, RW)) {
                  op.frames.forEach((frame, i) => {
                    model.set(op.page + i, [frame, RW]);
                  });
                }
                break;
              }
              case 'unmap': {
                let count = 0;
                for (let i = 0; i < op.pages; i++) if (model.delete(op.page + i)) count++;
                expect(unmap(op.page, op.pages, op.keep)).toBe(count);
                kept ||= op.keep;
                break;
              }
              case 'reserve':
                if (builder.reserve(root, ...at(op.page), op.pages)) reserved.push([op.page, op.pages]);
                else expect(memory.pagesInUse).toBe(before);
                break;
              case 'release': {
                const [range] = reserved.splice(op.which, 1);
                if (range !== undefined) builder.release(root, ...at(range[0]), range[1]);
                break;
              }
              case 'find': {
                let wanted = -1;
                for (let i = 0; i < op.pages && wanted < 0; i++) if (model.has(op.page + i)) wanted = i;
                expect(first(op.page, op.pages)).toBe(wanted);
                break;
              }
            }
          }
          for (const [p, [frame, permissions]] of model) {
            expect(look(p)).toEqual(permissions === 0 ? undefined : [frame, permissions]);
          }
          const needed = tablesFor(
            [...model.keys(), ...reserved.flatMap(([p, n]) => Array.from({ length: n }, (_, i) => p + i))],
            levels,
          );
          if (kept) expect(memory.pagesInUse).toBeGreaterThanOrEqual(needed);
          else expect(memory.pagesInUse).toBe(needed);
          builder.destroy(root);
          expect(memory.pagesInUse).toBe(0);
        },
      ),
      { numRuns: 150 },
    );
    expect(refused).toBeGreaterThan(0);
  });
});
