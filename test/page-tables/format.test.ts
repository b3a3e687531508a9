import { describe, expect, it } from 'vitest';
import { bits, LeafRule, union } from '../../src/page-tables/format.ts';
import { vtdSecondStage } from '../../src/page-tables/vtd-second-stage.ts';

const value = (mask: readonly [number, number]) => (BigInt(mask[1] >>> 0) << 32n) | BigInt(mask[0] >>> 0);

describe('masks of 64 bits', () => {
  it('spans both words', () => expect(value(bits(51, 12))).toBe(0x000f_ffff_ffff_f000n));
  it('reaches bit 63', () => expect(value(bits(63, 63))).toBe(1n << 63n));
  it('reaches bit 31 without touching the high word', () => expect(bits(31, 31)).toEqual([-(2 ** 31), 0]));
  it('is empty when the last bit lies below the first', () => expect(bits(51, 52)).toEqual([0, 0]));
  it('joins masks', () => expect(value(union(bits(3, 0), bits(63, 60)))).toBe(0xf000_0000_0000_000fn));
});

describe('VT-d second-stage format', () => {
  const options = { hostAddressWidth: 39, largePages: { '2M': true, '1G': true } };
  const rsvd = (level: number, more = {}) => {
    const rule = vtdSecondStage({ ...options, ...more }).levels[level - 1]!;
    return { table: value(rule.tableReserved), leaf: value(rule.leafReserved) };
  };
  // Bits 51:39, 62 and 11.
  const common = 0x400f_ff80_0000_0800n;

  it('reserves address bits beyond the host, bit 62 and SNP in an SS-PTE', () => expect(rsvd(1).leaf).toBe(common));
  it('lets an SS-PTE have SNP with snoop control', () => expect(rsvd(1, { snoop: true }).leaf).toBe(common & ~0x800n));
  it('lets an SS-PTE have TM where transient mapping exists', () =>
    expect(rsvd(1, { transientMapping: true }).leaf).toBe(common & ~(1n << 62n)));
  it('keeps SNP and bit 62 reserved in entries that point to tables', () =>
    expect(rsvd(2, { snoop: true, transientMapping: true }).table).toBe(common));
  it('reserves bits 20:12 of a 2 MiB page', () => expect(rsvd(2).leaf).toBe(common | 0x1f_f000n));
  it('reserves bits 29:12 of a 1 GiB page', () => expect(rsvd(3).leaf).toBe(common | 0x3fff_f000n));
  it('reserves PS in an SS-PML4E', () => expect(rsvd(4).table).toBe(common | 0x80n));
  it('reserves PS in an SS-PML5E', () => expect(rsvd(5).table).toBe(common | 0x80n));
  it('reserves PS in an SS-PDE without 2 MiB pages', () =>
    expect(rsvd(2, { largePages: { '2M': false, '1G': true } }).table).toBe(common | 0x80n));
  it('reserves PS in an SS-PDPE without 1 GiB pages', () =>
    expect(rsvd(3, { largePages: { '2M': true, '1G': false } }).table).toBe(common | 0x80n));
  it('has no reserved address bits with 52 bits of host address', () =>
    expect(rsvd(1, { hostAddressWidth: 52 }).leaf).toBe(0x4000_0000_0000_0800n));
  it('maps pages on level 1 always, on levels 4 and 5 never', () => {
    const { levels } = vtdSecondStage(options);
    expect(levels.map(level => level.leaf)).toEqual([
      LeafRule.always,
      LeafRule.byLeafBit,
      LeafRule.byLeafBit,
      LeafRule.never,
      LeafRule.never,
    ]);
  });
  it.each([0, 12, 53, 39.5, Number.NaN])('refuses a host address width of %d', hostAddressWidth => {
    expect(() => vtdSecondStage({ ...options, hostAddressWidth })).toThrow(RangeError);
  });
});
