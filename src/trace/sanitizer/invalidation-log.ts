/** The latest invalidations of the IOTLB and of the context cache. */
import { InvalidationScope, InvalidationTarget } from '../event-kinds.ts';
import { MAX_INVALIDATIONS } from './limits.ts';

export interface Invalidation {
  readonly time: number;
  readonly source: string;
  /** -1: all. */
  readonly domain: number;
  readonly start: number;
  readonly pages: number;
  /** `InvalidationTarget`. */
  readonly target: number;
  /** `InvalidationScope`. */
  readonly scope: number;
  /** `InvalidationOrigin`. */
  readonly origin: number;
  readonly leafOnly: boolean;
  readonly requesterId: number;
}

/** Whether it drops the IOTLB's entry for the page. */
export function covers(invalidation: Invalidation, domain: number, page: number): boolean {
  if (invalidation.target !== InvalidationTarget.iotlb) return false;
  if (invalidation.scope === InvalidationScope.all) return true;
  if (invalidation.domain !== domain && invalidation.domain !== -1) return false;
  return invalidation.scope !== InvalidationScope.range || inRange(invalidation, page);
}

function inRange({ start, pages }: Invalidation, page: number): boolean {
  return start <= page && page < start + pages;
}

export class InvalidationLog {
  /** Nanoseconds: those before are forgotten. -1: none is. */
  droppedBefore = -1;
  readonly #ring: Invalidation[] = [];
  #next = 0;

  constructor(private readonly capacity: number = MAX_INVALIDATIONS) {}

  get size(): number {
    return this.#ring.length;
  }

  add(invalidation: Invalidation): void {
    if (this.#ring.length < this.capacity) {
      this.#ring.push(invalidation);
      return;
    }
    this.droppedBefore = this.#ring[this.#next]!.time;
    this.#ring[this.#next] = invalidation;
    this.#next = this.#next + 1 === this.capacity ? 0 : this.#next + 1;
  }

  /** The last one until that time which covers the page; where `exact`, of those that name a range of pages. */
  lastCovering(domain: number, page: number, until: number, exact = false): Invalidation | undefined {
    const length = this.#ring.length;
    for (let back = 1; back <= length; back++) {
      const one = this.#ring[(this.#next - back + 2 * length) % length]!;
      if (one.time > until || !covers(one, domain, page)) continue;
      if (!exact || one.scope === InvalidationScope.range) return one;
    }
    return undefined;
  }
}
