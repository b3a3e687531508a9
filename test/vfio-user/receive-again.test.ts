import { describe, expect, it } from 'vitest';
import { ReceiveAgain } from '../../src/vfio-user/receive-again.ts';

/** Turns until the next try, that one not counted; the try finds nothing. */
function pauseOf(again: ReceiveAgain): number {
  let pause = 0;
  while (!again.isWorthwhile()) pause++;
  again.nothing();
  return pause;
}

describe('ReceiveAgain', () => {
  it('tries again as long as there is something', () => {
    const again = new ReceiveAgain();
    for (let i = 0; i < 100; i++) {
      expect(again.isWorthwhile()).toBe(true);
      again.found();
    }
  });

  it('tries less and less where there is nothing, but goes on trying', () => {
    const again = new ReceiveAgain();
    expect(Array.from({ length: 10 }, () => pauseOf(again))).toEqual([0, 1, 2, 4, 8, 16, 32, 64, 64, 64]);
  });

  it('leaves out one turn after a miss among finds', () => {
    const again = new ReceiveAgain();
    for (let i = 0; i < 5; i++) pauseOf(again);
    while (!again.isWorthwhile()) {}
    again.found();
    expect(pauseOf(again)).toBe(0);
    expect(pauseOf(again)).toBe(1);
  });
});
