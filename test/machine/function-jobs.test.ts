import { beforeEach, describe, expect, it } from 'vitest';
import { FunctionJobs } from '../../src/machine/function-jobs.ts';

let inner: (() => void)[];
let jobs: FunctionJobs;
let ran: string[];

beforeEach(() => {
  inner = [];
  jobs = new FunctionJobs({ push: job => inner.push(job) });
  ran = [];
});

function queue(...names: readonly string[]): void {
  for (const name of names) jobs.push(() => ran.push(name));
}

function turns(count = Number.POSITIVE_INFINITY): void {
  for (let n = 0; n < count && inner.length > 0; n++) inner.shift()!();
}

describe('the jobs of a function', () => {
  it('run in their order, one each turn', () => {
    queue('a', 'b', 'c');
    turns(2);
    expect(ran).toEqual(['a', 'b']);
    turns();
    expect(ran).toEqual(['a', 'b', 'c']);
  });

  it('do not begin while they are held, and keep their order', () => {
    queue('a');
    jobs.hold();
    queue('b');
    turns();
    expect(ran).toEqual([]);
    queue('c');
    turns();
    jobs.release();
    queue('d');
    expect(ran).toEqual([]);
    turns();
    expect(ran).toEqual(['a', 'b', 'c', 'd']);
  });

  it('are held as often as they are until each hold is released', () => {
    jobs.hold();
    jobs.hold();
    queue('a');
    turns();
    jobs.release();
    turns();
    expect(ran).toEqual([]);
    jobs.release();
    turns();
    expect(ran).toEqual(['a']);
  });

  it('run once, however often they are held and released before their turn', () => {
    queue('a', 'b');
    for (let n = 0; n < 5; n++) {
      jobs.hold();
      jobs.release();
    }
    expect(inner).toHaveLength(2);
    turns();
    expect(ran).toEqual(['a', 'b']);
  });

  it('get only the turns that are missing', () => {
    queue('a', 'b');
    jobs.hold();
    turns(1);
    jobs.release();
    expect(inner).toHaveLength(2);
    turns();
    expect(ran).toEqual(['a', 'b']);
  });

  it('are forgotten when they are cleared, those that are held too', () => {
    queue('a');
    jobs.hold();
    queue('b');
    jobs.clear();
    queue('c');
    jobs.release();
    turns();
    expect(ran).toEqual(['c']);
  });

  it('may queue, hold and clear within a job', () => {
    jobs.push(() => {
      ran.push('a');
      queue('after');
      jobs.hold();
    });
    queue('b');
    turns();
    expect(ran).toEqual(['a']);
    jobs.release();
    jobs.push(() => jobs.clear());
    queue('never');
    turns();
    expect(ran).toEqual(['a', 'b', 'after']);
  });

  it('that throw take nobody else with them', () => {
    jobs.push(() => {
      throw new Error('on purpose');
    });
    queue('a');
    expect(() => turns()).toThrow('on purpose');
    turns();
    expect(ran).toEqual(['a']);
    queue('b');
    turns();
    expect(ran).toEqual(['a', 'b']);
  });

  it('take up no more places than wait, though two kinds of work queue each other for ever', () => {
    let left = 10_000;
    let most = 0;
    const again = () => {
      most = Math.max(most, jobs.places);
      if (left-- > 0) jobs.push(again);
    };
    jobs.push(again);
    jobs.push(again);
    turns();
    expect(left).toBeLessThan(0);
    expect(most).toBeLessThan(200);
    expect(jobs.places).toBe(0);
  });

  it('keep their order while the places before them are given back', () => {
    let count = 0;
    const names: number[] = [];
    const next = () => {
      const number = count++;
      return () => {
        names.push(number);
        if (count < 1000) jobs.push(next());
      };
    };
    for (let n = 0; n < 150; n++) jobs.push(next());
    turns();
    expect(names).toEqual(Array.from({ length: 1000 }, (_, number) => number));
  });
});
