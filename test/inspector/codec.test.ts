import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeMessage, encodeMessage } from '../../src/inspector/codec.ts';
import { answerLimits, requestLimits } from '../../src/inspector/limits.ts';

const decode = (bytes: Uint8Array) => decodeMessage(bytes, requestLimits);
const roundTrip = (message: object) => decode(encodeMessage(message)).message;

/** What both ends know: bigints of 64 bits, safe numbers, text, truth values, lists and objects of these. */
const key = fc.string().filter(name => name !== '__proto__');
const { value } = fc.letrec(tie => ({
  value: fc.oneof(
    { depthSize: 'small', maxDepth: 6 },
    fc.bigInt({ min: -(1n << 63n), max: (1n << 64n) - 1n }),
    // MessagePack carries whole numbers as integers, which know no negative zero.
    fc.double().map(value => value + 0),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.string(),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 6 }),
    fc.dictionary(key, tie('value'), { maxKeys: 6, noNullPrototype: true }),
  ),
}));
const message = fc.dictionary(key, value, { noNullPrototype: true });

describe('the codec', () => {
  it('gives back every message', () => {
    fc.assert(
      fc.property(message, sent => {
        expect(roundTrip(sent)).toEqual(sent);
      }),
    );
  });

  it('gives back every small integer, as numbers', () => {
    for (let number = -300; number <= 70_000; number += number > 300 ? 97 : 1) {
      expect(roundTrip({ number })).toEqual({ number });
    }
  });

  it('keeps bigints apart from numbers', () => {
    expect(roundTrip({ a: 1n, b: 1, c: (1n << 64n) - 1n, d: -(1n << 63n) })).toEqual({
      a: 1n,
      b: 1,
      c: (1n << 64n) - 1n,
      d: -(1n << 63n),
    });
  });

  it('sends page frames as little-endian bytes', () => {
    const bytes = roundTrip({ pages: Int32Array.of(0x12345678, 1) })?.pages;
    expect(bytes).toBeInstanceOf(Uint8Array);
    expect([...(bytes as Uint8Array)]).toEqual([0x78, 0x56, 0x34, 0x12, 1, 0, 0, 0]);
  });

  it('sends other typed arrays, sets and maps as lists and objects', () => {
    expect(roundTrip({ a: Uint32Array.of(1, 2), b: new Set([3]), c: new Map([['d', 4]]) })).toEqual({
      a: [1, 2],
      b: [3],
      c: { d: 4 },
    });
  });

  it('leaves out what is undefined', () => {
    expect(roundTrip({ a: undefined, b: [undefined] })).toEqual({ b: [null] });
  });

  it('does not send what has no place in a message', () => {
    const cycle: { next?: object } = {};
    cycle.next = cycle;
    for (const bad of [{ a: () => {} }, { a: 1n << 64n }, { a: -(1n << 63n) - 1n }, { a: Symbol('a') }, cycle]) {
      expect(() => encodeMessage(bad)).toThrow(RangeError);
    }
  });

  it('never throws on bytes from outside, nor takes anything but an object', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        const { message, error } = decode(bytes);
        expect(error === undefined).toBe(typeof message === 'object');
      }),
    );
  });

  it('tells of a message that is cut off just before a key', () => {
    const bytes = encodeMessage({ first: { second: 0 }, third: -32769 });
    for (let length = 0; length < bytes.length; length++) {
      expect(decode(bytes.subarray(0, length)).error).toBe('it ends too early');
    }
  });

  it('tells of every message that is cut off', () => {
    fc.assert(
      fc.property(message, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (sent, part) => {
        const bytes = encodeMessage(sent);
        expect(decode(bytes.subarray(0, Math.floor(bytes.length * part))).error).toBe('it ends too early');
      }),
    );
  });

  it('never throws on messages that were damaged', () => {
    fc.assert(
      fc.property(message, fc.nat(), fc.integer({ min: 0, max: 255 }), (sent, at, byte) => {
        const bytes = encodeMessage(sent);
        bytes[at % bytes.length] = byte;
        const { message, error } = decode(bytes);
        expect(error === undefined).toBe(typeof message === 'object');
      }),
    );
  });

  it('does not reach the prototype of objects', () => {
    const bytes = Uint8Array.of(0x81, 0xa9, ...Buffer.from('__proto__'), 0x81, 0xa1, 0x61, 1);
    const decoded = decode(bytes).message!;
    expect(Object.getPrototypeOf(decoded)).toBe(Object.prototype);
    expect((decoded as { a?: number }).a).toBeUndefined();
  });

  it('takes answers that are larger than requests may be', () => {
    const bytes = encodeMessage({ list: Array.from({ length: 5000 }, () => ({})) });
    expect(decode(bytes).error).toBe('it has more than 4096 lists and objects');
    expect(decodeMessage(bytes, answerLimits).message?.list).toHaveLength(5000);
  });
});
