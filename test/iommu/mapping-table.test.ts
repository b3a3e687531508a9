import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MappingTable } from '../../src/iommu/mapping-table.ts';

describe('a table of mappings', () => {
  it('has no turn while it is empty', () => {
    const table = new MappingTable<string>();
    expect(table.next()).toBe(-1);
    table.set(5, 'five');
    table.delete(5);
    expect([table.next(), table.size]).toEqual([-1, 0]);
  });

  it('gives each page its turn, round by round', () => {
    const table = new MappingTable<number>();
    for (const page of [3, 1, 2]) table.set(page, page);
    const round = () => [table.next(), table.next(), table.next()].sort();
    expect([round(), round()]).toEqual([
      [1, 2, 3],
      [1, 2, 3],
    ]);
  });

  it('is a map', () => {
    const step = fc.tuple(fc.constantFrom('set', 'delete', 'next'), fc.nat(12), fc.nat(100));
    fc.assert(
      fc.property(fc.array(step), steps => {
        const table = new MappingTable<number>();
        const map = new Map<number, number>();
        for (const [what, page, value] of steps) {
          if (what === 'next') expect(map.has(table.next())).toBe(map.size > 0);
          else if (what === 'delete') expect(table.delete(page)).toBe(map.delete(page));
          else {
            table.set(page, value);
            map.set(page, value);
          }
          expect([table.size, table.get(page), table.has(page)]).toEqual([map.size, map.get(page), map.has(page)]);
        }
        const all: [number, number][] = [];
        table.forEach((page, value) => {
          all.push([page, value]);
        });
        expect(all.sort(([a], [b]) => a - b)).toEqual([...map].sort(([a], [b]) => a - b));
      }),
    );
  });

  it('misses nobody who stays, whatever comes and goes', () => {
    const step = fc.record({ turns: fc.nat(4), come: fc.nat(3), go: fc.array(fc.nat(40), { maxLength: 4 }) });
    fc.assert(
      fc.property(fc.nat(20), fc.array(step, { minLength: 1, maxLength: 30 }), (first, steps) => {
        const table = new MappingTable<number>();
        let page = 0;
        for (; page < first; page++) table.set(page, page);
        const waiting = new Set(Array.from({ length: first }, (_, i) => i));
        // The first turn begins the round.
        waiting.delete(table.next());
        let turns = first - 1;
        for (const { turns: some, come, go } of steps) {
          for (let i = 0; i < some && turns > 0; i++, turns--) waiting.delete(table.next());
          for (let i = 0; i < come; i++, page++) table.set(page, page);
          for (const gone of go) {
            table.delete(gone);
            waiting.delete(gone);
          }
        }
        for (; turns > 0; turns--) waiting.delete(table.next());
        expect([...waiting]).toEqual([]);
      }),
    );
  });
});
