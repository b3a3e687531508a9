import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { describe, expect, it } from 'vitest';
import { MAX_TEXT_BYTES } from '../../src/trace/record-layout.ts';
import { encodeText } from '../../src/trace/text-value.ts';

const packr = new Packr({ useRecords: false, mapsAsObjects: true, int64AsType: 'bigint' });
const decoded = (value: unknown): unknown => packr.unpack(encodeText(value));

describe('encodeText', () => {
  it('keeps what MessagePack has types for', () => {
    const value = ['a', 1, -1.5, true, null, { b: [1n, -(1n << 63n), (1n << 64n) - 1n] }];
    expect(decoded(value)).toEqual(value);
  });

  it('leaves undefined members out, and writes null for undefined in lists', () => {
    expect(decoded({ a: undefined, b: [undefined] })).toEqual({ b: [null] });
  });

  it('writes maps as objects, sets and typed arrays as lists', () => {
    expect(decoded([new Map([[1, 'x']]), new Set([1]), Int32Array.of(1, -1)])).toEqual([{ 1: 'x' }, [1], [1, -1]]);
  });

  it('writes as text what has no type: wide integers, functions, symbols', () => {
    expect(decoded([1n << 64n, Symbol('s')])).toEqual([(1n << 64n).toString(), 'Symbol(s)']);
  });

  it('ends in a cycle', () => {
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    expect(JSON.stringify(decoded(cycle))).toContain('"..."');
  });

  it('keeps a value that just fits as it is', () => {
    const text = 'x'.repeat(MAX_TEXT_BYTES - 3);
    expect(encodeText(text).length).toBe(MAX_TEXT_BYTES);
    expect(decoded(text)).toBe(text);
  });

  it('shortens the texts of one that does not, and says so', () => {
    const { a, cut, n } = decoded({ a: 'x'.repeat(MAX_TEXT_BYTES), n: 3 }) as Record<string, unknown>;
    expect(a).toBe(`${'x'.repeat(512)}...`);
    expect(n).toBe(3);
    expect(cut).toMatch(/^shortened from \d+ bytes$/);
  });

  it('keeps both ends of long lists: the first evidence and the last', () => {
    const evidence = Array.from({ length: 500 }, (_, time) => ({ time, text: 'x'.repeat(60) }));
    const finding = decoded({ id: 'F1', evidence }) as { id: string; evidence: { time: number }[]; cut: string };
    expect(finding.evidence.map(({ time }) => time)).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 492, 493, 494, 495, 496, 497, 498, 499,
    ]);
    expect(finding.cut).toBeDefined();
  });

  it('keeps at least what a note is called where nothing else helps', () => {
    const detail = Object.fromEntries(Array.from({ length: 5000 }, (_, n) => [`member${n}`, n]));
    expect(decoded(['note.kind', 'edu0', detail])).toEqual([
      'note.kind',
      'edu0',
      { cut: expect.any(String) as string },
    ]);
  });

  it('never makes more than fits into a record', () => {
    const { value } = fc.letrec(tie => ({
      value: fc.oneof(
        { maxDepth: 4 },
        fc.string({ maxLength: 5000 }),
        fc.bigInt(),
        fc.double(),
        fc.array(tie('value'), { maxLength: 20 }),
        fc.dictionary(fc.string({ maxLength: 300 }), tie('value'), { maxKeys: 20 }),
      ),
    }));
    fc.assert(
      fc.property(value, one => {
        const bytes = encodeText(one);
        expect(bytes.length).toBeLessThanOrEqual(MAX_TEXT_BYTES);
        packr.unpack(bytes);
      }),
      { numRuns: 200 },
    );
  });
});
