/** Values of notes, which may come from a file and be anything, in words. */
import { addressText } from './text.ts';

export type NoteDetail = Readonly<Record<string, unknown>>;

const UNKNOWN = '(unknown)';
/** Characters of one value in a sentence. */
const MAX_CHARACTERS = 200;

/** Of what should be a name, a number or a few words. */
export function wordText(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return value.length > MAX_CHARACTERS ? `${value.slice(0, MAX_CHARACTERS)}...` : value;
    case 'bigint':
      return BigInt.asUintN(64, value).toString();
    case 'number':
      return Number.isFinite(value) ? String(value) : UNKNOWN;
    case 'boolean':
      return String(value);
    default:
      return UNKNOWN;
  }
}

/** Of what should be an address, an offset or bits. */
export function hexValue(value: unknown): string {
  if (typeof value === 'bigint') return addressText(BigInt.asUintN(64, value));
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) return UNKNOWN;
  return `0x${(value < 0 ? value >>> 0 : value).toString(16)}`;
}

export function accessText(detail: NoteDetail): string {
  return detail.access === 'write' ? 'a write' : 'a read';
}
