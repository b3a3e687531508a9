/** The values of text records, from words that may be shared with another thread or come from a file. */
import { FIRST_PAYLOAD_WORD, MAX_SOURCES, SLOT_WORDS_SHIFT, TEXT_WORD } from '../record-layout.ts';
import { decode, MessagePackError } from './messagepack.ts';

/** The value of the text record of so many slots that begins at `slot`; undefined where there is none that can be read. */
export function textValue(words: Int32Array, slot: number, count: number): unknown {
  const at = slot << SLOT_WORDS_SHIFT;
  const length = words[at + FIRST_PAYLOAD_WORD]!;
  if (length <= 0 || length > ((count << SLOT_WORDS_SHIFT) - TEXT_WORD) * 4) return undefined;
  const start = words.byteOffset + (at + TEXT_WORD) * 4;
  try {
    // A copy, because the bytes may be another thread's.
    return decode(new Uint8Array(words.buffer, start, length).slice());
  } catch (error) {
    if (error instanceof MessagePackError) return undefined;
    throw error;
  }
}

export interface SourceName {
  readonly number: number;
  readonly name: string;
}

/** What a `source` record says; undefined: nothing that can be understood. */
export function asSourceName(value: unknown): SourceName | undefined {
  if (!Array.isArray(value)) return undefined;
  const [number, name] = value;
  const isNumber = Number.isInteger(number) && number >= 0 && number <= MAX_SOURCES;
  return isNumber && typeof name === 'string' ? { number, name } : undefined;
}
