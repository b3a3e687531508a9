import { describe, expect, it } from 'vitest';
import { DESCRIPTORS_PER_JOB } from '../../../src/iommu/vtd/invalidation-queue.ts';
import {
  Bench,
  contextInvalidate,
  type Descriptor,
  DOMAIN,
  FRAMES,
  Frame,
  Gcmd,
  Granularity,
  IOVA,
  iotlbInvalidate,
  MASK,
  mappedBench,
  PENDING,
  Reg,
  RID,
  waitInterrupt,
  waitStatus,
} from './support.ts';

const IQE = 0x10;
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

describe('completion event', () => {
  it('is one message until software clears the status', () => {
    const bench = queueBench().unmaskCompletions();
    bench.submit(waitInterrupt, waitInterrupt);
    expect(bench.read32(Reg.ics)).toBe(1);
    expect(bench.messages).toEqual([{ address: 0x3_fee01000n, data: 0x42 }]);
    bench.write32(Reg.ics, 1);
    expect(bench.read32(Reg.ics)).toBe(0);
    bench.submit(waitInterrupt);
    expect(bench.messages).toHaveLength(2);
    expect(bench.unit.statistics.completionInterrupts).toBe(2);
  });

  it('comes after the status write of the same descriptor', () => {
    const bench = queueBench().unmaskCompletions();
    const [low, high] = waitStatus(5);
    bench.enqueue([low | 0x10n, high]).ring();
    bench.jobs.step();
    expect([bench.status(), bench.messages.length]).toEqual([5, 0]);
    bench.jobs.run();
    expect(bench.messages).toHaveLength(1);
  });

  it('is held back by the mask, and sent by a job when it is taken off', () => {
    const bench = queueBench();
    bench.submit(waitInterrupt);
    expect(bench.messages).toEqual([]);
    expect(bench.read32(Reg.iectl)).toBe(MASK + PENDING);
    bench.unmaskCompletions();
    expect(bench.messages).toEqual([]);
    bench.jobs.run();
    expect(bench.messages).toHaveLength(1);
    expect(bench.read32(Reg.iectl)).toBe(0);
  });

  it('is no longer pending when software has cleared the status', () => {
    const bench = queueBench();
    bench.submit(waitInterrupt);
    bench.write32(Reg.ics, 1);
    expect(bench.read32(Reg.iectl)).toBe(MASK);
    bench.unmaskCompletions();
    bench.jobs.run();
    expect(bench.messages).toEqual([]);
  });
});

describe('queue errors', () => {
  const bits = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const withBit = ([low, high]: Descriptor, index: number): Descriptor =>
    index < 64 ? [low | (1n << BigInt(index)), high] : [low, high | (1n << BigInt(index - 64))];

  it('1: a tail beyond the end', () => {
    const bench = queueBench();
    bench.write64(Reg.iqt, 0x1000n);
    bench.jobs.run();
    expect(bench.queueError).toBe(1);
  });

  it('2: a queue outside memory', () => {
    const bench = new Bench();
    bench.write64(Reg.iqa, BigInt(FRAMES) << 12n);
    bench.command(Gcmd.qie);
    bench.write64(Reg.iqt, 0x10n);
    bench.jobs.run();
    expect([bench.queueError, bench.head]).toEqual([2, 0]);
  });

  it('2: a head beyond the end of a queue that was made smaller', () => {
    const bench = mappedBench().enableQueue(1);
    for (let i = 0; i < 300; i++) bench.enqueue([5n, 0n]);
    bench.submit();
    bench.write64(Reg.iqa, BigInt(Frame.queue) << 12n);
    bench.write64(Reg.iqt, 0x10n);
    bench.jobs.run();
    expect(bench.queueError).toBe(2);
  });

  it.each([0, 3, 6, 7, 8, 9, 10, 15, 0x10, 0x15, 0x7f])('3: descriptor type %i', type => {
    const bench = queueBench();
    bench.submit([BigInt((type & 0xf) | ((type & 0x70) << 5)), 0n]);
    expect(bench.queueError).toBe(3);
  });

  it.each([...bits(6, 8), ...bits(12, 15), ...bits(50, 127)])('4: bit %i of a context-cache invalidation', index => {
    const bench = queueBench();
    bench.submit(withBit(contextInvalidate(Granularity.global), index));
    expect(bench.queueError).toBe(4);
  });

  it.each([8, ...bits(12, 15), ...bits(32, 63), ...bits(71, 75)])('4: bit %i of an IOTLB invalidation', index => {
    const bench = queueBench();
    bench.submit(withBit(iotlbInvalidate(Granularity.global), index));
    expect(bench.queueError).toBe(4);
  });

  it.each([...bits(5, 8), ...bits(12, 26), ...bits(48, 127)])('4: bit %i of an interrupt entry invalidation', index => {
    const bench = queueBench();
    bench.submit(withBit([4n, 0n], index));
    expect(bench.queueError).toBe(4);
  });

  it.each([7, 8, ...bits(12, 31), 64, 65])('4: bit %i of a wait', index => {
    const bench = queueBench();
    bench.submit(withBit(waitInterrupt, index));
    expect(bench.queueError).toBe(4);
  });

  it('4: the reserved granularity', () => {
    for (const descriptor of [contextInvalidate(Granularity.reserved), iotlbInvalidate(Granularity.reserved)]) {
      const bench = queueBench();
      bench.submit(descriptor);
      expect(bench.queueError).toBe(4);
    }
  });

  it('5: descriptors of 256 bits, which are not offered', () => {
    const bench = new Bench();
    bench.write64(Reg.iqa, 0x8800n);
    bench.command(Gcmd.qie);
    bench.jobs.run();
    expect(bench.queueError).toBe(5);
  });

  it('7: an unsupported translation table mode', () => {
    const bench = new Bench().enable(1n).enableQueue();
    expect(bench.queueError).toBeUndefined();
    bench.submit(waitStatus(1));
    expect([bench.queueError, bench.status()]).toEqual([7, 0]);
  });

  it('stop the queue at the bad descriptor, after what came before it', () => {
    const bench = queueBench();
    bench.submit(waitStatus(1, 0), [6n, 0n], waitStatus(2, 1));
    expect([bench.head, bench.status(0), bench.status(1)]).toEqual([0x10, 1, 0]);
    expect(bench.trace.events.find(event => event.kind === 'vtd.queueError')?.detail).toEqual({
      error: 3,
      why: 'descriptor type 6 is not valid here',
      head: 0x10,
      descriptor: 6n,
    });
    expect(bench.unit.statistics.queueErrors).toBe(1);
  });

  it('keep it stopped against further doorbells', () => {
    const bench = queueBench();
    bench.submit([6n, 0n]);
    bench.submit(waitStatus(2));
    expect([bench.head, bench.status()]).toEqual([0, 0]);
  });

  it('end when software puts the descriptor right and clears IQE', () => {
    const bench = queueBench();
    bench.submit([6n, 0n], waitStatus(2));
    bench.memory.write64(Frame.queue, 0, 5n);
    bench.jobs.run();
    expect(bench.head).toBe(0);
    bench.write32(Reg.fsts, IQE);
    expect(bench.read32(Reg.fsts)).toBe(0);
    bench.jobs.run();
    expect([bench.head, bench.status()]).toEqual([0x20, 2]);
  });

  it('come again where nothing was put right', () => {
    const bench = queueBench();
    bench.submit([6n, 0n]);
    bench.write32(Reg.fsts, IQE);
    bench.jobs.run();
    expect([bench.queueError, bench.unit.statistics.queueErrors]).toEqual([3, 2]);
  });

  it('raise the fault event, once', () => {
    const bench = queueBench().unmaskFaults();
    bench.submit([6n, 0n]);
    expect(bench.messages).toEqual([{ address: 0xfee00000n, data: 0x21 }]);
    expect(bench.translate(0x5000n)).toBe(false);
    bench.jobs.run();
    expect(bench.messages).toHaveLength(1);
    bench.clearRecord(0);
    bench.memory.write64(Frame.queue, 0, 5n);
    bench.write32(Reg.fsts, IQE);
    bench.jobs.run();
    expect(bench.translate(0x5000n)).toBe(false);
    bench.jobs.run();
    expect(bench.messages).toHaveLength(2);
  });
});
