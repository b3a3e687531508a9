import { describe, expect, it } from 'vitest';
import { booleanOption, integerOption, refuseUnknownOptions } from '../../src/devices/options.ts';

const range = { minimum: 0, maximum: 100, fallback: 7 };

describe('whole numbers', () => {
  it.each([
    [undefined, 7],
    [0, 0],
    [100, 100],
    ['42', 42],
    ['0x10', 16],
  ])('%j is %i', (given, value) => {
    expect(integerOption('kind', given === undefined ? {} : { size: given }, 'size', range)).toBe(value);
  });

  it.each([-1, 101, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '', ' ', 'ten', '1e9', true])('%j is refused', given => {
    expect(() => integerOption('kind', { size: given }, 'size', range)).toThrow(
      `kind: size is '${given}': give a whole number from 0 to 100`,
    );
  });
});

describe('true and false', () => {
  it.each([
    [true, true],
    [false, false],
    ['true', true],
    ['false', false],
  ])('%j is %j', (given, value) => {
    expect(booleanOption('kind', { flag: given }, 'flag', !value)).toBe(value);
  });

  it.each([true, false])('left out are %j where that is the default', fallback => {
    expect(booleanOption('kind', {}, 'flag', fallback)).toBe(fallback);
  });

  it.each([0, 1, 'yes', ''])('%j is refused', given => {
    expect(() => booleanOption('kind', { flag: given }, 'flag', true)).toThrow(/flag is '.*': give true or false/);
  });
});

describe('option names', () => {
  it('that are known pass', () => {
    expect(() => refuseUnknownOptions('kind', { a: 1 }, ['a', 'b'])).not.toThrow();
  });

  it('that are not known are answered with those that are', () => {
    expect(() => refuseUnknownOptions('kind', { c: 1 }, ['a', 'b'])).toThrow("kind has no option 'c': it has a, b");
  });
});
