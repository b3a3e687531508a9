import { describe, expect, it } from 'vitest';
import { Bench, DOMAIN, Frame, IOVA, mappedBench, Reg, RID } from './support.ts';

const BUSY = 1n << 63n;
const OTHER = 0x0108;
const OTHER_DOMAIN = 8;

function contextCommand(granularity: bigint, domain = DOMAIN, source = RID, functionMask = 0): bigint {
  return BUSY | (granularity << 61n) | (BigInt(functionMask) << 32n) | (BigInt(source) << 16n) | BigInt(domain);
}

function iotlbCommand(granularity: bigint, domain = DOMAIN): bigint {
  return BUSY | (granularity << 60n) | (BigInt(domain) << 32n);
}

/** Runs a command as a driver does, which polls for the busy bit; returns the actual granularity. */
function run(bench: Bench, offset: number, command: bigint): bigint {
  bench.write64(offset, command);
  expect(bench.read64(offset) & BUSY).toBe(BUSY);
  bench.jobs.run();
  const value = bench.read64(offset);
  expect(value & BUSY).toBe(0n);
  return offset === Reg.ccmd ? (value >> 59n) & 3n : (value >> 57n) & 3n;
}

function staleContexts(): Bench {
  const bench = mappedBench();
  bench.setContext(OTHER, { domain: OTHER_DOMAIN });
  bench.setContext(RID + 1);
  for (const id of [RID, RID + 1, OTHER]) expect(bench.frameAt(IOVA, id)).toBe(Frame.data);
  for (const id of [RID, RID + 1, OTHER]) bench.setContext(id, { present: false });
  return bench;
}

const contexts = (bench: Bench) => [RID, RID + 1, OTHER].map(id => bench.translate(IOVA, 1, id));

describe('context command register', () => {
  it('1: global', () => {
    const bench = staleContexts();
    expect(run(bench, Reg.ccmd, contextCommand(1n))).toBe(1n);
    expect(contexts(bench)).toEqual([false, false, false]);
    expect(bench.unit.statistics.registerBased.contextGlobal).toBe(1);
  });

  it('2: domain-selective', () => {
    const bench = staleContexts();
    expect(run(bench, Reg.ccmd, contextCommand(2n))).toBe(2n);
    expect(contexts(bench)).toEqual([false, false, true]);
    expect(bench.unit.statistics.registerBased.contextDomain).toBe(1);
  });

  it('3: device-selective', () => {
    const bench = staleContexts();
    expect(run(bench, Reg.ccmd, contextCommand(3n))).toBe(3n);
    expect(contexts(bench)).toEqual([false, true, true]);
    expect(bench.unit.statistics.registerBased.contextDevice).toBe(1);
  });

  it('3: device-selective with a function mask', () => {
    const bench = staleContexts();
    expect(run(bench, Reg.ccmd, contextCommand(3n, DOMAIN, RID, 3))).toBe(3n);
    expect(contexts(bench)).toEqual([false, false, true]);
  });

  it('0: an incorrect request, ignored and reported', () => {
    const bench = staleContexts();
    expect(run(bench, Reg.ccmd, contextCommand(0n))).toBe(0n);
    expect(contexts(bench)).toEqual([true, true, true]);
    expect(bench.trace.events.find(event => event.kind === 'vtd.invalidationRefused')?.detail).toEqual({
      register: 'CCMD',
      why: 'reserved granularity',
    });
    expect(bench.unit.statistics.registerErrors).toBe(1);
  });

  it('hides source id and function mask from reads', () => {
    const bench = new Bench();
    bench.write64(Reg.ccmd, contextCommand(3n, 0x1234, 0x5678, 3));
    expect(bench.read64(Reg.ccmd)).toBe(BUSY | (3n << 61n) | 0x1234n);
  });

  it('starts with the upper half only', () => {
    const bench = staleContexts();
    bench.write32(Reg.ccmd, DOMAIN);
    expect(bench.jobs.length).toBe(0);
    bench.write32(Reg.ccmd + 4, 0xc0000000);
    expect(bench.jobs.run()).toBe(1);
    expect(contexts(bench)).toEqual([false, false, true]);
  });

  it('does nothing without the busy bit', () => {
    const bench = staleContexts();
    bench.write64(Reg.ccmd, contextCommand(1n) & ~BUSY);
    expect(bench.jobs.length).toBe(0);
    expect(contexts(bench)).toEqual([true, true, true]);
  });

  it('runs once where it is written twice', () => {
    const bench = staleContexts();
    bench.write64(Reg.ccmd, contextCommand(1n));
    bench.write64(Reg.ccmd, contextCommand(1n));
    bench.jobs.run();
    expect(bench.unit.statistics.registerBased.contextGlobal).toBe(1);
  });
});

describe('IOTLB registers', () => {
  function stalePages(): Bench {
    const bench = mappedBench();
    const table = bench.newTable();
    bench.setContext(OTHER, { table, domain: OTHER_DOMAIN });
    bench.setEntry(IOVA, 1, (BigInt(Frame.data) << 12n) | 3n, 4, table);
    bench.map(IOVA + 0x1000n, Frame.data);
    expect(pages(bench)).toEqual([true, true, true]);
    bench.unmap(IOVA);
    bench.unmap(IOVA + 0x1000n);
    bench.setEntry(IOVA, 1, 0n, 4, table);
    return bench;
  }
  const pages = (bench: Bench) => [
    bench.translate(IOVA),
    bench.translate(IOVA + 0x1000n),
    bench.translate(IOVA, 1, OTHER),
  ];

  it('1: global', () => {
    const bench = stalePages();
    expect(run(bench, Reg.iotlb, iotlbCommand(1n))).toBe(1n);
    expect(pages(bench)).toEqual([false, false, false]);
    expect(bench.unit.statistics.registerBased.iotlbGlobal).toBe(1);
  });

  it('2: domain-selective', () => {
    const bench = stalePages();
    expect(run(bench, Reg.iotlb, iotlbCommand(2n))).toBe(2n);
    expect(pages(bench)).toEqual([false, false, true]);
    expect(bench.unit.statistics.registerBased.iotlbDomain).toBe(1);
  });

  it('3: page-selective', () => {
    const bench = stalePages();
    bench.write64(Reg.iva, IOVA + 0x1000n);
    expect(run(bench, Reg.iotlb, iotlbCommand(3n))).toBe(3n);
    expect(pages(bench)).toEqual([true, false, true]);
    expect(bench.unit.statistics.registerBased.iotlbPages).toBe(1);
  });

  it('3: page-selective with an address mask', () => {
    const bench = stalePages();
    bench.write64(Reg.iva, IOVA | 1n);
    expect(run(bench, Reg.iotlb, iotlbCommand(3n))).toBe(3n);
    expect(pages(bench)).toEqual([false, false, true]);
  });

  it.each([
    [0x40n, Frame.data],
    [0n, undefined],
  ])('3: page-selective with hint %i', (hint, frame) => {
    const bench = mappedBench();
    bench.frameAt(IOVA);
    bench.setEntry(IOVA, 4, 0n);
    bench.write64(Reg.iva, IOVA | hint);
    run(bench, Reg.iotlb, iotlbCommand(3n));
    expect(bench.frameAt(IOVA)).toBe(frame);
  });

  it('0: an address mask above what is offered', () => {
    const bench = stalePages();
    bench.write64(Reg.iva, IOVA | 18n);
    expect(run(bench, Reg.iotlb, iotlbCommand(3n))).toBe(3n);
    bench.write64(Reg.iva, IOVA | 19n);
    expect(run(bench, Reg.iotlb, iotlbCommand(3n))).toBe(0n);
    expect(run(bench, Reg.iotlb, iotlbCommand(2n))).toBe(2n);
  });

  it('0: an incorrect request, ignored and reported', () => {
    const bench = stalePages();
    expect(run(bench, Reg.iotlb, iotlbCommand(0n))).toBe(0n);
    expect(pages(bench)).toEqual([true, true, true]);
    expect(bench.trace.events.find(event => event.kind === 'vtd.invalidationRefused')?.detail.register).toBe('IOTLB');
  });

  it('hide the address from reads', () => {
    const bench = new Bench();
    bench.write64(Reg.iva, 0x12345fffn);
    expect(bench.read64(Reg.iva)).toBe(0n);
  });
});

describe.each([
  ['context command', Reg.ccmd, contextCommand(1n)],
  ['IOTLB', Reg.iotlb, iotlbCommand(1n)],
])('%s register', (_name, offset, command) => {
  it('0: refuses while the queue is enabled, and changes nothing', () => {
    const bench = staleContexts();
    bench.enableQueue();
    expect(run(bench, offset, command)).toBe(0n);
    expect(contexts(bench)).toEqual([true, true, true]);
    expect(bench.trace.events.at(-1)).toMatchObject({
      kind: 'vtd.invalidationRefused',
      detail: { why: 'queued invalidation is enabled' },
    });
  });

  it('0: refuses while the table mode is not legacy', () => {
    const bench = new Bench().enable(1n);
    expect(run(bench, offset, command)).toBe(0n);
    expect(bench.unit.statistics.registerErrors).toBe(1);
  });

  it('works while translation is off', () => {
    expect(run(new Bench(), offset, command)).toBe(1n);
  });
});
