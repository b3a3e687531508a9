import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ConfigField } from '../../src/pci/config-fields.ts';
import { ConfigSpace } from '../../src/pci/config-space.ts';
import type { BarDefinition, FunctionDefinition } from '../../src/pci/definition.ts';
import { full, littleEndian, numberOf, plain } from './fakes.ts';

function read(config: ConfigSpace, offset: number, bytes: number): number {
  const target = new Uint8Array(bytes);
  config.read(offset, target, 0, bytes);
  return numberOf(target);
}

function write(config: ConfigSpace, offset: number, bytes: number, value: number | bigint): void {
  config.write(offset, littleEndian(value, bytes), 0, bytes);
}

/** Index of the first byte that differs, -1 where none does; comparing whole arrays with `toEqual` takes seconds. */
function firstDifference(left: Uint8Array, right: Uint8Array): number {
  return left.findIndex((byte, index) => byte !== right[index]);
}

/** Follows the capability list as any driver does. */
function walkCapabilities(config: ConfigSpace): Map<number, number> {
  const found = new Map<number, number>();
  const seen = new Set<number>();
  for (let at = read(config, 0x34, 1); at !== 0; at = read(config, at + 1, 1)) {
    if (seen.has(at) || at % 4 !== 0 || at < 0x40) throw new Error(`bad capability pointer ${at}`);
    seen.add(at);
    found.set(read(config, at, 1), at);
  }
  return found;
}

describe('header', () => {
  const config = new ConfigSpace(plain);

  it.each([
    ['vendor id', 0x00, 2, 0x1234],
    ['device id', 0x02, 2, 0x5678],
    ['command', 0x04, 2, 0],
    ['status: capability list', 0x06, 2, 0x0010],
    ['revision id', 0x08, 1, 0x9a],
    ['programming interface', 0x09, 1, 0x30],
    ['subclass', 0x0a, 1, 0x03],
    ['base class', 0x0b, 1, 0x0c],
    ['header type', 0x0e, 1, 0],
    ['BIST', 0x0f, 1, 0],
    ['BAR0: 32-bit', 0x10, 4, 0],
    ['BAR1: not there', 0x14, 4, 0],
    ['BAR2: 64-bit, prefetchable', 0x18, 4, 0xc],
    ['BAR3: upper half', 0x1c, 4, 0],
    ['CardBus CIS', 0x28, 4, 0],
    ['subsystem vendor id', 0x2c, 2, 0xabcd],
    ['subsystem id', 0x2e, 2, 0xef01],
    ['expansion ROM', 0x30, 4, 0],
    ['capabilities pointer', 0x34, 1, 0x40],
    ['interrupt line', 0x3c, 1, 0],
    ['interrupt pin', 0x3d, 1, 1],
  ])('has %s', (_name, offset, bytes, value) => {
    expect(read(config, offset, bytes)).toBe(value);
  });

  it('has 256 bytes for conventional PCI', () => {
    expect(new ConfigSpace(plain).bytes.length).toBe(256);
  });

  it('has 4096 bytes and an empty extended list for PCI Express', () => {
    const express = new ConfigSpace(full);
    expect(express.bytes.length).toBe(4096);
    expect(read(express, 0x100, 4)).toBe(0);
  });
});

/** Bits that software can change, register by register, from the specifications and not from the implementation. */
const WRITABLE_PLAIN: readonly (readonly [offset: number, bytes: number, bits: number])[] = [
  [0x04, 2, 0x0546],
  [0x0c, 1, 0xff],
  [0x0d, 1, 0xf8],
  [0x10, 4, 0xfffff000],
  [0x18, 4, 0xffff0000],
  [0x1c, 4, 0xffffffff],
  [0x3c, 1, 0xff],
  [0x44, 2, 0x0003],
];

/** As above, with every capability: PM at 0x40, MSI at 0x48, MSI-X at 0x60, PCI Express at 0x6c. */
const WRITABLE_FULL: readonly (readonly [offset: number, bytes: number, bits: number])[] = [
  ...WRITABLE_PLAIN.filter(([offset]) => offset !== 0x0d),
  [0x4a, 2, 0x0071],
  [0x4c, 4, 0xfffffffc],
  [0x50, 4, 0xffffffff],
  [0x54, 2, 0xffff],
  [0x58, 4, 0x000000ff],
  [0x62, 2, 0xc000],
  [0x74, 2, 0x781f],
  [0x7c, 2, 0x00cb],
  [0x94, 2, 0x0010],
];

function writableBytes(size: number, rows: typeof WRITABLE_PLAIN): Uint8Array {
  const masks = new Uint8Array(size);
  for (const [offset, bytes, bits] of rows) masks.set(littleEndian(bits, bytes), offset);
  return masks;
}

describe.each([
  ['conventional', plain, WRITABLE_PLAIN],
  ['with every capability', full, WRITABLE_FULL],
])('writable bits, %s', (_name, definition, rows) => {
  const size = definition.express ? 4096 : 256;
  const masks = writableBytes(size, rows);

  it.each([1, 2, 4, 8])('are exactly the specified ones at every offset, %i bytes at a time', width => {
    const config = new ConfigSpace(definition);
    const powerOn = config.bytes.slice();
    for (let offset = 0; offset + width <= size; offset++) {
      const expected = powerOn.slice();
      write(config, offset, width, -1n);
      for (let i = offset; i < offset + width; i++) expected[i] = powerOn[i]! | masks[i]!;
      expect(firstDifference(config.bytes, expected), `ones at ${offset}`).toBe(-1);
      write(config, offset, width, 0);
      for (let i = offset; i < offset + width; i++) expected[i] = powerOn[i]! & ~masks[i]!;
      expect(firstDifference(config.bytes, expected), `zeros at ${offset}`).toBe(-1);
      config.reset();
    }
  });
});

describe('BAR sizing', () => {
  const sizes: BarDefinition[] = [
    { index: 0, bytes: 16, width: 32, prefetchable: false },
    { index: 1, bytes: 4096, width: 32, prefetchable: true },
    { index: 5, bytes: 2 ** 20, width: 32, prefetchable: false },
    { index: 3, bytes: 2 ** 31, width: 32, prefetchable: false },
    { index: 0, bytes: 4096, width: 64, prefetchable: false },
    { index: 2, bytes: 2 ** 31, width: 64, prefetchable: true },
    { index: 4, bytes: 2 ** 32, width: 64, prefetchable: true },
    { index: 4, bytes: 2 ** 40, width: 64, prefetchable: true },
  ];

  it.each(sizes)('finds BAR$index, $bytes bytes, $width-bit, prefetchable $prefetchable', bar => {
    const config = new ConfigSpace({ ...plain, bars: [bar] });
    const at = 0x10 + 4 * bar.index;
    write(config, at, 4, 0xffffffff);
    const low = read(config, at, 4);
    expect(low & 1).toBe(0);
    expect((low >>> 1) & 3).toBe(bar.width === 64 ? 2 : 0);
    expect((low & 8) !== 0).toBe(bar.prefetchable);
    let mask = BigInt(low & ~0xf) & 0xffffffffn;
    if (bar.width === 64) {
      write(config, at + 4, 4, 0xffffffff);
      mask |= BigInt(read(config, at + 4, 4)) << 32n;
    }
    expect(BigInt.asUintN(bar.width, -mask)).toBe(BigInt(bar.bytes));
  });

  it('keeps the type bits when software writes zeros', () => {
    const config = new ConfigSpace(plain);
    write(config, 0x18, 4, 0);
    expect(read(config, 0x18, 4)).toBe(0xc);
  });

  it('gives the address of a 64-bit BAR from both halves', () => {
    const config = new ConfigSpace(plain);
    write(config, 0x18, 8, 0xc0_1234_5678n);
    expect(config.barAddress(2)).toBe(0xc0_1234_0000n);
  });

  it('does not take the BAR above a 32-bit one for its upper half', () => {
    const bars: BarDefinition[] = [
      { index: 0, bytes: 4096, width: 32, prefetchable: false },
      { index: 1, bytes: 4096, width: 32, prefetchable: false },
    ];
    const config = new ConfigSpace({ ...plain, bars });
    write(config, 0x10, 8, 0xfeb01000_feb00000n);
    expect(config.barAddress(0)).toBe(0xfeb00000n);
    expect(config.barAddress(1)).toBe(0xfeb01000n);
  });

  it.each([
    ['unwritten', 0n, false],
    ['an address', 0xfeb00000n, true],
    ['an address above 4 GiB', 0xc0_0000_0000n, true],
    ['sizing of the low half', 0xffffffffn, false],
    ['sizing of both halves', 0xffffffff_ffffffffn, false],
    ['sizing of the high half', 0xffffffff_feb00000n, false],
  ])('tells whether a 64-bit BAR is placed: %s', (_name, value, placed) => {
    const config = new ConfigSpace(plain);
    write(config, 0x18, 8, value);
    expect(config.isBarPlaced(2)).toBe(placed);
  });

  it.each([
    ['zero', 0, false],
    ['sizing', 0xffffffff, false],
    ['an address', 0xfeb00000, true],
  ])('tells whether a 32-bit BAR is placed: %s', (_name, value, placed) => {
    const config = new ConfigSpace(plain);
    write(config, 0x10, 4, value);
    expect(config.isBarPlaced(0)).toBe(placed);
  });
});

describe('hard-wired command bits', () => {
  const config = new ConfigSpace({ ...plain, hardwiredCommand: 0x4 });

  it('read as one from the start', () => {
    expect(config.command).toBe(0x4);
  });

  it('stay one when software writes zero', () => {
    write(config, 0x04, 2, 0);
    expect(config.command).toBe(0x4);
  });

  it('leave the other bits writable', () => {
    write(config, 0x04, 2, 0x2);
    expect(config.command).toBe(0x6);
  });
});

describe('status', () => {
  it.each([8, 11, 12, 13, 14, 15])('bit %i is cleared by writing one, and only that bit', bit => {
    const config = new ConfigSpace(plain);
    config.setBits(0x06, 0xf900, 0xf900);
    write(config, 0x06, 2, 1 << bit);
    expect(read(config, 0x06, 2)).toBe((0xf910 & ~(1 << bit)) >>> 0);
  });

  it('is not cleared by writing zero', () => {
    const config = new ConfigSpace(plain);
    config.setBits(0x06, 0xf900, 0xf900);
    write(config, 0x04, 4, 0);
    expect(read(config, 0x06, 2)).toBe(0xf910);
  });
});

describe('capability list', () => {
  const definitions: [string, FunctionDefinition, number[]][] = [
    ['power management alone', plain, [0x01]],
    ['MSI', { ...plain, msi: { vectors: 1, wide: false, maskable: false } }, [0x01, 0x05]],
    ['PCI Express', { ...plain, express: true }, [0x01, 0x10]],
    ['all', full, [0x01, 0x05, 0x11, 0x10]],
  ];

  it.each(definitions)('leads through %s', (_name, definition, ids) => {
    expect([...walkCapabilities(new ConfigSpace(definition)).keys()]).toEqual(ids);
  });

  it('agrees with where the space says that they are', () => {
    const config = new ConfigSpace(full);
    for (const [id, at] of walkCapabilities(config)) expect(config.capability(id)).toBe(at);
    expect(config.capability(0x09)).toBe(0);
  });

  it.each([
    [1, false, false, 0x0000],
    [2, true, false, 0x0082],
    [8, true, true, 0x0186],
    [32, false, true, 0x010a],
  ])('has MSI message control for %i vectors, wide %s, maskable %s', (vectors, wide, maskable, control) => {
    const config = new ConfigSpace({ ...plain, msi: { vectors, wide, maskable } });
    expect(read(config, config.capability(0x05) + 2, 2)).toBe(control);
  });

  it.each([
    ['32-bit', false, 0x08, 0x0c],
    ['64-bit', true, 0x0c, 0x10],
  ])('has MSI data and masks where %s MSI has them', (_name, wide, data, mask) => {
    const config = new ConfigSpace({ ...plain, msi: { vectors: 32, wide, maskable: true } });
    const at = config.capability(0x05);
    write(config, at + data, 4, 0xffffffff);
    expect(read(config, at + data, 4)).toBe(0xffff);
    write(config, at + mask, 4, 0xffffffff);
    expect(read(config, at + mask, 4)).toBe(0xffffffff);
    write(config, at + mask + 4, 4, 0xffffffff);
    expect(read(config, at + mask + 4, 4)).toBe(0);
  });

  it('gives the MSI-X table and pending bits with their BARs', () => {
    const config = new ConfigSpace(full);
    const at = config.capability(0x11);
    expect(read(config, at + 2, 2)).toBe(69);
    expect(read(config, at + 4, 4)).toBe(0x2002);
    expect(read(config, at + 8, 4)).toBe(0x3002);
  });

  it('is an endpoint with function-level reset, capability version 2', () => {
    const config = new ConfigSpace(full);
    const at = config.capability(0x10);
    expect(read(config, at + 2, 2)).toBe(0x0002);
    expect(read(config, at + 4, 4)).toBe(0x10008000);
    expect(read(config, at + 8, 2)).toBe(0x2810);
    expect(read(config, at + 0x0c, 4) & 0x3ff).toBe(0x011);
    expect(read(config, at + 0x12, 2)).toBe(0x0011);
  });
});

describe('power state', () => {
  it('starts in D0 with no soft reset', () => {
    const config = new ConfigSpace(plain);
    expect(read(config, 0x44, 2)).toBe(0x0008);
    expect(config.powerState).toBe(0);
  });

  it('goes to D3hot and back, and keeps the rest', () => {
    const config = new ConfigSpace(plain);
    write(config, 0x04, 2, 0x6);
    write(config, 0x44, 2, 3);
    expect(config.powerState).toBe(3);
    write(config, 0x44, 2, 0);
    expect(config.powerState).toBe(0);
    expect(config.command).toBe(0x6);
  });

  it.each([
    [1, 0],
    [2, 0],
    [1, 3],
    [2, 3],
  ])('ignores the absent state D%i in state D%i', (asked, state) => {
    const config = new ConfigSpace(plain);
    write(config, 0x44, 1, state);
    write(config, 0x44, 1, asked);
    expect(config.powerState).toBe(state);
  });
});

describe('reset', () => {
  it('brings every byte back to power-on', () => {
    const config = new ConfigSpace(full);
    const before = config.bytes.slice();
    for (let offset = 0; offset < 0x100; offset += 4) write(config, offset, 4, 0xffffffff);
    expect(config.bytes).not.toEqual(before);
    config.reset();
    expect(config.bytes).toEqual(before);
  });

  it('at function level leaves link control alone', () => {
    const config = new ConfigSpace(full);
    const link = config.capability(0x10) + 0x10;
    const expected = config.bytes.slice();
    for (let offset = 0; offset < 0x100; offset += 4) write(config, offset, 4, 0xffffffff);
    config.resetFunction();
    expected[link] = 0xcb;
    expect(config.bytes).toEqual(expected);
  });
});

describe('strobes', () => {
  it('are reported once, and read as zero', () => {
    const config = new ConfigSpace(full);
    const control = config.capability(0x10) + 8;
    write(config, control, 2, 0x8000);
    expect(read(config, control, 2) & 0x8000).toBe(0);
    expect(config.takeStrobe(control, 0x8000)).toBe(true);
    expect(config.takeStrobe(control, 0x8000)).toBe(false);
  });

  it('are not struck by other bits', () => {
    const config = new ConfigSpace(full);
    const control = config.capability(0x10) + 8;
    write(config, control, 2, 0x7fff);
    expect(config.takeStrobe(control, 0x8000)).toBe(false);
  });
});

/** The same rules one bit at a time, from the field definitions. */
class BitwiseReference {
  readonly bits: (0 | 1)[];
  private readonly writable: boolean[];
  private readonly clearable: boolean[];

  constructor(
    fields: readonly ConfigField[],
    bytes: number,
    private readonly power: number,
  ) {
    this.bits = new Array(bytes * 8).fill(0);
    this.writable = new Array(bytes * 8).fill(false);
    this.clearable = new Array(bytes * 8).fill(false);
    for (const field of fields) {
      for (let bit = 0; bit < field.bytes * 8; bit++) {
        const at = field.offset * 8 + bit;
        this.bits[at] = ((field.value >>> bit) & 1) as 0 | 1;
        this.writable[at] = (((field.writable ?? 0) >>> bit) & 1) === 1;
        this.clearable[at] = (((field.clearable ?? 0) >>> bit) & 1) === 1;
      }
    }
  }

  set(at: number): void {
    this.bits[at] = 1;
  }

  write(offset: number, source: Uint8Array): void {
    const state = this.bits.slice(this.power * 8, this.power * 8 + 2);
    source.forEach((byte, i) => {
      for (let bit = 0; bit < 8; bit++) {
        const at = (offset + i) * 8 + bit;
        const value = ((byte >> bit) & 1) as 0 | 1;
        if (this.writable[at]) this.bits[at] = value;
        else if (this.clearable[at] && value === 1) this.bits[at] = 0;
      }
    });
    if (this.bits[this.power * 8] !== this.bits[this.power * 8 + 1]) this.bits.splice(this.power * 8, 2, ...state);
  }

  bytes(): Uint8Array {
    return Uint8Array.from({ length: this.bits.length / 8 }, (_, byte) =>
      this.bits.slice(byte * 8, byte * 8 + 8).reduce<number>((sum, bit, at) => sum | (bit << at), 0),
    );
  }
}

describe('any sequence of writes', () => {
  const size = 0x110;
  const operation = fc.record({
    offset: fc.integer({ min: 0, max: size - 1 }),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 9 }),
    hardwareSetsStatus: fc.boolean(),
  });

  it('leaves what a bit-by-bit model leaves', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 20 }), operations => {
        const config = new ConfigSpace(full);
        const reference = new BitwiseReference(config.fields, 4096, config.capability(0x01) + 4);
        for (const { offset, bytes, hardwareSetsStatus } of operations) {
          if (hardwareSetsStatus) {
            config.setBits(0x06, 0xf900, 0xf900);
            for (const bit of [8, 11, 12, 13, 14, 15]) reference.set(0x06 * 8 + bit);
          }
          config.write(offset, bytes, 0, bytes.length);
          reference.write(offset, bytes);
        }
        expect(firstDifference(config.bytes, reference.bytes())).toBe(-1);
      }),
      { numRuns: 50 },
    );
  });
});
