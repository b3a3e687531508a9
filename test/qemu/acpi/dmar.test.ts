import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildDmar, DeviceScopeType, type DmarDescription, readRegisterBase } from '../../../qemu/acpi/dmar.ts';
import { buildTable, checkTable } from '../../../qemu/acpi/table.ts';

const description: DmarDescription = {
  registerBase: 0xfe80_1000n,
  registerBytes: 4096,
  hostAddressWidth: 39,
  platformOptIn: true,
  scopes: [
    {
      type: DeviceScopeType.endpoint,
      startBus: 0,
      path: [
        { device: 2, function: 0 },
        { device: 0, function: 0 },
      ],
    },
    { type: DeviceScopeType.bridge, startBus: 1, path: [{ device: 3, function: 1 }] },
  ],
};

describe('the DMAR table', () => {
  const table = buildDmar(description);

  it('is the bytes that the VT-d specification asks for (8.1, 8.3, 8.3.1)', () => {
    expect(() => checkTable(table, 'DMAR')).not.toThrow();
    expect(Buffer.from(table.subarray(36)).toString('hex')).toBe(
      [
        '26', // host address width - 1
        '04', // DMA_CTRL_PLATFORM_OPT_IN
        '00000000000000000000',
        '0000', // DRHD
        '2200', // its length with its scopes
        '00', // INCLUDE_PCI_ALL clear
        '00', // one page
        '0000', // segment
        '001080fe00000000',
        '010a00000000' + '02000000',
        '020800000001' + '0301',
      ].join(''),
    );
  });

  it('leaves opt-in out when it is not asked for', () => {
    expect(buildDmar({ ...description, platformOptIn: false })[37]).toBe(0);
  });

  it('says the size of the registers as a power of two of pages', () => {
    expect(buildDmar({ ...description, registerBytes: 16384 })[48 + 5]).toBe(2);
  });

  it('gives the register base back, whatever it is', () => {
    const bases = fc.bigInt({ min: 0n, max: (1n << 52n) - 1n });
    fc.assert(
      fc.property(bases, page => {
        const registerBase = page << 12n;
        expect(readRegisterBase(buildDmar({ ...description, registerBase }))).toBe(registerBase);
      }),
    );
  });

  it.each([
    ['a base within a page', { registerBase: 0x1234n }],
    ['a base beyond 64 bits', { registerBase: 1n << 64n }],
    ['a size that is no power of two', { registerBytes: 12288 }],
    ['a size below a page', { registerBytes: 2048 }],
    ['a width of 0', { hostAddressWidth: 0 }],
    ['a width of 65', { hostAddressWidth: 65 }],
    ['an empty path', { scopes: [{ type: DeviceScopeType.endpoint, startBus: 0, path: [] }] }],
    ['device 32', { scopes: [{ type: DeviceScopeType.endpoint, startBus: 0, path: [{ device: 32, function: 0 }] }] }],
    ['function 8', { scopes: [{ type: DeviceScopeType.endpoint, startBus: 0, path: [{ device: 0, function: 8 }] }] }],
    ['bus 256', { scopes: [{ type: DeviceScopeType.endpoint, startBus: 256, path: [{ device: 0, function: 0 }] }] }],
  ])('refuses %s', (_, change) => {
    expect(() => buildDmar({ ...description, ...change })).toThrow(RangeError);
  });
});

describe('readRegisterBase', () => {
  const body = (...structures: number[]) => Uint8Array.of(0x26, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...structures);
  const dmar = (...structures: number[]) =>
    buildTable({ signature: 'DMAR', revision: 1, oemTableId: 'X' }, body(...structures));

  it('skips structures of other types', () => {
    const reserved = [1, 0, 24, 0, ...new Array<number>(20).fill(0)];
    const unit = [0, 0, 16, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];
    expect(readRegisterBase(dmar(...reserved, ...unit))).toBe(0x1000n);
  });

  it('refuses a table without a unit, also one with a structure of no length', () => {
    expect(() => readRegisterBase(dmar())).toThrow(/no remapping hardware unit/);
    expect(() => readRegisterBase(dmar(...new Array<number>(32).fill(0).fill(1, 0, 1)))).toThrow(
      /no remapping hardware/,
    );
  });

  it('refuses what is no DMAR', () => {
    expect(() => readRegisterBase(new Uint8Array(100))).toThrow(/Not an ACPI table DMAR/);
  });

  it('reads a part of a larger buffer', () => {
    const table = buildDmar(description);
    const larger = new Uint8Array(table.length + 20);
    larger.set(table, 7);
    expect(readRegisterBase(larger.subarray(7, 7 + table.length))).toBe(description.registerBase);
  });
});
