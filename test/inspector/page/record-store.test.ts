import { describe, expect, it } from 'vitest';
import { CHUNK_SLOTS, NOT_RECORDED, RecordStore } from '../../../src/inspector/page/store/record-store.ts';
import { EVENT_KINDS } from '../../../src/trace/event-kinds.ts';
import { Decoder } from '../../../src/trace/record-fields.ts';
import { batchOf, slotsOf, textSlotsOf } from '../../trace/records.ts';
import { numbersOf, storeWith } from './support.ts';

const dma = (time: number) => ({ kind: 'dma.read', time, payload: [0x100, 0, 0x1000, 64, -1] }) as const;
const fault = (time: number) => ({ kind: 'fault', time, payload: [0x100, 0, 0x2000, 5, 1, -1, 1] }) as const;

describe('the record store', () => {
  it('numbers records in the order in which they come', () => {
    const store = storeWith([dma(1), fault(2), dma(3)]);
    expect(numbersOf(store)).toEqual([0, 1, 2]);
    expect([0, 1, 2].map(number => store.at(number)?.time)).toEqual([1, 2, 3]);
    expect(store.at(1)?.word(4)).toBe(1);
  });

  it('has no record before the first and behind the last', () => {
    const store = storeWith([dma(1)]);
    expect(store.at(-1)).toBeUndefined();
    expect(store.at(1)).toBeUndefined();
    expect(new RecordStore().at(0)).toBeUndefined();
  });

  it('goes on in a new chunk where a record of several slots does not fit', () => {
    const store = storeWith([...Array.from({ length: CHUNK_SLOTS - 1 }, (_, n) => dma(n)), fault(CHUNK_SLOTS)]);
    expect(store.chunks.map(chunk => chunk.count)).toEqual([CHUNK_SLOTS - 1, 1]);
    expect(store.at(CHUNK_SLOTS - 1)?.time).toBe(CHUNK_SLOTS);
  });

  it('lets the oldest chunk go when there are too many, and keeps the numbers', () => {
    const store = storeWith(
      Array.from({ length: CHUNK_SLOTS * 3 }, (_, n) => dma(n)),
      CHUNK_SLOTS,
    );
    expect(store.count).toBe(CHUNK_SLOTS);
    expect(store.first).toBe(CHUNK_SLOTS * 2);
    expect(store.at(store.first)?.time).toBe(CHUNK_SLOTS * 2);
    expect(store.at(store.first - 1)).toBeUndefined();
  });

  it('learns the names of sources', () => {
    const store = new RecordStore();
    store.append(batchOf(textSlotsOf('source', [7, 'edu0'], 0, 1), slotsOf({ ...dma(2), source: 7 })));
    expect(store.at(1)?.sourceName).toBe('edu0');
  });

  it('counts batches that are damaged and keeps what was whole', () => {
    const store = new RecordStore();
    const words = batchOf(slotsOf(dma(1)), slotsOf(dma(2)));
    words[8] = 4 | (9 << 8);
    store.append(words);
    expect({ count: store.count, damaged: store.damaged }).toEqual({ count: 1, damaged: 1 });
  });

  it('finds the first record from a time on', () => {
    const store = storeWith(Array.from({ length: CHUNK_SLOTS * 2 }, (_, n) => dma(n * 10)));
    expect(store.atTime(0)).toBe(0);
    expect(store.atTime(995)).toBe(100);
    expect(store.atTime(1000)).toBe(100);
    expect(store.atTime(CHUNK_SLOTS * 10)).toBe(CHUNK_SLOTS);
    expect(store.atTime(1e12)).toBe(store.next);
  });

  it('marks a gap once', () => {
    const store = storeWith([dma(5)]);
    store.markGap();
    store.markGap();
    expect(store.count).toBe(2);
    expect(store.at(1)?.word(0)).toBe(NOT_RECORDED);
    expect(store.at(1)?.time).toBe(5);
  });

  it('has no gap before the first record', () => {
    const store = new RecordStore();
    store.markGap();
    expect(store.count).toBe(0);
  });

  it('tells listeners of every record until they stop', () => {
    const store = new RecordStore();
    const times: number[] = [];
    const stop = store.listen(cursor => times.push(cursor.time));
    store.append(batchOf(slotsOf(dma(1)), slotsOf(dma(2))));
    stop();
    store.append(slotsOf(dma(3)));
    expect(times).toEqual([1, 2]);
  });

  it('forgets what it has when the table of kinds is another one', () => {
    const store = storeWith([dma(1)]);
    store.useDecoder(new Decoder(EVENT_KINDS.filter(kind => kind.name !== 'dma.read')));
    store.append(batchOf(slotsOf(dma(2)), slotsOf(fault(3))));
    expect(store.count).toBe(1);
    expect(store.at(store.first)?.time).toBe(3);
  });
});
