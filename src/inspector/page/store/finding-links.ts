/** Where one can go from a finding, and what was recorded when it happened. */
import type { Finding } from '../../../trace/sanitizer/finding.ts';
import { formatRequesterId, hex } from '../format.ts';
import { formatRoute } from '../route.ts';
import type { RecordStore } from './record-store.ts';
import { type Jump, type TraceRow, traceRow } from './trace-row.ts';

/** Records before and after. */
const BEFORE = 6;
const AFTER = 4;

/** `requesterId`: of its device, where that is known. */
export function findingLinks(finding: Finding, requesterId: number | undefined, hasHardware: boolean): Jump[] {
  const { iova, domain, device, last } = finding;
  const links: Jump[] = [];
  const address = iova === undefined ? undefined : hex(iova);
  if (address !== undefined && domain !== undefined) {
    links.push({ label: 'address space', href: formatRoute('space', { domain: String(domain), iova: address }) });
  }
  if (address !== undefined && requesterId !== undefined && hasHardware) {
    const args = { device: formatRequesterId(requesterId), iova: address };
    links.push({ label: 'page tables', href: formatRoute('tables', args) });
  }
  if (requesterId !== undefined && hasHardware) {
    links.push({ label: `registers of ${device}`, href: formatRoute('registers', { function: device }) });
  }
  links.push({ label: 'trace at that time', href: formatRoute('trace', { at: String(last), class: 'all' }) });
  if (address !== undefined) {
    const page = hex((iova! >> 12n) << 12n);
    links.push({ label: 'trace of the page', href: formatRoute('trace', { iova: `${page}+0x1000`, class: 'all' }) });
  }
  return links;
}

/** Empty where nothing was recorded at that time, in nanoseconds. */
export function recordsAround(store: RecordStore, time: number): TraceRow[] {
  const number = store.atTime(time);
  if (store.count === 0 || number >= store.next) return [];
  const oldest = store.at(store.first);
  if (oldest === undefined || oldest.time > time) return [];
  const rows: TraceRow[] = [];
  for (let n = Math.max(number - BEFORE, store.first); n < Math.min(number + AFTER, store.next); n++) {
    const row = traceRow(store, n);
    if (row !== undefined) rows.push(row);
  }
  return rows;
}
