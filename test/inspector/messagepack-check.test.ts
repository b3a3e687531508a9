import { describe, expect, it } from 'vitest';
import { checkMessagePack } from '../../src/inspector/messagepack-check.ts';

const limits = { nesting: 3, values: 10, containers: 4 };
const check = (...bytes: number[]) => checkMessagePack(Uint8Array.from(bytes), limits);

describe('checkMessagePack', () => {
  it.each([
    ['a small integer', [0x7f]],
    ['a small negative integer', [0xe0]],
    ['nil', [0xc0]],
    ['false', [0xc2]],
    ['true', [0xc3]],
    ['text', [0xa2, 0x61, 0x62]],
    ['text of 8-bit length', [0xd9, 1, 0x61]],
    ['text of 16-bit length', [0xda, 0, 1, 0x61]],
    ['text of 32-bit length', [0xdb, 0, 0, 0, 1, 0x61]],
    ['bytes of 8-bit length', [0xc4, 1, 9]],
    ['bytes of 16-bit length', [0xc5, 0, 1, 9]],
    ['bytes of 32-bit length', [0xc6, 0, 0, 0, 1, 9]],
    ['a float', [0xca, 0, 0, 0, 0]],
    ['a double', [0xcb, 0, 0, 0, 0, 0, 0, 0, 0]],
    ['unsigned 8', [0xcc, 1]],
    ['unsigned 16', [0xcd, 0, 1]],
    ['unsigned 32', [0xce, 0, 0, 0, 1]],
    ['unsigned 64', [0xcf, 0, 0, 0, 0, 0, 0, 0, 1]],
    ['signed 8', [0xd0, 1]],
    ['signed 16', [0xd1, 0, 1]],
    ['signed 32', [0xd2, 0, 0, 0, 1]],
    ['signed 64', [0xd3, 0, 0, 0, 0, 0, 0, 0, 1]],
    ['a list', [0x92, 1, 2]],
    ['a list of 16-bit length', [0xdc, 0, 1, 1]],
    ['a list of 32-bit length', [0xdd, 0, 0, 0, 1, 1]],
    ['an object', [0x81, 0xa1, 0x61, 1]],
    ['an object of 16-bit length', [0xde, 0, 1, 0xa1, 0x61, 1]],
    ['an object of 32-bit length', [0xdf, 0, 0, 0, 1, 0xa1, 0x61, 1]],
  ])('takes %s, whole, alone, and not cut off', (_what, bytes) => {
    expect(check(...bytes)).toBeUndefined();
    expect(check(...bytes, 0)).toBe('there is something behind the value');
    for (let length = 0; length < bytes.length; length++) {
      expect(check(...bytes.slice(0, length))).toMatch(/^it ends too early|key that is not text/);
    }
  });

  it.each([0xc1, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8])('takes no value of the type %i', first => {
    expect(check(first, 1, 1, 1, 1, 1)).toBe(
      `it has a value of the type 0x${first.toString(16)}, which is not used here`,
    );
  });

  it.each([
    ['an integer', [0x81, 1, 1]],
    ['bytes', [0x81, 0xc4, 1, 1, 1]],
    ['a list', [0x81, 0x90, 1]],
  ])('takes no object whose key is %s', (_what, bytes) => {
    expect(check(...bytes)).toBe('it has an object with a key that is not text');
  });

  it.each([0xdd, 0xdf, 0xdb, 0xc6])('refuses a length that cannot be there at once (%i)', first => {
    expect(check(first, 0xff, 0xff, 0xff, 0xff)).toBe('it ends too early');
  });

  it('counts what is within each other', () => {
    expect(check(0x91, 0x91, 0x91, 1)).toBeUndefined();
    expect(check(0x91, 0x91, 0x91, 0x91, 1)).toBe('it is nested deeper than 3');
  });

  it('counts values', () => {
    expect(check(0x99, 1, 1, 1, 1, 1, 1, 1, 1, 1)).toBeUndefined();
    expect(check(0x9a, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)).toBe('it has more than 10 values');
  });

  it('counts lists and objects', () => {
    expect(check(0x93, 0x90, 0x90, 0x80)).toBeUndefined();
    expect(check(0x94, 0x90, 0x90, 0x80, 0x90)).toBe('it has more than 4 lists and objects');
  });

  it('does not run out of stack, however deep the lists are', () => {
    const deep = new Uint8Array(1_000_000).fill(0x91);
    expect(checkMessagePack(deep, limits)).toBe('it is nested deeper than 3');
  });
});
