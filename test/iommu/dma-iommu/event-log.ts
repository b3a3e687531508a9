/** Keeps notes and events; events decoded by the table of kinds. */
import { EVENT_KINDS, EventClass, type EventClassName, type PayloadField } from '../../../src/trace/event-kinds.ts';
import type { Events } from '../../../src/trace/events.ts';
import { TraceLog } from '../../../src/trace/trace.ts';

export type Fields = Readonly<Record<string, number | bigint | string>>;
export interface Logged {
  readonly kind: string;
  readonly source: string;
  readonly fields: Fields;
}

const ALL = Object.values(EventClass).reduce((mask, bit) => mask | bit, 0);

export class EventLog extends TraceLog implements Events {
  readonly records: Events = this;
  readonly logged: Logged[] = [];
  mask: number;
  private readonly sources: string[] = [];

  constructor(...classes: EventClassName[]) {
    super();
    this.mask = classes.length === 0 ? ALL : classes.reduce((mask, name) => mask | EventClass[name], 0);
  }

  onRound(): boolean {
    return false;
  }

  sourceId(name: string): number {
    const known = this.sources.indexOf(name);
    return known >= 0 ? known : this.sources.push(name) - 1;
  }

  emit(kind: number, source: number, ...words: number[]): void {
    const { name, fields, class: of } = EVENT_KINDS.find(one => one.code === kind)!;
    if ((this.mask & EventClass[of]) === 0) throw new Error(`nobody wants ${name}`);
    if (words.some(word => !Object.is(word, word | 0))) throw new Error(`${name}: not an int32 among ${words}`);
    const decoded = (fields as readonly PayloadField[]).map(field => [field.name, decode(field, words)]);
    this.logged.push({ kind: name, source: this.sources[source]!, fields: Object.fromEntries(decoded) });
  }

  emitAlso(kind: number, source: number, ...words: number[]): void {
    this.emit(kind, source, ...words);
  }

  emitLong(kind: number, source: number, ...words: number[]): void {
    this.emit(kind, source, ...words);
  }

  /** The events of these kinds since the last call; of all kinds if none is named. Forgets all. */
  take(...kinds: string[]): Logged[] {
    return this.logged.splice(0).filter(({ kind }) => kinds.length === 0 || kinds.includes(kind));
  }

  /** The same, their fields only. */
  fields(...kinds: string[]): Fields[] {
    return this.take(...kinds).map(({ fields }) => fields);
  }

  /** Details of the notes of a kind so far. */
  details(kind: string): Readonly<Record<string, unknown>>[] {
    return this.events.filter(event => event.kind === kind).map(({ detail }) => detail);
  }
}

function decode(
  { type, word, shift = 0, bits, names }: PayloadField,
  words: readonly number[],
): number | bigint | string {
  const wide = bits === 64 || type === 'iova' || type === 'guestAddress';
  if (wide) return (BigInt(words[word]! >>> 0) << 32n) | BigInt(words[word + 1]! >>> 0);
  if (bits === undefined || bits === 32) return words[word]!;
  const value = (words[word]! >>> shift) & (2 ** bits - 1);
  return type === 'name' ? names![value]! : value;
}
