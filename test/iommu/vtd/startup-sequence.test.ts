/** What Linux does with a unit from boot to the first fault, register by register, and nothing that it does not do. */
import { describe, expect, it } from 'vitest';
import type { VtdOptions } from '../../../src/iommu/vtd/capabilities.ts';
import {
  Bench,
  contextInvalidate,
  type Descriptor,
  Frame,
  Gcmd,
  Granularity,
  Gsts,
  iotlbInvalidate,
  MASK,
  Reg,
  RID,
  WRITE,
  waitStatus,
} from './support.ts';

const SLOTS = 256;
const DONE = 2;

/** The driver's side: a queue in which every other descriptor waits for the one before, and status words that it polls. */
class Driver {
  private slot = 0;

  constructor(readonly bench: Bench) {}

  probe(): { levels: number; queued: boolean } {
    const { bench } = this;
    const cap = bench.read64(Reg.cap);
    const ecap = bench.read64(Reg.ecap);
    expect(bench.read32(Reg.ver) >>> 4).toBeGreaterThan(0);
    expect(bench.read32(Reg.gsts)).toBe(0);
    // Left-over faults of the firmware.
    expect(bench.read32(Reg.fsts)).toBe(0);
    const sagaw = (cap >> 8n) & 0x1fn;
    expect(sagaw & 4n).toBe(4n);
    return { levels: 4, queued: (ecap & 2n) === 2n };
  }

  startQueue(): void {
    const { bench } = this;
    bench.write32(Reg.iqt, 0);
    bench.write64(Reg.iqa, BigInt(Frame.queue) << 12n);
    this.switchOn(Gcmd.qie, Gsts.qies);
  }

  setRoot(): void {
    const { bench } = this;
    bench.write64(Reg.rtaddr, BigInt(Frame.root) << 12n);
    bench.write32(Reg.gcmd, bench.read32(Reg.gsts) + Gcmd.srtp);
    expect(bench.read32(Reg.gsts) & Gsts.rtps).toBe(Gsts.rtps);
    this.invalidate(contextInvalidate(Granularity.global, 0, 0));
    this.invalidate(iotlbInvalidate(Granularity.global, 0));
  }

  setFaultEvent(): void {
    const { bench } = this;
    bench.write32(Reg.fectl, MASK);
    expect(bench.read32(Reg.fectl)).toBe(MASK);
    bench.write32(Reg.fedata, 0x24);
    bench.write32(Reg.feaddr, 0xfee00000);
    bench.write32(Reg.feuaddr, 0);
    bench.write32(Reg.fectl, 0);
    expect(bench.read32(Reg.fectl)).toBe(0);
  }

  enable(): void {
    this.switchOn(Gcmd.te, Gsts.tes);
  }

  attach(domain: number, table: number): void {
    this.bench.setContext(RID, { domain, table });
    this.invalidate(contextInvalidate(Granularity.selective, domain, RID));
    this.invalidate(iotlbInvalidate(Granularity.domain, domain));
  }

  /** Submits one descriptor with a wait behind it, and polls the status word, as qi_submit_sync does. */
  invalidate(descriptor: Descriptor): void {
    const { bench, slot } = this;
    const wait = slot + 1;
    bench.enqueue(descriptor, waitStatus(DONE, wait)).ring();
    expect(bench.status(wait)).toBe(0);
    bench.jobs.run();
    expect(bench.status(wait)).toBe(DONE);
    expect(bench.read32(Reg.fsts) & 0x70).toBe(0);
    bench.memory.store32(Frame.status, wait * 4, 0);
    this.slot = (slot + 2) % SLOTS;
  }

  /** The fault handler: every record from the first index on, then the status. Returns the reasons. */
  handleFaults(): { reason: number; source: number; address: bigint; write: boolean }[] {
    const { bench } = this;
    const seen = [];
    const records = Number((bench.read64(Reg.cap) >> 40n) & 0xffn) + 1;
    const status = bench.read32(Reg.fsts);
    if (status & 2) {
      for (let index = (status >>> 8) & 0xff; ; index = (index + 1) % records) {
        const at = Reg.frcd + index * 16;
        const top = bench.read32(at + 12);
        if ((top & MASK) === 0) break;
        const source = bench.read32(at + 8) & 0xffff;
        const address = bench.read64(at);
        bench.write32(at + 12, MASK);
        seen.push({ reason: top & 0xff, source, address, write: (top & 0x40000000) === 0 });
      }
    }
    bench.write32(Reg.fsts, 0x83);
    return seen;
  }

  private switchOn(bit: number, status: number): void {
    const { bench } = this;
    const kept = BigInt(bench.read32(Reg.gsts)) & 0x96ffffffn;
    bench.write32(Reg.gcmd, Number(kept | BigInt(bit)));
    expect(bench.read32(Reg.gsts) & status).toBe(status | 0);
  }
}

function boot(options: Partial<VtdOptions> = {}): { bench: Bench; driver: Driver } {
  const bench = new Bench(options);
  const driver = new Driver(bench);
  expect(driver.probe()).toEqual({ levels: 4, queued: true });
  driver.startQueue();
  driver.setRoot();
  driver.setFaultEvent();
  driver.enable();
  return { bench, driver };
}

describe('Linux', () => {
  it('starts the unit, and is not reported for anything', () => {
    const { bench } = boot();
    expect(bench.read32(Reg.gsts)).toBe(Gsts.tes + Gsts.rtps + Gsts.qies);
    expect(bench.trace.kinds()).toEqual(['vtd.queue', 'vtd.rootTable', 'vtd.enabled']);
    expect(bench.unit.statistics.queued).toMatchObject({ contextGlobal: 1, iotlbGlobal: 1 });
  });

  it('attaches a device, maps, lets it read and write, unmaps, and gets its faults by interrupt', () => {
    const { bench, driver } = boot();
    const table = bench.newTable();
    const domain = 1;
    driver.attach(domain, table);
    const iova = 0xffff_f000n;
    bench.setEntry(iova, 1, (BigInt(Frame.data) << 12n) | 3n, 4, table);
    expect(bench.frameAt(iova)).toBe(Frame.data);
    expect(bench.translate(iova, WRITE)).toBe(true);

    bench.setEntry(iova, 1, 0n, 4, table);
    expect(bench.frameAt(iova)).toBe(Frame.data);
    driver.invalidate(iotlbInvalidate(Granularity.selective, domain, iova, 0, true));
    expect(bench.translate(iova, WRITE)).toBe(false);
    expect(bench.translate(iova)).toBe(false);

    expect(bench.messages).toEqual([]);
    bench.jobs.run();
    expect(bench.messages).toEqual([{ address: 0xfee00000n, data: 0x24 }]);
    expect(driver.handleFaults()).toEqual([
      { reason: 5, source: RID, address: iova, write: true },
      { reason: 6, source: RID, address: iova, write: false },
    ]);
    expect(bench.read32(Reg.fsts) & 0xff).toBe(0);
    const expected = ['vtd.queue', 'vtd.rootTable', 'vtd.enabled', 'fault.recorded', 'fault.recorded'];
    expect(bench.trace.kinds()).toEqual(expected);

    bench.setEntry(iova, 1, (BigInt(Frame.data + 1) << 12n) | 3n, 4, table);
    expect(bench.frameAt(iova)).toBe(Frame.data + 1);
  });

  it('does not find its requester before it is attached', () => {
    const { bench, driver } = boot();
    expect(bench.translate(0x1000n, WRITE)).toBe(false);
    bench.jobs.run();
    expect(driver.handleFaults()).toMatchObject([{ reason: 1, source: RID }]);
  });

  it('handles more faults than there are records, and goes on', () => {
    const { bench, driver } = boot();
    for (let page = 0; page < 20; page++) bench.translate(BigInt(page) << 12n);
    bench.jobs.run();
    expect(driver.handleFaults()).toHaveLength(8);
    bench.translate(0x9000n);
    bench.jobs.run();
    expect(bench.messages).toHaveLength(2);
    expect(driver.handleFaults()).toMatchObject([{ address: 0x9000n }]);
  });

  it('maps and unmaps often enough for the queue to wrap', () => {
    const { bench, driver } = boot();
    const table = bench.newTable();
    driver.attach(1, table);
    for (let round = 0; round < 300; round++) {
      bench.setEntry(0x1000n, 1, (BigInt(Frame.data + (round & 7)) << 12n) | 3n, 4, table);
      expect(bench.frameAt(0x1000n)).toBe(Frame.data + (round & 7));
      bench.setEntry(0x1000n, 1, 0n, 4, table);
      driver.invalidate(iotlbInvalidate(Granularity.selective, 1, 0x1000n, 0, true));
    }
    expect(bench.unit.statistics.queued.iotlbPages).toBe(300);
    expect(bench.translate(0x1000n)).toBe(false);
  });

  it('works in caching mode, where it invalidates after mapping too', () => {
    const { bench, driver } = boot({ cachingMode: true });
    const table = bench.newTable();
    expect(bench.translate(0x1000n)).toBe(false);
    bench.setContext(RID, { domain: 1, table });
    driver.invalidate(contextInvalidate(Granularity.selective, 0, RID));
    driver.invalidate(iotlbInvalidate(Granularity.domain, 1));
    expect(bench.translate(0x1000n)).toBe(false);
    bench.setEntry(0x1000n, 1, (BigInt(Frame.data) << 12n) | 3n, 4, table);
    driver.invalidate(iotlbInvalidate(Granularity.selective, 1, 0x1000n));
    expect(bench.frameAt(0x1000n)).toBe(Frame.data);
  });

  it('shuts the unit down, and the next kernel starts it again', () => {
    const { bench } = boot();
    bench.command(Gcmd.te, false);
    bench.command(Gcmd.qie, false);
    expect(bench.read32(Reg.gsts)).toBe(Gsts.rtps);
    expect(bench.head).toBe(0);
    bench.enableQueue();
    bench.submit(waitStatus(1));
    expect(bench.status()).toBe(1);
  });
});
