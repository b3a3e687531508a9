import { describe, expect, it } from 'vitest';
import type { BarDefinition, FunctionDefinition } from '../../src/pci/definition.ts';
import { checkDefinition, pendingBytes } from '../../src/pci/definition-check.ts';
import { full, plain } from './fakes.ts';

const bar: BarDefinition = { index: 0, bytes: 4096, width: 32, prefetchable: false };
const msix = { vectors: 4, table: { bar: 0, offset: 0 }, pending: { bar: 0, offset: 0x800 } };

describe('a definition', () => {
  it.each([plain, full])('that is right passes', definition => {
    expect(() => checkDefinition(definition)).not.toThrow();
  });

  const wrong: [string, Partial<FunctionDefinition>, RegExp][] = [
    ['BAR size not a power of two', { bars: [{ ...bar, bytes: 5000 }] }, /BAR0 has 5000 bytes/],
    ['BAR smaller than 16 bytes', { bars: [{ ...bar, bytes: 8 }] }, /BAR0 has 8 bytes/],
    ['32-bit BAR over 2 GiB', { bars: [{ ...bar, bytes: 2 ** 32 }] }, /BAR0 has 4294967296 bytes/],
    ['BAR6', { bars: [{ ...bar, index: 6 }] }, /BAR6 .* does not fit/],
    ['64-bit BAR5', { bars: [{ ...bar, index: 5, width: 64 }] }, /BAR5 .* does not fit/],
    ['the same BAR twice', { bars: [bar, bar] }, /takes BAR0/],
    [
      'a BAR in the upper half of another',
      {
        bars: [
          { ...bar, width: 64 },
          { ...bar, index: 1 },
        ],
      },
      /takes BAR1/,
    ],
    ['interrupt pin 5', { interruptPin: 5 }, /interrupt pin 5/],
    ['3 MSI vectors', { msi: { vectors: 3, wide: true, maskable: false } }, /3 MSI vectors/],
    ['64 MSI vectors', { msi: { vectors: 64, wide: true, maskable: false } }, /64 MSI vectors/],
    ['no MSI-X vectors', { bars: [bar], msix: { ...msix, vectors: 0 } }, /0 MSI-X vectors/],
    ['2049 MSI-X vectors', { bars: [bar], msix: { ...msix, vectors: 2049 } }, /2049 MSI-X vectors/],
    ['MSI-X in no BAR', { bars: [bar], msix: { ...msix, table: { bar: 3, offset: 0 } } }, /BAR3, which is not/],
    ['MSI-X not aligned', { bars: [bar], msix: { ...msix, table: { bar: 0, offset: 4 } } }, /multiple of 8/],
    ['MSI-X past the BAR', { bars: [bar], msix: { ...msix, table: { bar: 0, offset: 4088 } } }, /within BAR0/],
    ['MSI-X overlapping', { bars: [bar], msix: { ...msix, pending: { bar: 0, offset: 8 } } }, /overlap/],
  ];

  it.each(wrong)('with %s is refused', (_name, change, message) => {
    expect(() => checkDefinition({ ...plain, ...change })).toThrow(message);
  });
});

describe('pending bits', () => {
  it.each([
    [1, 8],
    [64, 8],
    [65, 16],
    [2048, 256],
  ])('of %i vectors take %i bytes', (vectors, bytes) => {
    expect(pendingBytes(vectors)).toBe(bytes);
  });
});
