import { describe, expect, it } from 'vitest';
import { Translation } from '../../../src/iommu/translator.ts';
import { Injection } from '../../../src/machine/injection/injection.ts';
import {
  DOMAIN,
  Frame,
  Granularity,
  IOVA,
  iotlbInvalidate,
  mappedBench,
  READ,
  RID,
  WRITE,
  waitStatus,
} from '../../iommu/vtd/support.ts';
import { FakeTime } from './support.ts';

/** A VT-d unit with one page mapped, whose jobs and translations go through an injection. */
function rig() {
  const bench = mappedBench();
  const time = new FakeTime();
  const injection = new Injection({ iommu: 'vtd', trace: bench.trace, after: time.after });
  const push = bench.jobs.push.bind(bench.jobs);
  const gate = injection.iommuJobs({ push });
  bench.jobs.push = job => gate.push(job);
  const translator = injection.translator('edu0', bench.unit);
  bench.enableQueue();
  bench.trace.events.length = 0;
  const out = new Translation();
  const translate = (access: number = READ) => translator.translateRun(RID, 0, Number(IOVA), access, 4, out);
  return { bench, time, injection, translate, out };
}

const flush = [iotlbInvalidate(Granularity.domain, DOMAIN), waitStatus(7)] as const;

describe('injection into a VT-d unit', () => {
  it.each([
    [READ, 6],
    [WRITE, 5],
  ])('refused DMA with access %i is recorded with fault reason %i, though the page is mapped', (access, reason) => {
    const { bench, injection, translate } = rig();
    injection.add({ kind: 'refuse', device: 'edu0', iova: IOVA });
    expect(translate(access)).toBe(false);
    expect(bench.record()).toMatchObject({ valid: true, reason, source: RID, address: IOVA });
    expect(bench.trace.kinds()).toEqual(['injection.applied', 'fault.recorded']);
    expect(translate(access)).toBe(true);
  });

  it('a delayed invalidation leaves the old translation in use, and its completion out', () => {
    const { bench, time, injection, translate, out } = rig();
    translate();
    bench.map(IOVA, Frame.data + 1);
    injection.add({ kind: 'delay-invalidation', milliseconds: 20 });
    bench.submit(...flush);
    expect(bench.status()).toBe(0);
    expect([translate(), out.frame]).toEqual([true, Frame.data]);
    time.pass(20);
    bench.jobs.run();
    expect(bench.status()).toBe(7);
    expect([translate(), out.frame]).toEqual([true, Frame.data + 1]);
  });

  it('an invalidation can be held until it is released', () => {
    const { bench, time, injection } = rig();
    const id = injection.add({ kind: 'delay-invalidation' });
    bench.submit(...flush);
    time.pass(1e6);
    bench.jobs.run();
    expect(bench.status()).toBe(0);
    injection.release(id);
    bench.jobs.run();
    expect(bench.status()).toBe(7);
  });

  it('a held invalidation of a unit that was reset meanwhile does nothing when it is released', () => {
    const { bench, injection } = rig();
    const id = injection.add({ kind: 'delay-invalidation' });
    bench.submit(...flush);
    bench.unit.reset();
    injection.release(id);
    bench.jobs.run();
    expect(bench.status()).toBe(0);
    expect(bench.queueError).toBeUndefined();
  });
});
