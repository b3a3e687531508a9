/** Records for tests: put together word by word as the layout says, without the code that is tested. */
import { Packr } from 'msgpackr';
import type { EventKindName } from '../../src/trace/event-kinds.ts';
import { Kind } from '../../src/trace/event-kinds.ts';

const packr = new Packr({ useRecords: false });

export interface SampleRecord {
  readonly kind: EventKindName | number;
  readonly source?: number;
  readonly time?: number;
  /** Up to 5 make a short record, more a long one. */
  readonly payload?: readonly number[];
  readonly slots?: number;
}

export function slotsOf({ kind, source = 1, time = 0, payload = [], slots }: SampleRecord): Int32Array {
  const count = slots ?? (payload.length > 5 ? 2 : 1);
  const words = new Int32Array(8 * count);
  const code = typeof kind === 'number' ? kind : Kind[kind];
  words[0] = code | (count << 8) | (source << 16);
  words[1] = payload[0] ?? 0;
  new Float64Array(words.buffer)[1] = time;
  words.set(payload.slice(1), 4);
  return words;
}

export function textSlotsOf(kind: EventKindName, value: unknown, source = 1, time = 0): Int32Array {
  const bytes = packr.pack(value);
  const count = Math.ceil((16 + bytes.length) / 32);
  const words = new Int32Array(8 * count);
  words[0] = Kind[kind] | (count << 8) | (source << 16);
  words[1] = bytes.length;
  new Float64Array(words.buffer)[1] = time;
  new Uint8Array(words.buffer).set(bytes, 16);
  return words;
}

export function batchOf(...records: readonly Int32Array[]): Int32Array {
  const words = new Int32Array(records.reduce((sum, one) => sum + one.length, 0));
  let at = 0;
  for (const one of records) {
    words.set(one, at);
    at += one.length;
  }
  return words;
}
