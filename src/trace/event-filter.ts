/** Which records somebody wants to see, and how that is written on a command line. */

import { type AddressSpan, addressSpan } from './address-span.ts';
import { EventClass, type EventClassName, type EventKind, type PayloadField } from './event-kinds.ts';
import type { RecordCursor } from './record-cursor.ts';
import type { Decoder } from './record-fields.ts';

/** Bytes, inclusive at both ends. */
export interface AddressRange {
  readonly first: bigint;
  readonly last: bigint;
}

/**
 * A record must satisfy every member that is there; `sources` and `requesterIds` are one together, because both say which device: the
 * one or the other will do. Records that do not say what is asked for (a text has no address, a transfer no domain) do not satisfy it.
 * `dropped` records are no event but a hole among them, and only `kinds` and the times leave them out.
 */
export interface EventFilter {
  /** `EventClass` bits. */
  readonly classes?: number;
  /** Names of kinds. */
  readonly kinds?: readonly string[];
  readonly sources?: readonly string[];
  readonly requesterIds?: readonly number[];
  /** Events of all domains are of each one of them. */
  readonly domains?: readonly number[];
  /** What touches it: by its length or pages, else the page of 4 KiB that its address is in. */
  readonly iova?: AddressRange;
  /** Nanoseconds since the start, inclusive. */
  readonly since?: number;
  readonly until?: number;
}

/** True for records that pass. Allocates nothing. */
export type RecordPredicate = (cursor: RecordCursor) => boolean;

/** What was written cannot be understood; the message says what can be written instead. */
export class FilterError extends Error {
  override readonly name = 'FilterError';
}

const ALL_DOMAINS = -1;
const ADDRESS_SPACE = 1n << 64n;

/** What to ask of the records of a kind. */
interface KindFilter {
  readonly passes: boolean;
  /** Holes are shown whatever else is asked for. */
  readonly always: boolean;
  readonly requesterIds: readonly PayloadField[];
  readonly domains: readonly PayloadField[];
  readonly span: AddressSpan | undefined;
}

/** Throws a `FilterError` where a kind is asked for that the decoder does not know. */
export function compileFilter(filter: EventFilter, decoder: Decoder): RecordPredicate {
  const kinds = kindFilters(filter, decoder);
  const since = filter.since ?? Number.NEGATIVE_INFINITY;
  const until = filter.until ?? Number.POSITIVE_INFINITY;
  const sources = filter.sources && new Set(filter.sources);
  const requesterIds = filter.requesterIds && new Set(filter.requesterIds);
  const domains = filter.domains && new Set(filter.domains.map(domain => domain | 0));
  const touches = filter.iova && rangeTest(filter.iova);
  const asksDevice = sources !== undefined || requesterIds !== undefined;

  return cursor => {
    const kind = kinds[cursor.kind];
    if (kind === undefined || !kind.passes) return false;
    const { time } = cursor;
    if (time < since || time > until) return false;
    if (kind.always) return true;
    if (asksDevice) {
      const isOf =
        sources?.has(cursor.sourceName) || (requesterIds && anyField(kind.requesterIds, cursor, requesterIds));
      if (!isOf) return false;
    }
    if (domains && !anyDomain(kind.domains, cursor, domains)) return false;
    return touches === undefined || (kind.span?.(cursor, touches) ?? false);
  };
}

function kindFilters({ kinds: names, classes }: EventFilter, decoder: Decoder): (KindFilter | undefined)[] {
  const wanted = names && new Set(names);
  for (const name of wanted ?? []) {
    if (!decoder.kindNamed(name)) {
      throw new FilterError(
        `no kind of event is called '${name}': there are ${decoder.kinds.map(k => k.name).join(', ')}`,
      );
    }
  }
  const byCode: (KindFilter | undefined)[] = new Array<KindFilter | undefined>(256).fill(undefined);
  for (const kind of decoder.kinds) {
    const always = kind.name === 'dropped';
    const isOfClass = classes === undefined || always || (decoder.classOf(kind.code) & classes) !== 0;
    byCode[kind.code] = {
      passes: isOfClass && (wanted === undefined || wanted.has(kind.name)),
      always,
      requesterIds: fieldsOfType(kind, 'requesterId'),
      domains: fieldsOfType(kind, 'domain'),
      span: addressSpan(kind),
    };
  }
  return byCode;
}

function fieldsOfType(kind: EventKind, type: PayloadField['type']): PayloadField[] {
  return kind.fields.filter(field => field.type === type && (field.bits ?? 32) <= 32);
}

function anyField(fields: readonly PayloadField[], cursor: RecordCursor, wanted: ReadonlySet<number>): boolean {
  for (let n = 0; n < fields.length; n++) {
    const { word, shift = 0, bits = 32 } = fields[n]!;
    const value = cursor.word(word) >>> shift;
    if (wanted.has(bits >= 32 ? value : value & ((1 << bits) - 1))) return true;
  }
  return false;
}

function anyDomain(fields: readonly PayloadField[], cursor: RecordCursor, wanted: ReadonlySet<number>): boolean {
  for (let n = 0; n < fields.length; n++) {
    const value = cursor.word(fields[n]!.word);
    if (value === ALL_DOMAINS || wanted.has(value)) return true;
  }
  return false;
}

/** Whether a span touches the range; both ends of both as two words, unsigned, upper one first. */
function rangeTest({ first, last }: AddressRange) {
  const firstHigh = Number(first >> 32n);
  const firstLow = Number(first & 0xffff_ffffn);
  const lastHigh = Number(last >> 32n);
  const lastLow = Number(last & 0xffff_ffffn);
  return (startHigh: number, startLow: number, endHigh: number, endLow: number): boolean =>
    (startHigh < lastHigh || (startHigh === lastHigh && startLow <= lastLow)) &&
    (endHigh > firstHigh || (endHigh === firstHigh && endLow >= firstLow));
}

/** `dma,fault`, or `all`: `EventClass` bits. Throws a `FilterError`. */
export function parseClasses(text: string): number {
  const names = Object.keys(EventClass) as EventClassName[];
  let mask = 0;
  for (const word of text.split(',')) {
    const name = word.trim();
    if (name === 'all') for (const one of names) mask |= EventClass[one];
    else if (Object.hasOwn(EventClass, name)) mask |= EventClass[name as EventClassName];
    else throw new FilterError(`no class of events is called '${name}': write all, or some of ${names.join(', ')}`);
  }
  return mask;
}

/** `0x1000-0x1fff` (both inclusive), `0x1000+0x1000` (a start and a length), or one address. Throws a `FilterError`. */
export function parseAddressRange(text: string): AddressRange {
  const match = /^\s*(0x[0-9a-f]+|[0-9]+)\s*(?:([-+])\s*(0x[0-9a-f]+|[0-9]+))?\s*$/i.exec(text);
  if (!match) {
    throw new FilterError(`'${text}' is not a range of addresses: write 0x1000-0x1fff, 0x1000+0x1000 or one address`);
  }
  const first = BigInt(match[1]!);
  const second = match[3] === undefined ? first : BigInt(match[3]);
  const last = match[2] === '+' ? first + second - 1n : second;
  if (last >= ADDRESS_SPACE || first >= ADDRESS_SPACE) throw new FilterError(`'${text}' goes beyond 64 bits`);
  if (last < first) {
    throw new FilterError(
      `'${text}' is empty: write a last address that is not below the first, or a length from 1 on`,
    );
  }
  return { first, last };
}

const NANOSECONDS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, ms: 1e6, s: 1e9, min: 60e9 };

/** `1.5s`, `20ms`, `3us`, `10ns`, `2min`: nanoseconds. Throws a `FilterError`. */
export function parseDuration(text: string): number {
  const match = /^\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(ns|us|ms|s|min)\s*$/.exec(text);
  if (!match)
    throw new FilterError(`'${text}' is not a time: write a number with ns, us, ms, s or min, e.g. 1.5s or 20ms`);
  return Number(match[1]) * NANOSECONDS[match[2]!]!;
}
