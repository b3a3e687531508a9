import { describe, expect, it } from 'vitest';
import { FAULT_REASONS, FaultReason } from '../../../src/iommu/vtd/fault-reasons.ts';
import { ATOMIC, Bench, FRAMES, Frame, IOVA, MASK, mappedBench, PENDING, READ, Reg, RID, WRITE } from './support.ts';

const PFO = 1;
const PPF = 2;
const firstIndex = (bench: Bench) => (bench.read32(Reg.fsts) >>> 8) & 0xff;

/** Faults by reads of unmapped pages, one for each address. */
function fail(bench: Bench, ...pages: readonly number[]): void {
  for (const page of pages) expect(bench.translate(BigInt(page) << 12n)).toBe(false);
}

describe('fault record', () => {
  it('holds the page address, the requester and the reason', () => {
    const bench = mappedBench();
    bench.translate(0x1234_5678_9abcn);
    expect(bench.record()).toEqual({
      address: 0x1234_5678_9000n,
      source: RID,
      type1: 1,
      type2: 0,
      reason: 6,
      valid: true,
    });
  });

  it.each([
    ['read', READ, 1, 0],
    ['write', WRITE, 0, 0],
    ['atomic', ATOMIC, 1, 1],
  ])('tells a %s', (_name, access, type1, type2) => {
    const bench = mappedBench();
    bench.translate(0x5000n, access);
    expect(bench.record()).toMatchObject({ type1, type2 });
  });

  it('has no room for address bits above the widest level', () => {
    const bench = mappedBench();
    bench.translate(0xffff_ffff_ffff_f123n);
    expect(bench.record()).toMatchObject({ reason: 4, address: 0xffff_ffff_f000n });
  });

  it('is filled one after the other, and around', () => {
    const bench = new Bench({ faultRecords: 3 }).enable();
    fail(bench, 1, 2);
    bench.clearRecord(0);
    bench.clearRecord(1);
    fail(bench, 3, 4);
    expect([0, 1, 2].map(index => bench.record(index))).toMatchObject([
      { valid: true, address: 0x4000n },
      { valid: false },
      { valid: true, address: 0x3000n },
    ]);
    expect(firstIndex(bench)).toBe(2);
  });

  it('is cleared by writing 1 to F, and by nothing else', () => {
    const bench = mappedBench();
    fail(bench, 5);
    for (const word of [0, 4, 8]) bench.write32(Reg.frcd + word, 0xffffffff);
    bench.write32(Reg.frcd + 12, 0x7fffffff);
    expect(bench.record()).toMatchObject({ valid: true, address: 0x5000n, source: RID, reason: 6 });
    bench.clearRecord(0);
    expect(bench.record().valid).toBe(false);
  });
});

describe('fault status', () => {
  it('has PPF as long as a record is pending', () => {
    const bench = mappedBench();
    expect(bench.read32(Reg.fsts)).toBe(0);
    fail(bench, 5, 6);
    expect(bench.read32(Reg.fsts) & PPF).toBe(PPF);
    bench.clearRecord(0);
    expect(bench.read32(Reg.fsts) & PPF).toBe(PPF);
    bench.clearRecord(1);
    expect(bench.read32(Reg.fsts) & PPF).toBe(0);
  });

  it('has PPF read-only', () => {
    const bench = mappedBench();
    fail(bench, 5);
    bench.write32(Reg.fsts, PPF);
    expect(bench.read32(Reg.fsts) & PPF).toBe(PPF);
  });

  it('keeps the index of the first pending fault', () => {
    const bench = mappedBench();
    fail(bench, 1, 2, 3);
    expect(firstIndex(bench)).toBe(0);
    for (const index of [0, 1, 2]) bench.clearRecord(index);
    fail(bench, 4, 5);
    expect(firstIndex(bench)).toBe(3);
  });
});

describe('overflow', () => {
  it('sets PFO, records nothing, and says so', () => {
    const bench = new Bench({ faultRecords: 2 }).enable();
    fail(bench, 1, 2);
    expect(bench.read32(Reg.fsts) & PFO).toBe(0);
    fail(bench, 3);
    expect(bench.read32(Reg.fsts) & PFO).toBe(PFO);
    expect([bench.record(0).address, bench.record(1).address]).toEqual([0x1000n, 0x2000n]);
    expect(bench.trace.kinds()).toContain('fault.overflowed');
    expect(bench.unit.statistics).toMatchObject({ faultsRecorded: 2, faultsOverflowed: 1 });
  });

  it('lasts until software clears PFO, even where records are free', () => {
    const bench = new Bench({ faultRecords: 1 }).enable();
    fail(bench, 1, 2);
    bench.clearRecord(0);
    fail(bench, 3);
    expect(bench.record(0).valid).toBe(false);
    bench.write32(Reg.fsts, PFO);
    fail(bench, 4);
    expect(bench.record(0)).toMatchObject({ valid: true, address: 0x4000n });
  });

  it('goes on at the next record when it is over', () => {
    const bench = new Bench({ faultRecords: 2 }).enable();
    fail(bench, 1, 2, 3);
    bench.clearRecord(0);
    bench.clearRecord(1);
    bench.write32(Reg.fsts, PFO);
    fail(bench, 4);
    expect(firstIndex(bench)).toBe(0);
    expect(bench.record(0).address).toBe(0x4000n);
  });
});

describe('collapsing', () => {
  it('is off by default: a second fault of a requester is recorded', () => {
    const bench = mappedBench();
    fail(bench, 5, 5);
    expect(bench.record(1).valid).toBe(true);
  });

  it('leaves out a fault of a requester that has one pending, at any address', () => {
    const bench = mappedBench({ collapseFaults: true });
    fail(bench, 5, 6);
    expect(bench.translate(0x5000n, READ, 0x0200)).toBe(false);
    expect([bench.record(0).source, bench.record(1).source]).toEqual([RID, 0x0200]);
    expect(bench.record(2).valid).toBe(false);
    expect(bench.unit.statistics).toMatchObject({ faultsRecorded: 2, faultsCollapsed: 1 });
    bench.clearRecord(0);
    fail(bench, 7);
    expect(bench.record(2)).toMatchObject({ valid: true, address: 0x7000n });
  });
});

describe('fault processing disable', () => {
  it.each([
    ['context not present', (bench: Bench) => bench.setContext(RID, { fpd: true, present: false }), 0x2],
    ['invalid context', (bench: Bench) => bench.setContext(RID, { fpd: true, width: 7 }), 0x3],
    ['unreadable page table', (bench: Bench) => bench.setContext(RID, { fpd: true, table: FRAMES }), 0x3],
    ['reserved bits in context', (bench: Bench) => bench.setContext(RID, { fpd: true, extraLow: 0x10n }), 0xb],
    ['not mapped', (bench: Bench) => bench.setContext(RID, { fpd: true }), 0x6],
  ])('suppresses: %s', (_name, prepare, reason) => {
    const bench = mappedBench();
    prepare(bench);
    expect(bench.translate(0x5000n)).toBe(false);
    expect(bench.read32(Reg.fsts)).toBe(0);
    expect(bench.record().valid).toBe(false);
    expect(bench.trace.events.at(-1)).toMatchObject({ kind: 'fault.suppressed', detail: { reason } });
    expect(bench.unit.statistics).toMatchObject({ faultsRecorded: 0, faultsSuppressed: 1 });
    expect(bench.unit.statistics.faults[reason]).toBe(1);
  });

  it('suppresses reads of the interrupt range, addresses too wide, reserved bits and unreadable tables', () => {
    const bench = mappedBench();
    bench.setContext(RID, { fpd: true });
    bench.map(0x5000n, Frame.data, 3n | (1n << 44n));
    bench.setEntry(0x80_0000_0000n, 3, (BigInt(FRAMES) << 12n) | 3n);
    for (const iova of [0xfee00000n, 0x1_0000_0000_0000n, 0x5000n, 0x80_0000_0000n]) {
      expect(bench.translate(iova)).toBe(false);
    }
    expect(bench.read32(Reg.fsts)).toBe(0);
    const { faults } = bench.unit.statistics;
    expect([faults[0xe], faults[0x4], faults[0xc], faults[0x7]]).toEqual([1, 1, 1, 1]);
  });

  it('does not outlive its context entry', () => {
    const bench = mappedBench();
    bench.setContext(RID, { fpd: true, present: false });
    bench.translate(IOVA);
    // The next requester's bus has no root entry: not qualified, and nothing of the last entry is left.
    bench.translate(IOVA, READ, 0x0500);
    expect(bench.record()).toMatchObject({ valid: true, reason: 1, source: 0x0500 });
  });

  it('is told apart by reason as 7.1.3 does', () => {
    const notQualified = Object.entries(FAULT_REASONS)
      .filter(([, info]) => !info.qualified)
      .map(([reason]) => Number(reason));
    expect(notQualified.sort((a, b) => a - b)).toEqual([
      FaultReason.rootNotPresent,
      FaultReason.rootTableAccess,
      FaultReason.contextTableAccess,
      FaultReason.rootReserved,
      FaultReason.rootTableMode,
    ]);
  });
});

describe('fault events for the trace', () => {
  it('carry who, where, what and why', () => {
    const bench = mappedBench();
    bench.translate(0x5678n, WRITE);
    expect(bench.trace.events.at(-1)).toEqual({
      kind: 'fault.recorded',
      source: 'vtd',
      detail: {
        requesterId: RID,
        iova: 0x5678n,
        access: 'write',
        reason: 5,
        name: 'write not permitted',
        condition: 'LGN.2',
      },
    });
  });
});

describe('fault interrupt', () => {
  it('is one message for the first pending fault', () => {
    const bench = mappedBench().unmaskFaults();
    fail(bench, 5, 6, 7);
    expect(bench.messages).toEqual([]);
    bench.jobs.run();
    expect(bench.messages).toEqual([{ address: 0xfee00000n, data: 0x21 }]);
    expect(bench.read32(Reg.fectl) & PENDING).toBe(0);
    expect(bench.unit.statistics.faultInterrupts).toBe(1);
  });

  it('comes again after all is cleared', () => {
    const bench = mappedBench().unmaskFaults();
    fail(bench, 5);
    bench.jobs.run();
    bench.clearRecord(0);
    fail(bench, 6);
    bench.jobs.run();
    expect(bench.messages).toHaveLength(2);
  });

  it('does not come while an overflow waits to be cleared', () => {
    const bench = new Bench({ faultRecords: 1 }).enable().unmaskFaults();
    fail(bench, 1, 2);
    bench.jobs.run();
    bench.clearRecord(0);
    expect(bench.read32(Reg.fsts)).toBe(PFO);
    fail(bench, 3);
    bench.jobs.run();
    expect(bench.messages).toHaveLength(1);
  });

  it('is held back by the mask, and sent by a job when it is taken off', () => {
    const bench = mappedBench().unmaskFaults();
    bench.write32(Reg.fectl, MASK);
    fail(bench, 5);
    bench.jobs.run();
    expect(bench.messages).toEqual([]);
    expect(bench.read32(Reg.fectl)).toBe(MASK + PENDING);
    bench.write32(Reg.fectl, 0);
    expect(bench.messages).toEqual([]);
    bench.jobs.run();
    expect(bench.messages).toHaveLength(1);
    expect(bench.read32(Reg.fectl)).toBe(0);
  });

  it('is masked after reset', () => {
    const bench = mappedBench();
    fail(bench, 5);
    bench.jobs.run();
    expect(bench.messages).toEqual([]);
    expect(bench.read32(Reg.fectl)).toBe(MASK + PENDING);
  });

  it('is no longer pending when software has dealt with all faults', () => {
    const bench = mappedBench();
    fail(bench, 5, 6);
    bench.clearRecord(0);
    expect(bench.read32(Reg.fectl) & PENDING).toBe(PENDING);
    bench.clearRecord(1);
    expect(bench.read32(Reg.fectl) & PENDING).toBe(0);
    bench.unmaskFaults();
    bench.jobs.run();
    expect(bench.messages).toEqual([]);
  });

  it('stays pending where the mask comes before the message is out', () => {
    const bench = mappedBench().unmaskFaults();
    fail(bench, 5);
    bench.write32(Reg.fectl, MASK);
    bench.jobs.run();
    expect(bench.messages).toEqual([]);
    expect(bench.read32(Reg.fectl)).toBe(MASK + PENDING);
  });

  it('goes to the 64-bit address that software wrote', () => {
    const bench = mappedBench().unmaskFaults();
    bench.write32(Reg.feuaddr, 0xabcd);
    fail(bench, 5);
    bench.jobs.run();
    expect(bench.messages).toEqual([{ address: 0xabcd_fee00000n, data: 0x21 }]);
  });

  it('has its pending bit read-only', () => {
    const bench = mappedBench();
    bench.write32(Reg.fectl, PENDING);
    bench.jobs.run();
    expect(bench.read32(Reg.fectl)).toBe(0);
    expect(bench.messages).toEqual([]);
  });
});
