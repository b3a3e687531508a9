import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Timers } from '../../src/posix/timers.ts';

function taken(timers: Timers, now: number): string[] {
  const names: string[] = [];
  for (let timer = timers.take(now); timer; timer = timers.take(now)) names.push(`${timer.due}`);
  return names;
}

describe('Timers', () => {
  it('have nothing to wait for at first', () => {
    const timers = new Timers();
    expect(timers.remaining(5)).toBe(Number.POSITIVE_INFINITY);
    expect(timers.take(5)).toBeUndefined();
  });

  it('tell how long it is until the first, never less than nothing', () => {
    const timers = new Timers();
    timers.add(30, () => {});
    timers.add(20, () => {});
    expect(timers.remaining(5)).toBe(15);
    expect(timers.remaining(25)).toBe(0);
  });

  it('give out what is due and leave the rest', () => {
    const timers = new Timers();
    for (const due of [30, 10, 20]) timers.add(due, () => {});
    expect(taken(timers, 20)).toEqual(['10', '20']);
    expect(timers.size).toBe(1);
  });

  it('keep the order of those that are due at once', () => {
    const timers = new Timers();
    const first = timers.add(7, () => {});
    const second = timers.add(7, () => {});
    expect([timers.take(7), timers.take(7)]).toEqual([first, second]);
  });

  it('forget what is removed, also twice', () => {
    const timers = new Timers();
    const timer = timers.add(1, () => {});
    timers.add(2, () => {});
    timers.remove(timer);
    timers.remove(timer);
    expect(taken(timers, 9)).toEqual(['2']);
  });

  it('come as a stable sort of what was added would', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(9)), dues => {
        const timers = new Timers();
        const all = dues.map(due => timers.add(due, () => {}));
        const expected = [...all].sort((a, b) => a.due - b.due);
        for (const timer of expected) expect(timers.take(9)).toBe(timer);
        expect(timers.size).toBe(0);
      }),
    );
  });
});
