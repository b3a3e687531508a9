import { describe, expect, it } from 'vitest';
import { vtdCapabilities } from '../../../src/iommu/vtd/capabilities.ts';
import { ContextEntry, contextRules } from '../../../src/iommu/vtd/context.ts';
import { checkRoot, contextTableFrame, rootReserved } from '../../../src/iommu/vtd/root-table.ts';

const rules = contextRules(vtdCapabilities());

/** Bits of a 128-bit entry. */
function decode(value: bigint, with_ = rules) {
  const entry = new ContextEntry();
  const word = (index: number) => Number(BigInt.asIntN(32, value >> BigInt(32 * index)));
  return { reason: entry.decode(word(0), word(1), word(2), word(3), with_), entry };
}

function root(value: bigint): number {
  const word = (index: number) => Number(BigInt.asIntN(32, value >> BigInt(32 * index)));
  return checkRoot(word(0), word(1), word(2), word(3), rootReserved(43));
}

const bit = (index: number) => 1n << BigInt(index);
const PRESENT = 1n;
/** Present, page table at frame 5, four levels, domain 9. */
const VALID = PRESENT | (5n << 12n) | (2n << 64n) | (9n << 72n);
const range = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => first + index);

describe('root entry', () => {
  it('leads to the context table', () => {
    expect(root(0x12345001n)).toBe(0);
    expect(contextTableFrame(0x12345001, 0)).toBe(0x12345);
    expect(contextTableFrame(0xfffff001 | 0, 0x7ff)).toBe(0x7fffffff);
  });

  it('is not present without bit 0, whatever else is set', () => {
    expect(root(0n)).toBe(1);
    expect(root((1n << 128n) - 2n)).toBe(1);
  });

  it.each([...range(1, 11), ...range(43, 127)])('has bit %i reserved', index => {
    expect(root(PRESENT | bit(index))).toBe(0xa);
  });

  it.each(range(12, 42))('has bit %i in the address', index => {
    expect(root(PRESENT | bit(index))).toBe(0);
  });
});

describe('context entry', () => {
  it('is decoded', () => {
    const { reason, entry } = decode(VALID);
    expect(reason).toBe(0);
    expect(entry).toMatchObject({
      domain: 9,
      rootFrame: 5,
      levels: 4,
      passThrough: false,
      faultProcessingDisabled: false,
      limitShift: 16,
    });
  });

  it('takes the whole address and the whole domain id', () => {
    const { entry } = decode(PRESENT | (0x7fffffffn << 12n) | (2n << 64n) | (0xffffn << 72n));
    expect(entry).toMatchObject({ rootFrame: 0x7fffffff, domain: 0xffff });
  });

  it('is not present without bit 0, and says FPD all the same', () => {
    expect(decode(0n)).toMatchObject({ reason: 2, entry: { faultProcessingDisabled: false } });
    expect(decode((1n << 128n) - 2n)).toMatchObject({ reason: 2, entry: { faultProcessingDisabled: true } });
  });

  it('carries FPD', () => {
    expect(decode(VALID | 2n)).toMatchObject({ reason: 0, entry: { faultProcessingDisabled: true } });
  });

  it.each([...range(4, 11), ...range(43, 63), 71, ...range(88, 127)])('has bit %i reserved', index => {
    expect(decode(VALID | bit(index)).reason).toBe(0xb);
  });

  it.each(range(67, 70))('ignores bit %i', index => {
    expect(decode(VALID | bit(index)).reason).toBe(0);
  });

  it('finds reserved bits before invalid fields', () => {
    expect(decode((VALID | bit(4)) & ~(7n << 64n)).reason).toBe(0xb);
  });

  it.each([
    [1, 3, 7],
    [2, 4, 16],
  ])('with address width %i has %i levels', (width, levels, limitShift) => {
    const { reason, entry } = decode((VALID & ~(7n << 64n)) | (BigInt(width) << 64n));
    expect([reason, entry.levels, entry.limitShift]).toEqual([0, levels, limitShift]);
  });

  it.each([0, 3, 4, 5, 6, 7])('is invalid with address width %i, which is not offered', width => {
    expect(decode((VALID & ~(7n << 64n)) | (BigInt(width) << 64n)).reason).toBe(3);
  });

  it('has five levels where they are offered, and no three where they are not', () => {
    const five = contextRules(vtdCapabilities({ levels: [4, 5] }));
    expect(decode(VALID | (1n << 64n), five)).toMatchObject({ reason: 0, entry: { levels: 5, limitShift: 25 } });
    expect(decode((VALID & ~(7n << 64n)) | (1n << 64n), five).reason).toBe(3);
  });

  it.each([1, 3])('is invalid with translation type %i', type => {
    expect(decode(VALID | (BigInt(type) << 2n)).reason).toBe(3);
  });

  it('passes through with translation type 2, up to the host address width', () => {
    expect(decode(VALID | (2n << 2n))).toMatchObject({ reason: 0, entry: { passThrough: true, limitShift: 11 } });
  });

  it('ignores the page-table pointer of pass-through, beyond the host address width too', () => {
    expect(decode(VALID | (2n << 2n) | bit(60)).reason).toBe(0);
    expect(decode(VALID | (2n << 2n) | bit(5)).reason).toBe(0xb);
  });

  it('checks the address width of pass-through too', () => {
    expect(decode((VALID | (2n << 2n)) & ~(7n << 64n)).reason).toBe(3);
  });

  it('is invalid with translation type 2 where pass-through is not offered', () => {
    const without = contextRules(vtdCapabilities({ passThrough: false }));
    expect(decode(VALID | (2n << 2n), without).reason).toBe(3);
  });

  it('has the unused bits of a narrow domain id reserved', () => {
    const narrow = contextRules(vtdCapabilities({ domainIdBits: 8 }));
    expect(decode(VALID | (0xffn << 72n), narrow)).toMatchObject({ reason: 0, entry: { domain: 0xff } });
    for (const index of range(80, 87)) expect(decode(VALID | bit(index), narrow).reason).toBe(0xb);
  });

  it('has address bits from a narrower host address width on reserved', () => {
    const narrow = contextRules(vtdCapabilities({ hostAddressWidth: 36 }));
    expect(decode(VALID | bit(35), narrow).reason).toBe(0);
    expect(decode(VALID | bit(36), narrow).reason).toBe(0xb);
  });
});
