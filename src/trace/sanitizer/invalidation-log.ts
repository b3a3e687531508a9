/** The latest invalidations of the IOTLB and of the context cache. */
import { InvalidationScope, InvalidationTarget } from '../event-kinds.ts';
import { LatestByPage } from './latest-by-page.ts';
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

/**
 * Whether it drops the requester's cached context entry, which is tagged with the domain. It may name another function of the device:
 * which functions it masks is not told.
 */
export function coversContext(
  { target, scope, domain: named, requesterId: told }: Invalidation,
  domain: number,
  requesterId: number,
): boolean {
  if (target !== InvalidationTarget.context) return false;
  if (scope === InvalidationScope.all) return true;
  if (named !== domain && named !== -1) return false;
  return scope !== InvalidationScope.device || told >>> 3 === requesterId >>> 3;
}

function inRange({ start, pages }: Invalidation, page: number): boolean {
  return start <= page && page < start + pages;
}

/** The domain of invalidations for all domains. */
const ALL = -1;

export class InvalidationLog {
  /** Nanoseconds: those before are forgotten. -1: none is. */
  droppedBefore = -1;
  readonly #ring: Invalidation[] = [];
  /** Those of the IOTLB that name a range of pages. */
  readonly #ranges: LatestByPage;
  /** All that ever came: the number of the next one, whose place is the remainder by the capacity. */
  #added = 0;
  /** The number of the first that `#ranges` does not have. Only searches put any there: mostly nobody asks. */
  #unindexed = 0;

  constructor(private readonly capacity: number = MAX_INVALIDATIONS) {
    this.#ranges = new LatestByPage(capacity);
  }

  get size(): number {
    return this.#ring.length;
  }

  add(invalidation: Invalidation): void {
    const at = this.#added % this.capacity;
    if (this.#added >= this.capacity) this.droppedBefore = this.#ring[at]!.time;
    this.#ring[at] = invalidation;
    this.#added++;
  }

  /** The last one until that time which covers the page. Looks at all of them: not for every fault. */
  lastCovering(domain: number, page: number, until: number): Invalidation | undefined {
    for (let back = 1; back <= this.size; back++) {
      const one = this.#ring[(this.#added - back) % this.capacity]!;
      if (one.time <= until && covers(one, domain, page)) return one;
    }
    return undefined;
  }

  /** The last one that names a range with the page. */
  lastNaming(domain: number, page: number): Invalidation | undefined {
    this.#index();
    const newest = this.#added - 1;
    const number = Math.max(this.#ranges.find(domain, page, newest), this.#ranges.find(ALL, page, newest));
    return number < 0 ? undefined : this.#ring[number % this.capacity];
  }

  /** How many name no pages, but a whole domain that is this one, or all, in that time. Looks at all of them. */
  wide(
    domain: number,
    since: number,
    until: number,
  ): { readonly count: number; readonly last: Invalidation | undefined } {
    let count = 0;
    let last: Invalidation | undefined;
    for (let back = 1; back <= this.size; back++) {
      const one = this.#ring[(this.#added - back) % this.capacity]!;
      if (one.time < since) break;
      if (one.time > until || one.scope === InvalidationScope.range || !covers(one, domain, -1)) continue;
      last ??= one;
      count++;
    }
    return { count, last };
  }

  #index(): void {
    for (let number = Math.max(this.#unindexed, this.#added - this.capacity); number < this.#added; number++) {
      const { target, scope, domain, start, pages } = this.#ring[number % this.capacity]!;
      if (target !== InvalidationTarget.iotlb || scope !== InvalidationScope.range) continue;
      this.#ranges.add(number, domain, start, pages);
    }
    this.#unindexed = this.#added;
  }
}
