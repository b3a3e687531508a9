/** What a device model offers of its regions beside messages: memory to map, and eventfds to write to. Checked once, at the start. */
import type { IoEventFd, RegionArea, RegionDescription } from './device-model.ts';
import { PAGE_BYTES } from './spec.ts';

/** Parts of one region that may be mapped. */
export const SPARSE_AREA_LIMIT = 128;
/** Eventfds of one region. */
export const IO_EVENTFD_LIMIT = 64;
const WIDTHS: readonly number[] = [0, 1, 2, 4, 8];

/** Throws an Error that says which region offers what cannot be. */
export function checkOffers(regions: readonly RegionDescription[]): void {
  regions.forEach((region, index) => {
    const why = problemOf(region);
    if (why !== undefined) throw new Error(`region ${index}: ${why}`);
  });
}

function problemOf({ size, mapping, ioEventFds = [] }: RegionDescription): string | undefined {
  if (mapping !== undefined) {
    if (!isPageAligned(mapping.offset)) return `memory at ${mapping.offset} of its file does not begin at a page`;
    if (size === 0) return 'memory of a region that does not exist';
    const why = mapping.areas === undefined ? undefined : problemOfAreas(mapping.areas, size);
    if (why !== undefined) return why;
  }
  if (ioEventFds.length > IO_EVENTFD_LIMIT) return `${ioEventFds.length} eventfds: at most ${IO_EVENTFD_LIMIT}`;
  return ioEventFds.map(one => problemOfEventFd(one, size)).find(why => why !== undefined);
}

function problemOfAreas(areas: readonly RegionArea[], size: number): string | undefined {
  if (areas.length === 0 || areas.length > SPARSE_AREA_LIMIT) {
    return `${areas.length} areas to map: must be 1 to ${SPARSE_AREA_LIMIT}`;
  }
  let end = 0;
  for (const area of areas) {
    if (!isPageAligned(area.offset) || !isPageAligned(area.size) || area.size === 0) {
      return `the area at ${area.offset} is not whole pages`;
    }
    if (area.offset < end) return `the area at ${area.offset} lies in the one before it, or before that`;
    end = area.offset + area.size;
  }
  return end > size ? 'an area leaves the region' : undefined;
}

function problemOfEventFd({ offset, size, value }: IoEventFd, regionSize: number): string | undefined {
  if (!WIDTHS.includes(size)) return `an eventfd for accesses of ${size} bytes`;
  if (!Number.isSafeInteger(offset) || offset < 0 || offset + Math.max(size, 1) > regionSize) {
    return `an eventfd at ${offset}, outside of the region`;
  }
  if (value === undefined) return undefined;
  if (size === 0) return 'an eventfd for one value, of accesses of any size';
  return BigInt.asUintN(8 * size, value) === value
    ? undefined
    : `an eventfd for ${value}, which has no room in ${size} bytes`;
}

function isPageAligned(offset: number): boolean {
  return Number.isSafeInteger(offset) && offset >= 0 && offset % PAGE_BYTES === 0;
}
