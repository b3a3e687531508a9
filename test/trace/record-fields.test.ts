import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EVENT_KINDS, EventClass, type EventKind, Kind, type PayloadField } from '../../src/trace/event-kinds.ts';
import { KindTableError } from '../../src/trace/kind-table.ts';
import {
  Decoder,
  fieldsOf,
  fieldValue,
  formatField,
  formatRequesterId,
  payloadOf,
  RecordShape,
  standardDecoder,
} from '../../src/trace/record-fields.ts';

const kindNamed = (name: string): EventKind => standardDecoder.kindNamed(name)!;
const field = (one: Partial<PayloadField>): PayloadField => ({ name: 'x', type: 'uint', word: 0, ...one });
const valueIn = (one: Partial<PayloadField>, ...words: number[]) =>
  fieldValue(field(one), payloadOf(Int32Array.from(words)));

describe('fieldsOf', () => {
  it('tells a transfer', () => {
    expect(fieldsOf(kindNamed('dma.read'), Int32Array.of(0x10108, 0x12, 0xfffff000 | 0, 64, -1))).toEqual({
      requesterId: 0x108,
      status: 'fault',
      iova: 0x12_ffff_f000n,
      length: 64,
      pasid: 'none',
    });
  });

  it('tells a mapping', () => {
    const how = (1 << 8) | (21 << 16) | 3;
    expect(fieldsOf(kindNamed('mapping.added'), Int32Array.of(7, 0, 0x200000, 0x12345, 512, how))).toEqual({
      domain: 7,
      iova: 0x200000n,
      frame: 0x12345000n,
      pages: 512,
      permissions: 'read-write',
      how: 'walk',
      shift: 21,
    });
  });

  it('takes words from anything that has them', () => {
    expect(fieldsOf(kindNamed('dropped'), { word: () => 3 })).toEqual({ records: 3 });
  });

  it('has no fields of a text', () => {
    expect(fieldsOf(kindNamed('note'), Int32Array.of(8))).toEqual({});
  });

  it('reads 0 for words that are missing', () => {
    expect(fieldsOf(kindNamed('reset'), new Int32Array(0))).toEqual({ what: 'functionLevel' });
  });
});

describe('fieldValue', () => {
  it('reads numbers without a sign', () => {
    expect(valueIn({}, -1)).toBe(0xffffffff);
    expect(valueIn({ type: 'hex' }, -2)).toBe(0xfffffffe);
    expect(valueIn({ shift: 16, bits: 16 }, -1)).toBe(0xffff);
    expect(valueIn({ shift: 1, bits: 31 }, -1)).toBe(0x7fffffff);
  });

  it('reads 64 bits, the upper word first', () => {
    expect(valueIn({ type: 'hex', bits: 64 }, -1, 5)).toBe(0xffffffff_00000005n);
    expect(valueIn({ type: 'guestAddress', bits: 64 }, 0, -1)).toBe(0xffffffffn);
  });

  it('says none and all instead of -1', () => {
    expect(valueIn({ type: 'pasid' }, -1)).toBe('none');
    expect(valueIn({ type: 'pasid' }, 5)).toBe(5);
    expect(valueIn({ type: 'domain' }, -1)).toBe('all');
    expect(valueIn({ type: 'domain' }, -2)).toBe(0xfffffffe);
  });

  it('makes addresses of frames', () => {
    expect(valueIn({ type: 'frame' }, -1)).toBe(0xffffffff000n);
  });

  it('makes names of numbers, and leaves those without a name as they are', () => {
    const names = ['a', 'b'];
    expect(valueIn({ type: 'name', names }, 1)).toBe('b');
    expect(valueIn({ type: 'name', names }, 2)).toBe('2');
  });

  it.each([
    [0, 'none'],
    [1, 'read'],
    [2, 'write'],
    [3, 'read-write'],
  ])('calls access %d %s', (bits, name) => {
    expect(valueIn({ type: 'access', shift: 16, bits: 2 }, bits << 16)).toBe(name);
  });

  it('makes flags boolean', () => {
    expect(valueIn({ type: 'flag', shift: 12, bits: 1 }, 1 << 12)).toBe(true);
    expect(valueIn({ type: 'flag', shift: 12, bits: 1 }, ~(1 << 12))).toBe(false);
  });

  it('takes any bits as a slow reference does', () => {
    const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
    fc.assert(
      fc.property(word, fc.nat({ max: 31 }), fc.integer({ min: 1, max: 32 }), (value, shift, bits) => {
        const expected = (BigInt.asUintN(32, BigInt(value)) >> BigInt(shift)) & ((1n << BigInt(bits)) - 1n);
        expect(BigInt(valueIn({ shift, bits }, value) as number)).toBe(expected);
      }),
    );
  });
});

describe('formatRequesterId', () => {
  it.each([
    [0x0100, '01:00.0'],
    [0x00ff, '00:1f.7'],
    [0xffff, 'ff:1f.7'],
  ])('writes %d as %s', (requesterId, text) => {
    expect(formatRequesterId(requesterId)).toBe(text);
  });
});

describe('formatField', () => {
  it('writes addresses and hexadecimal fields in hexadecimal, numbers in decimal, requester ids as such', () => {
    expect(formatField(field({ type: 'iova' }), 0x1000n)).toBe('0x1000');
    expect(formatField(field({ type: 'hex' }), 255)).toBe('0xff');
    expect(formatField(field({ type: 'uint' }), 255)).toBe('255');
    expect(formatField(field({ type: 'requesterId' }), 0x108)).toBe('01:01.0');
    expect(formatField(field({ type: 'domain' }), 'all')).toBe('all');
  });
});

describe('Decoder', () => {
  it('knows kinds by code and by name, their class and shape', () => {
    expect(standardDecoder.kind(Kind.fault)?.name).toBe('fault');
    expect(standardDecoder.kindNamed('fault')?.code).toBe(Kind.fault);
    expect(standardDecoder.classOf(Kind.fault)).toBe(EventClass.fault);
    expect(standardDecoder.shapeOf(Kind.fault)).toBe(RecordShape.words);
    expect(standardDecoder.shapeOf(Kind.note)).toBe(RecordShape.text);
    expect(standardDecoder.sourceKind).toBe(Kind.source);
  });

  it('knows nothing of other codes', () => {
    expect(standardDecoder.kind(250)).toBeUndefined();
    expect(standardDecoder.shapeOf(250)).toBe(RecordShape.unknown);
    expect(standardDecoder.classOf(250)).toBe(0);
    expect(new Decoder([]).sourceKind).toBe(-1);
  });

  it('is made of a table that was written and read', () => {
    const decoder = Decoder.fromTable(JSON.parse(JSON.stringify(EVENT_KINDS)));
    for (const kind of EVENT_KINDS) {
      const payload = Int32Array.from({ length: 13 }, (_, n) => n * 0x01234567);
      expect(fieldsOf(decoder.kind(kind.code)!, payload)).toEqual(fieldsOf(kind, payload));
      expect(decoder.classOf(kind.code)).toBe(EventClass[kind.class]);
    }
  });

  it('takes classes and types that it does not know for what they may be', () => {
    const field = { name: 'x', type: 'temperature', word: 0 };
    const decoder = Decoder.fromTable([{ name: 'new', code: 77, class: 'weather', about: '', fields: [field] }]);
    expect(decoder.classOf(77)).toBe(0);
    expect(fieldsOf(decoder.kind(77)!, Int32Array.of(5))).toEqual({ x: 5 });
  });

  const kind = { name: 'k', code: 1, class: 'dma', about: 'a', fields: [] as unknown[] };
  const withField = (one: object) => [{ ...kind, fields: [{ name: 'f', type: 'uint', word: 0, ...one }] }];
  it.each([
    ['no list', {}, /the table of kinds is not a list/],
    ['too many kinds', Array.from({ length: 256 }, () => kind), /more than 255/],
    ['an entry that is no object', [5], /kind 0 is not an object/],
    ['no name', [{ ...kind, name: undefined }], /the name of kind 0/],
    ['a name of thousands of characters', [{ ...kind, name: 'x'.repeat(5000) }], /the name of kind 0/],
    ['a code that does not fit', [{ ...kind, code: 256 }], /the code of k is not a whole number from 1 to 255/],
    ['the code of padding', [{ ...kind, code: 0 }], /the code of k/],
    ['a code twice', [kind, { ...kind, name: 'l' }], /two kinds have the code 1/],
    ['a name that could move the cursor of a terminal', [{ ...kind, name: 'k\u001b[2J' }], /the name of kind 0/],
    ['no class', [{ ...kind, class: 3 }], /the class of k/],
    ['fields that are no list', [{ ...kind, fields: {} }], /the fields of k is not a list/],
    ['a word beyond the record', withField({ word: 13 }), /the word of k.f/],
    ['a second word beyond the record', withField({ word: 12, bits: 64 }), /the word of k.f/],
    ['a broken word', withField({ word: 0.5 }), /the word of k.f/],
    ['a shift out of the word', withField({ shift: 32 }), /the shift of k.f/],
    ['a width between 32 and 64', withField({ bits: 40 }), /k.f has 40 bits/],
    ['names that are no text', withField({ names: [1] }), /a name of k.f/],
  ])('refuses a table with %s', (_, table, message) => {
    expect(() => Decoder.fromTable(table)).toThrow(KindTableError);
    expect(() => Decoder.fromTable(table)).toThrow(message);
  });
});
