/** Trace events as lines for people or as JSON lines for programs. */
import { formatRequesterId } from '../trace/record-fields.ts';
import type { TraceEvent, TraceValue } from '../trace/trace.ts';

/** What is worth a line without being asked for: everything else needs --verbose. */
const NOTABLE =
  /^(fault\.|client\.|internal\.|machine\.(paused|resumed|overflow)|iommu\.placed|endpoint\.cutOff|vtd\.(enabled|queueError))/;

export function isNotable(event: TraceEvent): boolean {
  return NOTABLE.test(event.kind);
}

export function formatEvent({ kind, source, detail }: TraceEvent): string {
  const facts = Object.entries(detail).map(([name, value]) => `${name}=${formatFact(name, value)}`);
  return [`[${source}]`, kind, ...facts].join(' ');
}

/** JSON has no 64-bit integers: addresses become hexadecimal strings. */
export function eventToJson(event: TraceEvent): string {
  return JSON.stringify(event, (_key, value) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value));
}

function formatFact(name: string, value: TraceValue): string {
  return name === 'requesterId' && typeof value === 'number' ? formatRequesterId(value) : formatValue(value);
}

function formatValue(value: TraceValue): string {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  return printable(typeof value === 'string' && /[\s"\p{C}]/u.test(value) ? JSON.stringify(value) : String(value));
}

/** Text of a peer without anything that a terminal would obey: control and formatting characters become `\\u....`. */
export function printable(text: string): string {
  return text.replace(/\p{C}/gu, character =>
    [...Array(character.length).keys()]
      .map(i => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`)
      .join(''),
  );
}
