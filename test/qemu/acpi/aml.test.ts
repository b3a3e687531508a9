import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  buffer,
  concat,
  integer,
  littleEndian,
  name,
  nameString,
  packageLength,
  packageOf,
  scope,
  string,
  uuid,
} from '../../../qemu/acpi/aml.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('AML integers', () => {
  it.each([
    [0, '00'],
    [1, '01'],
    [2, '0a02'],
    [0xff, '0aff'],
    [0x100, '0b0001'],
    [0xffff, '0bffff'],
    [0x1_0000, '0c00000100'],
    [0xffff_ffff, '0cffffffff'],
    [0x1_0000_0000n, '0e0000000001000000'],
    [0xffff_ffff_ffff_ffffn, '0effffffffffffffff'],
  ])('%d is %s', (value, expected) => {
    expect(hex(integer(value))).toBe(expected);
  });

  it('have 64 bits', () => {
    expect(() => integer(1n << 64n)).toThrow(RangeError);
    expect(() => integer(-1)).toThrow(RangeError);
  });
});

describe('AML names', () => {
  it.each([
    ['_DSD', '5f445344'],
    ['UID', '5549445f'],
    ['\\_SB', '5c5f53425f'],
    ['\\_SB.PCI0', '5c2e5f53425f50434930'],
    ['\\_SB.PCI0.S10', '5c2f035f53425f504349305331305f'],
  ])('%s is %s', (path, expected) => {
    expect(hex(nameString(path))).toBe(expected);
  });

  it.each(['', 'lower', '1ABC', 'TOOLONG', 'A..B', '\\'])('refuses %j', path => {
    expect(() => nameString(path)).toThrow(/Not an AML name/);
  });
});

describe('AML package lengths', () => {
  /** Reads it as ACPI 6.5, 20.2.4 says. */
  function decode(bytes: Uint8Array): number {
    const extra = bytes[0]! >>> 6;
    if (extra === 0) return bytes[0]! & 0x3f;
    let value = bytes[0]! & 0xf;
    for (let index = 0; index < extra; index++) value |= bytes[index + 1]! << (4 + 8 * index);
    return value;
  }

  it.each([
    [0, '01'],
    [62, '3f'],
    [63, '4104'],
    [4093, '4fff'],
    [4094, '810001'],
  ])('%d bytes of content: %s', (content, expected) => {
    expect(hex(packageLength(content))).toBe(expected);
  });

  it('count themselves and the content, whatever its size', () => {
    const sizes = fc.oneof(fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 0, max: (1 << 28) - 5 }));
    fc.assert(
      fc.property(sizes, content => {
        const encoded = packageLength(content);
        expect(encoded.length).toBe((encoded[0]! >>> 6) + 1);
        expect(decode(encoded)).toBe(content + encoded.length);
      }),
    );
  });

  it('end at 28 bits', () => {
    expect(() => packageLength(1 << 28)).toThrow(RangeError);
  });
});

describe('AML objects', () => {
  it('strings end with NUL', () => {
    expect(hex(string('UID'))).toBe('0d55494400');
    expect(() => string('é')).toThrow(RangeError);
    expect(() => string('a\0b')).toThrow(RangeError);
  });

  it('buffers say their size', () => {
    expect(hex(buffer(Uint8Array.of(7, 8)))).toBe('11050a020708');
  });

  it('UUIDs have the first three groups turned round', () => {
    expect(hex(uuid('01234567-89ab-cdef-0123-456789abcdef'))).toBe(`11130a10${'67452301ab89efcd0123456789abcdef'}`);
    expect(() => uuid('01234567')).toThrow(/Not a UUID/);
  });

  it('packages count their elements', () => {
    expect(hex(packageOf(integer(1), integer(2)))).toBe('120502010a02');
    expect(() => packageOf(...Array.from({ length: 256 }, () => integer(0)))).toThrow(RangeError);
  });

  it('names and scopes hold what they are given', () => {
    expect(hex(name('UID', integer(0)))).toBe('085549445f00');
    expect(hex(scope('\\_SB', name('UID', integer(0))))).toBe('100c5c5f53425f085549445f00');
  });
});

describe('bytes', () => {
  it('are put together and turned round', () => {
    expect(hex(concat(Uint8Array.of(1), new Uint8Array(), Uint8Array.of(2, 3)))).toBe('010203');
    expect(hex(littleEndian(0x123456n, 4))).toBe('56341200');
  });
});
