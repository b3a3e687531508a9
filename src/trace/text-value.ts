/** Values of text records as MessagePack: what rooms note, findings, names. Whatever it takes, they fit into a record. */
import { Packr } from 'msgpackr';
import { MAX_TEXT_BYTES } from './record-layout.ts';

/** Lists and objects within each other; `...` stands for deeper ones. */
export const MAX_TEXT_NESTING = 8;
/** What is left of a value that does not fit: first this much, and if that is still too long, the last. */
const SHORTENINGS: readonly Shortening[] = [
  { characters: 512, members: 16 },
  { characters: 48, members: 8 },
];
const INT64_MIN = -(1n << 63n);
const UINT64_MAX = (1n << 64n) - 1n;

interface Shortening {
  /** Of a text. */
  readonly characters: number;
  /** Of a list: as many from its start as from its end. */
  readonly members: number;
}

const packr = new Packr({ useRecords: false, mapsAsObjects: true });
const whole: Shortening = { characters: Number.POSITIVE_INFINITY, members: Number.POSITIVE_INFINITY };

/**
 * The bytes of a value, at most `MAX_TEXT_BYTES`. In a longer one texts and lists are shortened, and a member `cut`
 * says so; where that does not help, little more than that is left. What MessagePack has no type for becomes text.
 */
export function encodeText(value: unknown): Uint8Array {
  const bytes = packr.pack(plain(value, whole, 0));
  if (bytes.length <= MAX_TEXT_BYTES) return bytes;
  for (const shortening of SHORTENINGS) {
    const shorter = packr.pack(marked(plain(value, shortening, 0), bytes.length));
    if (shorter.length <= MAX_TEXT_BYTES) return shorter;
  }
  return packr.pack(marked(Array.isArray(value) ? value.slice(0, 2).map(label) : {}, bytes.length));
}

/** Says that something is missing, where a reader of notes and findings sees it: as a member of the last object. */
function marked(value: unknown, bytes: number): unknown {
  const cut = `shortened from ${bytes} bytes`;
  if (!Array.isArray(value)) return typeof value === 'object' && value !== null ? { ...value, cut } : { cut };
  const last: unknown = value.at(-1);
  const isObject = typeof last === 'object' && last !== null && !Array.isArray(last);
  return isObject ? [...value.slice(0, -1), { ...last, cut }] : [...value, { cut }];
}

function label(value: unknown): unknown {
  return typeof value === 'string' ? value.slice(0, 64) : String(value).slice(0, 64);
}

function plain(value: unknown, to: Shortening, nesting: number): unknown {
  switch (typeof value) {
    case 'string':
      return value.length <= to.characters ? value : `${value.slice(0, to.characters)}...`;
    case 'bigint':
      return value < INT64_MIN || value > UINT64_MAX ? value.toString() : value;
    case 'object':
      return value === null ? null : plainObject(value, to, nesting);
    case 'number':
    case 'boolean':
      return value;
    case 'undefined':
      return null;
    default:
      return String(value);
  }
}

function plainObject(value: object, to: Shortening, nesting: number): unknown {
  if (nesting >= MAX_TEXT_NESTING) return '...';
  if (ArrayBuffer.isView(value)) return plainList(Array.from(value as Uint8Array), to, nesting);
  if (value instanceof Map) return plainEntries(value.entries(), to, nesting);
  if (value instanceof Set) return plainList([...value], to, nesting);
  if (Array.isArray(value)) return plainList(value, to, nesting);
  return plainEntries(Object.entries(value), to, nesting);
}

function plainList(list: readonly unknown[], to: Shortening, nesting: number): unknown[] {
  // The positions of a note's words matter: only what is inside of it is shortened.
  const half = nesting === 0 ? Number.POSITIVE_INFINITY : to.members / 2;
  const kept = list.length <= half * 2 ? list : [...list.slice(0, half), ...list.slice(-half)];
  return kept.map(member => plain(member, to, nesting + 1));
}

function plainEntries(entries: Iterable<[unknown, unknown]>, to: Shortening, nesting: number): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, member] of entries) {
    if (member !== undefined) result[String(name)] = plain(member, to, nesting + 1);
  }
  return result;
}
