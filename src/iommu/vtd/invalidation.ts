/** What an invalidation does to the caches, whichever way it was asked for (6.5), and the event that tells of it. */
import {
  EventClass,
  InvalidationOrigin,
  InvalidationScope,
  InvalidationTarget,
  Kind,
} from '../../trace/event-kinds.ts';
import type { TranslationEngine } from '../translation-engine.ts';
import type { ContextCache } from './context-cache.ts';
import type { VtdCore } from './core.ts';
import type { InvalidationCounts } from './statistics.ts';
import type { VtdWatch } from './watch.ts';

/** How much of a cache a request is about: the encoding of descriptors and of both command registers. */
export const Granularity = {
  reserved: 0,
  global: 1,
  domain: 2,
  /** The context cache's device-selective, the IOTLB's page-selective. */
  selective: 3,
} as const;

const ALL_DOMAINS = -1;
const LEAF_ONLY = 1 << 12;

export class CacheInvalidator {
  private readonly domainMask: number;
  private readonly highMask: number;

  constructor(
    private readonly core: VtdCore,
    private readonly contexts: ContextCache,
    private readonly engine: TranslationEngine,
    private readonly watch?: VtdWatch,
  ) {
    this.domainMask = core.capabilities.domainMask;
    this.highMask = 2 ** (core.capabilities.guestAddressWidth - 32) - 1;
  }

  /** `granularity` is not `reserved`. */
  context(
    counts: InvalidationCounts,
    granularity: number,
    domain: number,
    requesterId: number,
    functionMask: number,
  ): void {
    domain &= this.domainMask;
    if (granularity === Granularity.global) {
      counts.contextGlobal++;
      this.contexts.invalidateAll();
      this.emit(counts, InvalidationTarget.context, InvalidationScope.all, ALL_DOMAINS, 0, 0, 0, 0);
      this.watch?.contextsInvalidated();
    } else if (granularity === Granularity.domain) {
      counts.contextDomain++;
      this.contexts.invalidateDomain(domain);
      this.emit(counts, InvalidationTarget.context, InvalidationScope.domain, domain, 0, 0, 0, 0);
      this.watch?.domainContextsInvalidated(domain);
    } else {
      counts.contextDevice++;
      const kept = this.contexts.invalidateDevice(requesterId, functionMask, domain);
      if (kept > 0) this.core.note('vtd.invalidationMissed', { requesterId, functionMask, domain, kept });
      this.emit(counts, InvalidationTarget.context, InvalidationScope.device, domain, 0, 0, 0, requesterId << 16);
      this.watch?.deviceContextsInvalidated(requesterId, functionMask);
    }
  }

  /** `granularity` is not `reserved`, and `addressMask` not above `MAX_ADDRESS_MASK` where pages are selected. */
  iotlb(
    counts: InvalidationCounts,
    granularity: number,
    domain: number,
    high: number,
    low: number,
    addressMask: number,
    leafOnly: boolean,
  ): void {
    domain &= this.domainMask;
    if (granularity === Granularity.global) {
      counts.iotlbGlobal++;
      this.engine.invalidateAll();
      this.emit(counts, InvalidationTarget.iotlb, InvalidationScope.all, ALL_DOMAINS, 0, 0, 0, 0);
      this.watch?.translationsInvalidated();
    } else if (granularity === Granularity.domain) {
      counts.iotlbDomain++;
      this.engine.invalidateDomain(domain);
      this.emit(counts, InvalidationTarget.iotlb, InvalidationScope.domain, domain, 0, 0, 0, 0);
      this.watch?.domainInvalidated(domain);
    } else {
      counts.iotlbPages++;
      // Address bits that no IOVA has are ignored (6.5.2.3).
      high &= this.highMask;
      this.engine.invalidatePages(domain, high, low, addressMask, leafOnly);
      // The mask is not above 18, so that the range never reaches into the upper word.
      low &= -4096 << addressMask;
      const pages = 1 << addressMask;
      const hint = leafOnly ? LEAF_ONLY : 0;
      this.emit(counts, InvalidationTarget.iotlb, InvalidationScope.range, domain, high, low, pages, hint);
      this.watch?.pagesInvalidated(domain, high, low, pages);
    }
  }

  private emit(
    counts: InvalidationCounts,
    target: number,
    scope: number,
    domain: number,
    high: number,
    low: number,
    pages: number,
    more: number,
  ): void {
    const { events, source, statistics } = this.core;
    if ((events.mask & EventClass.invalidation) === 0) return;
    const origin = counts === statistics.queued ? InvalidationOrigin.queue : InvalidationOrigin.register;
    events.emit(Kind.invalidation, source, domain, high, low, pages, target | (scope << 4) | (origin << 8) | more);
  }
}
