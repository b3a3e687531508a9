import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/iommu/translator.ts';
import { vtdSecondStage } from '../../src/page-tables/vtd-second-stage.ts';
import { Walker, WalkStatus } from '../../src/page-tables/walker.ts';
import { referenceWalk } from '../iommu/reference.ts';
import { vtdReference } from '../iommu/reference-formats.ts';
import {
  FakeMemory,
  type FakeMemoryOptions,
  GiB1,
  MiB2,
  PS,
  R,
  RW,
  SNP,
  TableBuilder,
  TM,
  W,
  words,
} from '../iommu/support.ts';

const HAW = 46;
const formatOptions = { hostAddressWidth: HAW, largePages: { '2M': true, '1G': true } };

function setup(levels = 4, memoryOptions: FakeMemoryOptions = {}, more = {}) {
  const memory = new FakeMemory(64 * 4096, memoryOptions);
  const tables = new TableBuilder(memory, levels);
  const walker = new Walker(vtdSecondStage({ ...formatOptions, ...more }), memory);
  const walk = (iova: bigint, access: number = Access.read) => walker.walk(tables.root, levels, ...words(iova), access);
  return { memory, tables, walker, walk };
}

describe.each([3, 4, 5])('a walk of %d levels', levels => {
  // Bits in every level's index, in both words where the width allows.
  const iova = 0x01ab_cdef_1234_5678n & ((1n << BigInt(12 + 9 * levels)) - 1n);

  it('finds a 4 KiB page', () => {
    const { tables, walker, walk } = setup(levels);
    tables.set(iova, 1, 0x7f_1234_5000n | RW);
    expect(walk(iova)).toBe(WalkStatus.ok);
    expect([walker.frame, walker.shift, walker.permissions]).toEqual([0x7f12345, 12, 3]);
    expect([walker.startLevel, walker.level]).toEqual([levels, 1]);
  });

  it('finds the 4 KiB page within a 2 MiB page', () => {
    const { tables, walker, walk } = setup(levels);
    tables.set(iova, 2, 0x7f_1220_0000n | PS | RW);
    expect(walk(iova)).toBe(WalkStatus.ok);
    expect(walker.frame).toBe(0x7f12200 + Number((iova >> 12n) & 0x1ffn));
    expect([walker.shift, walker.level]).toEqual([21, 2]);
  });

  it('finds the 4 KiB page within a 1 GiB page', () => {
    const { tables, walker, walk } = setup(levels);
    tables.set(iova, 3, 0x7f_4000_0000n | PS | RW);
    expect(walk(iova)).toBe(WalkStatus.ok);
    expect(walker.frame).toBe(0x7f40000 + Number((iova >> 12n) & 0x3ffffn));
    expect([walker.shift, walker.level]).toEqual([30, 3]);
  });

  it('leaves behind which tables it read', () => {
    const { tables, walker, walk } = setup(levels);
    tables.set(iova, 1, RW);
    walk(iova);
    for (let level = levels; level >= 1; level--) expect(walker.visited[2 * level]).toBe(tables.table(iova, level));
  });

  it('accepts the last address and refuses the one after it', () => {
    const { tables, walk } = setup(levels);
    const end = 1n << BigInt(12 + 9 * levels);
    tables.set(end - 1n, 1, RW);
    expect(walk(end - 1n)).toBe(WalkStatus.ok);
    expect(walk(end)).toBe(WalkStatus.tooWide);
    expect(walk((1n << 64n) - 1n)).toBe(WalkStatus.tooWide);
  });

  for (let level = levels; level >= 1; level--) {
    it(`ends at level ${level} where the entry is not present`, () => {
      const { tables, walker, walk } = setup(levels);
      tables.set(iova, 1, RW);
      // Every other bit, reserved ones among them: an entry that is not present is not looked into.
      tables.set(iova, level, 0xffff_ffff_ffff_fffcn);
      expect(walk(iova)).toBe(WalkStatus.notPresent);
      expect(walker.level).toBe(level);
    });

    it(`needs the permission on level ${level}`, () => {
      const { memory, tables, walker, walk } = setup(levels);
      tables.set(iova, 1, RW);
      const table = tables.table(iova, level);
      const entry = memory.word(BigInt(table * 4096 + TableBuilder.offset(iova, level)))!;
      tables.set(iova, level, (entry & ~3n) | R);
      expect(walk(iova, Access.read)).toBe(WalkStatus.ok);
      expect(walker.permissions).toBe(Access.read);
      expect(walk(iova, Access.write)).toBe(WalkStatus.denied);
      expect(walker.level).toBe(level);
      expect(walk(iova, Access.read | Access.write)).toBe(WalkStatus.denied);
      tables.set(iova, level, (entry & ~3n) | W);
      expect(walk(iova, Access.read)).toBe(WalkStatus.denied);
      expect(walk(iova, Access.write)).toBe(WalkStatus.ok);
      expect(walker.permissions).toBe(Access.write);
    });

    it.each([
      ['bit 11', SNP],
      ['bit 62', TM],
      ['the first address bit beyond the host', 1n << BigInt(HAW)],
      ['address bit 51', 1n << 51n],
    ])(`refuses ${'%s'} on level ${level}`, (_what, bit) => {
      const { memory, tables, walker, walk } = setup(levels);
      tables.set(iova, 1, RW);
      const table = tables.table(iova, level);
      const entry = memory.word(BigInt(table * 4096 + TableBuilder.offset(iova, level)))!;
      tables.set(iova, level, entry | bit);
      expect(walk(iova)).toBe(WalkStatus.reserved);
      expect(walker.level).toBe(level);
    });

    it(`ignores bits 63, 61:52, 10:8 and 6:2 on level ${level}`, () => {
      const { memory, tables, walk } = setup(levels);
      tables.set(iova, 1, RW);
      const table = tables.table(iova, level);
      const entry = memory.word(BigInt(table * 4096 + TableBuilder.offset(iova, level)))!;
      tables.set(iova, level, entry | 0xbff0_0000_0000_077cn);
      expect(walk(iova)).toBe(WalkStatus.ok);
    });

    it(`reports a table of level ${level} that no memory holds`, () => {
      const { memory, tables, walker, walk } = setup(levels);
      if (level === levels) {
        expect(walker.walk(9999, levels, ...words(iova), Access.read)).toBe(WalkStatus.badPointer);
      } else {
        tables.set(iova, level + 1, (0x2000n << 12n) | RW);
        expect(walk(iova)).toBe(WalkStatus.badPointer);
        expect(memory.loads.at(-1)).toBe(0x2000);
      }
      expect(walker.level).toBe(level);
    });
  }

  for (let level = 4; level <= levels; level++) {
    it(`refuses PS on level ${level}`, () => {
      const { tables, walk } = setup(levels);
      tables.set(iova, level, PS | RW);
      expect(walk(iova)).toBe(WalkStatus.reserved);
    });
  }
});

describe('large pages', () => {
  const iova = 0x12_3456_7000n;

  it('refuses PS in an SS-PDE without 2 MiB pages', () => {
    const { tables, walk } = setup(4, {}, { largePages: { '2M': false, '1G': true } });
    tables.set(iova, 2, PS | RW);
    expect(walk(iova)).toBe(WalkStatus.reserved);
  });

  it('refuses PS in an SS-PDPE without 1 GiB pages', () => {
    const { tables, walk } = setup(4, {}, { largePages: { '2M': true, '1G': false } });
    tables.set(iova, 3, PS | RW);
    expect(walk(iova)).toBe(WalkStatus.reserved);
  });

  it('ignores bit 7 of an SS-PTE', () => {
    const { tables, walk } = setup();
    tables.set(iova, 1, PS | RW);
    expect(walk(iova)).toBe(WalkStatus.ok);
  });

  for (let bit = 12; bit <= 29; bit++) {
    it(`refuses address bit ${bit} below the size of a large page`, () => {
      const { tables, walk } = setup();
      tables.set(iova, 3, PS | RW | (1n << BigInt(bit)));
      expect(walk(iova)).toBe(WalkStatus.reserved);
      const other = setup();
      other.tables.set(iova, 2, PS | RW | (1n << BigInt(bit)));
      expect(other.walk(iova)).toBe(bit <= 20 ? WalkStatus.reserved : WalkStatus.ok);
    });
  }

  it.each([1, 2, 3])('allows SNP on a leaf of level %d with snoop control', level => {
    const { tables, walk } = setup(4, {}, { snoop: true });
    tables.set(iova, level, PS | RW | SNP);
    expect(walk(iova)).toBe(WalkStatus.ok);
  });
});

describe('order of the checks', () => {
  const iova = 0x1000n;

  it('finds the missing permission before the reserved bit of the same entry', () => {
    const { tables, walk } = setup();
    tables.set(iova, 1, R | SNP);
    expect(walk(iova, Access.write)).toBe(WalkStatus.denied);
    expect(walk(iova, Access.read)).toBe(WalkStatus.reserved);
  });

  it('finds what is wrong above before what is wrong below', () => {
    const { tables, walk } = setup();
    tables.set(iova, 1, RW | SNP);
    tables.set(iova, 3, (tables.memory.word(BigInt(tables.table(iova, 3) * 4096))! & ~3n) | R);
    expect(walk(iova, Access.write)).toBe(WalkStatus.denied);
  });

  it('allows no access at all where one level only reads and another only writes', () => {
    const { tables, walk } = setup();
    tables.set(iova, 1, W, R);
    expect(walk(iova, Access.read)).toBe(WalkStatus.denied);
    expect(walk(iova, Access.write)).toBe(WalkStatus.denied);
  });
});

describe('addresses of 8 TiB and above', () => {
  const wide = { hostAddressWidth: 52 };

  it('reaches the last frame below', () => {
    const { tables, walker, walk } = setup(4, {}, wide);
    tables.set(0n, 1, ((1n << 43n) - 4096n) | RW);
    expect(walk(0n)).toBe(WalkStatus.ok);
    expect(walker.frame).toBe(0x7fff_ffff);
  });

  it.each([43n, 44n, 51n])('cannot reach a page with address bit %d', bit => {
    const { tables, walk } = setup(4, {}, wide);
    tables.set(0n, 1, (1n << bit) | RW);
    expect(walk(0n)).toBe(WalkStatus.badPointer);
  });

  it('cannot reach a table there, whatever lies at the same frame number modulo 2^31', () => {
    const { tables, walk } = setup(4, {}, wide);
    tables.set(0n, 1, RW);
    const offset = BigInt(tables.table(0n, 2) * 4096);
    tables.set(0n, 2, tables.memory.word(offset)! | (1n << 43n));
    expect(walk(0n)).toBe(WalkStatus.badPointer);
  });
});

describe('memory without a window', () => {
  it('asks for every entry', () => {
    const { memory, tables, walker, walk } = setup(4, { messagesOnly: true });
    tables.set(0x1000n, 1, 0x5000n | RW);
    expect(walk(0x1000n)).toBe(WalkStatus.ok);
    expect(walker.frame).toBe(5);
    expect(memory.loads).toEqual([1, 2, 3, 4]);
  });

  it('asks for an entry only where the window shows zero', () => {
    const { memory, tables, walk } = setup(4);
    tables.set(0x1000n, 1, RW);
    walk(0x1000n);
    expect(memory.loads).toEqual([]);
    expect(walk(0x2000n)).toBe(WalkStatus.notPresent);
    expect(memory.loads).toEqual([4]);
  });

  it('believes memory, not the window that shows zero', () => {
    const { memory, tables, walker, walk } = setup(4);
    tables.set(0x1000n, 1, 0x9000n | RW);
    memory.windows[0] = { bytes: new Uint8Array(1 << 20), words: new Int32Array(1 << 18) };
    expect(walk(0x1000n)).toBe(WalkStatus.ok);
    expect(walker.frame).toBe(9);
  });
});

describe('an entry that changes while it is read', () => {
  /** Words whose low word of one entry reads as `first` once and as memory has it from then on. */
  function changing(words: Int32Array, at: number, first: number): Int32Array {
    let reads = 0;
    return new Proxy(words, {
      get(target, key) {
        if (key === String(at) && reads++ === 0) return first;
        const value = Reflect.get(target, key);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  it('is read again as a whole', () => {
    const { memory, tables, walker, walk } = setup(3);
    tables.set(0x1000n, 1, 0x3_0000_5000n | RW);
    // The halves of an old entry (frame 7) and the new one (frame 0x300005) must not be taken together.
    const window = memory.windows[0]!;
    const at = tables.table(0x1000n, 1) * 1024 + 2;
    const words = changing(window.words, at, 0x7003);
    memory.windows[0] = { bytes: window.bytes, words };
    expect(walk(0x1000n)).toBe(WalkStatus.ok);
    expect(walker.frame).toBe(0x300005);
  });
});

describe('an entry that never holds still', () => {
  it('is asked of memory instead', () => {
    const { memory, tables, walker, walk } = setup(3);
    tables.set(0x1000n, 1, 0x5000n | RW);
    const window = memory.windows[0]!;
    const at = String(tables.table(0x1000n, 1) * 1024 + 2);
    let reads = 0;
    const words = new Proxy(window.words, {
      get: (target, key) => (key === at ? 0x7003 + (reads++ << 12) : Reflect.get(target, key)),
    });
    memory.windows[0] = { bytes: window.bytes, words };
    expect(walk(0x1000n)).toBe(WalkStatus.ok);
    expect(walker.frame).toBe(5);
    expect(memory.loads).toEqual([tables.table(0x1000n, 1)]);
  });
});

describe('a walk from a table in the middle', () => {
  it('reads only the levels below and keeps the permissions from above', () => {
    const { tables, walker } = setup(4);
    tables.set(0x1000n, 1, 0x5000n | RW);
    const table = tables.table(0x1000n, 1);
    expect(walker.walkFrom(table, 1, walker.accessBits[Access.read]!, ...words(0x1000n), Access.read)).toBe(
      WalkStatus.ok,
    );
    expect([walker.frame, walker.permissions, walker.startLevel]).toEqual([5, Access.read, 1]);
  });

  it('tells what the entries above each table allow', () => {
    const { tables, walker, walk } = setup(4);
    tables.set(0x1000n, 1, RW, R);
    walk(0x1000n);
    expect([1, 2, 3, 4].map(level => walker.visited[2 * level + 1])).toEqual([1, 1, 1, 3]);
  });
});

describe('what the caller got wrong', () => {
  it.each([0, 1, 2, 6, -1, 3.5])('refuses %d levels', levels => {
    const { walker } = setup();
    expect(() => walker.walk(1, levels, 0, 0, Access.read)).toThrow(RangeError);
  });

  it('refuses a format whose lowest level does not map pages', () => {
    const format = vtdSecondStage(formatOptions);
    const levels = format.levels.slice(1);
    expect(() => new Walker({ ...format, levels, depths: [3] }, new FakeMemory(4096))).toThrow(RangeError);
  });
});

describe('random tables', () => {
  const FRAMES = 12;
  const index = fc.constantFrom(0n, 1n, 255n, 511n);
  const iova = fc
    .tuple(index, index, index, index, index, fc.nat(4095), fc.integer({ min: 0, max: 60 }))
    .map(([a, b, c, d, e, offset, rare]) => {
      const address = (a << 48n) | (b << 39n) | (c << 30n) | (d << 21n) | (e << 12n) | BigInt(offset);
      return rare === 0 ? address | (1n << 63n) : address;
    });
  const flags = fc.constantFrom(RW, RW, RW, RW, R, W);
  const page = fc.constantFrom(0x5000n, GiB1, 3n * GiB1, 5n * MiB2, 1n << 42n, (1n << 43n) | GiB1, 1n << 45n);
  const entry = fc.oneof(
    { weight: 8, arbitrary: fc.tuple(fc.nat(FRAMES - 1), flags).map(([f, bits]) => (BigInt(f) << 12n) | bits) },
    { weight: 3, arbitrary: fc.tuple(page, flags).map(([p, bits]) => p | bits | PS) },
    { weight: 2, arbitrary: fc.tuple(page, flags).map(([p, bits]) => p | bits) },
    { weight: 1, arbitrary: fc.constant(0n) },
    { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.nat(FRAMES - 1), fc.nat(63))
        .map(([f, bit]) => (BigInt(f) << 12n) | RW | (1n << BigInt(bit))),
    },
  );
  const names = Object.keys(WalkStatus);

  it('answers as the reference does', () => {
    fc.assert(
      fc.property(
        fc.record({
          hostAddressWidth: fc.constantFrom(39, 46, 52),
          largePages: fc.record({ '2M': fc.boolean(), '1G': fc.boolean() }),
          snoop: fc.boolean(),
        }),
        fc.constantFrom(3, 4, 5),
        fc.array(fc.tuple(fc.nat(FRAMES - 1), index, entry), { minLength: 20, maxLength: 60 }),
        fc.array(fc.tuple(iova, fc.constantFrom(1, 2, 3)), { minLength: 1, maxLength: 30 }),
        fc.boolean(),
        (options, levels, entries, asked, messagesOnly) => {
          const memory = new FakeMemory(FRAMES * 4096, { holes: [FRAMES - 1], messagesOnly });
          for (const [frame, at, value] of entries) memory.write64(frame, Number(at) * 8, value);
          const walker = new Walker(vtdSecondStage(options), memory);
          for (const [address, access] of asked) {
            const limited = address >> 63n === 0n ? address & ((1n << BigInt(12 + 9 * levels)) - 1n) : address;
            const status = walker.walk(0, levels, ...words(limited), access);
            const wanted = referenceWalk(a => memory.word(a), vtdReference(options), 0, levels, limited, access);
            const got =
              status === WalkStatus.ok
                ? { status: 'ok', frame: walker.frame, shift: walker.shift, permissions: walker.permissions }
                : { status: names[status] };
            expect(got).toEqual(wanted);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
