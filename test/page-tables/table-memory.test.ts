import { describe, expect, it } from 'vitest';
import { MemoryStatus } from '../../src/memory/guest-memory.ts';
import { TableMemory } from '../../src/page-tables/table-memory.ts';

const FAR = 0x3ffff;

describe('allocation', () => {
  it('gives out pages of zeros, each once', () => {
    const memory = new TableMemory();
    const frames = Array.from({ length: 5000 }, () => memory.allocate());
    expect(new Set(frames).size).toBe(5000);
    expect(frames.every(frame => memory.has(frame))).toBe(true);
    expect(memory.pagesInUse).toBe(5000);
  });

  it('starts small and grows, in windows that stay where they are', () => {
    const memory = new TableMemory();
    expect(memory.windows).toHaveLength(0);
    memory.allocate();
    const first = memory.windows[0]!;
    expect(first.bytes.length).toBe(64 * 1024);
    for (let i = 0; i < 100; i++) memory.allocate();
    expect(memory.windows.length).toBeGreaterThan(1);
    expect(memory.windows[0]).toBe(first);
  });

  it('ends at the limit and goes on after a page is given back', () => {
    const memory = new TableMemory({ maxPages: 3 });
    const frames = [memory.allocate(), memory.allocate(), memory.allocate()];
    expect(memory.allocate()).toBe(-1);
    memory.free(frames[1]!);
    expect(memory.pagesInUse).toBe(2);
    expect(memory.allocate()).toBe(frames[1]);
    expect(memory.allocate()).toBe(-1);
  });

  it('clears a page that is given back, and its marks', () => {
    const memory = new TableMemory();
    const frame = memory.allocate();
    const { words } = memory.windows[frame >>> 18]!;
    words.fill(-1, (frame & FAR) << 10, ((frame & FAR) + 1) << 10);
    memory.marks[frame >>> 18]!.fill(7, (frame & FAR) << 1, ((frame & FAR) << 1) + 2);
    memory.free(frame);
    expect(words.every(word => word === 0)).toBe(true);
    expect(memory.marks[frame >>> 18]!.every(mark => mark === 0)).toBe(true);
  });

  it('refuses to free what is not in use', () => {
    const memory = new TableMemory();
    const frame = memory.allocate();
    memory.free(frame);
    for (const wrong of [frame, FAR, 1 << 18, -1]) expect(() => memory.free(wrong)).toThrow(RangeError);
    expect(memory.pagesInUse).toBe(0);
  });

  it('prepares as many pages as there may be, and no more', () => {
    const memory = new TableMemory({ maxPages: 100 });
    memory.allocate();
    expect(memory.prepare(100)).toBe(false);
    expect(memory.prepare(99)).toBe(true);
    expect(memory.pagesInUse).toBe(1);
    for (let i = 0; i < 99; i++) expect(memory.allocate()).toBeGreaterThanOrEqual(0);
    expect(memory.allocate()).toBe(-1);
    expect(memory.prepare(0)).toBe(true);
  });

  it.each([0, -1, 1.5, 2 ** 26])('refuses a limit of %d pages', maxPages => {
    expect(() => new TableMemory({ maxPages })).toThrow(RangeError);
  });
});

describe('as guest memory', () => {
  it('loads what was stored', () => {
    const memory = new TableMemory();
    const frame = memory.allocate();
    expect(memory.store32(frame, 0xff8, -5)).toBe(MemoryStatus.ok);
    expect(memory.store32(frame, 0xffc, 6)).toBe(MemoryStatus.ok);
    expect(memory.load64(frame, 0xff8)).toBe(MemoryStatus.ok);
    expect([memory.low, memory.high]).toEqual([-5, 6]);
  });

  it('exchanges a word that is as expected', () => {
    const memory = new TableMemory();
    const frame = memory.allocate();
    memory.store32(frame, 8, 7);
    expect(memory.compareExchange32(frame, 8, 6, 9)).toBe(MemoryStatus.ok);
    expect(memory.low).toBe(7);
    expect(memory.compareExchange32(frame, 8, 7, 9)).toBe(MemoryStatus.ok);
    memory.load64(frame, 8);
    expect(memory.low).toBe(9);
    expect(memory.compareExchange32(frame + 1, 8, 7, 9)).toBe(MemoryStatus.unmapped);
  });

  it('copies in and out', () => {
    const memory = new TableMemory();
    const frame = memory.allocate();
    expect(memory.write(frame, 100, Uint8Array.of(0, 1, 2, 3), 1, 3)).toBe(MemoryStatus.ok);
    const target = new Uint8Array(5);
    expect(memory.read(frame, 99, target, 0, 5)).toBe(MemoryStatus.ok);
    expect([...target]).toEqual([0, 1, 2, 3, 0]);
  });

  it('copies across pages that are both in use, and not otherwise', () => {
    const memory = new TableMemory();
    const first = memory.allocate();
    const target = new Uint8Array(8);
    expect(memory.read(first, 4092, target, 0, 8)).toBe(MemoryStatus.unmapped);
    expect(memory.allocate()).toBe(first + 1);
    expect(memory.write(first, 4092, new Uint8Array(8).fill(9), 0, 8)).toBe(MemoryStatus.ok);
    expect(memory.read(first, 4092, target, 0, 8)).toBe(MemoryStatus.ok);
    expect([...target]).toEqual(new Array(8).fill(9));
  });

  it('has nothing where no page is in use', () => {
    const memory = new TableMemory();
    const frame = memory.allocate();
    for (const wrong of [frame + 1, FAR, 1 << 18, 0x7fffffff, -1]) {
      expect(memory.load64(wrong, 0)).toBe(MemoryStatus.unmapped);
      expect(memory.store32(wrong, 0, 1)).toBe(MemoryStatus.unmapped);
      expect(memory.read(wrong, 0, new Uint8Array(1), 0, 1)).toBe(MemoryStatus.unmapped);
      expect(memory.write(wrong, 0, new Uint8Array(1), 0, 1)).toBe(MemoryStatus.unmapped);
    }
  });

  it.each([4, 0xffc, 0x1000, -8])('has no 64-bit word at offset %d', offset => {
    const memory = new TableMemory();
    expect(memory.load64(memory.allocate(), offset)).toBe(MemoryStatus.unmapped);
  });
});
