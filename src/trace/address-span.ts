/** From where to where an event reaches, by its fields: what filters for addresses go by. */
import type { EventKind, PayloadField } from './event-kinds.ts';
import type { RecordCursor } from './record-cursor.ts';

/** Start and end of a span, both inclusive; each as two words, unsigned, upper one first. */
export type SpanTest = (startHigh: number, startLow: number, endHigh: number, endLow: number) => boolean;
/** Puts a record's span to a test. */
export type AddressSpan = (cursor: RecordCursor, test: SpanTest) => boolean;

const WORD = 0x1_0000_0000;
const LAST = WORD - 1;
const PAGE_BYTES = 4096;
const PAGE_SHIFT = 12;
/** Of an address of 64 bits no page is larger. */
const MAX_SHIFT = 63;

/**
 * Undefined for a kind without an IOVA. The length is that of the field `length` (bytes) or `pages` (of 4 KiB). Without one it is the
 * page around the address, of the size that a field `shift` says, or else of 4 KiB. What is said of all addresses by a field `scope`
 * (`all`, `domain`) reaches everywhere.
 */
export function addressSpan(kind: EventKind): AddressSpan | undefined {
  const iova = kind.fields.find(field => field.type === 'iova' && field.bits === 64);
  if (!iova) return undefined;
  const { word } = iova;
  const narrow = spanOf(kind, word);
  const scope = kind.fields.find(field => field.name === 'scope' && field.names !== undefined);
  if (!scope?.names) return narrow;
  const everywhere = scope.names.map(name => name === 'all' || name === 'domain');
  return (cursor, test) => (everywhere[bitsOf(scope, cursor)] === true ? test(0, 0, LAST, LAST) : narrow(cursor, test));
}

function spanOf(kind: EventKind, word: number): AddressSpan {
  const named = (name: string) => kind.fields.find(field => field.name === name && field.type === 'uint');
  const pages = named('pages');
  const length = named('length');
  const shift = named('shift');
  if (pages) return (cursor, test) => reach(cursor, word, bitsOf(pages, cursor) * PAGE_BYTES, test);
  if (length) return (cursor, test) => reach(cursor, word, bitsOf(length, cursor), test);
  if (shift) return (cursor, test) => page(cursor, word, bitsOf(shift, cursor), test);
  return (cursor, test) => page(cursor, word, PAGE_SHIFT, test);
}

/** From the address on so many bytes; 0 count as 1, as the address is meant in any case. */
function reach(cursor: RecordCursor, word: number, bytes: number, test: SpanTest): boolean {
  const high = cursor.word(word) >>> 0;
  const low = cursor.word(word + 1) >>> 0;
  const end = low + (bytes > 0 ? bytes - 1 : 0);
  const endHigh = high + Math.floor(end / WORD);
  return endHigh > LAST ? test(high, low, LAST, LAST) : test(high, low, endHigh, end % WORD);
}

/** The aligned page around the address. */
function page(cursor: RecordCursor, word: number, shift: number, test: SpanTest): boolean {
  const high = cursor.word(word) >>> 0;
  const low = cursor.word(word + 1) >>> 0;
  const bits = Math.min(Math.max(shift, PAGE_SHIFT), MAX_SHIFT);
  const lowBytes = bits >= 32 ? WORD : 2 ** bits;
  const highBytes = bits > 32 ? 2 ** (bits - 32) : 1;
  const startHigh = high - (high % highBytes);
  const startLow = low - (low % lowBytes);
  return test(startHigh, startLow, startHigh + highBytes - 1, startLow + lowBytes - 1);
}

function bitsOf({ word, shift = 0, bits = 32 }: PayloadField, cursor: RecordCursor): number {
  const value = cursor.word(word) >>> shift;
  return bits >= 32 ? value : (value & (2 ** bits - 1)) >>> 0;
}
