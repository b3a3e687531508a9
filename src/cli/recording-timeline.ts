/** The records of a file that have to do with one thing: an access, a page, a device. */
import { compileFilter, type EventFilter, type RecordPredicate } from '../trace/event-filter.ts';
import { EventClass } from '../trace/event-kinds.ts';
import type { RecordCursor } from '../trace/record-cursor.ts';
import { fieldsOf, fieldValue, formatField } from '../trace/record-fields.ts';
import type { RecordingReader } from '../trace/recording/reader.ts';
import { deviceName } from './recording-options.ts';
import { phraseOf } from './recording-phrases.ts';
import { RecordFormatter } from './recording-printer.ts';

/** What a timeline is about. What is missing is not asked for. */
export interface Focus {
  /** Nanoseconds; the records around it are shown. Missing: the last ones. */
  readonly time?: number;
  readonly iova?: bigint;
  readonly length?: number;
  readonly domain?: number;
  /** Name and requester id of a device. */
  readonly device?: string;
  readonly requesterId?: number;
}

export interface TimelineEntry {
  readonly time: number;
  /** Who it happened at, e.g. `iommu`. */
  readonly source: string;
  readonly kind: string;
  readonly text: string;
  /** As `viommu trace --json` prints it. */
  readonly object: object;
}

export interface Timeline {
  readonly entries: readonly TimelineEntry[];
  /** Records that have to do with it, but came earlier. */
  readonly omitted: number;
}

const RECORDS_BEFORE = 30;
const RECORDS_AFTER = 3;
const PAGE = 4096n;
const HIGHEST_ADDRESS = (1n << 64n) - 1n;
/** Registers say nothing of devices and pages. */
const TOLD =
  EventClass.translation |
  EventClass.dma |
  EventClass.mapping |
  EventClass.attach |
  EventClass.invalidation |
  EventClass.fault |
  EventClass.connection;

export function timelineOf(reader: RecordingReader, focus: Focus): Timeline {
  const cursor = reader.cursor();
  const concerns = concernsOf(focus, cursor);
  const until = focus.time ?? Number.POSITIVE_INFINITY;
  const before: Int32Array[] = [];
  const after: Int32Array[] = [];
  let omitted = 0;
  for (const { words } of reader.read({ classes: TOLD })) {
    cursor.load(words);
    while (after.length < RECORDS_AFTER && cursor.next()) {
      if (!concerns.some(passes => passes(cursor))) continue;
      const isLater = cursor.time > until;
      (isLater ? after : before).push(cursor.slice().slice());
      if (before.length <= RECORDS_BEFORE) continue;
      before.shift();
      omitted++;
    }
    if (after.length >= RECORDS_AFTER) break;
  }
  const formatter = new RecordFormatter(reader.header.machine);
  const entries = [...before, ...after].map(words => {
    cursor.load(words);
    cursor.next();
    return { ...describeRecord(cursor, reader.header.machine), object: formatter.object(cursor) };
  });
  return { entries, omitted };
}

/** A record in words, or by its fields where there are no words for its kind. */
export function describeRecord(cursor: RecordCursor, machine: unknown): Omit<TimelineEntry, 'object'> {
  const { time, sourceName, source, decoder } = cursor;
  const kind = decoder.kind(cursor.kind);
  const head = { time, source: sourceName || `#${source}` };
  if (kind === undefined) return { ...head, kind: `kind-${cursor.kind}`, text: '' };
  const facts = () => kind.fields.map(field => `${field.name}=${formatField(field, fieldValue(field, cursor))}`);
  const text = phraseOf(kind.name, fieldsOf(kind, cursor), requesterId => deviceName(machine, requesterId));
  return { ...head, kind: kind.name, text: text ?? facts().join(' ') };
}

/** A record is told where one of these is true. */
function concernsOf(focus: Focus, cursor: RecordCursor): RecordPredicate[] {
  const { iova, length = 1, domain, device, requesterId } = focus;
  const filters: EventFilter[] = [];
  const devices = {
    ...(device === undefined ? {} : { sources: [device] }),
    ...(requesterId === undefined ? {} : { requesterIds: [requesterId] }),
  };
  const hasDevice = device !== undefined || requesterId !== undefined;
  if (iova !== undefined) {
    const first = iova - (iova % PAGE);
    const end = iova + BigInt(Math.max(1, length)) - 1n;
    const last = end - (end % PAGE) + PAGE - 1n;
    const range = { first, last: last > HIGHEST_ADDRESS ? HIGHEST_ADDRESS : last };
    const domains = domain === undefined ? {} : { domains: [domain] };
    // What the IOMMU was told about the page, and what devices did with it.
    filters.push({ iova: range, classes: EventClass.mapping | EventClass.invalidation, ...domains });
    filters.push({ iova: range, classes: TOLD & ~(EventClass.mapping | EventClass.invalidation), ...devices });
  }
  if (domain !== undefined && iova === undefined) {
    filters.push({ domains: [domain], classes: EventClass.mapping | EventClass.attach | EventClass.invalidation });
  }
  if (hasDevice) {
    const rare = EventClass.attach | EventClass.connection | (iova === undefined ? EventClass.fault : 0);
    filters.push({ ...devices, classes: rare, kinds: notMemory(cursor) });
  }
  return filters.map(filter => compileFilter(filter, cursor.decoder));
}

/** A client tells of its memory again and again while firmware starts: it says nothing about a device's mistake. */
function notMemory({ decoder }: RecordCursor): string[] {
  return decoder.kinds.map(({ name }) => name).filter(name => !name.startsWith('memory.'));
}
