/**
 * Messages of the remote API as MessagePack. A bigint becomes a 64-bit integer and comes back as one; lists of page frames
 * travel as their bytes (32 bits each, little-endian).
 */
import { Packr } from 'msgpackr';
import { answerLimits, type MessageLimits } from './limits.ts';
import { checkMessagePack } from './messagepack-check.ts';

export type Decoded =
  | { readonly message: Readonly<Record<string, unknown>>; readonly error?: undefined }
  | { readonly message?: undefined; readonly error: string };

const packr = new Packr({ useRecords: false, mapsAsObjects: true, int64AsType: 'bigint', copyBuffers: true });

const INT64_MIN = -(1n << 63n);
const UINT64_MAX = (1n << 64n) - 1n;

/** Throws a RangeError for what has no place in a message: functions, wider integers, cycles. */
export function encodeMessage(message: object): Buffer {
  return packr.pack(plain(message, 0));
}

/** Never throws, whatever it is given. */
export function decodeMessage(bytes: Uint8Array, limits: MessageLimits): Decoded {
  const wrong = checkMessagePack(bytes, limits);
  if (wrong !== undefined) return { error: wrong };
  let message: unknown;
  try {
    message = packr.unpack(bytes);
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
  if (typeof message !== 'object' || message === null || Array.isArray(message) || ArrayBuffer.isView(message)) {
    return { error: 'it is not an object' };
  }
  return { message: message as Record<string, unknown> };
}

/** What MessagePack has a type for; undefined members are left out. */
function plain(value: unknown, nesting: number): unknown {
  switch (typeof value) {
    case 'bigint':
      if (value < INT64_MIN || value > UINT64_MAX) throw new RangeError(`${value} does not fit into 64 bits`);
      return value;
    case 'function':
    case 'symbol':
      throw new RangeError(`a ${typeof value} cannot be sent`);
    case 'object':
      return value === null ? null : plainObject(value, nesting);
    default:
      return value ?? null;
  }
}

function plainObject(value: object, nesting: number): unknown {
  if (nesting >= answerLimits.nesting) throw new RangeError(`it is nested deeper than ${answerLimits.nesting}`);
  if (value instanceof Int32Array) return littleEndian(value);
  if (value instanceof Uint8Array) return value;
  if (ArrayBuffer.isView(value)) return plainList(Array.from(value as Uint32Array), nesting);
  if (value instanceof Map) return plainEntries(value.entries(), nesting);
  if (value instanceof Set) return plainList([...value], nesting);
  if (Array.isArray(value)) return plainList(value, nesting);
  return plainEntries(Object.entries(value), nesting);
}

function plainList(list: readonly unknown[], nesting: number): unknown[] {
  return list.map(element => plain(element, nesting + 1));
}

function plainEntries(entries: Iterable<[unknown, unknown]>, nesting: number): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, member] of entries) {
    if (member !== undefined) result[String(name)] = plain(member, nesting + 1);
  }
  return result;
}

function littleEndian(words: Int32Array): Uint8Array {
  const bytes = new Uint8Array(words.length * 4);
  const view = new DataView(bytes.buffer);
  for (let index = 0; index < words.length; index++) view.setInt32(index * 4, words[index]!, true);
  return bytes;
}
