import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { endsBeyond64Bits, readAddress, readDmaMapFlags } from '../../src/vfio-user/dma-map-payload.ts';

const LIMIT = 2n ** 64n;

function fields(first: bigint, length: bigint): DataView {
  const view = new DataView(new ArrayBuffer(24));
  view.setBigUint64(4, first, true);
  view.setBigUint64(16, length, true);
  return view;
}

describe('readAddress', () => {
  it.each([0n, 1n, 0xffff_ffffn, 1n << 32n, 2n ** 53n - 1n, LIMIT - 4096n, 1n << 63n])('is exact for %s', value => {
    expect(BigInt(readAddress(fields(value, 0n), 4))).toBe(value);
  });

  it('is exact for whole pages, and the nearest number for anything', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: LIMIT - 1n }), value => {
        const pages = value & ~4095n;
        expect(BigInt(readAddress(fields(pages, 0n), 4))).toBe(pages);
        expect(readAddress(fields(value, 0n), 4)).toBe(Number(value));
      }),
    );
  });
});

describe('endsBeyond64Bits', () => {
  it.each([
    [0n, LIMIT - 1n, false],
    [LIMIT - 1n, 1n, false],
    [LIMIT - 1n, 2n, true],
    [LIMIT - 1n, LIMIT - 1n, true],
    [LIMIT - 4096n, 4096n, false],
    [LIMIT - 4095n, 4096n, true],
    [1n << 63n, 1n << 63n, false],
    [(1n << 63n) + 1n, 1n << 63n, true],
  ])('of %s and %s is %s', (first, length, beyond) => {
    expect(endsBeyond64Bits(fields(first, length), 4, 16)).toBe(beyond);
  });

  it('is what exact arithmetic says', () => {
    const near = fc.bigInt({ min: 0n, max: 10_000n });
    const word = fc.oneof(
      fc.bigInt({ min: 0n, max: LIMIT - 1n }),
      near,
      near.map(below => LIMIT - 1n - below),
      near.map(above => (1n << 32n) + above),
      near.map(below => (1n << 63n) - below),
    );
    fc.assert(
      fc.property(word, word, (first, length) => {
        expect(endsBeyond64Bits(fields(first, length), 4, 16)).toBe(first + length > LIMIT);
      }),
    );
  });
});

describe('readDmaMapFlags', () => {
  it('has a meaning for reading, writing or both', () => {
    const access = undefined;
    expect(readDmaMapFlags(1, false)).toEqual({ readable: true, writable: false, access });
    expect(readDmaMapFlags(2, false)).toEqual({ readable: false, writable: true, access });
    expect(readDmaMapFlags(3, true)).toEqual({ readable: true, writable: true, access });
  });

  it.each([
    [4 | 3, 'mmap'],
    [8 | 1, 'fileIo'],
    [4 | 8 | 2, 'mmap'],
  ])('of %i says how the descriptor is to be used: %s', (flags, access) => {
    expect(readDmaMapFlags(flags, true)).toMatchObject({ access });
    expect(readDmaMapFlags(flags, false)).toBeUndefined();
  });

  it.each([0, 4, 8, 12, 16, 19, 0x8000_0003, 0xffff_ffff])('has no meaning for %i', flags => {
    expect(readDmaMapFlags(flags, true)).toBeUndefined();
    expect(readDmaMapFlags(flags, false)).toBeUndefined();
  });
});
