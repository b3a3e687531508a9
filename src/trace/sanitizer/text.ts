/** The words of findings: addresses, ranges, sizes and times for people. */
import { PAGE_BYTES } from './pages.ts';

export function addressText(address: bigint): string {
  return `0x${address.toString(16)}`;
}

export function wordsText(high: number, low: number): string {
  return addressText((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0));
}

/** First and last byte of a range of pages. */
export function rangeText(start: number, pages: number): string {
  const first = BigInt(start) * BigInt(PAGE_BYTES);
  return `${addressText(first)}-${addressText(first + BigInt(pages) * BigInt(PAGE_BYTES) - 1n)}`;
}

/** Where a mapping leads; -1: to pages that do not follow one another. */
export function frameText(frame: number): string {
  return frame < 0 ? 'scattered pages' : addressText(BigInt(frame) * BigInt(PAGE_BYTES));
}

export function bytesText(bytes: number): string {
  return bytes === 1 ? '1 byte' : `${bytes} bytes`;
}

export function countText(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** Large amounts of memory: `12 KiB`, `3.5 MiB`. */
export function sizeText(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? bytesText(bytes) : `${trimmed(value)} ${units[unit]}`;
}

/** Nanoseconds, as three digits and a unit. */
export function durationText(nanoseconds: number): string {
  const value = Math.max(0, nanoseconds);
  if (value < 1e3) return `${Math.round(value)} ns`;
  if (value < 1e6) return `${trimmed(value / 1e3)} us`;
  if (value < 1e9) return `${trimmed(value / 1e6)} ms`;
  return `${trimmed(value / 1e9)} s`;
}

function trimmed(value: number): string {
  return value >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

/** `BB:DD.F` in lower-case hexadecimal. */
export function requesterText(requesterId: number): string {
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  return `${hex((requesterId >>> 8) & 0xff)}:${hex((requesterId >>> 3) & 31)}.${requesterId & 7}`;
}

/** What `access` bits allow: 1 read, 2 write. */
export function permissionText(bits: number): string {
  return ['nothing', 'reading', 'writing', 'reading and writing'][bits & 3]!;
}

/** What a request does. */
export function accessVerb(access: number): string {
  return (access & 2) !== 0 ? 'write' : 'read';
}

/** The same of what was done. */
export function accessPast(access: number): string {
  return (access & 2) !== 0 ? 'wrote' : 'read';
}

/** The domain of which an event told; -1: of none. */
export function domainText(domain: number): string {
  return domain < 0 ? 'no domain' : `domain ${domain}`;
}
