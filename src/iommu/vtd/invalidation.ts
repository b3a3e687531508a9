/** What an invalidation does to the caches, whichever way it was asked for (6.5). */
import type { TranslationEngine } from '../translation-engine.ts';
import type { ContextCache } from './context-cache.ts';
import type { VtdCore } from './core.ts';
import type { InvalidationCounts } from './statistics.ts';

/** How much of a cache a request is about: the encoding of descriptors and of both command registers. */
export const Granularity = {
  reserved: 0,
  global: 1,
  domain: 2,
  /** The context cache's device-selective, the IOTLB's page-selective. */
  selective: 3,
} as const;

export class CacheInvalidator {
  private readonly domainMask: number;
  private readonly highMask: number;

  constructor(
    private readonly core: VtdCore,
    private readonly contexts: ContextCache,
    private readonly engine: TranslationEngine,
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
    if (granularity === Granularity.global) {
      counts.contextGlobal++;
      this.contexts.invalidateAll();
    } else if (granularity === Granularity.domain) {
      counts.contextDomain++;
      this.contexts.invalidateDomain(domain & this.domainMask);
    } else {
      counts.contextDevice++;
      const kept = this.contexts.invalidateDevice(requesterId, functionMask, domain & this.domainMask);
      if (kept > 0) {
        this.core.note('vtd.invalidationMissed', { requesterId, functionMask, domain: domain & this.domainMask, kept });
      }
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
    if (granularity === Granularity.global) {
      counts.iotlbGlobal++;
      this.engine.invalidateAll();
    } else if (granularity === Granularity.domain) {
      counts.iotlbDomain++;
      this.engine.invalidateDomain(domain & this.domainMask);
    } else {
      counts.iotlbPages++;
      // Address bits that no IOVA has are ignored (6.5.2.3).
      this.engine.invalidatePages(domain & this.domainMask, high & this.highMask, low, addressMask, leafOnly);
    }
  }
}
