/**
 * Walks of four levels within one window have a short cut. Where memory has no windows there is none, so that two walkers over the same
 * tables, one with windows, one without, must leave the same behind, whatever the entries hold.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type MemoryStatus, WINDOW_FRAME_SHIFT } from '../../src/memory/guest-memory.ts';
import { arm64Stage1 } from '../../src/page-tables/arm64-stage1.ts';
import type { PageTableFormat } from '../../src/page-tables/format.ts';
import { vtdSecondStage } from '../../src/page-tables/vtd-second-stage.ts';
import { Walker, WalkStatus } from '../../src/page-tables/walker.ts';
import { x64FirstLevel } from '../../src/page-tables/x64-first-level.ts';
import { FakeMemory, GiB1, PS, R, RW, SNP, TM, W, words } from '../iommu/support.ts';

const FRAMES = 16;
/** The same frames again in each of these; 512 is the first beyond 39 bits of address. */
const WINDOWS = [0, 1, 3, 4, 512];
const ACCESSES = [0, 1, 2, 3];

/** Memory that shows its few frames in several windows, or in none. */
class RepeatedMemory extends FakeMemory {
  constructor(messagesOnly: boolean) {
    super(FRAMES * 4096, { messagesOnly });
    const first = this.windows[0];
    if (first !== undefined) for (const index of WINDOWS) this.windows[index] = first;
  }

  override load64(frame: number, offset: number): MemoryStatus {
    const there = WINDOWS.includes(frame >>> WINDOW_FRAME_SHIFT);
    return super.load64(there ? frame & ((1 << WINDOW_FRAME_SHIFT) - 1) : FRAMES, offset);
  }
}

function pair(format: PageTableFormat) {
  const memories = [new RepeatedMemory(false), new RepeatedMemory(true)] as const;
  const walkers = memories.map(memory => new Walker(format, memory, false));
  return {
    write(frame: number, index: number, value: bigint): void {
      for (const memory of memories) memory.write64(frame, index * 8, value);
    },
    /** What both walkers leave behind: the one with windows first. */
    both: (walk: (walker: Walker) => WalkStatus) => walkers.map(walker => outcome(walker, walk(walker))),
    loads: () => memories[0].loads.length,
  };
}

function outcome(walker: Walker, status: WalkStatus) {
  const { level, startLevel, entryLow, entryHigh, frame, shift, permissions } = walker;
  if (status === WalkStatus.tooWide) return { status, visited: [] };
  const visited = Array.from(walker.visited.slice(2 * level, 2 * startLevel + 2));
  const result = status === WalkStatus.ok ? { frame, shift, permissions } : {};
  return { status, level, startLevel, entryLow, entryHigh, visited, ...result };
}

/** Indexes 3, 5, 7 and 9 from the top. */
const IOVA = (3n << 39n) | (5n << 30n) | (7n << 21n) | (9n << 12n);
const INDEXES = [9, 7, 5, 3];
/** Tables of level 4 to 1 are frames 4 to 1. */
const PAGE = 0x7_1234_5000n;
const entryOf = (level: number) => (level === 1 ? PAGE : BigInt(level - 1) << 12n) | RW;

const formats: readonly (readonly [string, PageTableFormat])[] = [
  ['VT-d, 39 bits', vtdSecondStage({ hostAddressWidth: 39, largePages: { '2M': true, '1G': true } })],
  ['VT-d, 52 bits', vtdSecondStage({ hostAddressWidth: 52, largePages: { '2M': true, '1G': false } })],
  ['VT-d, 31 bits', vtdSecondStage({ hostAddressWidth: 31, largePages: { '2M': false, '1G': false }, snoop: true })],
  ['x86-64', x64FirstLevel({ hostAddressWidth: 46 })],
  ['Arm', arm64Stage1({ granule: 4, outputAddressBits: 44, privilege: 'privileged' })],
];

describe('a walk of four levels', () => {
  const vtd = formats[0]![1];

  it('finds the page, what is allowed, and which tables it read', () => {
    const { write, both, loads } = pair(vtd);
    for (const level of [4, 3, 2, 1]) write(level, INDEXES[level - 1]!, entryOf(level));
    write(3, 5, (2n << 12n) | R);
    const [got] = both(walker => walker.walk(4, 4, ...words(IOVA), 1));
    expect(got).toEqual({
      status: WalkStatus.ok,
      level: 1,
      startLevel: 4,
      entryLow: 0x12345003,
      entryHigh: 7,
      visited: [1, 1, 2, 1, 3, 3, 4, 3],
      frame: 0x712345,
      shift: 12,
      permissions: 1,
    });
    expect(loads()).toBe(0);
  });

  it('tells of its own tables, not of those of the walk before', () => {
    const { write, both } = pair(vtd);
    for (const level of [4, 3, 2, 1]) write(level, INDEXES[level - 1]!, entryOf(level));
    write(4, 0, (8n << 12n) | RW);
    write(8, 0, (9n << 12n) | PS | RW);
    // A large page, by way of the general walk, with nobody having asked for `visited` in between.
    const [got, wanted] = both(one => {
      one.walk(4, 4, ...words(IOVA), 1);
      return one.walk(4, 4, 0, 0, 1);
    });
    expect(got).toEqual(wanted);
    expect(got!.visited.slice(-2)).toEqual([4, 3]);
  });

  it('of which nobody asked what it visited leaves nothing of it to the next', () => {
    const { write, both } = pair(vtd);
    for (const level of [4, 3, 2, 1]) write(level, INDEXES[level - 1]!, entryOf(level));
    write(12, 9, (5n << 12n) | RW);
    const [got, wanted] = both(walker => {
      walker.walk(4, 4, ...words(IOVA), 1);
      return walker.walkFrom(12, 1, 3, ...words(IOVA), 1);
    });
    expect(got).toEqual(wanted);
    expect(got!.visited).toEqual([12, 3]);
  });

  it('does not take a reserved bit for part of the number of the window that its tables are in', () => {
    const { write, both } = pair(vtdSecondStage({ hostAddressWidth: 31, largePages: { '2M': true, '1G': true } }));
    // Bit 31 is reserved, and that of the third window.
    const base = 3n << 30n;
    for (const level of [4, 3, 2]) write(level, INDEXES[level - 1]!, entryOf(level) | base);
    write(1, INDEXES[0]!, base | RW);
    for (const got of both(walker => walker.walk((3 << WINDOW_FRAME_SHIFT) | 4, 4, ...words(IOVA), 1))) {
      expect([got.status, 'level' in got && got.level]).toEqual([WalkStatus.reserved, 4]);
    }
  });

  const unusual: readonly (readonly [string, (entry: bigint) => bigint])[] = [
    ['zero', () => 0n],
    ['not present', entry => entry & ~3n],
    ['read-only', entry => (entry & ~3n) | R],
    ['write-only', entry => (entry & ~3n) | W],
    ['a large page', entry => entry | PS],
    ['an aligned large page', () => GiB1 | PS | RW],
    ['bit 11', entry => entry | SNP],
    ['bit 62', entry => entry | TM],
    ['an ignored bit', entry => entry | (1n << 63n) | (1n << 8n)],
    ['all ones', () => (1n << 64n) - 1n],
    ['an address in another window', entry => entry | GiB1],
    ['an address in a window further up', entry => entry | (GiB1 << 2n)],
    ['an address where there is no window', entry => entry | (GiB1 << 1n)],
    ['an address within the window, beyond its memory', entry => entry | (1n << 29n)],
    ['an address beyond the host', entry => entry | (1n << 39n)],
    ['an address beyond what can be said', entry => entry | (1n << 43n)],
  ];
  describe.each(formats)('%s', (_name, format) => {
    it.each(unusual)('deals with %s on every level', (_what, change) => {
      for (const level of [4, 3, 2, 1]) {
        for (const window of WINDOWS) {
          const { write, both } = pair(format);
          const base = BigInt(window) << BigInt(WINDOW_FRAME_SHIFT + 12);
          for (const one of [4, 3, 2, 1]) {
            const entry = entryOf(one) | (one === 1 ? 0n : base);
            write(one, INDEXES[one - 1]!, one === level ? change(entry) : entry);
          }
          for (const access of ACCESSES) {
            const root = (window << WINDOW_FRAME_SHIFT) | 4;
            const [got, wanted] = both(walker => walker.walk(root, 4, ...words(IOVA), access));
            expect(got).toEqual(wanted);
          }
        }
      }
    });

    it('leaves the same behind, whatever tables hold', () => {
      const index = fc.constantFrom(0, 1, 511);
      const flags = fc.constantFrom(3n, 3n, 3n, 3n, 3n, 3n, 1n, 2n, 7n, 0x67n, 0x443n, 0x83n, 0x803n);
      const window = fc.constantFrom(0n, 0n, 0n, 0n, 0n, 0n, 1n, 2n, 3n, 4n, 512n);
      const table = fc
        .tuple(fc.nat(FRAMES - 1), window, flags)
        .map(([frame, n, bits]) => (BigInt(frame) << 12n) | (n << 30n) | bits);
      const entry = fc.oneof(
        { weight: 30, arbitrary: table },
        { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }) },
        { weight: 1, arbitrary: fc.tuple(table, fc.nat(63)).map(([t, bit]) => t ^ (1n << BigInt(bit))) },
      );
      const filled = fc.array(fc.tuple(entry, entry, entry), { minLength: FRAMES, maxLength: FRAMES });
      const ask = fc.record({
        indexes: fc.tuple(index, index, index, index),
        top: fc.constantFrom(0, 0, 0, 0, 1, 0x8000),
        root: fc.tuple(fc.nat(FRAMES - 1), fc.constantFrom(0, 0, 0, ...WINDOWS)),
        access: fc.nat(3),
        // Whoever walks from a table has checked that what is above allows the access: that, and perhaps more.
        above: fc.constantFrom(undefined, 0, 1, 3),
      });
      fc.assert(
        fc.property(filled, fc.array(ask, { minLength: 5, maxLength: 30 }), (tables, asked) => {
          const { write, both } = pair(format);
          tables.forEach((entries, frame) => {
            entries.forEach((value, i) => void write(frame, [0, 1, 511][i]!, value));
          });
          for (const { indexes, top, root, access, above } of asked) {
            const [i4, i3, i2, i1] = indexes;
            const high = (top << 16) | (i4 << 7) | (i3 >>> 2);
            const low = (i3 << 30) | (i2 << 21) | (i1 << 12) | 0x123;
            const frame = (root[1] << WINDOW_FRAME_SHIFT) | root[0];
            const [got, wanted] = both(walker => {
              if (above === undefined) return walker.walk(frame, 4, high, low, access);
              return walker.walkFrom(frame, 4, walker.accessBits[access | above]!, high, low, access);
            });
            expect(got).toEqual(wanted);
          }
        }),
        { numRuns: 150 },
      );
    });
  });
});

describe.each([4, 3, 2, 1])('an entry of level %d of four', level => {
  it('is read again as a whole where it changes meanwhile', () => {
    const format = vtdSecondStage({ hostAddressWidth: 52, largePages: { '2M': true, '1G': true } });
    const memory = new FakeMemory(FRAMES * 4096);
    for (const one of [4, 3, 2, 1]) memory.write64(one, INDEXES[one - 1]! * 8, entryOf(one));
    // The low half of another entry leads to a table that would be as good, on every level.
    for (const index of INDEXES) memory.write64(10, index * 8, (10n << 12n) | RW);
    const window = memory.windows[0]!;
    const at = String(level * 1024 + INDEXES[level - 1]! * 2);
    let reads = 0;
    const torn = new Proxy(window.words, {
      get: (target, key) => (key === at && reads++ === 0 ? 0xa003 : Reflect.get(target, key)),
    });
    memory.windows[0] = { bytes: window.bytes, words: torn };
    const walker = new Walker(format, memory);
    expect(walker.walk(4, 4, ...words(IOVA), 1)).toBe(WalkStatus.ok);
    expect(walker.frame).toBe(Number(PAGE >> 12n));
    expect(walker.visited[2 * level]).toBe(level);
  });
});
