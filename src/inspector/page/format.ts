/** Values as text for the page. */
import { formatRequesterId } from '../../trace/record-fields.ts';

export { formatRequesterId };

const WORD = 0x1_0000_0000;

export function hex(value: number | bigint, digits = 0): string {
  const number = typeof value === 'number' && value < 0 ? value >>> 0 : value;
  return `0x${number.toString(16).padStart(digits, '0')}`;
}

/** The same in groups of four digits, for long values that people compare by eye. */
export function hexGroups(value: bigint, bytes: number): string {
  const digits = value.toString(16).padStart(bytes * 2, '0');
  return digits.replace(/(?=(?:.{4})+$)(?!^)/g, ' ');
}

const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;
const DECIMAL_UNITS = ['', 'k', 'M', 'G', 'T'] as const;

/** `4 KiB`, `1.5 MiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < BINARY_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${trimmed(value, unit === 0 ? 0 : 1)} ${BINARY_UNITS[unit]}`;
}

/** `950`, `12.3 k`. */
export function formatQuantity(value: number): string {
  if (!Number.isFinite(value)) return '–';
  let scaled = value;
  let unit = 0;
  while (scaled >= 1000 && unit < DECIMAL_UNITS.length - 1) {
    scaled /= 1000;
    unit++;
  }
  const digits = unit === 0 ? (scaled !== 0 && scaled < 10 ? 1 : 0) : 1;
  const suffix = DECIMAL_UNITS[unit]!;
  return suffix === '' ? trimmed(scaled, digits) : `${trimmed(scaled, digits)} ${suffix}`;
}

/** With a narrow space between groups of three digits. */
export function formatCount(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(?:\d{3})+$)/g, '\u202f');
}

export function formatPercent(part: number): string {
  return Number.isFinite(part) ? `${(part * 100).toFixed(1)} %` : '–';
}

/** Seconds since the start with nine places. */
export function formatSeconds(nanoseconds: number): string {
  return (nanoseconds / 1e9).toFixed(9);
}

/** `3.2 ms`, `1.04 s`: a length of time. */
export function formatDuration(nanoseconds: number): string {
  const size = Math.abs(nanoseconds);
  if (size < 1e3) return `${Math.round(nanoseconds)} ns`;
  if (size < 1e6) return `${trimmed(nanoseconds / 1e3, 1)} µs`;
  if (size < 1e9) return `${trimmed(nanoseconds / 1e6, 1)} ms`;
  if (size < 120e9) return `${trimmed(nanoseconds / 1e9, 2)} s`;
  return `${trimmed(nanoseconds / 60e9, 1)} min`;
}

const PERMISSIONS = ['--', 'r-', '-w', 'rw'] as const;

/** `r-`, `-w`, `rw`: one column each. */
export function formatPermissions(permissions: number): string {
  return PERMISSIONS[permissions & 3]!;
}

const PERMISSION_WORDS = ['nothing', 'read only', 'write only', 'read and write'] as const;
export function permissionWords(permissions: number): string {
  return PERMISSION_WORDS[permissions & 3]!;
}

/** Of a page number (IOVA >> 12, at most 52 bits), without BigInt. */
export function pageAddress(page: number): string {
  return `0x${page === 0 ? '0' : `${page.toString(16)}000`}`;
}

/** Its last byte. */
export function pageEnd(page: number): string {
  return `0x${page === 0 ? '' : page.toString(16)}fff`;
}

/** Two 32-bit words, upper first. */
export function wordsToPage(high: number, low: number): number {
  return (high >>> 0) * 2 ** 20 + (low >>> 12);
}

export function wordsToNumber(high: number, low: number): number {
  return (high >>> 0) * WORD + (low >>> 0);
}

/** Of a 64-bit address, where it fits a page number. */
export function pageOf(address: bigint): number {
  return Number(address >> 12n);
}

/** What people type: `0x1000`, `1000` (hexadecimal as well), with `_` or spaces between digits. Undefined: no address of 64 bits. */
export function parseAddress(text: string): bigint | undefined {
  const digits = text.trim().replace(/[\s_]/g, '').replace(/^0x/i, '');
  return /^[0-9a-f]{1,16}$/i.test(digits) ? BigInt(`0x${digits}`) : undefined;
}

/** `01:00.0` or `0x100`. */
export function parseRequesterId(text: string): number | undefined {
  const named = /^\s*([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])\s*$/i.exec(text);
  if (named) {
    const device = Number.parseInt(named[2]!, 16);
    if (device > 31) return undefined;
    return (Number.parseInt(named[1]!, 16) << 8) | (device << 3) | Number(named[3]);
  }
  const plain = /^\s*0x([0-9a-f]{1,4})\s*$/i.exec(text);
  return plain ? Number.parseInt(plain[1]!, 16) : undefined;
}

/** Bits high..low of a value. */
export function bitsOf(value: bigint, [high, low]: readonly [number, number]): bigint {
  return (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
}

function trimmed(value: number, digits: number): string {
  return digits === 0 ? String(Math.round(value)) : value.toFixed(digits).replace(/\.0+$/, '');
}
