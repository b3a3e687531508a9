/** One domain's address space: its mappings in order, what was touched, and the line on which both are drawn. */

import type { TouchedPages } from '../store/touches.ts';
import type { Mapping } from '../wire.ts';
import { Folding, mergeStretches } from './folding.ts';

/** Bits of an IOVA that four levels translate; what is mapped beyond makes it wider. */
const WIDTH_BITS = 48;
const PAGES = 2 ** (WIDTH_BITS - 12);
/** Touched pages outside of mappings that the line is made for; there may be very many, at random addresses. */
export const MAX_STRAY_PAGES = 512;

export interface SpaceModel {
  readonly domain: number;
  /** By page, in order. */
  readonly mappings: readonly Mapping[];
  readonly folding: Folding;
}

export function spaceModel(
  domain: number,
  all: readonly Mapping[],
  touched: TouchedPages | undefined,
  fold: boolean,
): SpaceModel {
  const mappings = all.filter(one => one.domain === domain).sort((one, other) => one.page - other.page);
  const stray: { start: number; pages: number }[] = [];
  for (const page of touched?.sorted() ?? []) {
    if (stray.length >= MAX_STRAY_PAGES) break;
    if (mappingAt(mappings, page) === undefined) stray.push({ start: page, pages: 1 });
  }
  const used = mergeStretches([...mappings.map(({ page, pages }) => ({ start: page, pages })), ...stray]);
  const last = used.at(-1);
  const pages = Math.max(PAGES, last === undefined ? 0 : last.start + last.pages);
  return { domain, mappings, folding: new Folding(used, pages, fold) };
}

/** Index of the first mapping that ends behind the page. */
export function firstMapping(mappings: readonly Mapping[], page: number): number {
  let low = 0;
  let high = mappings.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const one = mappings[middle]!;
    if (one.page + one.pages > page) high = middle;
    else low = middle + 1;
  }
  return low;
}

export function mappingAt(mappings: readonly Mapping[], page: number): Mapping | undefined {
  const found = mappings[firstMapping(mappings, page)];
  return found !== undefined && found.page <= page ? found : undefined;
}

/** The next mapping that begins behind a page, or the last one that begins before it. */
export function neighbour(mappings: readonly Mapping[], page: number, direction: 1 | -1): Mapping | undefined {
  if (direction === 1) return mappings.find(one => one.page > page);
  return mappings.findLast(one => one.page + one.pages <= page);
}

/** Where a page leads; -1: nowhere that is known. */
export function frameOf(mapping: Mapping, page: number): number {
  return mapping.frame < 0 ? -1 : mapping.frame + (page - mapping.page);
}
