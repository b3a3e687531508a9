import { describe, expect, it } from 'vitest';
import { ATOMIC, Bench, DOMAIN, FRAMES, Frame, IOVA, mappedBench, READ, Reg, RID, WRITE } from './support.ts';

describe('translation', () => {
  it('reaches the page, for the byte asked for', () => {
    const bench = mappedBench();
    expect(bench.translate(IOVA + 0xabcn, READ)).toBe(true);
    expect(bench.out).toMatchObject({ frame: Frame.data, shift: 12, permissions: 3 });
  });

  it('takes words of either signedness', () => {
    const bench = mappedBench();
    bench.map(0xffff_f000_1000n, Frame.data + 1);
    expect(bench.unit.translate(RID, 0xffff, 0xf0001000, READ, bench.out)).toBe(true);
    expect(bench.out.frame).toBe(Frame.data + 1);
    expect(bench.unit.translate(RID, 0xffff, 0xf0001000 | 0, READ, bench.out)).toBe(true);
  });

  it('follows large pages', () => {
    const bench = mappedBench();
    bench.setEntry(0x4000_0000n, 3, 0x8000_0000n | 0x83n);
    bench.setEntry(0x20_0000n, 2, 0x40_0000n | 0x83n);
    expect(bench.frameAt(0x4012_3456n)).toBe(0x80123);
    expect(bench.out.shift).toBe(30);
    expect(bench.frameAt(0x20_3000n)).toBe(0x403);
    expect(bench.out.shift).toBe(21);
  });

  it('translates with three levels', () => {
    const bench = mappedBench();
    const table = bench.newTable();
    bench.setContext(0x0108, { table, width: 1, domain: 8 });
    bench.setEntry(0x7f_ffff_f000n, 1, (BigInt(Frame.data + 2) << 12n) | 3n, 3, table);
    expect(bench.frameAt(0x7f_ffff_f000n, 0x0108)).toBe(Frame.data + 2);
  });

  it('translates with five levels where they are offered', () => {
    const bench = new Bench({ levels: [5] });
    bench.setContext(RID, { width: 3 });
    bench.setEntry(0x1ff_ffff_ffff_f000n, 1, (BigInt(Frame.data) << 12n) | 3n, 5);
    bench.enable();
    expect(bench.frameAt(0x1ff_ffff_ffff_f000n)).toBe(Frame.data);
  });

  it('keeps requesters apart by their domains', () => {
    const bench = mappedBench();
    const table = bench.newTable();
    bench.setContext(0x0108, { table, domain: 8 });
    bench.setEntry(IOVA, 1, (BigInt(Frame.data + 3) << 12n) | 3n, 4, table);
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
    expect(bench.frameAt(IOVA, 0x0108)).toBe(Frame.data + 3);
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
  });

  it('finds the entries of the last bus and function', () => {
    const bench = mappedBench();
    bench.setContext(0xffff);
    expect(bench.frameAt(IOVA, 0xffff)).toBe(Frame.data);
  });

  it('reads context entries once, and page tables once', () => {
    const bench = mappedBench();
    bench.translate(IOVA);
    const { engine } = bench.unit.statistics;
    let loads = 0;
    bench.memory.during = () => loads++;
    for (let i = 0; i < 10; i++) bench.translate(IOVA);
    expect(loads).toBe(0);
    expect(bench.unit.statistics).toMatchObject({ translations: 11, contextMisses: 1, contextHits: 10 });
    expect(engine).toMatchObject({ misses: 1, hits: 10 });
  });

  it('uses a stale page until it is invalidated', () => {
    const bench = mappedBench();
    bench.translate(IOVA);
    bench.map(IOVA, Frame.data + 1);
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
  });

  it('reads an entry again that changes under its hands', () => {
    const bench = mappedBench();
    const table = bench.newTable();
    let loads = 0;
    bench.memory.during = () => {
      // Root entry: three loads; the context entry is replaced between its two halves.
      if (++loads !== 5) return;
      bench.memory.during = () => {};
      bench.setContext(RID, { table, domain: 8 });
    };
    bench.setEntry(IOVA, 1, (BigInt(Frame.data + 4) << 12n) | 3n, 4, table);
    loads = 0;
    expect(bench.frameAt(IOVA)).toBe(Frame.data + 4);
  });
});

describe('pass-through', () => {
  it('gives the address back, with all permissions', () => {
    const bench = mappedBench();
    bench.setContext(RID, { type: 2, table: 0 });
    expect(bench.translate(0x7ff_1234_5678n, ATOMIC)).toBe(true);
    expect(bench.out).toMatchObject({ frame: 0x7ff12345, shift: 12, permissions: 3 });
    expect(bench.unit.statistics).toMatchObject({ translations: 1, passThrough: 1 });
  });

  it('ends at the host address width', () => {
    const bench = mappedBench();
    bench.setContext(RID, { type: 2 });
    expect(bench.translate(0x800_0000_0000n)).toBe(false);
    expect(bench.reason).toBe(4);
  });
});

describe('fault reasons', () => {
  function reasonOf(prepare: (bench: Bench) => void, iova = IOVA, access: number = READ): number {
    const bench = mappedBench();
    prepare(bench);
    expect(bench.translate(iova, access)).toBe(false);
    return bench.reason;
  }

  it('1: root entry not present', () => {
    expect(reasonOf(bench => bench.setRoot(1, 0n))).toBe(0x1);
  });

  it('2: context entry not present', () => {
    expect(reasonOf(bench => bench.setContext(RID, { present: false }))).toBe(0x2);
  });

  it('3: address width not supported', () => {
    expect(reasonOf(bench => bench.setContext(RID, { width: 3 }))).toBe(0x3);
  });

  it.each([1, 3])('3: translation type %i not supported', type => {
    expect(reasonOf(bench => bench.setContext(RID, { type }))).toBe(0x3);
  });

  it('3: the first page table cannot be read', () => {
    expect(reasonOf(bench => bench.setContext(RID, { table: FRAMES + 1 }))).toBe(0x3);
  });

  it('4: beyond the width of the levels', () => {
    expect(reasonOf(() => {}, 0x1_0000_0000_0000n)).toBe(0x4);
    expect(reasonOf(bench => bench.setContext(RID, { width: 1 }), 0x80_0000_0000n)).toBe(0x4);
  });

  it('5: write to a page that may only be read', () => {
    expect(reasonOf(bench => bench.map(IOVA, Frame.data, 1n), IOVA, WRITE)).toBe(0x5);
  });

  it('5: write to a page that is not mapped', () => {
    expect(reasonOf(() => {}, 0x5000n, WRITE)).toBe(0x5);
  });

  it('6: read of a page that may only be written', () => {
    expect(reasonOf(bench => bench.map(IOVA, Frame.data, 2n))).toBe(0x6);
  });

  it('6: read of a page that is not mapped', () => {
    expect(reasonOf(() => {}, 0x5000n)).toBe(0x6);
  });

  it('5 and 6: an atomic lacks what is missing', () => {
    expect(reasonOf(bench => bench.map(IOVA, Frame.data, 1n), IOVA, ATOMIC)).toBe(0x5);
    expect(reasonOf(bench => bench.map(IOVA, Frame.data, 2n), IOVA, ATOMIC)).toBe(0x6);
    expect(reasonOf(() => {}, 0x5000n, ATOMIC)).toBe(0x5);
  });

  it.each([1, 2, 3])('7: the table of level %i cannot be read', level => {
    const iova = 0x80_0000_0000n;
    expect(reasonOf(bench => bench.setEntry(iova, level + 1, (BigInt(FRAMES + 1) << 12n) | 3n), iova)).toBe(0x7);
  });

  it('8: the root table cannot be read', () => {
    const bench = new Bench();
    bench.write64(Reg.rtaddr, BigInt(FRAMES) << 12n);
    bench.command(2 ** 30);
    bench.command(2 ** 31);
    expect(bench.translate(IOVA)).toBe(false);
    expect(bench.reason).toBe(0x8);
  });

  it('9: the context table cannot be read', () => {
    expect(reasonOf(bench => bench.setRoot(1, (BigInt(FRAMES) << 12n) | 1n))).toBe(0x9);
  });

  it('A: reserved bits in the root entry', () => {
    expect(reasonOf(bench => bench.setRoot(1, (BigInt(Frame.context) << 12n) | 3n))).toBe(0xa);
    expect(reasonOf(bench => bench.setRoot(1, (BigInt(Frame.context) << 12n) | 1n, 1n))).toBe(0xa);
  });

  it('B: reserved bits in the context entry', () => {
    expect(reasonOf(bench => bench.setContext(RID, { extraLow: 0x10n }))).toBe(0xb);
    expect(reasonOf(bench => bench.setContext(RID, { extraHigh: 1n << 24n }))).toBe(0xb);
  });

  it('C: reserved bits in a page-table entry', () => {
    expect(reasonOf(bench => bench.map(IOVA, Frame.data, 3n | (1n << 44n)))).toBe(0xc);
  });

  it('C: a large page that is not offered', () => {
    const bench = new Bench({ largePages: { '2M': true, '1G': false } });
    bench.setContext(RID);
    bench.setEntry(0x4000_0000n, 3, 0x83n);
    bench.enable();
    expect(bench.translate(0x4000_0000n)).toBe(false);
    expect(bench.reason).toBe(0xc);
  });

  it('C: the snoop bit, without snoop control', () => {
    const bench = new Bench({ snoopControl: false });
    bench.setContext(RID);
    bench.map(IOVA, Frame.data, 3n | (1n << 11n));
    bench.enable();
    expect(bench.translate(IOVA)).toBe(false);
    expect(bench.reason).toBe(0xc);
  });

  it('none: the snoop bit, with snoop control', () => {
    const bench = mappedBench();
    bench.map(IOVA, Frame.data, 3n | (1n << 11n));
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
  });

  it('E: a page that is mapped to the interrupt range', () => {
    expect(reasonOf(bench => bench.map(IOVA, 0xfee00), IOVA, WRITE)).toBe(0xe);
    expect(reasonOf(bench => bench.map(IOVA, 0xfeeff), IOVA)).toBe(0xe);
  });

  it('E: a faulting translation is not kept', () => {
    const bench = mappedBench();
    bench.map(IOVA, 0xfee00);
    bench.translate(IOVA);
    bench.map(IOVA, Frame.data);
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
  });

  it('none: pages beside the interrupt range', () => {
    const bench = mappedBench();
    bench.map(IOVA, 0xfedff);
    bench.map(IOVA + 0x1000n, 0xfef00);
    expect([bench.frameAt(IOVA), bench.frameAt(IOVA + 0x1000n)]).toEqual([0xfedff, 0xfef00]);
  });
});

describe('interrupt address range', () => {
  it('writes bypass translation, for every requester', () => {
    const bench = mappedBench();
    expect(bench.translate(0xfee01004n, WRITE, 0x0200)).toBe(true);
    expect(bench.out).toMatchObject({ frame: 0xfee01, shift: 12, permissions: 3 });
    expect(bench.unit.statistics).toMatchObject({ interruptRequests: 1, contextMisses: 0 });
  });

  it('writes bypass a mapping of the range', () => {
    const bench = mappedBench();
    bench.map(0xfee01000n, Frame.data);
    bench.translate(0xfee01000n, WRITE);
    expect(bench.out.frame).toBe(0xfee01);
  });

  it.each([
    ['read', READ],
    ['atomic', ATOMIC],
  ])('an attempt to %s faults with reason E, mapped or not', (_name, access) => {
    const bench = mappedBench();
    bench.map(0xfee01000n, Frame.data);
    expect(bench.translate(0xfee01000n, access)).toBe(false);
    expect(bench.reason).toBe(0xe);
  });

  it('is the same for pass-through', () => {
    const bench = mappedBench();
    bench.setContext(RID, { type: 2 });
    expect(bench.translate(0xfee01000n, WRITE)).toBe(true);
    expect(bench.translate(0xfee01000n, READ)).toBe(false);
    expect(bench.reason).toBe(0xe);
  });

  it('is where its upper word is zero, and nowhere else', () => {
    const bench = mappedBench();
    bench.map(0x1_fee0_0000n, Frame.data);
    expect(bench.frameAt(0x1_fee0_0000n)).toBe(Frame.data);
    bench.map(0xfedf_f000n, Frame.data);
    bench.map(0xfef0_0000n, Frame.data);
    expect([bench.frameAt(0xfedf_f000n), bench.frameAt(0xfef0_0000n)]).toEqual([Frame.data, Frame.data]);
  });
});

describe('zero-length read', () => {
  it.each([1n, 2n, 3n])('is allowed by permissions %i', permissions => {
    const bench = mappedBench();
    bench.map(IOVA, Frame.data, permissions);
    expect(bench.translate(IOVA, 0)).toBe(true);
    expect(bench.out.frame).toBe(Frame.data);
  });

  it('faults as a read where nothing is mapped', () => {
    const bench = mappedBench();
    expect(bench.translate(0x5000n, 0)).toBe(false);
    expect(bench.record()).toMatchObject({ reason: 6, type1: 1, type2: 0 });
  });

  it('of the interrupt range completes', () => {
    expect(mappedBench().translate(0xfee00000n, 0)).toBe(true);
  });
});

describe('domain ids', () => {
  it('with fewer bits are masked in descriptors, and share nothing', () => {
    const bench = new Bench({ domainIdBits: 8 });
    bench.setContext(RID, { domain: DOMAIN });
    bench.map(IOVA, Frame.data);
    bench.enable().enableQueue();
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
    bench.unmap(IOVA);
    bench.submit([(BigInt(0x4200 | DOMAIN) << 16n) | (2n << 4n) | 2n, 0n]);
    expect(bench.frameAt(IOVA)).toBeUndefined();
  });
});
