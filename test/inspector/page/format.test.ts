import { describe, expect, it } from 'vitest';
import {
  bitsOf,
  formatBytes,
  formatCount,
  formatDuration,
  formatPermissions,
  formatQuantity,
  hex,
  hexGroups,
  pageAddress,
  pageEnd,
  parseAddress,
  parseRequesterId,
  wordsToPage,
} from '../../../src/inspector/page/format.ts';

describe('addresses', () => {
  it('writes page numbers as addresses', () => {
    expect(pageAddress(0)).toBe('0x0');
    expect(pageAddress(0xfffff)).toBe('0xfffff000');
    expect(pageAddress(2 ** 52 - 1)).toBe('0xfffffffffffff000');
  });

  it('writes the last byte of a page', () => {
    expect(pageEnd(0)).toBe('0xfff');
    expect(pageEnd(0xfffff)).toBe('0xffffffff');
  });

  it('makes a page number of two signed words', () => {
    expect(wordsToPage(0, -1)).toBe(0xfffff);
    expect(wordsToPage(-1, -4096)).toBe(2 ** 52 - 1);
  });

  it('reads addresses with and without 0x, with separators', () => {
    expect(parseAddress('0xFFFF_f000')).toBe(0xfffff000n);
    expect(parseAddress(' 1000 ')).toBe(0x1000n);
    expect(parseAddress('ffff ffff ffff ffff')).toBe(2n ** 64n - 1n);
  });

  it.each(['', '0x', 'xyz', '1ffffffffffffffff'])('does not take %j for an address', text => {
    expect(parseAddress(text)).toBeUndefined();
  });
});

describe('requester ids', () => {
  it('reads bus, device and function', () => {
    expect(parseRequesterId('01:00.0')).toBe(0x100);
    expect(parseRequesterId('a:1f.7')).toBe(0xaff);
    expect(parseRequesterId('0x100')).toBe(0x100);
  });

  it.each(['', 'edu0', '01:20.0', '01:00.8', '0x10000'])('does not take %j for one', text => {
    expect(parseRequesterId(text)).toBeUndefined();
  });
});

describe('numbers', () => {
  it('writes sizes in binary units', () => {
    expect([0, 512, 4096, 1536, 2 ** 30].map(formatBytes)).toEqual(['0 B', '512 B', '4 KiB', '1.5 KiB', '1 GiB']);
  });

  it('writes quantities in decimal units', () => {
    expect([0, 4.25, 950, 12_340, 2e6].map(formatQuantity)).toEqual(['0', '4.3', '950', '12.3 k', '2 M']);
    expect(formatQuantity(Number.NaN)).toBe('–');
  });

  it('groups digits', () => {
    expect(formatCount(1_234_567)).toBe('1\u202f234\u202f567');
  });

  it('writes lengths of time', () => {
    expect([500, 3200, 3.2e6, 1.5e9, 180e9].map(formatDuration)).toEqual([
      '500 ns',
      '3.2 µs',
      '3.2 ms',
      '1.50 s',
      '3 min',
    ]);
  });

  it('writes signed words as they are meant', () => {
    expect(hex(-1)).toBe('0xffffffff');
    expect(hex(5, 3)).toBe('0x005');
    expect(hexGroups(0x1234n, 8)).toBe('0000 0000 0000 1234');
  });

  it('takes bits out of wide values', () => {
    expect(bitsOf(0x8000000000000001n, [63, 63])).toBe(1n);
    expect(bitsOf(0xabcdn << 64n, [79, 64])).toBe(0xabcdn);
  });

  it('writes permissions in two columns', () => {
    expect([0, 1, 2, 3].map(formatPermissions)).toEqual(['--', 'r-', '-w', 'rw']);
  });
});
