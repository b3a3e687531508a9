import { describe, expect, it } from 'vitest';
import { address64 } from '../../src/iommu/address64.ts';
import { bitsOf, InspectedEntry, reservedField } from '../../src/iommu/entry-fields.ts';
import { arm64Stage1 } from '../../src/page-tables/arm64-stage1.ts';
import type { PageTableFormat } from '../../src/page-tables/format.ts';
import { vtdSecondStage } from '../../src/page-tables/vtd-second-stage.ts';
import { x64FirstLevel } from '../../src/page-tables/x64-first-level.ts';

const largePages = { '2M': true, '1G': true };
const formats: PageTableFormat[] = [
  vtdSecondStage({ hostAddressWidth: 43, largePages, snoop: true }),
  x64FirstLevel({ hostAddressWidth: 52 }),
  ...([4, 16, 64] as const).map(granule => arm64Stage1({ granule, outputAddressBits: 48 })),
];
const second = formats[0]!;

/** Masks of all named fields of an entry. */
function named(format: PageTableFormat, level: number, word: bigint): bigint {
  const { fields } = new InspectedEntry(format, level, word);
  return fields.reduce(
    (mask, { bits: [high, low] }) => mask | (((1n << BigInt(high - low + 1)) - 1n) << BigInt(low)),
    0n,
  );
}

describe.each(formats.map(format => [format.name, format] as const))('%s', (_name, format) => {
  it('has names for every bit that the walker looks at', () => {
    const present = BigInt(format.presentAny | (format.levels[0]!.presentAll ?? 0));
    const { read, write } = format.permissions;
    const looked =
      read | write | format.presentAny | (format.accessFlag ?? 0) | (format.accessed ?? 0) | (format.dirty ?? 0);
    const mask = named(format, 1, present);
    expect(BigInt(looked) & ~mask).toBe(0n);
    expect(address64(format.address[1], format.address[0]) & ~mask).toBe(0n);
  });

  it('names the bit that makes a page large where that is possible', () => {
    const mask = named(format, 2, 1n);
    expect(BigInt(format.leafBit) & ~mask).toBe(0n);
  });
});

describe('an entry', () => {
  it('is present, and a leaf, as the format says', () => {
    const is = (level: number, word: bigint) => {
      const { present, leaf } = new InspectedEntry(second, level, word);
      return [present, leaf];
    };
    expect(is(1, 0n)).toEqual([false, true]);
    expect(is(1, 2n)).toEqual([true, true]);
    expect(is(2, 3n)).toEqual([true, false]);
    expect(is(2, 0x83n)).toEqual([true, true]);
    expect(is(4, 0x83n)).toEqual([true, false]);
  });

  it('of ARM64 is a block where its second bit is clear', () => {
    const arm = formats[2]!;
    expect(new InspectedEntry(arm, 2, 1n).leaf).toBe(true);
    expect(new InspectedEntry(arm, 2, 3n).leaf).toBe(false);
    expect(new InspectedEntry(arm, 1, 1n).present).toBe(false);
  });

  it('shows the values of its fields', () => {
    const { fields } = new InspectedEntry(second, 1, 0x123_4000n | (1n << 11n) | 1n);
    expect(fields).toEqual([
      { name: 'R', bits: [0, 0], value: 1n },
      { name: 'W', bits: [1, 1], value: 0n },
      { name: 'SNP', bits: [11, 11], value: 1n },
      { name: 'ADDR', bits: [51, 12], value: 0x1234n },
      { name: 'TM', bits: [62, 62], value: 0n },
    ]);
  });

  it('that is not present has no reserved bits', () => {
    expect(named(second, 4, 1n << 11n)).toBe(named(second, 4, 0n));
  });
});

describe('reserved bits', () => {
  it('are one field from the lowest to the highest', () => {
    expect(reservedField(0n)).toEqual([]);
    expect(reservedField((1n << 63n) | (1n << 11n))).toEqual([
      { name: 'reserved', bits: [63, 11], value: (1n << 52n) | 1n },
    ]);
  });
});

describe('bitsOf', () => {
  it('takes a part of any width', () => {
    expect(bitsOf(0xffn << 60n, [67, 60])).toBe(0xffn);
    expect(bitsOf(5n, [0, 0])).toBe(1n);
  });
});
