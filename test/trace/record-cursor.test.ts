import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EVENT_KINDS, Kind } from '../../src/trace/event-kinds.ts';
import { RecordCursor, SourceNames } from '../../src/trace/record-cursor.ts';
import { Decoder } from '../../src/trace/record-fields.ts';
import { batchOf, slotsOf, textSlotsOf } from './records.ts';

function kindsOf(cursor: RecordCursor, words: Int32Array, slots?: number): number[] {
  cursor.load(words, slots);
  const kinds: number[] = [];
  while (cursor.next()) kinds.push(cursor.kind);
  return kinds;
}

describe('RecordCursor', () => {
  it('reads kind, source, time and payload of a short record', () => {
    const cursor = new RecordCursor();
    cursor.load(slotsOf({ kind: 'dma.read', source: 65535, time: 1234.5, payload: [1, 2, 3, 4, -5] }));
    expect(cursor.next()).toBe(true);
    const { kind, source, time, position, slots } = cursor;
    expect({ kind, source, time, position, slots }).toEqual({
      kind: 4,
      source: 65535,
      time: 1234.5,
      position: 0,
      slots: 1,
    });
    expect([0, 1, 2, 3, 4].map(word => cursor.word(word))).toEqual([1, 2, 3, 4, -5]);
    expect(cursor.next()).toBe(false);
    expect(cursor.damaged).toBe(false);
  });

  it('reads all thirteen words of a long record', () => {
    const cursor = new RecordCursor();
    const payload = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
    cursor.load(batchOf(slotsOf({ kind: 'dma.read' }), slotsOf({ kind: 'fault', payload })));
    cursor.next();
    expect(cursor.next()).toBe(true);
    expect(cursor.position).toBe(1);
    expect(payload.map((_, word) => cursor.word(word))).toEqual(payload);
  });

  it('reads 0 for words that the record does not have, and never those of the next one', () => {
    const cursor = new RecordCursor();
    cursor.load(
      batchOf(
        slotsOf({ kind: 'fault', payload: [1, 1, 1, 1, 1] }),
        slotsOf({ kind: 'fault', payload: [7, 7, 7, 7, 7] }),
      ),
    );
    cursor.next();
    expect([5, 12, -1, 1000].map(word => cursor.word(word))).toEqual([0, 0, 0, 0]);
  });

  it('reads the values of text records, wide integers as bigint', () => {
    const cursor = new RecordCursor();
    const note = ['fault.recorded', 'iommu', { iova: 1n << 63n, reason: 5 }];
    cursor.load(textSlotsOf('note', note));
    expect(cursor.next()).toBe(true);
    expect(cursor.value()).toEqual(note);
  });

  it('has no value where the record is no text', () => {
    const cursor = new RecordCursor();
    cursor.load(slotsOf({ kind: 'dma.read', payload: [8] }));
    cursor.next();
    expect(cursor.value()).toBeUndefined();
  });

  it('learns the names of sources as they come by, and keeps them for the next batch', () => {
    const sources = new SourceNames();
    const cursor = new RecordCursor(undefined, sources);
    kindsOf(cursor, textSlotsOf('source', [3, 'edu0'], 3));
    cursor.load(slotsOf({ kind: 'dma.read', source: 3 }));
    cursor.next();
    expect(cursor.sourceName).toBe('edu0');
    expect(sources.name(3)).toBe('edu0');
    expect(sources.name(4)).toBe('');
  });

  it('hands out the words of a record in place', () => {
    const words = batchOf(slotsOf({ kind: 'dma.read' }), slotsOf({ kind: 'fault', payload: [1, 2, 3, 4, 5, 6] }));
    const cursor = new RecordCursor();
    cursor.load(words);
    cursor.next();
    cursor.next();
    expect(cursor.slice()).toEqual(words.subarray(8, 24));
  });

  it('reads times wherever in memory the record lies', () => {
    const buffer = new ArrayBuffer(4 + 32);
    const words = new Int32Array(buffer, 4);
    words.set(slotsOf({ kind: 'dma.read', time: 0.25 }));
    const cursor = new RecordCursor();
    cursor.load(words);
    cursor.next();
    expect(cursor.time).toBe(0.25);
  });

  it('passes padding over without a word', () => {
    const cursor = new RecordCursor();
    const words = batchOf(slotsOf({ kind: 0, slots: 5 }), slotsOf({ kind: 'reset' }));
    expect(kindsOf(cursor, words)).toEqual([Kind.reset]);
    expect(cursor.skipped).toBe(0);
  });
});

describe('RecordCursor on what is no good', () => {
  const good = slotsOf({ kind: 'reset' });

  it('passes kinds over that it does not know, and counts them', () => {
    const cursor = new RecordCursor();
    expect(kindsOf(cursor, batchOf(slotsOf({ kind: 200, slots: 3 }), good))).toEqual([Kind.reset]);
    expect(cursor.skipped).toBe(1);
    expect(cursor.damaged).toBe(false);
  });

  it('stops at a record without slots', () => {
    const cursor = new RecordCursor();
    const nothing = slotsOf({ kind: 'reset' });
    nothing[0] = Kind.reset;
    expect(kindsOf(cursor, batchOf(good, nothing, good))).toEqual([Kind.reset]);
    expect(cursor.damaged).toBe(true);
    expect(cursor.next()).toBe(false);
  });

  it('stops at a record that is cut off', () => {
    const cursor = new RecordCursor();
    const words = batchOf(good, slotsOf({ kind: 'fault', payload: [1, 2, 3, 4, 5, 6] }));
    expect(kindsOf(cursor, words.subarray(0, 16))).toEqual([Kind.reset]);
    expect(cursor.damaged).toBe(true);
  });

  it('goes by the slots that it is told of, and by the words where there are fewer', () => {
    const cursor = new RecordCursor();
    expect(kindsOf(cursor, batchOf(good, good, good), 2).length).toBe(2);
    expect(kindsOf(cursor, good, 1000).length).toBe(1);
    expect(kindsOf(cursor, new Int32Array(7)).length).toBe(0);
  });

  it('begins anew with each batch', () => {
    const cursor = new RecordCursor();
    kindsOf(cursor, new Int32Array(8));
    expect(cursor.damaged).toBe(true);
    expect(kindsOf(cursor, good)).toEqual([Kind.reset]);
    expect(cursor.damaged).toBe(false);
  });

  it.each([Number.NaN, -1, Number.POSITIVE_INFINITY, 1e300])('passes a record at the time %d over', time => {
    const cursor = new RecordCursor();
    expect(kindsOf(cursor, batchOf(slotsOf({ kind: 'reset', time }), good)).length).toBe(1);
    expect(cursor.skipped).toBe(1);
  });

  it.each([0, -1, 17, 1 << 30])('passes a text of one slot and %d bytes over', bytes => {
    const cursor = new RecordCursor();
    const text = slotsOf({ kind: 'note', payload: [bytes] });
    expect(kindsOf(cursor, batchOf(text, good))).toEqual([Kind.reset]);
    expect(cursor.skipped).toBe(1);
  });

  it('has no value where the bytes are no value', () => {
    const cursor = new RecordCursor();
    // A list of 2^32 - 1 members in five bytes.
    cursor.load(slotsOf({ kind: 'note', payload: [5, 0xffff_ffdd | 0, 0xff] }));
    expect(cursor.next()).toBe(true);
    expect(cursor.value()).toBeUndefined();
  });

  it.each([[[]], [['x', 1]], [[70000, 'x']], [[1]], [{ a: 1 }]])('learns nothing from a source called %j', value => {
    const cursor = new RecordCursor();
    expect(kindsOf(cursor, textSlotsOf('source', value))).toEqual([]);
    expect(cursor.skipped).toBe(1);
  });

  it('comes to an end within any words', () => {
    const word = fc.oneof(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), fc.constant(0), fc.nat({ max: 0x3ff }));
    fc.assert(
      fc.property(fc.array(word, { maxLength: 200 }), words => {
        const cursor = new RecordCursor();
        cursor.load(Int32Array.from(words));
        let slots = 0;
        while (cursor.next()) {
          slots += cursor.slots;
          expect(cursor.position + cursor.slots).toBeLessThanOrEqual(words.length >> 3);
          expect(EVENT_KINDS.some(({ code }) => code === cursor.kind)).toBe(true);
          cursor.value();
          cursor.word(12);
        }
        expect(slots).toBeLessThanOrEqual(words.length >> 3);
      }),
      { numRuns: 500 },
    );
  });
});

describe('RecordCursor with the kinds of a file', () => {
  it('goes by them and not by its own', () => {
    const decoder = new Decoder([
      { name: 'source', code: 99, class: 'note', about: '', fields: [], text: true },
      { name: 'old', code: 4, class: 'dma', about: '', fields: [] },
    ]);
    const cursor = new RecordCursor(decoder);
    const named = textSlotsOf('source', [1, 'edu0']);
    named[0] = (named[0]! & ~0xff) | 99;
    cursor.load(batchOf(named, slotsOf({ kind: 'note' }), slotsOf({ kind: 4, source: 1 })));
    cursor.next();
    cursor.next();
    expect([cursor.kind, cursor.sourceName]).toEqual([4, 'edu0']);
    expect(cursor.skipped).toBe(1);
  });
});
