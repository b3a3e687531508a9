import { describe, expect, it } from 'vitest';
import {
  FaultCause,
  FreshStatus,
  InvalidationScope,
  InvalidationTarget,
  StaleWhat,
} from '../../../src/trace/event-kinds.ts';
import { MAX_SUSPICIONS } from '../../../src/trace/sanitizer/limits.ts';
import { DOMAIN, GRACE, MS, Scenario } from './scenario.ts';

describe('stale-iotlb', () => {
  it('is told at once where the tables lead elsewhere', () => {
    const { only } = new Scenario().map(0x5000).after(MS).stale(0x5008, { fresh: FreshStatus.mapped });
    expect(only.detector).toBe('stale-iotlb');
    expect(only.summary).toBe(
      'edu0 (01:00.0) wrote 64 bytes at 0x5008 by a stale IOTLB entry, at 0x10000000: the page tables now say 0x20000000',
    );
    expect(only).toMatchObject({ iova: 0x5008n, length: 64, domain: DOMAIN });
    expect(only.evidence.map(one => one.kind)).toEqual(['mapping.added', 'stale']);
  });

  it('is told at once where the tables allow less', () => {
    const scenario = new Scenario().stale(0x5000, {
      fresh: FreshStatus.mapped,
      freshFrame: 0x10000,
      freshPermissions: 1,
    });
    expect(scenario.only.summary).toContain('now allow reading only');
    expect(new Scenario().stale(0x5000, { fresh: FreshStatus.denied }).names).toEqual(['stale-iotlb']);
  });

  it('is told at once where the entry cannot be used any more', () => {
    expect(new Scenario().stale(0x5000, { fresh: FreshStatus.malformed }).names).toEqual(['stale-iotlb']);
  });

  it('is told after the time of grace where the page is gone and nothing was invalidated', () => {
    const scenario = new Scenario().map(0x5000).stale(0x5000);
    expect(scenario.names).toEqual([]);
    expect(scenario.sanitizer.deadline).toBe(scenario.now + GRACE);
    scenario.sanitizer.tick(scenario.now + GRACE - 1);
    expect(scenario.names).toEqual([]);
    scenario.sanitizer.tick(scenario.now + GRACE);
    expect(scenario.only.detector).toBe('stale-iotlb');
    expect(scenario.only.explanation).toContain('in the 100 ms since this access no invalidation for it came');
    expect(scenario.sanitizer.deadline).toBe(Number.POSITIVE_INFINITY);
  });

  it('is told by an event that comes after the time of grace, before that event counts', () => {
    const scenario = new Scenario()
      .stale(0x5000)
      .after(GRACE + 1)
      .flush(0x5000);
    expect(scenario.names).toEqual(['stale-iotlb']);
  });

  it('is told at the end, if that comes first', () => {
    const scenario = new Scenario().stale(0x5000).after(MS).finish();
    expect(scenario.only.explanation).toContain('in the 1 ms since');
  });

  it('names the last invalidation for the page', () => {
    const scenario = new Scenario()
      .flush(0x5000)
      .after(5 * MS)
      .stale(0x5000, { fresh: FreshStatus.mapped });
    expect(scenario.only.explanation).toContain('The last invalidation for this page was 5 ms before');
  });

  it('is told with the fewest answers kept waiting', () => {
    const scenario = new Scenario();
    for (let page = 0; page <= MAX_SUSPICIONS; page++) scenario.after(1).stale(page * 4096);
    expect(scenario.only).toMatchObject({ detector: 'stale-iotlb', iova: 0n });
  });
});

describe('dma-before-flush', () => {
  it('measures the window up to the invalidation', () => {
    const scenario = new Scenario()
      .map(0x5000)
      .after(MS)
      .stale(0x5000)
      .after(0.8 * MS)
      .unmapAndFlush(0x5000)
      .wait();
    expect(scenario.only.detector).toBe('dma-before-flush');
    expect(scenario.only.summary).toContain('wrote 64 bytes at 0x5000, 800 us before the invalidation');
    expect(scenario.only.evidence.map(one => one.kind)).toEqual(['mapping.added', 'stale', 'invalidation']);
  });

  it('is settled by invalidations of the domain and of everything', () => {
    expect(new Scenario().stale(0x5000).flushDomain().names).toEqual(['dma-before-flush']);
    const all = new Scenario().stale(0x5000).event('invalidation', { domain: -1, scope: InvalidationScope.all });
    expect(all.names).toEqual(['dma-before-flush']);
  });

  it('is not settled by others', () => {
    const scenario = new Scenario()
      .stale(0x5000)
      .flush(0x6000, 4)
      .flush(0x5000, 1, DOMAIN + 1)
      .flushDomain(DOMAIN + 1);
    scenario.event('invalidation', {
      domain: DOMAIN,
      scope: InvalidationScope.all,
      target: InvalidationTarget.context,
    });
    expect(scenario.names).toEqual([]);
    expect(scenario.wait().names).toEqual(['stale-iotlb']);
  });

  it('counts the accesses of the window, and shows first and last', () => {
    const scenario = new Scenario()
      .stale(0x5000)
      .after(MS)
      .stale(0x5010)
      .after(MS)
      .stale(0x5020)
      .after(MS)
      .flush(0x5000);
    expect(scenario.only).toMatchObject({
      count: 3,
      iova: 0x5000n,
      last: scenario.now - MS,
      first: scenario.now - 3 * MS,
    });
    expect(scenario.only.summary).toContain('3 ms before');
    expect(scenario.only.evidence.filter(one => one.kind === 'stale')).toHaveLength(2);
  });

  it('is for pages that are gone only', () => {
    expect(new Scenario().stale(0x5000, { fresh: FreshStatus.mapped }).flush(0x5000).names).toEqual(['stale-iotlb']);
  });

  it('is also for devices whose context entry is gone', () => {
    expect(new Scenario().stale(0x5000, { fresh: FreshStatus.detached }).flushDomain().names).toEqual([
      'dma-before-flush',
    ]);
  });
});

describe('other caches', () => {
  it('stale-context', () => {
    const { only } = new Scenario().stale(0x5000, {
      what: StaleWhat.context,
      fresh: FreshStatus.mapped,
      freshDomain: 6,
    });
    expect(only.detector).toBe('stale-context');
    expect(only.summary).toContain('by a stale context entry (domain 5): the one in memory says domain 6');
  });

  it('stale-paging-structure', () => {
    const { only } = new Scenario().stale(0x5000, { what: StaleWhat.pagingStructure });
    expect(only.detector).toBe('stale-paging-structure');
    expect(only.summary).toContain('through a stale pointer to a page table, at 0x10000000');
  });

  it('missing-map-invalidation explains the refusal that follows', () => {
    const scenario = new Scenario().stale(0x5000, {
      what: StaleWhat.notPresent,
      fresh: FreshStatus.mapped,
      usedFrame: -1,
      usedPermissions: 0,
    });
    scenario.refused(0x5000);
    expect(scenario.only.detector).toBe('missing-map-invalidation');
    expect(scenario.only.summary).toContain(
      'tried to write 64 bytes at 0x5000 and was refused, though the page is mapped to 0x20000000',
    );
  });

  it('a stale context entry explains the refusal that follows, and no other', () => {
    const scenario = new Scenario().stale(0x5000, {
      what: StaleWhat.context,
      fresh: FreshStatus.mapped,
      usedPermissions: 0,
    });
    scenario.fault(0x5000, { cause: FaultCause.notPresent }).failed(0x5000, 64);
    expect(scenario.names).toEqual(['stale-context']);
    scenario.refused(0x5000);
    expect(scenario.names).toEqual(['stale-context', 'never-mapped']);
  });

  it('an answer that says something unknown is no finding', () => {
    expect(new Scenario().stale(0x5000, { what: 6, fresh: FreshStatus.mapped }).names).toEqual([]);
  });
});
