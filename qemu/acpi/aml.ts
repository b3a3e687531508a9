/** The few terms of ACPI Machine Language that our tables need (ACPI 6.5, chapter 20 "AML Specification"). */

/** Encoded AML. */
export type Aml = Uint8Array;

/** Byte encodings of ACPI 6.5, 20.3 "AML Byte Stream Byte Values". */
const Op = {
  zero: 0x00,
  one: 0x01,
  name: 0x08,
  bytePrefix: 0x0a,
  wordPrefix: 0x0b,
  dwordPrefix: 0x0c,
  stringPrefix: 0x0d,
  qwordPrefix: 0x0e,
  scope: 0x10,
  buffer: 0x11,
  package: 0x12,
  dualNamePrefix: 0x2e,
  multiNamePrefix: 0x2f,
} as const;

const ROOT = 0x5c;
/** Where each length of PkgLength ends: one byte holds 6 bits, further ones 4 bits and 8 bits for each byte that follows. */
const PACKAGE_LENGTH_LIMITS = [1 << 6, 1 << 12, 1 << 20, 1 << 28] as const;
const MAX_PACKAGE_ELEMENTS = 255;
const MAX_NAME_SEGMENTS = 255;

/** An unsigned integer up to 64 bits in its shortest form (20.2.3, ComputationalData). */
export function integer(value: number | bigint): Aml {
  const wide = BigInt(value);
  if (wide < 0n || wide >= 1n << 64n) throw new RangeError(`An AML integer has 64 bits: ${value}`);
  if (wide === 0n) return Uint8Array.of(Op.zero);
  if (wide === 1n) return Uint8Array.of(Op.one);
  if (wide < 1n << 8n) return concat(Uint8Array.of(Op.bytePrefix), littleEndian(wide, 1));
  if (wide < 1n << 16n) return concat(Uint8Array.of(Op.wordPrefix), littleEndian(wide, 2));
  if (wide < 1n << 32n) return concat(Uint8Array.of(Op.dwordPrefix), littleEndian(wide, 4));
  return concat(Uint8Array.of(Op.qwordPrefix), littleEndian(wide, 8));
}

/** A string of ASCII characters 0x01-0x7f (20.2.3, String). */
export function string(text: string): Aml {
  const bytes = Uint8Array.from(text, character => character.charCodeAt(0));
  if ([...text].some(character => character < '\x01' || character > '\x7f')) {
    throw new RangeError(`An AML string is ASCII without NUL: ${JSON.stringify(text)}`);
  }
  return concat(Uint8Array.of(Op.stringPrefix), bytes, Uint8Array.of(0));
}

/** DefBuffer (20.2.5.4). */
export function buffer(bytes: Uint8Array): Aml {
  return packaged(Op.buffer, integer(bytes.length), bytes);
}

/** A UUID as ASL's ToUUID writes it: the first three groups in little-endian order, the others as they are read (19.6.142). */
export function uuid(text: string): Aml {
  if (!/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) throw new RangeError(`Not a UUID: ${text}`);
  const [a, b, c, d, e] = text.split('-').map(group => Uint8Array.from(Buffer.from(group, 'hex')));
  return buffer(concat(a!.reverse(), b!.reverse(), c!.reverse(), d!, e!));
}

/** DefPackage (20.2.5.4): at most 255 elements. */
export function packageOf(...elements: readonly Aml[]): Aml {
  if (elements.length > MAX_PACKAGE_ELEMENTS)
    throw new RangeError(`An AML package has at most ${MAX_PACKAGE_ELEMENTS} elements`);
  return packaged(Op.package, Uint8Array.of(elements.length), ...elements);
}

/** DefName (20.2.5.1): `Name (NAME, value)`. */
export function name(path: string, value: Aml): Aml {
  return concat(Uint8Array.of(Op.name), nameString(path), value);
}

/** DefScope (20.2.5.1): `Scope (path) { terms }`. The named object must exist in an earlier table, or loading ours fails. */
export function scope(path: string, ...terms: readonly Aml[]): Aml {
  return packaged(Op.scope, nameString(path), ...terms);
}

/** NameString (20.2.2): segments of up to four characters, padded with `_`, separated by dots, from the root if `\` leads. */
export function nameString(path: string): Aml {
  const absolute = path.startsWith('\\');
  const segments = (absolute ? path.slice(1) : path).split('.');
  if (segments.length > MAX_NAME_SEGMENTS || segments.some(segment => !/^[A-Z_][A-Z0-9_]{0,3}$/.test(segment))) {
    throw new RangeError(`Not an AML name: ${path}`);
  }
  const prefix = absolute ? [ROOT] : [];
  if (segments.length === 2) prefix.push(Op.dualNamePrefix);
  if (segments.length > 2) prefix.push(Op.multiNamePrefix, segments.length);
  const characters = segments.map(segment => segment.padEnd(4, '_')).join('');
  return concat(
    Uint8Array.from(prefix),
    Uint8Array.from(characters, character => character.charCodeAt(0)),
  );
}

/** PkgLength (20.2.4) of a term whose content has so many bytes; the length counts its own bytes too. */
export function packageLength(contentBytes: number): Aml {
  for (let extra = 0; extra < PACKAGE_LENGTH_LIMITS.length; extra++) {
    const total = contentBytes + 1 + extra;
    if (total >= PACKAGE_LENGTH_LIMITS[extra]!) continue;
    if (extra === 0) return Uint8Array.of(total);
    const lead = (extra << 6) | (total & 0xf);
    return concat(Uint8Array.of(lead), littleEndian(BigInt(total >>> 4), extra));
  }
  throw new RangeError(`An AML term has at most 2^28 - 1 bytes: ${contentBytes}`);
}

function packaged(op: number, ...content: readonly Aml[]): Aml {
  const body = concat(...content);
  return concat(Uint8Array.of(op), packageLength(body.length), body);
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((bytes, part) => bytes + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** The low `bytes` bytes of a value, least significant first. */
export function littleEndian(value: bigint, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, index) => Number((value >> BigInt(8 * index)) & 0xffn));
}
