/** Keeps every event, decoded by the table of kinds. */
import { EVENT_KINDS, type EventKind, type EventKindName, type PayloadField } from '../../src/trace/event-kinds.ts';
import type { Events } from '../../src/trace/events.ts';
import { TraceLog } from '../../src/trace/trace.ts';

export type Fields = Readonly<Record<string, number | bigint | string>>;

export interface LoggedEvent {
  readonly kind: EventKindName;
  readonly source: string;
  /** Whether it has the time of the event before. */
  readonly also: boolean;
  readonly fields: Fields;
}

const kinds: ReadonlyMap<number, EventKind> = new Map(EVENT_KINDS.map(kind => [kind.code, kind]));

function decode(field: PayloadField, words: readonly number[]): number | bigint | string {
  const { word, shift = 0, bits = 32, type } = field;
  if (bits === 64) return (BigInt(words[word]! >>> 0) << 32n) | BigInt(words[word + 1]! >>> 0);
  if (bits === 32) return words[word]!;
  const value = (words[word]! >>> shift) & (2 ** bits - 1);
  return type === 'name' ? field.names![value]! : value;
}

export class EventLog extends TraceLog implements Events {
  mask = -1;
  readonly records: Events = this;
  readonly log: LoggedEvent[] = [];
  private readonly sources: string[] = [];
  private readonly listeners: (() => void)[] = [];

  /** `rounds`: whether somebody tells of rounds, with `endRound`. */
  constructor(private readonly rounds = false) {
    super();
  }

  onRound(listener: () => void): boolean {
    if (this.rounds) this.listeners.push(listener);
    return this.rounds;
  }

  endRound(): void {
    for (const listener of this.listeners) listener();
  }

  sourceId(name: string): number {
    const known = this.sources.indexOf(name);
    return known >= 0 ? known : this.sources.push(name) - 1;
  }

  emit(kind: number, source: number, ...words: number[]): void {
    this.add(kind, source, words, false);
  }

  emitAlso(kind: number, source: number, ...words: number[]): void {
    this.add(kind, source, words, true);
  }

  emitLong(kind: number, source: number, ...words: number[]): void {
    this.add(kind, source, words, false);
  }

  /** All but those of these kinds, and forgets them. */
  take(...without: EventKindName[]): { kind: EventKindName; fields: Fields }[] {
    return this.log
      .splice(0)
      .filter(event => !without.includes(event.kind))
      .map(({ kind, fields }) => ({ kind, fields }));
  }

  of(kind: EventKindName): Fields[] {
    return this.log.filter(event => event.kind === kind).map(event => event.fields);
  }

  private add(code: number, source: number, words: readonly number[], also: boolean): void {
    const kind = kinds.get(code);
    if (kind === undefined) throw new Error(`no kind of events has the number ${code}`);
    if (words.some(word => !Number.isInteger(word))) throw new Error(`${kind.name}: words are not integers: ${words}`);
    const name = this.sources[source];
    if (name === undefined) throw new Error(`no source has the number ${source}`);
    const fields = Object.fromEntries(kind.fields.map(field => [field.name, decode(field, words)]));
    this.log.push({ kind: kind.name as EventKindName, source: name, also, fields });
  }
}
