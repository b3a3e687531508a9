/** Mappings that are gone, of all domains: a ring of the latest, in columns, so that thousands cost the collector nothing. */
import { LatestByPage } from './latest-by-page.ts';
import { MAX_PAST_MAPPINGS } from './limits.ts';

/** `MappingSource`, or this: another mapping took the place. */
export const REPLACED = 100;
/** The mapping was first heard of when it went. */
export const UNKNOWN_TIME = Number.NaN;

export interface PastMapping {
  readonly domain: number;
  readonly start: number;
  readonly pages: number;
  readonly frame: number;
  readonly permissions: number;
  /** `MappingSource` of its coming. */
  readonly how: number;
  /** Nanoseconds; NaN: not known. */
  readonly since: number;
  readonly removed: number;
  /** `MappingSource`, or REPLACED. */
  readonly removedHow: number;
}

/** How many of those that came since the last search one search puts into the index: each costs as much as many that are looked at. */
const INDEXED_PER_SEARCH = 512;

export class PastMappings {
  /** Nanoseconds: of mappings that went before this, some are forgotten. -1: none is. */
  droppedBefore = -1;
  readonly #starts: Float64Array;
  readonly #ends: Float64Array;
  readonly #since: Float64Array;
  readonly #removed: Float64Array;
  readonly #domains: Int32Array;
  readonly #frames: Int32Array;
  /** permissions | how << 8 | removedHow << 16. */
  readonly #details: Int32Array;
  readonly #latest: LatestByPage;
  /** All that ever came: the number of the next one, whose place is the remainder by the capacity. */
  #added = 0;
  /** The number of the first that is not in the index. Only searches put any there: mostly nobody asks. */
  #unindexed = 0;

  constructor(
    private readonly capacity: number = MAX_PAST_MAPPINGS,
    private readonly indexedPerSearch: number = INDEXED_PER_SEARCH,
  ) {
    this.#starts = new Float64Array(capacity);
    this.#ends = new Float64Array(capacity);
    this.#since = new Float64Array(capacity);
    this.#removed = new Float64Array(capacity);
    this.#domains = new Int32Array(capacity);
    this.#frames = new Int32Array(capacity);
    this.#details = new Int32Array(capacity);
    this.#latest = new LatestByPage(capacity);
  }

  get size(): number {
    return Math.min(this.#added, this.capacity);
  }

  add(
    domain: number,
    mapping: Omit<PastMapping, 'domain' | 'removed' | 'removedHow'>,
    removed: number,
    removedHow: number,
  ): void {
    const at = this.#added % this.capacity;
    if (this.#added >= this.capacity) this.droppedBefore = this.#removed[at]!;
    this.#starts[at] = mapping.start;
    this.#ends[at] = mapping.start + mapping.pages;
    this.#since[at] = mapping.since;
    this.#removed[at] = removed;
    this.#domains[at] = domain;
    this.#frames[at] = mapping.frame;
    this.#details[at] = mapping.permissions | (mapping.how << 8) | (removedHow << 16);
    this.#added++;
  }

  /** The one that went last of those that held the page. */
  find(domain: number, page: number): PastMapping | undefined {
    this.#index();
    for (let number = this.#added - 1; number >= this.#unindexed; number--) {
      const at = number % this.capacity;
      if (this.#starts[at]! <= page && page < this.#ends[at]! && this.#domains[at] === domain) return this.#read(at);
    }
    const number = this.#latest.find(domain, page, this.#added - 1);
    return number < 0 ? undefined : this.#read(number % this.capacity);
  }

  #index(): void {
    const first = Math.max(this.#unindexed, this.#added - this.capacity);
    this.#unindexed = Math.min(this.#added, first + this.indexedPerSearch);
    for (let number = first; number < this.#unindexed; number++) {
      const at = number % this.capacity;
      this.#latest.add(number, this.#domains[at]!, this.#starts[at]!, this.#ends[at]! - this.#starts[at]!);
    }
  }

  /** The same of all domains but this one. Looks at all of them: not for every fault. */
  findElsewhere(domain: number, page: number): PastMapping | undefined {
    for (let back = 1; back <= this.size; back++) {
      const at = (this.#added - back) % this.capacity;
      if (this.#starts[at]! <= page && page < this.#ends[at]! && this.#domains[at] !== domain) return this.#read(at);
    }
    return undefined;
  }

  #read(at: number): PastMapping {
    const details = this.#details[at]!;
    return {
      domain: this.#domains[at]!,
      start: this.#starts[at]!,
      pages: this.#ends[at]! - this.#starts[at]!,
      frame: this.#frames[at]!,
      permissions: details & 3,
      how: (details >>> 8) & 0xff,
      since: this.#since[at]!,
      removed: this.#removed[at]!,
      removedHow: (details >>> 16) & 0xff,
    };
  }
}
