/** Values of notes, which may come from a file and be anything, in words. */
import { addressText } from './text.ts';

export type NoteDetail = Readonly<Record<string, unknown>>;

export function hexValue(value: unknown): string {
  if (typeof value === 'bigint') return addressText(BigInt.asUintN(64, value));
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) return String(value);
  return `0x${(value < 0 ? value >>> 0 : value).toString(16)}`;
}

export function accessText(detail: NoteDetail): string {
  return detail.access === 'write' ? 'a write' : 'a read';
}
