import { describe, expect, it } from 'vitest';
import { type Counters, readCounters, readDevices } from '../../../src/inspector/page/store/counters.ts';
import { Latencies, LatencyWindow, MAX_LATENCIES } from '../../../src/inspector/page/store/latency.ts';
import { perSecond, RateHistory, ratesBetween } from '../../../src/inspector/page/store/rates.ts';
import { RecordCursor } from '../../../src/trace/record-cursor.ts';
import { batchOf, type SampleRecord, slotsOf, textSlotsOf } from '../../trace/records.ts';

const zero: Counters = {
  registerAccesses: 0,
  dmaReads: 0,
  dmaWrites: 0,
  bytesRead: 0,
  bytesWritten: 0,
  tlbHits: 0,
  tlbMisses: 0,
  invalidations: 0,
  faults: 0,
  dropped: 0,
};

describe('rates', () => {
  it('are changes by time', () => {
    const rates = ratesBetween(zero, { ...zero, dmaReads: 10, dmaWrites: 20, bytesRead: 4096, faults: 1 }, 2);
    expect(rates).toMatchObject({ dma: 15, bytesRead: 2048, bytesWritten: 0, faults: 0.5, registers: 0 });
  });

  it('have no hit rate where nothing was looked up', () => {
    expect(ratesBetween(zero, zero, 1).hitRate).toBeNull();
    expect(ratesBetween(zero, { ...zero, tlbHits: 3, tlbMisses: 1 }, 1)).toMatchObject({ hitRate: 0.75, walks: 1 });
  });

  it('are not known where counters went back: the machine is another one', () => {
    expect(ratesBetween({ ...zero, dmaReads: 5 }, zero, 1).dma).toBeNull();
    expect(perSecond(5, 1, 1)).toBeNaN();
    expect(perSecond(undefined, 1, 1)).toBeNaN();
    expect(perSecond(1, 5, 2)).toBe(2);
  });

  it('need two readings', () => {
    const history = new RateHistory();
    history.add(1, zero);
    expect(history.times).toEqual([]);
    history.add(2, { ...zero, dmaReads: 7 });
    expect(history.times).toEqual([2]);
    expect(history.series.dma).toEqual([7]);
  });

  it('leave a hole where nobody looked', () => {
    const history = new RateHistory(100, 3);
    history.add(1, zero);
    history.add(2, zero);
    history.add(60, zero);
    expect(history.series.dma).toEqual([0, null, null]);
    expect(history.times).toEqual([2, 3.5, 60]);
  });

  it('are kept for so long only', () => {
    const history = new RateHistory(5);
    for (let time = 0; time < 20; time++) history.add(time, zero);
    expect(history.times).toEqual([15, 16, 17, 18, 19]);
    expect(history.series.faults).toHaveLength(5);
  });
});

describe('counters', () => {
  const server = { messages: { version: 1, regionRead: 5, regionWrite: 6, regionWriteMulti: 1, dmaMap: 9 } };
  const edu0 = {
    connected: true,
    server,
    dma: { reads: 3, writes: 4, bytesRead: 300, bytesWritten: 400, byStatus: [5, 2, 0, 0, 0] },
  };

  it('of a VT-d unit', () => {
    const iommu = {
      kind: 'vtd',
      engine: { hits: 10, misses: 2 },
      queued: { iotlbPages: 3, contextDevice: 1 },
      registerBased: { iotlbGlobal: 1 },
      faults: [0, 0, 0, 4n],
    };
    const counters = readCounters({ iommu, functions: { edu0 }, trace: { sent: 9, dropped: 8 } });
    expect(counters).toEqual({
      registerAccesses: 12,
      dmaReads: 3,
      dmaWrites: 4,
      bytesRead: 300,
      bytesWritten: 400,
      tlbHits: 10,
      tlbMisses: 2,
      invalidations: 5,
      faults: 4,
      dropped: 8,
    });
  });

  it('of a dma-iommu with several formats of tables', () => {
    const engines = { a: { hits: 1, misses: 2, invalidateAll: 1 }, b: { hits: 10, misses: 20, invalidatePages: 5 } };
    const counters = readCounters({ iommu: { kind: 'dma-iommu', engines, faults: [1, 1] }, functions: {} });
    expect(counters).toMatchObject({ tlbHits: 11, tlbMisses: 22, invalidations: 6, faults: 2 });
  });

  it('of a machine without an IOMMU', () => {
    expect(readCounters({ functions: { edu0 } })).toMatchObject({ dmaReads: 3, tlbHits: 0, faults: 0 });
    expect(readCounters({})).toEqual(zero);
  });

  it('of each device', () => {
    expect(readDevices({ functions: { edu0 } }).edu0).toMatchObject({
      failed: 2,
      connected: true,
      registerAccesses: 12,
    });
  });
});

describe('latencies', () => {
  function feed(...records: readonly SampleRecord[]): Latencies {
    const latencies = new Latencies(requesterId => (requesterId === 0x100 ? 'edu0' : undefined));
    const cursor = new RecordCursor();
    cursor.load(
      batchOf(textSlotsOf('source', [1, 'iommu'], 0), textSlotsOf('source', [2, 'edu0'], 0), ...records.map(slotsOf)),
    );
    while (cursor.next()) latencies.record(cursor);
    return latencies;
  }
  const write = (time: number, region = 0): SampleRecord => ({
    kind: 'register.write',
    source: 2,
    time,
    payload: [region, 0x98, 0, 1],
  });
  const dma = (time: number, rid = 0x100): SampleRecord => ({
    kind: 'dma.read',
    source: 2,
    time,
    payload: [rid, 0, 0, 64, -1],
  });

  it('go from the last register write to the first transfer', () => {
    const { doorbell } = feed(write(100), write(200), dma(250), dma(300));
    expect(doorbell.summary()).toEqual({ count: 1, median: 50, p99: 50, longest: 50 });
  });

  it('do not begin in configuration space, nor end with another device', () => {
    expect(feed(write(100, 7), dma(250)).doorbell.count).toBe(0);
    expect(feed(write(100), dma(250, 0x200)).doorbell.count).toBe(0);
  });

  it('go from a fault to the interrupt of the IOMMU', () => {
    const fault: SampleRecord = { kind: 'fault', time: 10, payload: [0x100, 0, 0, 5, 1, -1] };
    const interrupt = (source: number, time: number): SampleRecord => ({
      kind: 'interrupt',
      source,
      time,
      payload: [1, 0],
    });
    const { faultInterrupt } = feed(
      fault,
      { ...fault, time: 12 },
      interrupt(2, 15),
      interrupt(1, 40),
      interrupt(1, 50),
    );
    expect(faultInterrupt.summary()).toMatchObject({ count: 1, longest: 30 });
  });

  it('do not reach across a hole in the records', () => {
    expect(feed(write(100), { kind: 'dropped', time: 150, payload: [3] }, dma(250)).doorbell.count).toBe(0);
  });

  it('are summed up over the last ones only', () => {
    const window = new LatencyWindow();
    for (let n = 0; n < MAX_LATENCIES + 10; n++) window.add(n < 10 ? 1e9 : 5);
    expect(window.summary()).toEqual({ count: MAX_LATENCIES + 10, median: 5, p99: 5, longest: 5 });
    expect(new LatencyWindow().summary().median).toBeNaN();
  });
});
