import { describe, expect, it } from 'vitest';
import { Bench } from './support.ts';

const WIDE = 0xfedcba9876543000n;

describe('configureDomain', () => {
  const configure = (bytes: readonly number[], arch: number) => {
    const bench = new Bench().enable();
    bench.command('configureDomain', { domain: 6, arch }, { patch: [8, bytes] });
    return bench.operations.calls[0]?.args;
  };
  const le = (value: bigint, count: number) =>
    Array.from({ length: count }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));

  it('takes an ARM64 configuration', () => {
    const bytes = [...le(WIDE, 8), ...le(0x2000n, 8), ...le(0x11223344n, 4), ...le(0xffeeddccn, 4), 48, 16, 1, 1];
    expect(configure([...bytes, ...le(64n, 4)], 0)).toEqual({
      domain: 6,
      configuration: {
        type: 0,
        ttbr0: WIDE,
        ttbr1: 0x2000n,
        mair0: 0x11223344,
        mair1: 0xffeeddcc,
        inputSize0: 48,
        inputSize1: 16,
        coherentTableWalks: true,
        translationEnabled: true,
        granule: 64,
      },
    });
  });

  it('leaves the granule to its default where it is 0', () => {
    expect(configure(le(WIDE, 8), 0)).toMatchObject({
      configuration: { granule: undefined, coherentTableWalks: false, translationEnabled: false },
    });
  });

  it('takes an x64 configuration', () => {
    expect(configure([...le(WIDE, 8), ...le(1n, 4), ...le(5n, 4)], 1)).toEqual({
      domain: 6,
      configuration: { type: 1, firstLevelPageTableRoot: WIDE, translationEnabled: true, levels: 5 },
    });
  });

  it('leaves the levels to their default where they are 0', () => {
    expect(configure(le(WIDE, 8), 1)).toMatchObject({
      configuration: { levels: undefined, translationEnabled: false },
    });
  });
});
