/** Mappings that are gone, of all domains: a ring of the latest, in columns, so that thousands cost the collector nothing. */
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
  #next = 0;
  #count = 0;

  constructor(private readonly capacity: number = MAX_PAST_MAPPINGS) {
    this.#starts = new Float64Array(capacity);
    this.#ends = new Float64Array(capacity);
    this.#since = new Float64Array(capacity);
    this.#removed = new Float64Array(capacity);
    this.#domains = new Int32Array(capacity);
    this.#frames = new Int32Array(capacity);
    this.#details = new Int32Array(capacity);
  }

  get size(): number {
    return this.#count;
  }

  add(
    domain: number,
    mapping: Omit<PastMapping, 'domain' | 'removed' | 'removedHow'>,
    removed: number,
    removedHow: number,
  ): void {
    const at = this.#next;
    if (this.#count === this.capacity) this.droppedBefore = this.#removed[at]!;
    else this.#count++;
    this.#starts[at] = mapping.start;
    this.#ends[at] = mapping.start + mapping.pages;
    this.#since[at] = mapping.since;
    this.#removed[at] = removed;
    this.#domains[at] = domain;
    this.#frames[at] = mapping.frame;
    this.#details[at] = mapping.permissions | (mapping.how << 8) | (removedHow << 16);
    this.#next = at + 1 === this.capacity ? 0 : at + 1;
  }

  /** The one that went last of those that held the page; of any domain but this one where `others`. */
  find(domain: number, page: number, others = false): PastMapping | undefined {
    let at = this.#search(domain, page, others, this.#next - 1, 0);
    if (at < 0) at = this.#search(domain, page, others, this.#count - 1, this.#next);
    return at < 0 ? undefined : this.#read(at);
  }

  /** From the latest backwards: every fault comes through here. */
  #search(domain: number, page: number, others: boolean, from: number, to: number): number {
    const starts = this.#starts;
    const ends = this.#ends;
    const domains = this.#domains;
    for (let at = from; at >= to; at--) {
      if (starts[at]! <= page && page < ends[at]! && (domains[at] === domain) !== others) return at;
    }
    return -1;
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
