import { describe, expect, it } from 'vitest';
import {
  FaultCause,
  FreshStatus,
  InvalidationScope,
  InvalidationTarget,
  StaleWhat,
} from '../../../src/trace/event-kinds.ts';
import { MAX_SUSPICIONS } from '../../../src/trace/sanitizer/limits.ts';
import { DOMAIN, EDU0, EDU1, GRACE, MS, Scenario } from './scenario.ts';

const CONTEXT = { what: StaleWhat.context, fresh: FreshStatus.mapped, freshDomain: 6 };

describe('stale-iotlb', () => {
  it('is told after the time of grace where the tables lead elsewhere', () => {
    const scenario = new Scenario().map(0x5000).after(MS).stale(0x5008, { fresh: FreshStatus.mapped });
    expect(scenario.names).toEqual([]);
    const { only } = scenario.wait();
    expect(only.detector).toBe('stale-iotlb');
    expect(only.summary).toBe(
      'edu0 (01:00.0) wrote 64 bytes at 0x5008 by a stale IOTLB entry, at 0x10000000: the page tables now say 0x20000000',
    );
    expect(only).toMatchObject({ iova: 0x5008n, length: 64, domain: DOMAIN });
    expect(only.evidence.map(one => one.kind)).toEqual(['mapping.added', 'stale']);
  });

  it('is told where the tables allow less', () => {
    const scenario = new Scenario().stale(0x5000, {
      fresh: FreshStatus.mapped,
      freshFrame: 0x10000,
      freshPermissions: 1,
    });
    expect(scenario.wait().only.summary).toContain('now allow reading only');
    expect(new Scenario().stale(0x5000, { fresh: FreshStatus.denied }).wait().names).toEqual(['stale-iotlb']);
  });

  it('is told where the entry cannot be used any more', () => {
    expect(new Scenario().stale(0x5000, { fresh: FreshStatus.malformed }).wait().names).toEqual(['stale-iotlb']);
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
    expect(scenario.wait().only.explanation).toContain('The last invalidation for this page was 5 ms before');
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

  it('is also for mappings that were changed', () => {
    const { only } = new Scenario().stale(0x5000, { fresh: FreshStatus.mapped }).after(MS).flush(0x5000);
    expect(only.detector).toBe('dma-before-flush');
    expect(only.summary).toContain('1 ms before the invalidation that the change of its mapping needs');
    expect(only.explanation).toContain('had been changed in the tables already (the page tables now say 0x20000000)');
  });

  it('says that the device was refused what is allowed by now', () => {
    const { only } = new Scenario().stale(0x5000, { fresh: FreshStatus.mapped, usedPermissions: 0 }).flush(0x5000);
    expect(only.summary).toContain('tried to write 64 bytes at 0x5000 and was refused');
    expect(only.explanation).toContain('so the device was refused what the tables allow by now');
  });

  it('is another one for another mapping at the same address', () => {
    const scenario = new Scenario().map(0x5000).after(MS).stale(0x5000).stale(0x5000).after(MS).unmapAndFlush(0x5000);
    scenario.after(MS).map(0x5000).after(MS).stale(0x5000).after(MS).unmapAndFlush(0x5000);
    expect(scenario.findings.map(one => [one.detector, one.count])).toEqual([
      ['dma-before-flush', 2],
      ['dma-before-flush', 1],
    ]);
  });

  it('is also for devices whose context entry is gone', () => {
    expect(new Scenario().stale(0x5000, { fresh: FreshStatus.detached }).flushDomain().names).toEqual([
      'dma-before-flush',
    ]);
  });
});

describe('other caches', () => {
  it('stale-context', () => {
    const scenario = new Scenario().stale(0x5000, CONTEXT).flush(0x5000).flushDomain();
    expect(scenario.names).toEqual([]);
    const { only } = scenario.wait();
    expect(only.detector).toBe('stale-context');
    expect(only.summary).toContain('by a stale context entry (domain 5): the one in memory says domain 6');
  });

  it('a context entry that is invalidated within the grace is dma-before-flush', () => {
    const context = (fields: Readonly<Record<string, number>>) =>
      new Scenario()
        .stale(0x5000, CONTEXT)
        .after(MS)
        .event('invalidation', { target: InvalidationTarget.context, domain: DOMAIN, ...fields });
    const { only } = context({ scope: InvalidationScope.device, requesterId: EDU0 });
    expect(only.detector).toBe('dma-before-flush');
    expect(only.summary).toContain('1 ms before the invalidation that the change of its context entry needs');
    expect(context({ scope: InvalidationScope.domain }).names).toEqual(['dma-before-flush']);
    expect(context({ scope: InvalidationScope.all, domain: -1 }).names).toEqual(['dma-before-flush']);
    expect(context({ scope: InvalidationScope.device, requesterId: EDU1 }).names).toEqual([]);
    // Of the domain that it has now, where the old one is cached.
    expect(context({ scope: InvalidationScope.device, requesterId: EDU0, domain: 6 }).names).toEqual([]);
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
    expect(scenario.names).toEqual([]);
    scenario.refused(0x5000);
    expect(scenario.wait().names).toEqual(['never-mapped', 'stale-context']);
  });

  it('an answer that says something unknown is no finding', () => {
    expect(new Scenario().stale(0x5000, { what: 6, fresh: FreshStatus.mapped }).names).toEqual([]);
  });
});

describe('a policy that stops', () => {
  const stopping = (policy: string) => {
    const stops: string[] = [];
    return { stops, scenario: new Scenario({ policy, onStop: one => stops.push(one.detector) }) };
  };

  it.each([
    ['stale-iotlb=stop', {}, 'stale-iotlb'],
    ['dma-before-flush=stop', {}, 'dma-before-flush'],
    ['all=stop', {}, 'stale-iotlb'],
    ['stale-context=stop', CONTEXT, 'stale-context'],
    ['dma-before-flush=stop,-stale-context', CONTEXT, 'dma-before-flush'],
  ])('%s stops within the access', (policy, fields, detector) => {
    const { stops, scenario } = stopping(policy);
    scenario.stale(0x5000, fields);
    expect(stops).toEqual([detector]);
    expect(scenario.only).toMatchObject({ detector, severity: 'stop', iova: 0x5000n });
    expect(scenario.only.explanation).toContain('whether its invalidation was only late was not waited for');
    expect(scenario.sanitizer.deadline).toBe(Number.POSITIVE_INFINITY);
  });

  it('waits where late invalidations are allowed', () => {
    const { stops, scenario } = stopping('stale-iotlb=stop,-dma-before-flush');
    scenario.stale(0x5000).after(MS).flush(0x5000).stale(0x6000);
    expect(stops).toEqual([]);
    scenario.wait();
    expect(stops).toEqual(['stale-iotlb']);
  });
});

describe('the time of grace', () => {
  it('does not run while the machine is paused', () => {
    const scenario = new Scenario()
      .stale(0x5000)
      .after(30 * MS)
      .note('machine.paused', { jobs: 0 }, 'machine');
    expect(scenario.sanitizer.deadline).toBe(Number.POSITIVE_INFINITY);
    scenario.wait().stale(0x6000).wait();
    expect(scenario.names).toEqual([]);
    scenario.note('machine.resumed', { jobs: 0 }, 'machine');
    expect(scenario.sanitizer.deadline).toBe(scenario.now + GRACE - 30 * MS);
    scenario.after(GRACE - 30 * MS).sanitizer.tick(scenario.now);
    expect(scenario.findings.map(one => one.iova)).toEqual([0x5000n]);
    scenario.after(30 * MS).sanitizer.tick(scenario.now);
    expect(scenario.findings.map(one => one.iova)).toEqual([0x5000n, 0x6000n]);
  });

  it('begins when a delay of invalidations is over', () => {
    const scenario = new Scenario().stale(0x5000);
    scenario.note('injection.applied', { rule: 'delay-invalidation', milliseconds: 300 }).after(MS).stale(0x6000);
    expect(scenario.sanitizer.deadline).toBe(scenario.now - MS + 300 * MS + GRACE);
    scenario.after(250 * MS).flush(0x5000);
    expect(scenario.names).toEqual(['dma-before-flush']);
    scenario.wait().wait();
    expect(scenario.names).toEqual(['dma-before-flush', 'stale-iotlb']);
  });

  it.each([
    ['an invalidation', (scenario: Scenario) => scenario.flush(0x9000)],
    ['a release', (scenario: Scenario) => scenario.note('injection.released', { rule: 'delay-invalidation' })],
    ['an overflow', (scenario: Scenario) => scenario.note('injection.overflow', { held: 4096 })],
  ])('begins with %s where invalidations are delayed until they are released', (_, release) => {
    const scenario = new Scenario().stale(0x5000).note('injection.applied', { rule: 'delay-invalidation' });
    scenario.wait().wait();
    expect(scenario.sanitizer.deadline).toBe(Number.POSITIVE_INFINITY);
    release(scenario);
    expect(scenario.sanitizer.deadline).toBe(scenario.now + GRACE);
    expect(scenario.wait().names).toEqual(['stale-iotlb']);
  });

  it('is not changed by other rules', () => {
    const scenario = new Scenario().stale(0x5000).note('injection.applied', { rule: 'hold' });
    expect(scenario.wait().names).toEqual(['stale-iotlb']);
  });

  it('ends with the machine, also while it is paused', () => {
    const scenario = new Scenario().stale(0x5000).note('machine.paused', { jobs: 0 }, 'machine');
    expect(scenario.after(MS).finish().names).toEqual(['stale-iotlb']);
  });
});
