/** One record as the trace view shows it, and where one can go from there. */
import { EventClass, type EventClassName } from '../../../trace/event-kinds.ts';
import type { RecordCursor } from '../../../trace/record-cursor.ts';
import { type FieldValue, fieldValue, formatField } from '../../../trace/record-fields.ts';
import { formatRecord, meaningfulFields } from '../../../trace/record-format.ts';
import { formatRequesterId, hex } from '../format.ts';
import { formatRoute } from '../route.ts';
import { NOT_RECORDED, type RecordStore } from './record-store.ts';
import { CLASS_NAMES } from './trace-filter.ts';

export interface TraceRow {
  readonly number: number;
  /** Nanoseconds. */
  readonly time: number;
  readonly source: string;
  readonly kind: string;
  readonly class: EventClassName;
  /** Nothing is known of what happened here. */
  readonly isGap: boolean;
  readonly fields: readonly { readonly name: string; readonly text: string; readonly value: FieldValue }[];
  /** Of kinds without fields. */
  readonly text: string;
}

/** Undefined: it is not kept any more. */
export function traceRow(store: RecordStore, number: number): TraceRow | undefined {
  const cursor = store.at(number);
  return cursor && describe(cursor, number);
}

function describe(cursor: RecordCursor, number: number): TraceRow {
  const kind = cursor.decoder.kind(cursor.kind);
  const name = kind?.name ?? `kind-${cursor.kind}`;
  const isGap = name === 'dropped';
  const isOwnGap = isGap && cursor.word(0) === NOT_RECORDED;
  return {
    number,
    time: cursor.time,
    source: cursor.sourceName || (cursor.source === 0 ? '–' : `#${cursor.source}`),
    kind: name,
    class: kind?.class ?? 'note',
    isGap,
    fields:
      kind === undefined || kind.text || isOwnGap
        ? []
        : meaningfulFields(kind, cursor).map(field => {
            const value = fieldValue(field, cursor);
            return { name: field.name, text: formatField(field, value), value };
          }),
    text: isOwnGap ? gapText(cursor.word(1)) : kind?.text ? textOf(cursor, name) : '',
  };
}

/** `classes`: `EventClass` bits that were recorded nevertheless. */
function gapText(classes: number): string {
  if (classes === 0) return 'nothing was recorded for a while: no view wanted it';
  const names = CLASS_NAMES.filter(name => (classes & EventClass[name]) !== 0);
  return `up to here only these were recorded: ${names.join(', ')}`;
}

function textOf(cursor: RecordCursor, name: string): string {
  const line = formatRecord(cursor);
  const text = line.slice(line.indexOf('] ') + 2);
  return text.startsWith(`${name} `) ? text.slice(name.length + 1) : text;
}

export interface Jump {
  readonly label: string;
  readonly href: string;
}

/** `domainOf`: the domain of a requester id at the moment; `functionOf`: its function's name. */
export interface JumpContext {
  readonly domainOf: (requesterId: number) => number | undefined;
  readonly functionOf: (requesterId: number) => string | undefined;
  /** A recorded file has no hardware to go to. */
  readonly hasHardware: boolean;
}

export function jumpsOf({ fields, source, kind }: TraceRow, context: JumpContext): Jump[] {
  const { domainOf, functionOf, hasHardware } = context;
  const fieldOf = (name: string) => fields.find(field => field.name === name)?.value;
  const jumps: Jump[] = [];
  const requesterId = fieldOf('requesterId');
  const isDevice = typeof requesterId === 'number';
  const name = isDevice ? (functionOf(requesterId) ?? formatRequesterId(requesterId)) : undefined;
  const own = fieldOf('domain');
  const domain = typeof own === 'number' ? own : isDevice ? domainOf(requesterId) : undefined;
  const iova = fieldOf('iova');
  if (isDevice) {
    if (hasHardware && functionOf(requesterId) !== undefined) {
      jumps.push({ label: `device ${name}`, href: formatRoute('registers', { function: name }) });
    }
    jumps.push({ label: `only ${name}`, href: formatRoute('trace', { device: name, class: 'all' }) });
  }
  if (domain !== undefined) {
    jumps.push({ label: `domain ${domain}`, href: formatRoute('space', { domain: String(domain) }) });
  }
  if (typeof iova === 'bigint') {
    const address = hex(iova);
    const page = hex((iova >> 12n) << 12n);
    if (domain !== undefined) {
      jumps.push({ label: `page ${page}`, href: formatRoute('space', { domain: String(domain), iova: address }) });
    }
    if (isDevice && hasHardware) {
      const device = formatRequesterId(requesterId);
      jumps.push({ label: 'its page tables', href: formatRoute('tables', { device, iova: address }) });
    }
    jumps.push({ label: 'all about this page', href: formatRoute('trace', { iova: `${page}+0x1000`, class: 'all' }) });
  }
  const offset = fieldOf('offset');
  if (kind.startsWith('register.') && typeof offset === 'number' && hasHardware) {
    const region = fieldOf('region');
    const args = { function: source, offset: hex(offset), region: String(region ?? 0) };
    jumps.push({ label: `register ${hex(offset)} of ${source}`, href: formatRoute('registers', args) });
  }
  return jumps;
}
