/**
 * How a record lies in memory, in the ring and in files alike. A slot is 8 words of 32 bits, little-endian; a record takes one slot or
 * more, one behind the other.
 *
 * | word | what |
 * |------|------|
 * | 0    | code of the kind (bits 0-7), number of slots (8-15), number of the source (16-31) |
 * | 1    | payload word 0; of a text record the length of its value in bytes |
 * | 2-3  | time, a float64: nanoseconds since the tracer's start |
 * | 4-   | payload words from 1 on; of a text record one MessagePack value, and zeros up to the end of its last slot |
 *
 * Kind 0 is no kind: a record of it is padding, to be skipped.
 */
import { LONG_PAYLOAD_WORDS, SHORT_PAYLOAD_WORDS } from './event-kinds.ts';

export const SLOT_WORDS = 8;
export const SLOT_BYTES = 32;
/** A slot's number becomes the index of its first word by this shift. */
export const SLOT_WORDS_SHIFT = 3;

export const KIND_MASK = 0xff;
export const SLOTS_SHIFT = 8;
export const SLOTS_MASK = 0xff;
export const SOURCE_SHIFT = 16;
/** Numbers of sources: 1 to this. 0 is nobody in particular. */
export const MAX_SOURCES = 0xffff;

export const FIRST_PAYLOAD_WORD = 1;
export const TIME_WORD = 2;
/** Payload word n, from 1 on, is word n plus this. */
export const PAYLOAD_OFFSET = 3;
export const TEXT_WORD = 4;

/** Code of what is skipped. */
export const PADDING_KIND = 0;

/** Slots of a record with up to 5, and with up to 13 payload words. */
export const SHORT_SLOTS = 1;
export const LONG_SLOTS = 2;
/** The most that word 0 can say. */
export const MAX_RECORD_SLOTS = SLOTS_MASK;
/** The longest value of a text record. */
export const MAX_TEXT_BYTES = (MAX_RECORD_SLOTS * SLOT_WORDS - TEXT_WORD) * 4;

/** Payload words that so many slots hold: 5, 13, 21, ... */
export function payloadWords(slots: number): number {
  return slots * SLOT_WORDS - PAYLOAD_OFFSET;
}

/** Slots that a text record with a value of so many bytes takes. */
export function textSlots(bytes: number): number {
  return Math.ceil((TEXT_WORD * 4 + bytes) / SLOT_BYTES);
}

/** Word 0. */
export function recordHeader(kind: number, slots: number, source: number): number {
  return kind | (slots << SLOTS_SHIFT) | (source << SOURCE_SHIFT);
}

// The two tables must agree: what a short and a long record hold is stated beside the kinds, too.
if (payloadWords(SHORT_SLOTS) !== SHORT_PAYLOAD_WORDS || payloadWords(LONG_SLOTS) !== LONG_PAYLOAD_WORDS) {
  throw new Error('the layout of records does not fit the kinds of events');
}
