/** A trace that keeps notes and events, each event by its name with the fields that it was given, in the order of the table. */
import { EVENT_KINDS, type PayloadField } from '../../src/trace/event-kinds.ts';
import type { Events } from '../../src/trace/events.ts';
import { TraceLog } from '../../src/trace/trace.ts';

export interface RecordedEvent {
  readonly kind: string;
  readonly source: string;
  readonly [field: string]: string | number | bigint | boolean;
}

export class RecordedEvents extends TraceLog {
  readonly recorded: RecordedEvent[] = [];
  /** How often somebody emitted, wanted or not. */
  emitted = 0;
  readonly records: Events & { mask: number };
  private readonly sources: string[] = [];

  /** `EventClass` bits that are wanted; `records.mask` may be changed later. */
  constructor(mask: number) {
    super();
    const record = (kind: number, source: number, ...payload: number[]) => this.record(kind, source, payload);
    this.records = {
      mask,
      onRound: () => false,
      sourceId: name => {
        if (!this.sources.includes(name)) this.sources.push(name);
        return this.sources.indexOf(name);
      },
      emit: record,
      emitAlso: record,
      emitLong: record,
    };
  }

  /** One line an event: its kind, and the values of its fields. */
  lines(): string[] {
    return this.recorded.map(({ kind, source: _source, ...fields }) =>
      [kind, ...Object.entries(fields).map(([name, value]) => `${name}=${value}`)].join(' '),
    );
  }

  forget(): void {
    this.recorded.length = 0;
    this.events.length = 0;
    this.emitted = 0;
  }

  private record(code: number, source: number, payload: readonly number[]): void {
    this.emitted++;
    const kind = EVENT_KINDS.find(one => one.code === code)!;
    if (payload.some(word => (word | 0) !== word)) throw new Error(`${kind.name} with ${payload}: not int32`);
    const fields = Object.fromEntries(kind.fields.map(field => [field.name, fieldOf(field, payload)]));
    this.recorded.push({ kind: kind.name, source: this.sources[source]!, ...fields });
  }
}

function fieldOf({ word, shift = 0, bits = 32, names, type }: PayloadField, payload: readonly number[]) {
  const unsigned = payload.map(value => value >>> 0);
  if (bits === 64) return `0x${((BigInt(unsigned[word]!) << 32n) | BigInt(unsigned[word + 1]!)).toString(16)}`;
  const value = Number((BigInt(unsigned[word]!) >> BigInt(shift)) & ((1n << BigInt(bits)) - 1n));
  if (names) return names[value] ?? `name ${value}`;
  if (type === 'flag') return value === 1;
  return type === 'hex' ? `0x${value.toString(16)}` : value;
}
