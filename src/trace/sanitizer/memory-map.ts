/** The guest's memory, as clients announce it; several functions of one machine announce the same. */
import { MAX_MEMORY_REGIONS } from './limits.ts';
import { addressOf, PAGE_BYTES } from './pages.ts';
import { addressText } from './text.ts';

interface MemoryRegion {
  /** GPA >> 12. */
  readonly start: number;
  readonly pages: number;
  readonly writable: boolean;
  readonly sources: Set<string>;
}

/** Below are the BIOS's data and much that looks like small numbers: too little to say that somebody meant a physical address. */
const FIRST_TELLING_PAGE = 2 ** 20 / PAGE_BYTES;

export class MemoryMap {
  readonly #regions = new Map<string, MemoryRegion>();
  #complete = true;

  added(source: string, start: number, pages: number, writable: boolean): void {
    const key = `${start} ${pages}`;
    const known = this.#regions.get(key);
    if (known !== undefined) {
      known.sources.add(source);
    } else if (this.#regions.size >= MAX_MEMORY_REGIONS) {
      this.#complete = false;
    } else {
      this.#regions.set(key, { start, pages, writable, sources: new Set([source]) });
    }
  }

  removed(source: string, start: number, pages: number): void {
    const key = `${start} ${pages}`;
    const known = this.#regions.get(key);
    known?.sources.delete(source);
    if (known?.sources.size === 0) this.#regions.delete(key);
  }

  /** Whether an address that is in none of the regions is known to be no memory. */
  get known(): boolean {
    return this.#complete && this.#regions.size > 0;
  }

  find(frame: number): { readonly start: number; readonly pages: number; readonly writable: boolean } | undefined {
    for (const region of this.#regions.values()) {
      if (region.start <= frame && frame < region.start + region.pages) return region;
    }
    return undefined;
  }

  /** The region in which an IOVA would lie if it were a physical address, where that means something. */
  physicalHint(page: number): string | undefined {
    if (page < FIRST_TELLING_PAGE) return undefined;
    const region = this.find(page);
    if (region === undefined) return undefined;
    const end = addressOf(region.start + region.pages) - 1n;
    return `${addressText(addressOf(region.start))}-${addressText(end)}`;
  }
}
