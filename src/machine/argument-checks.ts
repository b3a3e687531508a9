/**
 * Checks that turn untrusted data (decoded MessagePack, JSON) into typed values. Integers may come as number or bigint, because
 * encoders choose by size; a member that may be missing may also be null, because some languages have nothing else.
 */

/** What is wrong with a value, in words for whoever sent it. */
export class ArgumentError extends Error {
  override readonly name = 'ArgumentError';
}

/** Gives the typed value or throws an `ArgumentError`; `where` names the value in its message. */
export type Check<T> = (value: unknown, where: string) => T;

/** One check for each member; one whose check takes undefined may be missing. */
type Members<T> = { readonly [K in keyof T]-?: Check<T[K]> };

const UINT64_MAX = (1n << 64n) - 1n;
const PFN_BYTES = 4;
const PFN_MAX = 0x7fffffff;
/** Text that is quoted in a message is cut here. */
const QUOTED_CHARACTERS = 64;

function refuse(where: string, must: string): never {
  throw new ArgumentError(`'${where}' must be ${must}`);
}

/** An integer from `lowest` to `highest`, both within the safe integers. */
export function whole(lowest: number, highest: number): Check<number> {
  return (value, where) => {
    const number = typeof value === 'bigint' ? Number(value) : value;
    if (!Number.isSafeInteger(number) || (number as number) < lowest || (number as number) > highest) {
      refuse(where, `an integer from ${lowest} to ${highest}`);
    }
    return number as number;
  };
}

export const uint8 = whole(0, 0xff);
export const uint16 = whole(0, 0xffff);
export const uint32 = whole(0, 0xffffffff);
/** A count that the C interface has 64 bits for. */
export const count = whole(0, Number.MAX_SAFE_INTEGER);

/** An address or size: unsigned, 64 bits. */
export const uint64: Check<bigint> = (value, where) => {
  const wide = Number.isSafeInteger(value) ? BigInt(value as number) : value;
  if (typeof wide !== 'bigint' || wide < 0n || wide > UINT64_MAX) {
    refuse(where, 'an integer from 0 to 18446744073709551615');
  }
  return wide;
};

export const boolean: Check<boolean> = (value, where) =>
  typeof value === 'boolean' ? value : refuse(where, 'true or false');

export function text(maxCharacters: number): Check<string> {
  return (value, where) => {
    if (typeof value !== 'string' || value.length > maxCharacters) {
      refuse(where, `text of at most ${maxCharacters} characters`);
    }
    return value;
  };
}

export function optional<T>(check: Check<T>): Check<T | undefined> {
  return (value, where) => (value === undefined || value === null ? undefined : check(value, where));
}

export function list<T>(check: Check<T>, maxLength: number): Check<T[]> {
  return (value, where) => {
    if (!Array.isArray(value) || value.length > maxLength) refuse(where, `a list of at most ${maxLength}`);
    return value.map((element, index) => check(element, `${where}[${index}]`));
  };
}

/** Page-frame numbers, as a list of integers or as their bytes (32 bits each, little-endian). */
export function pageFrames(maxLength: number): Check<Int32Array> {
  return (value, where) => {
    const pages = value instanceof Uint8Array ? fromBytes(value, where) : value;
    if (!Array.isArray(pages) && !(pages instanceof Int32Array)) refuse(where, 'a list of page-frame numbers');
    if (pages.length > maxLength) refuse(where, `at most ${maxLength} page-frame numbers`);
    const frames = new Int32Array(pages.length);
    for (let index = 0; index < frames.length; index++) {
      const frame = typeof pages[index] === 'bigint' ? Number(pages[index]) : pages[index];
      if (!Number.isInteger(frame) || frame < 0 || frame > PFN_MAX) {
        refuse(`${where}[${index}]`, `a page-frame number from 0 to ${PFN_MAX}`);
      }
      frames[index] = frame;
    }
    return frames;
  };
}

function fromBytes(bytes: Uint8Array, where: string): Int32Array {
  if (bytes.length % PFN_BYTES !== 0) refuse(where, `a multiple of ${PFN_BYTES} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Int32Array.from({ length: bytes.length / PFN_BYTES }, (_, index) => view.getInt32(index * PFN_BYTES, true));
}

/** An object with these members and no others, so that a misspelt one is not silently left out. */
export function record<T>(members: Members<T>): Check<T> {
  const known = Object.entries(members) as [string, Check<unknown>][];
  const names = new Set(known.map(([name]) => name));
  return (value, where) => {
    const object = asObject(value, where);
    for (const name of Object.keys(object)) {
      if (!names.has(name)) throw new ArgumentError(`'${where}' has no member '${name.slice(0, QUOTED_CHARACTERS)}'`);
    }
    const result: Record<string, unknown> = {};
    for (const [name, check] of known) {
      const member = check(Object.hasOwn(object, name) ? object[name] : undefined, `${where}.${name}`);
      if (member !== undefined) result[name] = member;
    }
    return result as T;
  };
}

/** One of several records, told apart by the value of one member; `otherwise` is taken where that is missing. */
export function variant<T>(
  tagName: string,
  variants: Readonly<Record<string, Check<T>>>,
  otherwise?: string,
): Check<T> {
  return (value, where) => {
    const object = asObject(value, where);
    const given = Object.hasOwn(object, tagName) ? object[tagName] : otherwise;
    const key =
      typeof given === 'string' || typeof given === 'number' || typeof given === 'bigint' ? String(given) : '';
    const check = Object.hasOwn(variants, key) ? variants[key] : undefined;
    if (!check) refuse(`${where}.${tagName}`, `one of ${Object.keys(variants).join(', ')}`);
    return check(object, where);
  };
}

/** The tag of a variant, which has been looked at already. */
export function tag<T extends string | number>(expected: T): Check<T> {
  return () => expected;
}

function asObject(value: unknown, where: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
    refuse(where, 'an object');
  }
  return value as Record<string, unknown>;
}

/** The typed value, or what is wrong with it. */
export function checked<T>(check: Check<T>, value: unknown, where: string): T | ArgumentError {
  try {
    return check(value, where);
  } catch (error) {
    if (error instanceof ArgumentError) return error;
    throw error;
  }
}
