/** Says which pages of a domain were flushed, and what became of the mappings that were known there. */
import { EventClass, MappingSource } from '../../trace/event-kinds.ts';
import type { Core } from './core.ts';
import type { Domain } from './domain.ts';

const PAGE_SHIFT = 12n;

/** Addresses in the order of the caller's list; those that follow one another are told as one range. */
export function tellFlushed(core: Core, domain: Domain, addresses: readonly bigint[], leafOnly: boolean): void {
  const { events, known } = core;
  if ((events.records.mask & (EventClass.invalidation | EventClass.mapping)) === 0) return;
  const { view, granulePages = 1 } = domain.space;
  const ranges: { page: number; pages: number }[] = [];
  for (const address of addresses) {
    const at = Number(address >> PAGE_SHIFT);
    const page = at - (at % granulePages);
    const last = ranges[ranges.length - 1];
    if (last !== undefined && page === last.page + last.pages) last.pages += granulePages;
    else if (last === undefined || page < last.page || page >= last.page + last.pages)
      ranges.push({ page, pages: granulePages });
  }
  for (const { page, pages } of ranges) events.invalidatedPages(domain.handle, page, pages, leafOnly);
  if (view === undefined) return;
  known.beginComparison();
  for (const { page, pages } of ranges)
    known.comparePages(domain.handle, page, pages, granulePages, view, MappingSource.invalidation);
}
