import { describe, expect, it } from 'vitest';
import {
  Bench,
  contextInvalidate,
  type Descriptor,
  FRAMES,
  Frame,
  Gcmd,
  Granularity,
  iotlbInvalidate,
  mappedBench,
  Reg,
  waitInterrupt,
  waitStatus,
} from './support.ts';

const IQE = 0x10;

function queueBench(): Bench {
  return mappedBench().enableQueue();
}

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
      descriptor: '0x6',
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
