import { describe, expect, it } from 'vitest';
import { COMPARISONS_PER_JOB, DESCRIPTORS_PER_JOB } from '../../../src/iommu/vtd/invalidation-queue.ts';
import { EventLog } from '../event-log.ts';
import {
  Bench,
  contextInvalidate,
  DOMAIN,
  FRAMES,
  Frame,
  Gcmd,
  Granularity,
  IOVA,
  iotlbInvalidate,
  mappedBench,
  Reg,
  RID,
  waitStatus,
} from './support.ts';

const OTHER = 0x0108;
const OTHER_DOMAIN = 8;

function queueBench(): Bench {
  return mappedBench().enableQueue();
}

/** Two requesters in two domains, each with a page cached and then unmapped. */
function staleBench(): Bench {
  const bench = queueBench();
  const table = bench.newTable();
  bench.setContext(OTHER, { table, domain: OTHER_DOMAIN });
  bench.setEntry(IOVA, 1, (BigInt(Frame.data + 1) << 12n) | 3n, 4, table);
  bench.map(IOVA + 0x1000n, Frame.data + 2);
  for (const [iova, id] of [
    [IOVA, RID],
    [IOVA + 0x1000n, RID],
    [IOVA, OTHER],
  ] as const) {
    expect(bench.frameAt(iova, id)).toBeDefined();
  }
  bench.unmap(IOVA);
  bench.unmap(IOVA + 0x1000n);
  bench.setEntry(IOVA, 1, 0n, 4, table);
  return bench;
}

/** Which of the three stale pages are still in use. */
function stale(bench: Bench): [boolean, boolean, boolean] {
  return [bench.translate(IOVA), bench.translate(IOVA + 0x1000n), bench.translate(IOVA, 1, OTHER)];
}

describe('IOTLB invalidation', () => {
  it('is needed: without it the pages stay in use', () => {
    expect(stale(staleBench())).toEqual([true, true, true]);
  });

  it('global takes everything', () => {
    const bench = staleBench();
    bench.submit(iotlbInvalidate(Granularity.global));
    expect(stale(bench)).toEqual([false, false, false]);
    expect(bench.unit.statistics.queued.iotlbGlobal).toBe(1);
  });

  it('domain-selective takes one domain', () => {
    const bench = staleBench();
    bench.submit(iotlbInvalidate(Granularity.domain));
    expect(stale(bench)).toEqual([false, false, true]);
    expect(bench.unit.statistics.queued.iotlbDomain).toBe(1);
  });

  it('page-selective takes one page of one domain', () => {
    const bench = staleBench();
    bench.submit(iotlbInvalidate(Granularity.selective, DOMAIN, IOVA));
    expect(stale(bench)).toEqual([false, true, true]);
    expect(bench.unit.statistics.queued.iotlbPages).toBe(1);
  });

  it('page-selective with an address mask takes an aligned range', () => {
    const bench = staleBench();
    bench.submit(iotlbInvalidate(Granularity.selective, DOMAIN, IOVA + 0x1000n, 1));
    expect(stale(bench)).toEqual([false, false, true]);
  });

  it('ignores address bits that no IOVA has', () => {
    const bench = staleBench();
    bench.submit(iotlbInvalidate(Granularity.selective, DOMAIN, IOVA | (0xfn << 60n)));
    expect(stale(bench)).toEqual([false, true, true]);
  });

  it('takes the largest address mask, and no larger one', () => {
    const bench = staleBench();
    bench.submit(iotlbInvalidate(Granularity.selective, DOMAIN, 0n, 18));
    expect(stale(bench)).toEqual([false, false, true]);
    bench.submit(iotlbInvalidate(Granularity.selective, DOMAIN, 0n, 19));
    expect(bench.queueError).toBe(4);
  });

  it('takes the drain flags', () => {
    const bench = staleBench();
    const [low, high] = iotlbInvalidate(Granularity.global);
    bench.submit([low | 0xc0n, high]);
    expect(bench.queueError).toBeUndefined();
    expect(stale(bench)).toEqual([false, false, false]);
  });

  it('with the hint keeps the paging structures, without it drops them', () => {
    const bench = queueBench();
    bench.frameAt(IOVA);
    // The tables below the first level are replaced; the page table in use is no longer reachable.
    bench.setEntry(IOVA, 4, 0n);
    bench.submit(iotlbInvalidate(Granularity.selective, DOMAIN, IOVA, 0, true));
    expect(bench.frameAt(IOVA)).toBe(Frame.data);
    bench.submit(iotlbInvalidate(Granularity.selective, DOMAIN, IOVA, 0, false));
    expect(bench.frameAt(IOVA)).toBeUndefined();
  });
});

describe('context-cache invalidation', () => {
  function replaced(): Bench {
    const bench = queueBench();
    bench.setContext(RID + 4);
    bench.setContext(OTHER, { domain: OTHER_DOMAIN });
    for (const id of [RID, RID + 4, OTHER]) expect(bench.frameAt(IOVA, id)).toBe(Frame.data);
    for (const id of [RID, RID + 4, OTHER]) bench.setContext(id, { present: false });
    return bench;
  }
  const cached = (bench: Bench) => [RID, RID + 4, OTHER].map(id => bench.translate(IOVA, 1, id));

  it('is needed: without it the entries stay in use', () => {
    expect(cached(replaced())).toEqual([true, true, true]);
  });

  it('global takes everything', () => {
    const bench = replaced();
    bench.submit(contextInvalidate(Granularity.global));
    expect(cached(bench)).toEqual([false, false, false]);
    expect(bench.unit.statistics.queued.contextGlobal).toBe(1);
  });

  it('domain-selective takes one domain', () => {
    const bench = replaced();
    bench.submit(contextInvalidate(Granularity.domain));
    expect(cached(bench)).toEqual([false, false, true]);
    expect(bench.unit.statistics.queued.contextDomain).toBe(1);
  });

  it('device-selective takes one requester', () => {
    const bench = replaced();
    bench.submit(contextInvalidate(Granularity.selective));
    expect(cached(bench)).toEqual([false, true, true]);
    expect(bench.unit.statistics.queued.contextDevice).toBe(1);
  });

  it('device-selective with a function mask takes the neighbours', () => {
    const bench = replaced();
    bench.submit(contextInvalidate(Granularity.selective, DOMAIN, RID, 1));
    expect(cached(bench)).toEqual([false, false, true]);
  });

  it('device-selective under the wrong domain takes nothing, and the driver is told', () => {
    const bench = replaced();
    bench.submit(contextInvalidate(Granularity.selective, OTHER_DOMAIN));
    expect(cached(bench)).toEqual([true, true, true]);
    expect(bench.trace.events.find(event => event.kind === 'vtd.invalidationMissed')?.detail).toEqual({
      requesterId: RID,
      functionMask: 0,
      domain: OTHER_DOMAIN,
      kept: 1,
    });
  });
});

describe('other descriptors', () => {
  it('interrupt entry cache invalidation is accepted and does nothing', () => {
    const bench = queueBench();
    bench.submit([4n, 0n], [0x14n | (3n << 27n) | (0x55n << 32n), 0n], waitStatus(1));
    expect(bench.status()).toBe(1);
    expect(bench.unit.statistics.interruptEntryInvalidations).toBe(2);
  });

  it('wait writes its status', () => {
    const bench = queueBench();
    bench.submit(waitStatus(0x1234, 1));
    expect([bench.status(0), bench.status(1)]).toEqual([0, 0x1234]);
    expect(bench.unit.statistics.waitDescriptors).toBe(1);
  });

  it('wait writes after what is ahead of it is done', () => {
    const bench = queueBench();
    bench.frameAt(IOVA);
    bench.unmap(IOVA);
    bench.enqueue(iotlbInvalidate(Granularity.global), waitStatus(1)).ring();
    const seen: [invalidated: number, status: number][] = [];
    bench.memory.during = () => {
      const { during } = bench.memory;
      bench.memory.during = () => {};
      seen.push([bench.unit.statistics.queued.iotlbGlobal, bench.status()]);
      bench.memory.during = during;
    };
    bench.jobs.run();
    bench.memory.during = () => {};
    // Two loads of each descriptor, then the status write.
    expect(seen).toEqual([
      [0, 0],
      [0, 0],
      [1, 0],
      [1, 0],
      [1, 0],
    ]);
    expect(bench.status()).toBe(1);
  });

  it('wait with neither status nor interrupt, and with the fence flag, just completes', () => {
    const bench = queueBench();
    bench.submit([0x45n, 0n], [5n, 0n]);
    expect([bench.head, bench.queueError]).toEqual([0x20, undefined]);
    expect(bench.messages).toEqual([]);
  });

  it('wait ignores the status address without the flag, and its bits beyond the host address width', () => {
    const bench = queueBench();
    bench.submit([(9n << 32n) | 5n, BigInt(Frame.status) << 12n]);
    expect(bench.status()).toBe(0);
    const [low, high] = waitStatus(9);
    bench.submit([low, high | (1n << 63n)]);
    expect(bench.status()).toBe(9);
  });

  it('wait with a status address outside memory completes, and is reported', () => {
    const bench = queueBench();
    bench.submit([0x25n, BigInt(FRAMES) << 12n], waitStatus(3));
    expect(bench.status()).toBe(3);
    expect(bench.trace.events.find(event => event.kind === 'vtd.statusWriteLost')?.detail.address).toBe(
      BigInt(FRAMES) << 12n,
    );
  });
});

describe('queue', () => {
  it('is processed by a job, not by the write of the tail', () => {
    const bench = queueBench();
    bench.enqueue(waitStatus(1)).ring();
    expect([bench.head, bench.status()]).toEqual([0, 0]);
    expect(bench.jobs.run()).toBe(1);
    expect([bench.head, bench.status()]).toEqual([0x10, 1]);
  });

  it('makes one job of many doorbells', () => {
    const bench = queueBench();
    for (let i = 1; i <= 10; i++) bench.enqueue(waitStatus(i)).ring();
    expect(bench.jobs.length).toBe(1);
    bench.jobs.run();
    expect(bench.status()).toBe(10);
  });

  it('wraps around at its end', () => {
    const bench = queueBench();
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 200; i++) bench.enqueue([5n, 0n]);
      bench.submit(waitStatus(round + 1));
      expect(bench.status()).toBe(round + 1);
    }
    expect(bench.head).toBe((603 * 16) % 4096);
  });

  it('spans several pages', () => {
    const bench = mappedBench().enableQueue(2);
    for (let i = 0; i < 1000; i++) bench.enqueue([5n, 0n]);
    bench.submit(waitStatus(1));
    expect([bench.head, bench.status()]).toEqual([1001 * 16, 1]);
  });

  it('lets other jobs run after so many descriptors', () => {
    const bench = mappedBench().enableQueue(2);
    for (let i = 0; i < DESCRIPTORS_PER_JOB; i++) bench.enqueue([5n, 0n]);
    bench.enqueue(waitStatus(1)).ring();
    let headThen = -1;
    bench.jobs.push(() => {
      headThen = bench.head;
    });
    bench.jobs.run();
    expect(headThen).toBe(DESCRIPTORS_PER_JOB * 16);
    expect(bench.status()).toBe(1);
  });

  it('lets other jobs run after comparisons of so many mappings', () => {
    const events = new EventLog();
    const bench = new Bench({}, { checks: true, trace: events });
    bench.setContext(RID);
    bench.enable().enableQueue();
    const pages = 4 * 512;
    for (let page = 0; page < pages; page++) bench.map(BigInt(page) << 12n, 40);
    bench.translate(0n);
    bench.submit(iotlbInvalidate(Granularity.domain));
    expect(events.of('mapping.added').length).toBe(pages);
    const flushes = Math.ceil(COMPARISONS_PER_JOB / pages) + 2;
    for (let i = 0; i < flushes; i++) bench.enqueue(iotlbInvalidate(Granularity.domain));
    bench.enqueue(waitStatus(1)).ring();
    bench.jobs.step();
    expect(bench.head).toBeLessThan((flushes + 1) * 16);
    expect(bench.status()).toBe(0);
    bench.jobs.run();
    expect(bench.status()).toBe(1);
  });

  it('is processed whether translation is on or off', () => {
    const bench = new Bench().enableQueue();
    bench.submit(waitStatus(1));
    expect(bench.status()).toBe(1);
  });

  it('does nothing while it is disabled', () => {
    const bench = new Bench();
    bench.write64(Reg.iqa, BigInt(Frame.queue) << 12n);
    bench.enqueue(waitStatus(1)).ring();
    bench.jobs.run();
    expect([bench.head, bench.status()]).toEqual([0, 0]);
    bench.command(Gcmd.qie);
    bench.jobs.run();
    expect([bench.head, bench.status()]).toEqual([0x10, 1]);
  });

  it('can be disabled while a descriptor is fetched: it starts over at zero', () => {
    const bench = queueBench();
    bench.submit(waitStatus(1));
    bench.enqueue(waitStatus(2)).ring();
    bench.memory.during = () => {
      bench.memory.during = () => {};
      bench.command(Gcmd.qie, false);
    };
    bench.jobs.run();
    expect([bench.head, bench.status()]).toEqual([0, 1]);
  });

  it('can be disabled while a status is written: what follows is not processed', () => {
    const bench = queueBench();
    bench.enqueue(waitStatus(1, 0), waitStatus(2, 1)).ring();
    let accesses = 0;
    bench.memory.during = () => {
      if (++accesses === 3) bench.command(Gcmd.qie, false);
    };
    bench.jobs.run();
    bench.memory.during = () => {};
    expect(accesses).toBe(3);
    expect([bench.head, bench.status(0), bench.status(1)]).toEqual([0, 1, 0]);
  });

  it('can be disabled and enabled while a descriptor is fetched', () => {
    const bench = queueBench();
    bench.submit(waitStatus(1));
    bench.enqueue(waitStatus(2)).ring();
    bench.memory.during = () => {
      bench.memory.during = () => {};
      bench.command(Gcmd.qie, false);
      bench.write64(Reg.iqt, 0n);
      bench.command(Gcmd.qie);
    };
    bench.jobs.run();
    expect([bench.head, bench.status(), bench.queueError]).toEqual([0, 1, undefined]);
  });
});
