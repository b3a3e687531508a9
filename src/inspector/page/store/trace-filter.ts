/** The filter of the trace view: as the fields of its form, as arguments in the page's address, and as a test of records. */
import {
  compileFilter,
  type EventFilter,
  FilterError,
  parseAddressRange,
  parseClasses,
  type RecordPredicate,
} from '../../../trace/event-filter.ts';
import { EVENT_KINDS, EventClass, type EventClassName } from '../../../trace/event-kinds.ts';
import type { Decoder } from '../../../trace/record-fields.ts';
import { formatRecord } from '../../../trace/record-format.ts';
import { parseRequesterId } from '../format.ts';

export const CLASS_NAMES = Object.keys(EventClass) as EventClassName[];
/** What is shown where nothing is said: all but what comes with every single access. */
export const DEFAULT_CLASSES: readonly EventClassName[] = CLASS_NAMES.filter(
  name => name !== 'register' && name !== 'translation',
);

/** As it stands in the form; empty: everything. */
export interface TraceFilter {
  readonly classes: readonly EventClassName[];
  readonly kind: string;
  /** Names of functions or requester ids, separated by commas. */
  readonly device: string;
  readonly domain: string;
  readonly iova: string;
  readonly text: string;
}

export const DEFAULT_FILTER: TraceFilter = {
  classes: DEFAULT_CLASSES,
  kind: '',
  device: '',
  domain: '',
  iova: '',
  text: '',
};

/** What a filter's device may be called, and the requester id behind it. */
export type DeviceNames = ReadonlyMap<string, number>;

/** Of an unknown class nothing is left. */
export function filterFromArgs(args: Readonly<Record<string, string>>): TraceFilter {
  const { class: classes, kind = '', device = '', domain = '', iova = '', text = '' } = args;
  const given = classes?.split(',') ?? [];
  const named = classes === 'all' ? CLASS_NAMES : CLASS_NAMES.filter(name => given.includes(name));
  return { classes: classes === undefined ? DEFAULT_CLASSES : named, kind, device, domain, iova, text };
}

export function filterToArgs(filter: TraceFilter): Record<string, string | undefined> {
  const { classes, kind, device, domain, iova, text } = filter;
  const isDefault = classes.length === DEFAULT_CLASSES.length && classes.every(name => DEFAULT_CLASSES.includes(name));
  const all = classes.length === CLASS_NAMES.length;
  return { class: isDefault ? undefined : all ? 'all' : classes.join(',') || 'none', kind, device, domain, iova, text };
}

/** `EventClass` bits. */
export function classMask(classes: readonly EventClassName[]): number {
  return classes.length === 0 ? 0 : parseClasses(classes.join(','));
}

export function kindsOfClasses(classes: readonly EventClassName[]): string[] {
  return EVENT_KINDS.filter(kind => classes.includes(kind.class)).map(kind => kind.name);
}

/** Throws a `FilterError` that says which field cannot be understood. */
export function compileTraceFilter(filter: TraceFilter, decoder: Decoder, devices: DeviceNames): RecordPredicate {
  const passes = compileFilter(eventFilter(filter, devices), decoder);
  const needle = filter.text.trim().toLowerCase();
  // Which number a source has is nothing that happened, unless somebody asks for it.
  const { sourceKind } = filter.kind.trim() === '' ? decoder : { sourceKind: -1 };
  if (needle === '') return cursor => cursor.kind !== sourceKind && passes(cursor);
  return cursor => cursor.kind !== sourceKind && passes(cursor) && formatRecord(cursor).toLowerCase().includes(needle);
}

function eventFilter(filter: TraceFilter, devices: DeviceNames): EventFilter {
  const kinds = list(filter.kind);
  const wanted = list(filter.device);
  const domains = list(filter.domain).map(text => {
    const number = Number(text);
    if (!Number.isInteger(number) || number < 0) throw new FilterError(`'${text}' is not a domain: write its number`);
    return number;
  });
  return {
    classes: classMask(filter.classes),
    ...(kinds.length === 0 ? {} : { kinds }),
    ...(wanted.length === 0 ? {} : deviceFilter(wanted, devices)),
    ...(domains.length === 0 ? {} : { domains }),
    ...(filter.iova.trim() === '' ? {} : { iova: parseAddressRange(filter.iova) }),
  };
}

/** A name stands for what the function itself says and for what is said of its requester id. */
function deviceFilter(wanted: readonly string[], devices: DeviceNames): Pick<EventFilter, 'sources' | 'requesterIds'> {
  const sources: string[] = [];
  const requesterIds: number[] = [];
  for (const one of wanted) {
    const requesterId = parseRequesterId(one);
    if (requesterId === undefined) {
      sources.push(one);
      const known = devices.get(one);
      if (known !== undefined) requesterIds.push(known);
    } else {
      requesterIds.push(requesterId);
      for (const [name, id] of devices) if (id === requesterId) sources.push(name);
    }
  }
  return { sources, requesterIds };
}

function list(text: string): string[] {
  return text
    .split(',')
    .map(one => one.trim())
    .filter(one => one !== '');
}
