/** Records as lines for people, and as plain objects for programs. */
import type { EventKind, PayloadField } from './event-kinds.ts';
import type { RecordCursor } from './record-cursor.ts';
import { fieldValue, formatField } from './record-fields.ts';

/** A record as JSON has it: 64-bit values and what is shown in hexadecimal are text (`0x...`). */
export interface JsonRecord {
  /** Nanoseconds since the start. */
  readonly time: number;
  readonly kind: string;
  readonly source: string;
  /** Of notes: what they are called. */
  readonly note?: string;
  readonly detail: unknown;
}

/** `     0.001234500 [edu0] dma.read requesterId=01:00.0 status=ok iova=0x1000 length=64 pasid=none`; seconds since the start. */
export function formatRecord(cursor: RecordCursor): string {
  const kind = cursor.decoder.kind(cursor.kind);
  const words = kind === undefined ? [`kind-${cursor.kind}`] : describe(kind, cursor);
  return [formatTime(cursor.time), `[${oneLine(nameOfSource(cursor))}]`, ...words].join(' ');
}

/** For `JSON.stringify`; nothing in it needs a replacer. */
export function toJson(cursor: RecordCursor): JsonRecord {
  const kind = cursor.decoder.kind(cursor.kind);
  const head = { time: cursor.time, kind: kind?.name ?? `kind-${cursor.kind}`, source: nameOfSource(cursor) };
  if (kind === undefined) return { ...head, detail: {} };
  if (!kind.text) return { ...head, detail: jsonFields(kind, cursor) };
  const value = cursor.value();
  const note = asNote(value);
  if (kind.name === 'note' && note)
    return { ...head, source: note.source, note: note.kind, detail: plain(note.detail) };
  return { ...head, detail: plain(value) };
}

/** Seconds with nine places, so that columns line up for the first days. */
export function formatTime(nanoseconds: number): string {
  return (nanoseconds / 1e9).toFixed(9).padStart(15);
}

function nameOfSource(cursor: RecordCursor): string {
  return cursor.sourceName || (cursor.source === 0 ? '-' : `#${cursor.source}`);
}

/** Fields that mean something only where another one has a certain value, by kind. */
const ONLY_WHERE: Readonly<Record<string, { readonly field: string; readonly other: string; readonly is: string }>> = {
  invalidation: { field: 'requesterId', other: 'scope', is: 'device' },
};

/** Without those that are not of this record. */
export function meaningfulFields(kind: EventKind, cursor: RecordCursor): readonly PayloadField[] {
  const rule = Object.hasOwn(ONLY_WHERE, kind.name) ? ONLY_WHERE[kind.name]! : undefined;
  const other = rule && kind.fields.find(({ name }) => name === rule.other);
  if (rule === undefined || other === undefined || fieldValue(other, cursor) === rule.is) return kind.fields;
  return kind.fields.filter(({ name }) => name !== rule.field);
}

function describe(kind: EventKind, cursor: RecordCursor): string[] {
  if (!kind.text) {
    const fields = meaningfulFields(kind, cursor);
    return [kind.name, ...fields.map(field => `${field.name}=${formatField(field, fieldValue(field, cursor))}`)];
  }
  const value = cursor.value();
  const note = asNote(value);
  if (kind.name === 'note' && note) return [note.kind, ...facts(note.detail)];
  if (isFinding(value)) return [kind.name, oneLine(value.id), `${oneLine(value.detector)}:`, oneLine(value.summary)];
  return [kind.name, inWords(value)];
}

function jsonFields(kind: EventKind, cursor: RecordCursor): Record<string, unknown> {
  return Object.fromEntries(
    meaningfulFields(kind, cursor).map(field => {
      const value = fieldValue(field, cursor);
      const isText = typeof value === 'bigint' || field.type === 'hex' || field.type === 'requesterId';
      return [field.name, isText ? formatField(field, value) : value];
    }),
  );
}

interface Note {
  readonly kind: string;
  readonly source: string;
  readonly detail: object;
}

function asNote(value: unknown): Note | undefined {
  if (!Array.isArray(value)) return undefined;
  const [kind, source, detail] = value as unknown[];
  const isNote =
    typeof kind === 'string' && typeof source === 'string' && typeof detail === 'object' && detail !== null;
  return isNote ? { kind: oneLine(kind), source: oneLine(source), detail } : undefined;
}

function isFinding(value: unknown): value is { id: string; detector: string; summary: string } {
  if (typeof value !== 'object' || value === null) return false;
  const { id, detector, summary } = value as Record<string, unknown>;
  return typeof id === 'string' && typeof detector === 'string' && typeof summary === 'string';
}

function facts(detail: object): string[] {
  return Object.entries(detail).map(([name, value]) => `${oneLine(name)}=${inWords(value)}`);
}

function inWords(value: unknown): string {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if (typeof value === 'string')
    return /^[!-~]+$/.test(value) && !value.includes('"') ? value : oneLine(JSON.stringify(value));
  return oneLine(JSON.stringify(plain(value)) ?? 'unreadable');
}

/** Control characters could move the cursor of a terminal: files are not trusted. */
function oneLine(text: string): string {
  return text.replace(/\p{Cc}/gu, '?');
}

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, plain(member)]));
}
