import { describe, expect, it } from 'vitest';
import {
  ATOMIC,
  Bench,
  contextInvalidate,
  Frame,
  Gcmd,
  Granularity,
  IOVA,
  MASK,
  mappedBench,
  Reg,
  RID,
  waitStatus,
} from './support.ts';

describe('reset', () => {
  it('puts all registers back', () => {
    const bench = mappedBench().unmaskFaults().enableQueue();
    bench.translate(0x5000n);
    bench.unit.reset();
    for (const offset of [Reg.gsts, Reg.fsts, Reg.fedata, Reg.feaddr, Reg.ics]) expect(bench.read32(offset)).toBe(0);
    for (const offset of [Reg.rtaddr, Reg.iqa, Reg.iqt, Reg.iqh, Reg.frcd + 8]) expect(bench.read64(offset)).toBe(0n);
    expect([bench.read32(Reg.fectl), bench.read32(Reg.iectl)]).toEqual([MASK, MASK]);
    expect(bench.read64(Reg.cap)).toBe(new Bench().read64(Reg.cap));
  });

  it('turns translation off and forgets the root table', () => {
    const bench = mappedBench();
    bench.unit.reset();
    expect(bench.frameAt(0x5000n)).toBe(5);
    bench.command(2 ** 31);
    expect(bench.translate(IOVA)).toBe(false);
    // Frame zero is empty memory: no root entry.
    expect(bench.reason).toBe(1);
  });

  it('empties the caches', () => {
    const bench = mappedBench();
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
    bench.map(IOVA, Frame.data + 1);
    bench.unit.reset();
    bench.enable();
    expect(bench.frameAt(IOVA)).toBe(Frame.data + 1);
  });

  it('starts recording faults at the first record', () => {
    const bench = mappedBench();
    bench.translate(0x5000n);
    bench.unit.reset();
    bench.enable();
    bench.translate(0x6000n);
    expect([bench.record(0).address, bench.record(1).valid]).toEqual([0x6000n, false]);
  });

  it('cancels the queue, and lets a new one run', () => {
    const bench = mappedBench().enableQueue();
    bench.enqueue(waitStatus(1)).ring();
    bench.unit.reset();
    bench.jobs.run();
    expect(bench.status()).toBe(0);
    bench.enableQueue();
    bench.submit(waitStatus(2));
    expect(bench.status()).toBe(2);
  });

  it('leaves the jobs of before without effect on what comes after', () => {
    const bench = mappedBench().enableQueue();
    bench.enqueue(waitStatus(1)).ring();
    bench.unit.reset();
    bench.write64(Reg.iqa, BigInt(Frame.queue) << 12n);
    bench.command(Gcmd.qie);
    bench.ring();
    expect(bench.jobs.length).toBe(2);
    bench.jobs.step();
    expect(bench.status()).toBe(0);
    bench.jobs.step();
    expect(bench.status()).toBe(1);
  });

  it('cancels a fault message that waits to be sent', () => {
    const bench = mappedBench().unmaskFaults();
    bench.translate(0x5000n);
    bench.unit.reset();
    bench.unmaskFaults();
    bench.jobs.run();
    expect(bench.messages).toEqual([]);
  });

  it('cancels register-based invalidations', () => {
    const bench = mappedBench();
    bench.write64(Reg.ccmd, (1n << 63n) | (1n << 61n));
    bench.unit.reset();
    bench.jobs.run();
    expect(bench.unit.statistics.registerBased.contextGlobal).toBe(0);
  });

  it('keeps the statistics', () => {
    const bench = mappedBench();
    bench.translate(IOVA);
    bench.unit.reset();
    expect(bench.unit.statistics.translations).toBe(1);
  });
});

describe('reset while guest memory is waited for', () => {
  function resetAtLoad(bench: Bench, number: number): void {
    let loads = 0;
    bench.memory.during = () => {
      if (++loads === number) bench.unit.reset();
    };
  }

  it.each([1, 2, 3, 4, 5, 6])('by the context entry, load %i: no fault, no translation, nothing cached', load => {
    const bench = mappedBench();
    resetAtLoad(bench, load);
    expect(bench.translate(IOVA)).toBe(false);
    bench.memory.during = () => {};
    expect(bench.read32(Reg.fsts)).toBe(0);
    const table = bench.newTable();
    bench.setContext(RID, { table });
    bench.setEntry(IOVA, 1, (BigInt(Frame.data + 1) << 12n) | 3n, 4, table);
    bench.enable();
    expect(bench.frameAt(IOVA)).toBe(Frame.data + 1);
  });

  it('by the second look for what an atomic lacks: no fault', () => {
    const bench = mappedBench();
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
    // Both looks find an entry that is zero, for which `load64` is asked.
    resetAtLoad(bench, 2);
    expect(bench.translate(IOVA + 0x1000n, ATOMIC)).toBe(false);
    expect(bench.trace.kinds()).not.toContain('fault.recorded');
    expect(bench.read32(Reg.fsts)).toBe(0);
  });

  it('by a page walk that succeeds: nothing cached', () => {
    const bench = mappedBench();
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
    // An entry that is zero sends the walk to `load64`: there the page appears and the reset happens.
    bench.memory.during = () => {
      bench.memory.during = () => {};
      bench.map(0x5000n, Frame.data + 5);
      bench.unit.reset();
    };
    expect(bench.translate(0x5000n)).toBe(false);
    expect(bench.read32(Reg.fsts)).toBe(0);
    bench.map(0x5000n, Frame.data + 6);
    bench.enable();
    expect(bench.frameAt(0x5000n)).toBe(Frame.data + 6);
  });

  it.each([1, 2, 3, 4, 5])('by the queue, access %i: nothing moves, nothing is set', access => {
    const bench = mappedBench().enableQueue();
    const [low, high] = waitStatus(7);
    bench.enqueue(contextInvalidate(Granularity.global), [low | 0x10n, high]).ring();
    resetAtLoad(bench, access);
    bench.jobs.run();
    bench.memory.during = () => {};
    expect([bench.head, bench.read32(Reg.ics), bench.read32(Reg.fsts), bench.messages.length]).toEqual([0, 0, 0, 0]);
  });
});
