import { describe, expect, it } from 'vitest';
import { TranslationEngine } from '../../src/iommu/translation-engine.ts';
import { Access, Translation } from '../../src/iommu/translator.ts';
import { LocalMemory } from '../../src/memory/local-memory.ts';
import { Walker, WalkStatus } from '../../src/page-tables/walker.ts';
import { x64FirstLevel } from '../../src/page-tables/x64-first-level.ts';
import { FakeMemory, type FakeMemoryOptions, GiB1, MiB2, PS, TableBuilder, words } from '../iommu/support.ts';

const P = 1n;
const RW = 2n;
const US = 4n;
const A = 1n << 5n;
const D = 1n << 6n;
const XD = 1n << 63n;
const ALL = P | RW | US;
const HAW = 46;

function setup(levels: 4 | 5 = 4, memoryOptions: FakeMemoryOptions = {}, more = {}, marks = true) {
  const memory = new FakeMemory(64 * 4096, memoryOptions);
  const tables = new TableBuilder(memory, levels);
  const format = x64FirstLevel({ hostAddressWidth: HAW, ...more });
  const walker = new Walker(format, memory, marks);
  const walk = (iova: bigint, access: number = Access.read) => walker.walk(tables.root, levels, ...words(iova), access);
  const addressOf = (iova: bigint, level: number) =>
    BigInt(tables.table(iova, level, ALL) * 4096 + TableBuilder.offset(iova, level));
  const entry = (iova: bigint, level: number) => memory.word(addressOf(iova, level))!;
  const change = (iova: bigint, level: number, value: bigint) => tables.set(iova, level, value, ALL);
  const map = (iova: bigint, value: bigint, level = 1) => tables.set(iova, level, value, ALL);
  return { memory, tables, format, walker, walk, entry, change, map };
}

describe.each([4, 5] as const)('first-level tables of %d levels', levels => {
  const iova = 0x01ab_cdef_1234_5678n & ((1n << BigInt(12 + 9 * levels)) - 1n);

  it.each([
    [1, 12, 0x7f_1234_5000n],
    [2, 21, 0x7f_1220_0000n | PS],
    [3, 30, 0x7f_4000_0000n | PS],
  ])('map a page by an entry of level %d', (level, shift, value) => {
    const { walker, walk, map } = setup(levels);
    map(iova, value | ALL, level);
    expect(walk(iova, Access.write)).toBe(WalkStatus.ok);
    const within = Number((iova & ((1n << BigInt(shift)) - 1n)) >> 12n);
    expect([walker.frame, walker.shift, walker.permissions]).toEqual([
      Number((value & ~0xfffn) >> 12n) + within,
      shift,
      3,
    ]);
  });

  it('are not wide enough for the address after the last', () => {
    const { walk } = setup(levels);
    expect(walk(1n << BigInt(12 + 9 * levels))).toBe(WalkStatus.tooWide);
  });

  for (let level = levels as number; level >= 1; level--) {
    it(`need P on level ${level}, whatever else is set`, () => {
      const { walker, walk, map, change } = setup(levels);
      map(iova, 0x5000n | ALL);
      change(iova, level, 0xffff_ffff_ffff_fffen);
      expect(walk(iova)).toBe(WalkStatus.notPresent);
      expect(walker.level).toBe(level);
    });

    it(`need R/W on level ${level} for a write, not for a read`, () => {
      const { walker, walk, map, change, entry } = setup(levels);
      map(iova, 0x5000n | ALL | A | D);
      change(iova, level, entry(iova, level) & ~RW);
      expect(walk(iova)).toBe(WalkStatus.ok);
      expect(walker.permissions).toBe(Access.read);
      expect(walk(iova, Access.write)).toBe(WalkStatus.denied);
      expect(walk(iova, Access.read | Access.write)).toBe(WalkStatus.denied);
    });

    it(`need U/S on level ${level}: a request without PASID has user privilege`, () => {
      const { walk, map, change, entry } = setup(levels);
      map(iova, 0x5000n | ALL);
      change(iova, level, entry(iova, level) & ~US);
      expect(walk(iova)).toBe(WalkStatus.denied);
      expect(walk(iova, Access.write)).toBe(WalkStatus.denied);
    });

    it.each([
      ['XD', XD],
      ['bit 62', 1n << 62n],
      ['bit 52', 1n << 52n],
      ['PWT', 1n << 3n],
      ['PCD', 1n << 4n],
      ['bits 11:8', 0xf00n],
    ])(`ignore ${'%s'} on level ${level}`, (_name, bit) => {
      const { walker, walk, map, change, entry } = setup(levels);
      map(iova, 0x5000n | ALL);
      change(iova, level, entry(iova, level) | bit);
      expect(walk(iova, Access.write)).toBe(WalkStatus.ok);
      expect(walker.frame).toBe(5);
    });

    it.each([BigInt(HAW), 51n])(`refuse address bit %d, beyond the host, on level ${level}`, bit => {
      const { walker, walk, map, change, entry } = setup(levels);
      map(iova, 0x5000n | ALL);
      change(iova, level, entry(iova, level) | (1n << bit));
      expect(walk(iova)).toBe(WalkStatus.reserved);
      expect(walker.level).toBe(level);
    });
  }

  for (let level = 4; level <= levels; level++) {
    it(`refuse PS on level ${level}`, () => {
      const { walk, map } = setup(levels);
      map(iova, 0x5000n | ALL | PS, level);
      expect(walk(iova)).toBe(WalkStatus.reserved);
    });
  }
});

describe('large pages', () => {
  it('are refused where the unit has none', () => {
    for (const [level, largePages] of [
      [2, { '2M': false, '1G': true }],
      [3, { '2M': true, '1G': false }],
    ] as const) {
      const { walk, map } = setup(4, {}, { largePages });
      map(0n, PS | ALL, level);
      expect(walk(0n)).toBe(WalkStatus.reserved);
    }
  });

  it('have PAT in bit 12, as a small page has in bit 7', () => {
    const { walker, walk, map } = setup();
    map(0n, (4n * MiB2) | (1n << 12n) | PS | ALL, 2);
    map(GiB1, GiB1 | (1n << 12n) | PS | ALL, 3);
    map(2n * GiB1, 0x5000n | PS | ALL, 1);
    expect([walk(0n), walker.frame]).toEqual([WalkStatus.ok, 0x800]);
    expect([walk(GiB1), walker.frame]).toEqual([WalkStatus.ok, 0x40000]);
    expect([walk(2n * GiB1), walker.frame]).toEqual([WalkStatus.ok, 5]);
  });

  for (let bit = 13; bit <= 29; bit++) {
    it(`have address bit ${bit} reserved below their size`, () => {
      const { walk, map } = setup();
      map(0n, (1n << BigInt(bit)) | PS | ALL, 3);
      expect(walk(0n)).toBe(WalkStatus.reserved);
      map(GiB1, (1n << BigInt(bit)) | PS | ALL, 2);
      expect(walk(GiB1)).toBe(bit <= 20 ? WalkStatus.reserved : WalkStatus.ok);
    });
  }
});

describe('permissions', () => {
  it('are looked at after everything below is known to be there', () => {
    const { walk, map, change, entry } = setup();
    map(0n, 0n);
    change(0n, 4, entry(0n, 4) & ~RW);
    expect(walk(0n, Access.write)).toBe(WalkStatus.notPresent);
    map(0n, ALL | (1n << 51n));
    expect(walk(0n, Access.write)).toBe(WalkStatus.reserved);
    map(0n, ALL);
    expect(walk(0n, Access.write)).toBe(WalkStatus.denied);
  });
});

describe('accessed and dirty', () => {
  const iova = 0x1000n;
  const flags = (room: ReturnType<typeof setup>) => [4, 3, 2, 1].map(level => room.entry(iova, level) & (A | D));

  it.each([false, true])(
    'are set by a write in the entry of the page, accessed in all (messages: %s)',
    messagesOnly => {
      const room = setup(4, { messagesOnly });
      room.map(iova, 0x5000n | ALL);
      expect(room.walk(iova, Access.write)).toBe(WalkStatus.ok);
      expect(flags(room)).toEqual([A, A, A, A | D]);
      expect(room.entry(iova, 1)).toBe(0x5000n | ALL | A | D);
    },
  );

  it('are not set twice', () => {
    const { memory, walk, map } = setup();
    map(iova, 0x5000n | ALL);
    walk(iova);
    expect(memory.exchanges).toHaveLength(4);
    walk(iova);
    walk(iova);
    expect(memory.exchanges).toHaveLength(4);
    walk(iova, Access.write);
    expect(memory.exchanges).toHaveLength(5);
    walk(iova, Access.write);
    walk(iova);
    expect(memory.exchanges).toHaveLength(5);
  });

  it('leave dirty clear on a read, and the write permission to the walk for the first write', () => {
    const room = setup();
    room.map(iova, 0x5000n | ALL);
    expect(room.walk(iova)).toBe(WalkStatus.ok);
    expect(room.walker.permissions).toBe(Access.read);
    expect(flags(room)).toEqual([A, A, A, A]);
    room.walk(iova, Access.write);
    expect(room.walker.permissions).toBe(3);
    room.walk(iova);
    expect(room.walker.permissions).toBe(3);
  });

  it.each([
    ['not present', 0x5000n | RW | US, Access.read],
    ['reserved', 0x5000n | ALL | (1n << 51n), Access.read],
    ['denied', 0x5000n | P | US, Access.write],
    ['not for users', 0x5000n | P | RW, Access.read],
    ['beyond all memory', (1n << 44n) | ALL, Access.read],
  ])('are not set when the walk fails: %s', (_why, value, access) => {
    const { memory, walk, map } = setup();
    map(iova, value);
    const before = memory.bytes.slice();
    expect(walk(iova, access)).not.toBe(WalkStatus.ok);
    expect(Buffer.compare(memory.bytes, before)).toBe(0);
    expect(memory.exchanges).toEqual([]);
  });

  it('are set in the entry of a large page', () => {
    const { walk, map, entry } = setup();
    map(0n, MiB2 | PS | ALL, 2);
    walk(0n, Access.write);
    expect(entry(0n, 2)).toBe(MiB2 | PS | ALL | A | D);
  });

  it('cannot be set in memory that cannot be written', () => {
    const { memory, tables, walk, walker, map } = setup();
    map(iova, 0x5000n | ALL);
    memory.readOnly.add(tables.table(iova, 2));
    expect(walk(iova)).toBe(WalkStatus.badPointer);
    expect(walker.level).toBe(2);
  });

  it('are not needed in memory that cannot be written if they are set', () => {
    const { memory, tables, walk, map } = setup();
    map(iova, 0x5000n | ALL);
    walk(iova, Access.write);
    for (let level = 1; level <= 4; level++) memory.readOnly.add(tables.table(iova, level));
    expect(walk(iova, Access.write)).toBe(WalkStatus.ok);
  });

  it('are not set in an entry that was changed meanwhile: the walk begins again', () => {
    const { memory, walk, walker, map, entry } = setup();
    map(iova, 0x5000n | ALL);
    let changed = false;
    memory.beforeExchange = () => {
      if (memory.exchanges.length !== 3 || changed) return;
      changed = true;
      map(iova, 0x9000n | ALL);
    };
    expect(walk(iova, Access.write)).toBe(WalkStatus.ok);
    expect(walker.frame).toBe(9);
    expect(entry(iova, 1)).toBe(0x9000n | ALL | A | D);
  });

  it('are not set in an entry that was removed meanwhile', () => {
    const { memory, walk, map, entry } = setup();
    map(iova, 0x5000n | ALL);
    memory.beforeExchange = () => map(iova, 0n);
    expect(walk(iova)).toBe(WalkStatus.notPresent);
    expect(entry(iova, 1)).toBe(0n);
  });

  it('do not keep a walk going for ever where an entry never holds still', () => {
    const { memory, walk, map } = setup();
    map(iova, 0x5000n | ALL);
    let n = 0n;
    memory.beforeExchange = () => map(iova, (++n << 12n) | ALL);
    expect(walk(iova)).toBe(WalkStatus.badPointer);
    expect(n).toBeLessThan(100n);
  });

  it('settle in a table that points to itself', () => {
    const { memory, tables, walk, walker } = setup();
    const self = BigInt(tables.root) << 12n;
    memory.write64(tables.root, 0, self | ALL);
    expect(walk(0n, Access.write)).toBe(WalkStatus.ok);
    expect(walker.frame).toBe(tables.root);
    expect(memory.word(self)).toBe(self | ALL | A | D);
  });

  it('are left alone by a walker that only looks, which answers all the same', () => {
    const room = setup(4, {}, {}, false);
    room.map(iova, 0x5000n | ALL);
    const before = room.memory.bytes.slice();
    expect([room.walk(iova), room.walker.permissions]).toEqual([WalkStatus.ok, Access.read]);
    expect([room.walk(iova, Access.write), room.walker.permissions]).toEqual([WalkStatus.ok, 3]);
    expect(Buffer.compare(room.memory.bytes, before)).toBe(0);
  });

  it('are set in guest memory', () => {
    const memory = new LocalMemory(16 * 4096);
    for (let level = 4; level >= 2; level--) memory.write64(5 - level, 0, (BigInt(6 - level) << 12n) | ALL);
    memory.write64(4, 0, 0x5000n | ALL);
    const walker = new Walker(x64FirstLevel({ hostAddressWidth: HAW }), memory);
    expect(walker.walk(1, 4, 0, 0, Access.write)).toBe(WalkStatus.ok);
    memory.load64(4, 0);
    expect(memory.low).toBe(Number(0x5000n | ALL | A | D));
    memory.load64(1, 0);
    expect(memory.low).toBe(Number(0x2000n | ALL | A));
    memory.write64(4, 0, 0x5000n | ALL);
    memory.protect(4, 1, { readable: true, writable: false });
    expect(walker.walk(1, 4, 0, 0, Access.write)).toBe(WalkStatus.badPointer);
    memory.load64(4, 0);
    expect(memory.low).toBe(Number(0x5000n | ALL));
  });
});

describe('the IOTLB', () => {
  function withEngine() {
    const room = setup();
    const engine = new TranslationEngine(room.format, room.memory);
    const out = new Translation();
    const translate = (iova: bigint, access: number) =>
      engine.translate(7, room.tables.root, 4, ...words(iova), access, out);
    return { ...room, engine, out, translate };
  }

  it('does not hide the first write after a read', () => {
    const { map, entry, translate, engine, out } = withEngine();
    map(0n, 0x5000n | ALL);
    translate(0n, Access.read);
    expect(out.permissions).toBe(Access.read);
    expect(translate(0n, Access.write)).toBe(WalkStatus.ok);
    expect(entry(0n, 1) & D).toBe(D);
    expect(out.permissions).toBe(3);
    translate(0n, Access.read);
    translate(0n, Access.write);
    expect([engine.counters.hits, engine.counters.misses]).toEqual([2, 2]);
  });

  it('hides writes after the dirty bit is cleared, until it is invalidated', () => {
    const { map, entry, translate, engine } = withEngine();
    map(0n, 0x5000n | ALL);
    translate(0n, Access.write);
    map(0n, 0x5000n | ALL | A);
    translate(0n, Access.write);
    expect(entry(0n, 1) & D).toBe(0n);
    engine.invalidateDomain(7);
    translate(0n, Access.write);
    expect(entry(0n, 1) & D).toBe(D);
  });

  it('leaves no accessed bit to be set by a walk from the paging-structure cache but those below', () => {
    const { map, entry, change, translate } = withEngine();
    map(0n, 0x5000n | ALL);
    map(0x1000n, 0x6000n | ALL);
    translate(0n, Access.read);
    change(0n, 2, entry(0n, 2) & ~A);
    translate(0x1000n, Access.read);
    expect(entry(0x1000n, 1) & A).toBe(A);
    expect(entry(0n, 2) & A).toBe(0n);
  });
});

describe('options', () => {
  it.each([12, 53, 40.5])('refuse a host address width of %d', hostAddressWidth => {
    expect(() => x64FirstLevel({ hostAddressWidth })).toThrow(RangeError);
  });

  it('may leave one depth', () => {
    expect(x64FirstLevel({ hostAddressWidth: HAW, levels: 5 }).depths).toEqual([5]);
    expect(x64FirstLevel({ hostAddressWidth: HAW }).depths).toEqual([4, 5]);
  });
});
