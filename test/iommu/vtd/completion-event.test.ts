import { describe, expect, it } from 'vitest';
import { type Bench, MASK, mappedBench, PENDING, Reg, waitInterrupt, waitStatus } from './support.ts';

function queueBench(): Bench {
  return mappedBench().enableQueue();
}

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
