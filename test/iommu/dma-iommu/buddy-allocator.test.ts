import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BuddyAllocator, FIRST_NODES, OUT_OF_NODES } from '../../../src/iommu/dma-iommu/buddy-allocator.ts';
import { Budget } from '../../../src/iommu/dma-iommu/budget.ts';

describe('the buddy allocator', () => {
  it('gives the lowest addresses first', () => {
    const buddy = new BuddyAllocator(4);
    expect([1, 1, 2, 1, 4].map(pages => buddy.allocate(pages))).toEqual([0, 1, 2, 4, 8]);
    expect(buddy.allocate(1)).toBe(5);
  });

  it('rounds up to a power of two, and aligns to it', () => {
    const buddy = new BuddyAllocator(4);
    expect(buddy.allocate(3)).toBe(0);
    expect(buddy.allocate(1)).toBe(4);
    expect(buddy.allocate(5)).toBe(8);
    expect(buddy.freePages).toBe(3);
  });

  it('has one block where its space is one page', () => {
    const buddy = new BuddyAllocator(0);
    expect(buddy.allocate(1)).toBe(0);
    expect(buddy.allocate(1)).toBe(-1);
    buddy.free(0, 1);
    expect(buddy.allocate(1)).toBe(0);
  });

  it('refuses what is larger than its space', () => {
    expect(new BuddyAllocator(4).allocate(17)).toBe(-1);
    expect(new BuddyAllocator(4).allocate(16)).toBe(0);
  });

  it('makes a whole of what is freed', () => {
    const buddy = new BuddyAllocator(4);
    const starts = Array.from({ length: 16 }, () => buddy.allocate(1));
    expect(buddy.allocate(1)).toBe(-1);
    for (const start of starts) buddy.free(start, 1);
    expect(buddy.allocate(16)).toBe(0);
  });

  it('counts a window of the pages asked for, not of the block', () => {
    const buddy = new BuddyAllocator(4);
    expect(buddy.allocate(3, { first: 1, end: 7 })).toBe(4);
    expect(buddy.allocate(3, { first: 0, end: 2 })).toBe(-1);
    expect(buddy.allocate(3, { first: 0, end: 3 })).toBe(0);
  });

  it('takes nothing when a window has no room', () => {
    const buddy = new BuddyAllocator(40);
    expect(buddy.allocate(4, { first: 5, end: 8 })).toBe(-1);
    expect(buddy.freePages).toBe(2 ** 40);
    expect(buddy.allocate(4, { first: 2 ** 39 + 1, end: 2 ** 39 + 8 })).toBe(2 ** 39 + 4);
  });

  it('never gives what is withheld, and gives all around it', () => {
    const buddy = new BuddyAllocator(3);
    buddy.withhold(2, 3);
    buddy.withhold(3, 1);
    buddy.withhold(7, 100);
    expect(buddy.freePages).toBe(4);
    expect([1, 1, 1, 1, 1].map(() => buddy.allocate(1))).toEqual([0, 1, 5, 6, -1]);
  });

  describe('with a budget of nodes', () => {
    it('takes nothing where they do not suffice, and says so', () => {
      const budget = new Budget(FIRST_NODES);
      const buddy = new BuddyAllocator(40, budget);
      expect(buddy.allocate(1)).toBe(OUT_OF_NODES);
      expect([buddy.freePages, budget.left]).toEqual([2 ** 40, FIRST_NODES]);
      expect(buddy.allocate(2 ** 39)).toBe(0);
      expect(buddy.allocate(1)).toBe(OUT_OF_NODES);
      expect(buddy.allocate(2 ** 39)).toBe(2 ** 39);
    });

    it('says so, too, where not all can be withheld', () => {
      expect(new BuddyAllocator(40, new Budget(FIRST_NODES)).withhold(5, 1)).toBe(false);
      expect(new BuddyAllocator(40, new Budget(8 * FIRST_NODES)).withhold(5, 1)).toBe(true);
    });

    it('gives them back as blocks are freed, and goes on with what is left', () => {
      const budget = new Budget(1 << 16);
      const buddy = new BuddyAllocator(20, budget);
      const starts = Array.from({ length: 2000 }, () => buddy.allocate(1));
      const least = budget.left;
      expect(least).toBeLessThanOrEqual((1 << 16) + FIRST_NODES - 4000);
      while (starts.length > 100) buddy.free(starts.splice(starts.length >> 1, 1)[0]!, 1);
      expect(budget.left).toBeGreaterThan(least + 2000);
      const more = Array.from({ length: 500 }, () => buddy.allocate(1));
      expect(new Set([...starts, ...more]).size).toBe(600);
      for (const start of [...starts, ...more]) buddy.free(start, 1);
      expect(budget.left).toBe(1 << 16);
      expect(buddy.allocate(2 ** 20)).toBe(0);
    });

    it('gives all back in the end, whatever is allocated', () => {
      const budget = new Budget(1 << 16);
      const buddy = new BuddyAllocator(40, budget);
      for (let i = 0; i < 100; i++) buddy.allocate(1);
      expect(budget.left).toBeLessThan(1 << 16);
      buddy.dispose();
      expect(budget.left).toBe(1 << 16);
    });
  });

  it('throws on a space that is none', () => {
    for (const order of [-1, 1.5, 53, Number.NaN]) expect(() => new BuddyAllocator(order)).toThrow(RangeError);
  });

  it('keeps blocks apart, aligned, within the window and the lowest possible, whatever happens', () => {
    const ORDER = 5;
    const PAGES = 2 ** ORDER;
    const step = fc.oneof(
      fc.record({
        pages: fc.integer({ min: 1, max: 9 }),
        first: fc.integer({ min: 0, max: PAGES }),
        end: fc.integer({ min: 0, max: PAGES }),
      }),
      fc.record({ free: fc.nat() }),
    );
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 0, max: PAGES - 1 }), { maxLength: 6 }),
        fc.array(step, { maxLength: 40 }),
        (holes, steps) => {
          const buddy = new BuddyAllocator(ORDER);
          const taken = new Array<boolean>(PAGES).fill(false);
          for (const hole of holes) {
            buddy.withhold(hole, 1);
            taken[hole] = true;
          }
          const blocks: { start: number; pages: number; size: number }[] = [];
          for (const one of steps) {
            if ('free' in one) {
              const [block] = blocks.splice(one.free % (blocks.length || 1), 1);
              if (block === undefined) continue;
              buddy.free(block.start, block.pages);
              taken.fill(false, block.start, block.start + block.size);
              continue;
            }
            const { pages, first, end } = one;
            const size = 2 ** Math.ceil(Math.log2(pages));
            const possible = [];
            for (let start = 0; start + size <= PAGES; start += size) {
              const inWindow = start >= first && start + pages <= end;
              if (inWindow && !taken.slice(start, start + size).includes(true)) possible.push(start);
            }
            const start = buddy.allocate(pages, { first, end });
            expect(start).toBe(possible[0] ?? -1);
            if (start < 0) continue;
            taken.fill(true, start, start + size);
            blocks.push({ start, pages, size });
          }
          expect(buddy.freePages).toBe(taken.filter(page => !page).length);
        },
      ),
      { numRuns: 500 },
    );
  });
});
