/** Checks a table of kinds that comes from a file, which may be another program's, or damaged. */
import type { EventKind, PayloadField } from './event-kinds.ts';

export const MAX_KINDS_IN_TABLE = 255;
export const MAX_FIELDS_OF_KIND = 64;
const MAX_NAMES = 256;
const MAX_NAME_CHARACTERS = 200;
const LAST_WORD = 12;

/** The table cannot be used; the message says where. */
export class KindTableError extends Error {
  override readonly name = 'KindTableError';
}

type Unknown = Readonly<Record<string, unknown>>;

/** Classes and payload types may be unknown to this program; all else must be right. Throws a `KindTableError`. */
export function checkKindTable(value: unknown): EventKind[] {
  const codes = new Set<number>();
  return list(value, MAX_KINDS_IN_TABLE, 'the table of kinds').map((entry, index) => {
    const kind = record(entry, `kind ${index}`);
    const name = text(kind.name, `the name of kind ${index}`);
    const code = integer(kind.code, 1, 255, `the code of ${name}`);
    if (codes.has(code)) throw new KindTableError(`two kinds have the code ${code}`);
    codes.add(code);
    return {
      name,
      code,
      // What it is not known as, it is in no class that could be asked for.
      class: text(kind.class, `the class of ${name}`) as EventKind['class'],
      about: typeof kind.about === 'string' ? kind.about : '',
      fields: list(kind.fields, MAX_FIELDS_OF_KIND, `the fields of ${name}`).map(field => checkField(field, name)),
      ...(kind.text === true ? { text: true as const } : {}),
    };
  });
}

function checkField(value: unknown, kind: string): PayloadField {
  const field = record(value, `a field of ${kind}`);
  const name = text(field.name, `the name of a field of ${kind}`);
  const where = `${kind}.${name}`;
  const bits = field.bits === undefined ? 32 : integer(field.bits, 1, 64, `the bits of ${where}`);
  const isWide = bits > 32;
  if (isWide && bits !== 64) throw new KindTableError(`${where} has ${bits} bits: up to 32, or 64`);
  const shift = field.shift === undefined ? 0 : integer(field.shift, 0, isWide ? 0 : 31, `the shift of ${where}`);
  return {
    name,
    type: text(field.type, `the type of ${where}`) as PayloadField['type'],
    word: integer(field.word, 0, isWide ? LAST_WORD - 1 : LAST_WORD, `the word of ${where}`),
    shift,
    bits,
    ...(field.names === undefined
      ? {}
      : { names: list(field.names, MAX_NAMES, `the names of ${where}`).map(one => text(one, `a name of ${where}`)) }),
  };
}

function list(value: unknown, most: number, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new KindTableError(`${what} is not a list`);
  if (value.length > most) throw new KindTableError(`${what} has more than ${most} entries`);
  return value;
}

function record(value: unknown, what: string): Unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new KindTableError(`${what} is not an object`);
  }
  return value as Unknown;
}

function text(value: unknown, what: string): string {
  if (typeof value !== 'string' || value === '' || value.length > MAX_NAME_CHARACTERS || /\p{Cc}/u.test(value)) {
    throw new KindTableError(`${what} is not a text of 1 to ${MAX_NAME_CHARACTERS} printable characters`);
  }
  return value;
}

function integer(value: unknown, least: number, most: number, what: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most) {
    throw new KindTableError(`${what} is not a whole number from ${least} to ${most}`);
  }
  return value;
}
