import { describe, expect, it } from 'vitest';
import { Arrivals } from '../../src/testing/arrivals.ts';

const LONG = 60_000;

describe('Arrivals', () => {
  it('gives at once what is there already', async () => {
    expect(await new Arrivals().until(() => 'there', LONG)).toBe('there');
  });

  it('looks again when something came', async () => {
    const arrivals = new Arrivals();
    let value: number | undefined;
    const found = arrivals.until(() => value, LONG);
    value = 7;
    arrivals.announce();
    expect(await found).toBe(7);
  });

  it('misses nothing that comes while it is looking', async () => {
    const arrivals = new Arrivals();
    let looks = 0;
    const look = async () => {
      looks++;
      if (looks === 2) return looks;
      arrivals.announce();
      return undefined;
    };
    expect(await arrivals.until(look, LONG)).toBe(2);
  });

  it('looks again by and by where nothing is announced', async () => {
    let looks = 0;
    expect(await new Arrivals().until(() => (++looks > 2 ? looks : undefined), LONG)).toBe(3);
  });

  it('gives up after the time', async () => {
    expect(await new Arrivals().until(() => undefined, 1)).toBeUndefined();
  });

  it('looks once where there is no time', async () => {
    let looks = 0;
    const look = () => {
      looks++;
      return undefined;
    };
    expect(await new Arrivals().until(look, 0)).toBeUndefined();
    expect(looks).toBe(1);
  });

  it('looks a last time when nothing will come any more', async () => {
    const arrivals = new Arrivals();
    let value: string | undefined;
    const found = arrivals.until(() => value, LONG);
    const none = arrivals.until(() => undefined, LONG);
    value = 'at the end';
    arrivals.close();
    expect(await found).toBe('at the end');
    expect(await none).toBeUndefined();
    expect(arrivals.closed).toBe(true);
  });

  it('fails where looking fails', async () => {
    const broken = new Arrivals().until(() => Promise.reject(new Error('gone')), LONG);
    await expect(broken).rejects.toThrow('gone');
  });

  it('wakes all who wait', async () => {
    const arrivals = new Arrivals();
    let value: number | undefined;
    const all = [1, 2, 3].map(factor => arrivals.until(() => (value === undefined ? undefined : value * factor), LONG));
    value = 2;
    arrivals.announce();
    expect(await Promise.all(all)).toEqual([2, 4, 6]);
  });
});
