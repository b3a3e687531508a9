/** What a record's words mean, by the table of kinds that belongs to it: an old file's own, or that of this program. */
import { EVENT_KINDS, EventClass, type EventKind, type PayloadField } from './event-kinds.ts';
import { checkKindTable } from './kind-table.ts';

/** Addresses and other 64-bit values are bigint; requester ids are numbers (see `formatRequesterId`). */
export type FieldValue = number | bigint | string | boolean;
export type Fields = Readonly<Record<string, FieldValue>>;

/** Where payload words come from: a cursor, or an event's payload as it is emitted. */
export interface PayloadWords {
  word(index: number): number;
}

/** How the words behind a record's time are read. */
export const RecordShape = { unknown: 0, words: 1, text: 2 } as const;

const CODES = 256;
const FRAME_SHIFT = 12n;
const ACCESS_NAMES: readonly string[] = ['none', 'read', 'write', 'read-write'];
const NONE = -1;

/** A table of kinds, ready to look things up in. */
export class Decoder {
  /** Code of the kind that names sources; -1: there is none. */
  readonly sourceKind: number;
  private readonly byCode: (EventKind | undefined)[] = new Array<EventKind | undefined>(CODES).fill(undefined);
  private readonly byName = new Map<string, EventKind>();
  private readonly shapes = new Uint8Array(CODES);
  private readonly classes = new Int32Array(CODES);

  constructor(readonly kinds: readonly EventKind[] = EVENT_KINDS) {
    for (const kind of kinds) {
      this.byCode[kind.code] = kind;
      this.byName.set(kind.name, kind);
      this.shapes[kind.code] = kind.text ? RecordShape.text : RecordShape.words;
      this.classes[kind.code] = Object.hasOwn(EventClass, kind.class) ? EventClass[kind.class] : 0;
    }
    this.sourceKind = this.byName.get('source')?.code ?? NONE;
  }

  /** From a table out of a file. Throws a `KindTableError` where it cannot be used. */
  static fromTable(table: unknown): Decoder {
    return new Decoder(checkKindTable(table));
  }

  kind(code: number): EventKind | undefined {
    return this.byCode[code];
  }

  kindNamed(name: string): EventKind | undefined {
    return this.byName.get(name);
  }

  /** `RecordShape`; `unknown` for a code that no kind has. */
  shapeOf(code: number): number {
    return this.shapes[code & (CODES - 1)]!;
  }

  /** `EventClass` bit; 0 for what is in no class that this program knows. */
  classOf(code: number): number {
    return this.classes[code & (CODES - 1)]!;
  }
}

/** For the records of this program. */
export const standardDecoder = new Decoder();

/** An event's payload as `PayloadWords`. */
export function payloadOf(payload: Int32Array): PayloadWords {
  return { word: index => payload[index] ?? 0 };
}

/** The facts of an event, by name. */
export function fieldsOf(kind: EventKind, payload: PayloadWords | Int32Array): Fields {
  const words = payload instanceof Int32Array ? payloadOf(payload) : payload;
  return Object.fromEntries(kind.fields.map(field => [field.name, fieldValue(field, words)]));
}

export function fieldValue(field: PayloadField, words: PayloadWords): FieldValue {
  const raw = rawValue(field, words);
  if (typeof raw === 'bigint') return raw;
  switch (field.type) {
    case 'pasid':
      return words.word(field.word) === NONE ? 'none' : raw;
    case 'domain':
      return words.word(field.word) === NONE ? 'all' : raw;
    case 'iova':
    case 'guestAddress':
      return BigInt(raw);
    case 'frame':
      return BigInt(raw) << FRAME_SHIFT;
    case 'name':
      return field.names?.[raw] ?? String(raw);
    case 'flag':
      return raw !== 0;
    case 'access':
      return ACCESS_NAMES[raw & 3]!;
    default:
      return raw;
  }
}

/** The bits of a field, unsigned. */
function rawValue({ word, shift = 0, bits = 32 }: PayloadField, words: PayloadWords): number | bigint {
  const first = words.word(word) >>> 0;
  if (bits > 32) return (BigInt(first) << 32n) | BigInt(words.word(word + 1) >>> 0);
  const value = first >>> shift;
  return bits >= 32 ? value : (value & (2 ** bits - 1)) >>> 0;
}

/** `01:00.0`. */
export function formatRequesterId(requesterId: number): string {
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  return `${hex((requesterId >>> 8) & 0xff)}:${hex((requesterId >>> 3) & 31)}.${requesterId & 7}`;
}

/** As people write it: addresses and registers in hexadecimal, requester ids as bus, device and function. */
export function formatField({ type }: PayloadField, value: FieldValue): string {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if (typeof value !== 'number') return String(value);
  if (type === 'requesterId') return formatRequesterId(value);
  return type === 'hex' ? `0x${value.toString(16)}` : String(value);
}
