import { describe, expect, it } from 'vitest';
import { Bench, Frame, Gcmd, Gsts, MASK, mappedBench, Reg, RID } from './support.ts';

const kinds = (bench: Bench) => bench.trace.kinds().filter(kind => kind.startsWith('vtd.'));

describe('global command register', () => {
  it('sets each status at once', () => {
    const bench = new Bench();
    bench.command(Gcmd.srtp);
    expect(bench.read32(Reg.gsts)).toBe(Gsts.rtps);
    bench.command(Gcmd.qie);
    expect(bench.read32(Reg.gsts)).toBe(Gsts.rtps + Gsts.qies);
    bench.command(Gcmd.te);
    expect(bench.read32(Reg.gsts)).toBe(Gsts.rtps + Gsts.qies + Gsts.tes);
  });

  it('clears the switches that are written as zero, and only those', () => {
    const bench = new Bench();
    bench.command(Gcmd.srtp);
    bench.command(Gcmd.qie);
    bench.command(Gcmd.te);
    bench.command(Gcmd.te, false);
    expect(bench.read32(Reg.gsts)).toBe(Gsts.rtps + Gsts.qies);
    bench.command(Gcmd.qie, false);
    expect(bench.read32(Reg.gsts)).toBe(Gsts.rtps);
  });

  it('does nothing where nothing changes', () => {
    const bench = new Bench().enable();
    const before = kinds(bench).length;
    bench.write32(Reg.gcmd, Gcmd.te);
    expect(kinds(bench)).toHaveLength(before);
    expect(bench.read32(Reg.gsts)).toBe(Gsts.rtps + Gsts.tes);
  });

  it('tells what was switched', () => {
    const bench = new Bench();
    bench.write64(Reg.rtaddr, 0x7ff_12345000n);
    bench.command(Gcmd.srtp);
    bench.write64(Reg.iqa, 0x8002n);
    bench.command(Gcmd.qie);
    bench.command(Gcmd.te);
    expect(bench.trace.events).toMatchObject([
      { kind: 'vtd.rootTable', source: 'vtd', detail: { address: 0x7ff_12345000n, mode: 0 } },
      { kind: 'vtd.queue', detail: { enabled: true, address: 0x8000n, bytes: 16384 } },
      { kind: 'vtd.enabled', detail: { enabled: true } },
    ]);
  });

  it('reports several commands in one write, and carries them out', () => {
    const bench = new Bench();
    bench.setContext(RID);
    bench.map(0n, Frame.data);
    bench.write64(Reg.rtaddr, BigInt(Frame.root) << 12n);
    bench.write32(Reg.gcmd, Gcmd.te + Gcmd.srtp + Gcmd.qie);
    expect(kinds(bench)[0]).toBe('vtd.commandsTogether');
    expect(bench.read32(Reg.gsts)).toBe(Gsts.rtps + Gsts.qies + Gsts.tes);
    expect(bench.frameAt(0n)).toBe(Frame.data);
  });

  it('reports translation without a root table', () => {
    const bench = new Bench();
    bench.command(Gcmd.te);
    expect(kinds(bench)).toEqual(['vtd.noRootTable', 'vtd.enabled']);
  });

  it('reports a queue that is disabled with work in it, and starts over at its head', () => {
    const bench = new Bench().enableQueue();
    bench.write64(Reg.iqt, 0x20n);
    bench.command(Gcmd.qie, false);
    expect(kinds(bench)).toContain('vtd.queueCutShort');
    bench.jobs.run();
    expect(bench.head).toBe(0);
  });

  it('reports a queue address that changes under work', () => {
    const bench = new Bench().enableQueue();
    bench.write64(Reg.iqt, 0x20n);
    bench.write64(Reg.iqa, 0x9000n);
    expect(kinds(bench)).toContain('vtd.queueMoved');
  });
});

describe('root table pointer', () => {
  it('takes effect with SRTP, not with the write of RTADDR', () => {
    const bench = mappedBench();
    bench.write64(Reg.rtaddr, 0x3000n);
    expect(bench.frameAt(0x10000n)).toBe(Frame.data);
    expect(bench.frameAt(0x10000n, 0x0108)).toBeUndefined();
    expect(bench.reason).toBe(2);
    bench.command(Gcmd.srtp);
    // The new table is empty; the first requester's entry is still in the context cache.
    expect(bench.frameAt(0x10000n)).toBe(Frame.data);
    expect(bench.frameAt(0x10000n, 0x0108)).toBeUndefined();
    expect(bench.record(1)).toMatchObject({ valid: true, reason: 1 });
  });

  it.each([1, 2, 3])('with the unsupported table mode %i every request faults with reason 30h, FPD or not', mode => {
    const bench = new Bench();
    bench.setContext(RID, { fpd: true });
    bench.enable(BigInt(mode));
    expect(bench.translate(0x1000n)).toBe(false);
    expect(bench.reason).toBe(0x30);
    expect(bench.trace.events.find(event => event.kind === 'vtd.rootTable')?.detail.mode).toBe(mode);
  });
});

describe('translation switched off', () => {
  it('lets every address through with all permissions', () => {
    const bench = new Bench();
    expect(bench.translate(0x7ff_ffff_f123n, 3)).toBe(true);
    expect(bench.out).toMatchObject({ frame: 0x7fffffff, shift: 12, permissions: 3 });
    expect(bench.unit.statistics).toMatchObject({ untranslated: 1, translations: 0 });
  });

  it('lets reads and writes of the interrupt range through', () => {
    const bench = new Bench();
    expect([bench.translate(0xfee00000n, 1), bench.translate(0xfee00000n, 2)]).toEqual([true, true]);
    expect(bench.out.frame).toBe(0xfee00);
  });

  it('has no place for an address beyond 43 bits, which is no fault', () => {
    const bench = new Bench();
    expect(bench.translate(0x800_0000_0000n)).toBe(false);
    expect(bench.trace.events).toMatchObject([
      { kind: 'vtd.unaddressable', detail: { requesterId: RID, address: 0x800_0000_0000n } },
    ]);
    expect(bench.read32(Reg.fsts)).toBe(0);
  });

  it('comes back when translation is disabled, and the fault records start over', () => {
    const bench = mappedBench();
    bench.translate(0x5000n);
    bench.clearRecord(0);
    bench.command(Gcmd.te, false);
    expect(bench.frameAt(0x5000n)).toBe(5);
    bench.command(Gcmd.te);
    bench.translate(0x6000n);
    expect(bench.record(0)).toMatchObject({ valid: true, address: 0x6000n });
    expect(bench.read32(Reg.frcd + 16 + 12) & MASK).toBe(0);
  });

  it('keeps the caches: only an invalidation empties them', () => {
    const bench = mappedBench();
    expect(bench.frameAt(0x10000n)).toBe(Frame.data);
    bench.unmap(0x10000n);
    bench.command(Gcmd.te, false);
    bench.command(Gcmd.te);
    expect(bench.frameAt(0x10000n)).toBe(Frame.data);
  });
});
