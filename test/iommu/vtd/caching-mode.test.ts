import { describe, expect, it } from 'vitest';
import {
  Bench,
  contextInvalidate,
  DOMAIN,
  Frame,
  Granularity,
  IOVA,
  iotlbInvalidate,
  mappedBench,
  RID,
} from './support.ts';

describe('without caching mode', () => {
  it('nothing that faults is kept: mapping needs no invalidation', () => {
    const bench = new Bench();
    bench.enable();
    expect(bench.translate(IOVA)).toBe(false);
    bench.setContext(RID, { present: false });
    expect(bench.translate(IOVA)).toBe(false);
    bench.setContext(RID, { width: 7 });
    expect(bench.translate(IOVA)).toBe(false);
    bench.setContext(RID);
    expect(bench.translate(IOVA)).toBe(false);
    bench.map(IOVA, Frame.data);
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
    expect([0, 1, 2, 3].map(index => bench.record(index).reason)).toEqual([1, 2, 3, 6]);
  });
});

describe('with caching mode', () => {
  const options = { cachingMode: true };

  it('a page that was not mapped stays so until it is invalidated', () => {
    const bench = mappedBench(options).enableQueue();
    expect(bench.translate(IOVA + 0x1000n)).toBe(false);
    bench.map(IOVA + 0x1000n, Frame.data + 1);
    expect(bench.translate(IOVA + 0x1000n)).toBe(false);
    bench.submit(iotlbInvalidate(Granularity.selective, DOMAIN, IOVA + 0x1000n));
    expect(bench.frameAt(IOVA + 0x1000n)).toBe(Frame.data + 1);
  });

  it.each([
    ['not present', { present: false }, 2],
    ['invalid', { width: 7 }, 3],
    ['with reserved bits', { extraLow: 0x10n }, 0xb],
  ])('a context entry that was %s stays so until domain 0 is invalidated', (_name, fields, reason) => {
    const bench = mappedBench(options).enableQueue();
    bench.setContext(RID, fields);
    expect(bench.translate(IOVA)).toBe(false);
    bench.setContext(RID);
    expect(bench.translate(IOVA)).toBe(false);
    expect([bench.record(0).reason, bench.record(1).reason]).toEqual([reason, reason]);
    bench.submit(contextInvalidate(Granularity.selective, DOMAIN));
    expect(bench.translate(IOVA)).toBe(false);
    bench.submit(contextInvalidate(Granularity.selective, 0));
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
  });

  it('a domain-selective invalidation of domain 0 takes all such entries', () => {
    const bench = mappedBench(options).enableQueue();
    bench.setContext(RID, { present: false });
    bench.translate(IOVA);
    bench.setContext(RID);
    bench.submit(contextInvalidate(Granularity.domain, 0));
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
  });

  it('FPD is kept with the entry', () => {
    const bench = mappedBench(options);
    bench.setContext(RID, { present: false, fpd: true });
    bench.translate(IOVA);
    bench.setContext(RID, { present: false });
    bench.translate(IOVA);
    expect(bench.unit.statistics).toMatchObject({ faultsSuppressed: 2, faultsRecorded: 0 });
  });

  it('a root entry that was not present is not an entry of the context cache', () => {
    const bench = new Bench(options).enable();
    expect(bench.translate(IOVA)).toBe(false);
    bench.setContext(RID);
    bench.map(IOVA, Frame.data);
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
  });

  it('a page mapped to the interrupt range stays so until it is invalidated', () => {
    const bench = mappedBench(options);
    bench.map(IOVA, 0xfee00);
    expect(bench.translate(IOVA)).toBe(false);
    bench.map(IOVA, Frame.data);
    expect(bench.translate(IOVA)).toBe(false);
  });

  it('a context entry in domain 0, which is reserved, is reported', () => {
    const bench = mappedBench(options);
    bench.setContext(RID, { domain: 0 });
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
    expect(bench.trace.events.find(event => event.kind === 'vtd.reservedDomain')?.detail).toEqual({ requesterId: RID });
  });
});
