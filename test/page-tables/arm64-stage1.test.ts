import { describe, expect, it } from 'vitest';
import { Access } from '../../src/iommu/translator.ts';
import { arm64Levels, arm64Stage1 } from '../../src/page-tables/arm64-stage1.ts';
import { Walker, WalkStatus } from '../../src/page-tables/walker.ts';
import { FakeMemory, words } from '../iommu/support.ts';

const AP1 = 1n << 6n;
const READ_ONLY = 1n << 7n;
const AF = 1n << 10n;
const TABLE = 3n;
const PAGE = 3n | AF;
const BLOCK = 1n | AF;
const OUTPUT_BITS = 42;
type Granule = 4 | 16 | 64;
const GRANULES = [4, 16, 64] as const;
const shiftOf = (granule: Granule) => ({ 4: 12, 16: 14, 64: 16 })[granule];

interface Options {
  readonly levels?: number;
  readonly outputAddressBits?: number;
  readonly privilege?: 'privileged' | 'unprivileged';
  readonly messagesOnly?: boolean;
}

function setup(granule: Granule, options: Options = {}) {
  const { levels = arm64Levels(granule, 48), outputAddressBits = OUTPUT_BITS, privilege = 'privileged' } = options;
  const shift = shiftOf(granule);
  const frames = 1 << (shift - 12);
  const memory = new FakeMemory(8 * frames * 4096, { messagesOnly: options.messagesOnly ?? false });
  const walker = new Walker(arm64Stage1({ granule, outputAddressBits, privilege }), memory);
  const root = frames;
  let next = root;
  const slot = (iova: bigint, level: number, table: number) => {
    const index = (iova >> BigInt(shift + (shift - 3) * (level - 1))) & ((1n << BigInt(shift - 3)) - 1n);
    return BigInt(table) * 4096n + index * 8n;
  };
  /** Where the entry of that level for the address is; makes the tables above it. */
  const addressOf = (iova: bigint, level: number): bigint => {
    let table = root;
    for (let at = levels; at > level; at--) {
      const address = slot(iova, at, table);
      if (memory.word(address) === 0n) {
        next += frames;
        put(address, (BigInt(next) << 12n) | TABLE);
      }
      table = Number((memory.word(address)! & 0xffff_ffff_f000n) >> 12n);
    }
    return slot(iova, level, table);
  };
  const put = (address: bigint, value: bigint) =>
    memory.write64(Number(address >> 12n), Number(address & 0xfffn), value);
  const map = (iova: bigint, value: bigint, level = 1) => put(addressOf(iova, level), value);
  const change = (iova: bigint, level: number, by: (entry: bigint) => bigint) => {
    const address = addressOf(iova, level);
    put(address, by(memory.word(address)!));
  };
  const walk = (iova: bigint, access: number = Access.read) => walker.walk(root, levels, ...words(iova), access);
  return { memory, walker, walk, map, change, levels, shift, root };
}

/** Bits in every level's index, within 48 bits. */
const IOVA = 0x9abc_def1_2345n;
/** Aligned to the largest of all mappings. */
const OUTPUT = 0x180_0000_0000n;

describe('how many levels an input size needs', () => {
  it.each([
    [4, 48, 4],
    [4, 40, 4],
    [4, 39, 3],
    [4, 31, 3],
    [4, 30, 2],
    [4, 25, 2],
    [4, 21, 1],
    [16, 48, 4],
    [16, 47, 3],
    [16, 37, 3],
    [16, 36, 2],
    [16, 26, 2],
    [16, 25, 1],
    [64, 48, 3],
    [64, 43, 3],
    [64, 42, 2],
    [64, 30, 2],
    [64, 29, 1],
    [64, 16, 1],
  ] as const)('%d KiB granule, %d bits: %d', (granule, inputSize, levels) => {
    expect(arm64Levels(granule, inputSize)).toBe(levels);
  });

  it.each([15, 49, 30.5])('refuses %d bits', inputSize => {
    expect(() => arm64Levels(4, inputSize)).toThrow(RangeError);
  });
});

describe.each(GRANULES)('a granule of %d KiB', granule => {
  const shift = shiftOf(granule);
  const deepest = arm64Levels(granule, 48);
  const blocks = granule === 4 ? [2, 3] : [2];
  const within = (size: number) => Number((IOVA & ((1n << BigInt(size)) - 1n)) >> 12n);

  it.each([false, true])('maps a page (messages: %s)', messagesOnly => {
    const { walker, walk, map } = setup(granule, { messagesOnly });
    map(IOVA, OUTPUT | PAGE);
    expect(walk(IOVA, Access.write)).toBe(WalkStatus.ok);
    // The very 4 KiB page that was asked for.
    expect([walker.frame, walker.shift, walker.permissions]).toEqual([Number(OUTPUT >> 12n) + within(shift), shift, 3]);
    expect([walker.startLevel, walker.level]).toEqual([deepest, 1]);
  });

  it.each([1, 2, 3].filter(levels => levels <= deepest))('walks %d levels', levels => {
    const { walker, walk, map } = setup(granule, { levels });
    const width = shift + (shift - 3) * levels;
    const iova = width >= 48 ? IOVA : IOVA & ((1n << BigInt(width)) - 1n);
    map(iova, OUTPUT | PAGE);
    expect(walk(iova)).toBe(WalkStatus.ok);
    expect(walker.startLevel).toBe(levels);
    expect(walk(1n << BigInt(Math.min(width, 48)))).toBe(WalkStatus.tooWide);
  });

  it('has a top table of fewer entries where the input size says so', () => {
    const { walker, walk, map } = setup(granule);
    const last = (1n << 48n) - 4096n;
    map(last, OUTPUT | PAGE);
    expect(walk(last)).toBe(WalkStatus.ok);
    // As many bits as the levels below leave over.
    expect(walker.visited[2 * deepest]).toBe(1 << (shift - 12));
    expect(walk(1n << 48n)).toBe(WalkStatus.tooWide);
  });

  for (const level of blocks) {
    const size = shift + (shift - 3) * (level - 1);

    it(`maps a block of 2^${size} bytes`, () => {
      const { walker, walk, map } = setup(granule);
      map(IOVA, OUTPUT | BLOCK, level);
      expect(walk(IOVA, Access.write)).toBe(WalkStatus.ok);
      expect([walker.frame, walker.shift, walker.level]).toEqual([Number(OUTPUT >> 12n) + within(size), size, level]);
    });

    it(`ignores the address bits below a block of 2^${size} bytes`, () => {
      const { walker, walk, map } = setup(granule);
      const below = ((1n << BigInt(size)) - 1n) & ~0xfffn;
      map(IOVA, OUTPUT | BLOCK | below, level);
      expect(walk(IOVA)).toBe(WalkStatus.ok);
      expect(walker.frame).toBe(Number(OUTPUT >> 12n) + within(size));
    });
  }

  for (let level = 1; level <= deepest; level++) {
    const leafHere = level === 1 || blocks.includes(level);

    it(`takes bits 1:0 of 00 and 10 on level ${level} for nothing`, () => {
      for (const type of [0n, 2n]) {
        const { walker, walk, map, change } = setup(granule);
        map(IOVA, OUTPUT | PAGE);
        change(IOVA, level, () => 0xffff_ffff_ffff_fffcn | type);
        expect(walk(IOVA)).toBe(WalkStatus.notPresent);
        expect(walker.level).toBe(level);
      }
    });

    it(`takes bits 1:0 of 01 on level ${level} for ${blocks.includes(level) ? 'a block' : 'nothing'}`, () => {
      const { walk, map } = setup(granule);
      map(IOVA, OUTPUT | BLOCK, level);
      expect(walk(IOVA)).toBe(blocks.includes(level) ? WalkStatus.ok : WalkStatus.notPresent);
    });

    it(`finds an address beyond the output size on level ${level}`, () => {
      for (const bit of [BigInt(OUTPUT_BITS), 47n]) {
        const { walker, walk, map, change } = setup(granule);
        map(IOVA, OUTPUT | PAGE);
        change(IOVA, level, entry => entry | (1n << bit));
        expect(walk(IOVA)).toBe(WalkStatus.addressSize);
        expect(walker.level).toBe(level);
      }
    });

    it(`ignores bits 51:48, attributes and software bits on level ${level}`, () => {
      const { walker, walk, map, change } = setup(granule);
      map(IOVA, OUTPUT | PAGE);
      // AttrIndx, NS, SH and nG; 51:48; contiguous, PXN, UXN and software bits or, above the last level, PXNTable and UXNTable.
      const high = leafHere && level === 1 ? 0xffffn << 48n : 0x1fffn << 48n;
      change(IOVA, level, entry => entry | 0xb3cn | high);
      expect(walk(IOVA, Access.write)).toBe(WalkStatus.ok);
      expect(walker.frame).toBe(Number(OUTPUT >> 12n) + within(shift));
    });

    if (leafHere) {
      it(`needs the access flag where level ${level} maps`, () => {
        const { walker, walk, map } = setup(granule);
        map(IOVA, (OUTPUT | (level === 1 ? PAGE : BLOCK)) & ~AF, level);
        expect(walk(IOVA)).toBe(WalkStatus.accessFlag);
        expect(walk(IOVA, Access.write)).toBe(WalkStatus.accessFlag);
        expect(walker.level).toBe(level);
      });

      it(`allows no writes by AP[2] where level ${level} maps`, () => {
        const { walker, walk, map } = setup(granule);
        map(IOVA, OUTPUT | (level === 1 ? PAGE : BLOCK) | READ_ONLY, level);
        expect(walk(IOVA)).toBe(WalkStatus.ok);
        expect(walker.permissions).toBe(Access.read);
        expect(walk(IOVA, Access.write)).toBe(WalkStatus.denied);
        expect(walk(IOVA, Access.read | Access.write)).toBe(WalkStatus.denied);
      });

      it(`needs AP[1] where level ${level} maps, for what is unprivileged`, () => {
        const { walk, map } = setup(granule, { privilege: 'unprivileged' });
        const value = OUTPUT | (level === 1 ? PAGE : BLOCK);
        map(IOVA, value, level);
        expect(walk(IOVA)).toBe(WalkStatus.denied);
        map(IOVA, value | AP1, level);
        expect(walk(IOVA, Access.write)).toBe(WalkStatus.ok);
      });
    }

    if (level > 1) {
      it(`hands APTable[1] of level ${level} down: no writes`, () => {
        const { walker, walk, map, change } = setup(granule);
        map(IOVA, OUTPUT | PAGE);
        change(IOVA, level, entry => entry | (1n << 62n));
        expect(walk(IOVA)).toBe(WalkStatus.ok);
        expect(walker.permissions).toBe(Access.read);
        expect(walk(IOVA, Access.write)).toBe(WalkStatus.denied);
      });

      it(`hands APTable[0] of level ${level} down to what is unprivileged`, () => {
        for (const privilege of ['privileged', 'unprivileged'] as const) {
          const { walk, map, change } = setup(granule, { privilege });
          map(IOVA, OUTPUT | PAGE | AP1);
          change(IOVA, level, entry => entry | (1n << 61n));
          expect(walk(IOVA)).toBe(privilege === 'privileged' ? WalkStatus.ok : WalkStatus.denied);
        }
      });

      it(`takes bits 6, 7 and 10 of a table of level ${level} for nothing`, () => {
        for (const privilege of ['privileged', 'unprivileged'] as const) {
          const { walk, map, change } = setup(granule, { privilege });
          map(IOVA, OUTPUT | PAGE | AP1);
          change(IOVA, level, entry => entry | READ_ONLY | AF);
          expect(walk(IOVA, Access.write)).toBe(WalkStatus.ok);
          change(IOVA, level, entry => entry & ~(READ_ONLY | AF | AP1));
          expect(walk(IOVA, Access.write)).toBe(WalkStatus.ok);
        }
      });
    }
  }

  it('finds the wrong address before the missing access flag, and that before the missing permission', () => {
    const { walk, map } = setup(granule);
    map(IOVA, ((OUTPUT | PAGE) & ~AF) | READ_ONLY | (1n << 47n));
    expect(walk(IOVA, Access.write)).toBe(WalkStatus.addressSize);
    map(IOVA, ((OUTPUT | PAGE) & ~AF) | READ_ONLY);
    expect(walk(IOVA, Access.write)).toBe(WalkStatus.accessFlag);
    map(IOVA, OUTPUT | PAGE | READ_ONLY);
    expect(walk(IOVA, Access.write)).toBe(WalkStatus.denied);
  });

  it('finds what is missing below before a permission taken away above', () => {
    const { walk, map, change } = setup(granule);
    map(IOVA, 0n);
    change(IOVA, deepest, entry => entry | (1n << 62n));
    expect(walk(IOVA, Access.write)).toBe(WalkStatus.notPresent);
  });

  it('writes nothing into the tables', () => {
    const { memory, walk, map } = setup(granule);
    map(IOVA, OUTPUT | PAGE);
    walk(IOVA, Access.write);
    expect(memory.exchanges).toEqual([]);
  });

  it('says where an address is beyond what a page frame can say', () => {
    const { walk, map } = setup(granule, { outputAddressBits: 48 });
    map(IOVA, (1n << 43n) | PAGE);
    expect(walk(IOVA)).toBe(WalkStatus.badPointer);
  });
});

describe('what the caller got wrong', () => {
  it.each([31, 47, 49, 52])('refuses an output size of %d bits', outputAddressBits => {
    expect(() => arm64Stage1({ granule: 64, outputAddressBits })).toThrow(RangeError);
  });

  it('refuses a granule that there is not', () => {
    expect(() => arm64Stage1({ granule: 8 as 4, outputAddressBits: 48 })).toThrow(RangeError);
  });
});
