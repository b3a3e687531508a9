import { describe, expect, it } from 'vitest';
import {
  given,
  parseDeviceAddress,
  parseDeviceWord,
  parseMdl,
  parseMemory,
  parseNumber,
  parsePermissions,
  parseRange,
  parseWide,
} from '../../src/cli/domain-values.ts';
import { UsageError } from '../../src/cli/errors.ts';

describe('numbers', () => {
  it('are decimal or hexadecimal, of any size', () => {
    expect(parseWide('0xFFFFffffffffffff')).toBe(0xffff_ffff_ffff_ffffn);
    expect(parseNumber('4096')).toBe(4096);
    expect(parseNumber('0x10')).toBe(16);
  });

  it.each(['', '-1', '1.5', '0x', 'ten', '1e3', ' 1', '0b1'])('are not %o', text => {
    expect(() => parseWide(text)).toThrow(UsageError);
  });

  it('that must be small are refused where they are not', () => {
    expect(() => parseNumber('0x20000000000000')).toThrow(UsageError);
  });
});

describe('devices', () => {
  it('are addresses', () => {
    expect(parseDeviceAddress('01:00.0')).toBe(0x100);
    expect(parseDeviceAddress('ff:1f.7')).toBe(0xffff);
    expect(parseDeviceAddress('4.1')).toBe(0x21);
  });

  it('or handles', () => {
    expect(parseDeviceWord('7')).toEqual({ dmaDevice: 7 });
    expect(parseDeviceWord('01:00.0')).toEqual({ physicalDeviceObject: 0x100 });
  });

  it.each(['', 'nic', '1:2', '01:20.0', '01:00.8', '-1', '01:00.0,id=x,option'])('are not %o', text => {
    expect(() => parseDeviceAddress(text)).toThrow(UsageError);
  });
});

describe('memory', () => {
  it('is one range', () => {
    expect(parseMemory('0x1001+0x7')).toEqual({ type: 'contiguousRange', base: 0x1001n, size: 7n });
  });

  it('is several ranges', () => {
    expect(parseMemory('0x1000+0x2000,0x7000+4096')).toEqual({ type: 'pfnArray', pages: Int32Array.of(1, 2, 7) });
  });

  it('is an MDL', () => {
    expect(parseMdl('0x1000+0x2000,0x7000+0x1000')).toEqual({
      type: 'mdl',
      pages: Int32Array.of(1, 2, 7),
      byteOffset: 0,
      byteCount: 3 * 4096,
    });
  });

  it.each(['', '0x1000', '0x1000+', '+0x1000', '1+2+3', '0x1000-0x2000'])('is no range %o', text => {
    expect(() => parseRange(text)).toThrow(UsageError);
  });

  it.each([
    ['0x1001+0x1000', 'whole pages'],
    ['0x1000+0x10', 'whole pages'],
    ['0x0+0x100001000', 'at most 1048576 pages'],
    ['0xffffffffff000+0x1000', 'beyond 8 TiB'],
  ])('of pages is not %s: %s', (text, why) => {
    expect(() => parseMdl(text)).toThrow(why);
  });
});

it('permissions are letters', () => {
  expect(['r', 'w', 'rw', 'wr'].map(parsePermissions)).toEqual([1, 2, 3, 3]);
  for (const text of ['', 'x', 'rwx', 'R', 'rr']) expect(() => parsePermissions(text)).toThrow(UsageError);
});

it('what was not given has no name', () => {
  expect(given('a', undefined)).toEqual({});
  expect(given('a', 0)).toEqual({ a: 0 });
});
