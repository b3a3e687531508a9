import { describe, expect, it } from 'vitest';
import { InvalidationScope, MappingSource } from '../../../src/trace/event-kinds.ts';
import { DOMAIN, EDU0, EDU1, MS, READ, Scenario } from './scenario.ts';

describe('use-after-unmap', () => {
  it('tells when the page was unmapped, and how', () => {
    const scenario = new Scenario()
      .attach()
      .map(0xfffff000n)
      .after(1 * MS);
    scenario
      .unmapAndFlush(0xfffff000n)
      .after(3.2 * MS)
      .refused(0xfffff000n);
    const { only } = scenario;
    expect(only.detector).toBe('use-after-unmap');
    expect(only.summary).toBe('edu0 (01:00.0) tried to write 64 bytes at 0xfffff000, which was unmapped 3.2 ms before');
    expect(only).toMatchObject({ id: 'F1', device: 'edu0', iova: 0xfffff000n, length: 64, domain: DOMAIN, count: 1 });
    expect(only.evidence.map(one => one.kind)).toEqual(['mapping.added', 'invalidation', 'mapping.removed', 'fault']);
    expect(only.evidence[0]!.text).toContain('0xfffff000-0xffffffff -> 0x10000000');
    expect(only.evidence[1]!.text).toContain('page-selective IOTLB invalidation of 0xfffff000-0xffffffff');
  });

  it('keeps its evidence in the order of time', () => {
    const { only } = new Scenario().map(0x5000).after(MS).unmapAndFlush(0x5000).after(MS).refused(0x5000);
    const times = only.evidence.map(one => one.time);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  it('goes before out-of-bounds where the transfer begins in the page that was unmapped', () => {
    const scenario = new Scenario()
      .map(0x5000)
      .map(0x6000, 1, { frame: 0x20000 })
      .unmapAndFlush(0x6000)
      .refused(0x6000);
    expect(scenario.names).toEqual(['use-after-unmap']);
  });

  it('is told of a page that is in the shadow, but not in the tables', () => {
    const { only } = new Scenario().map(0x5000).after(MS).refused(0x5000);
    expect(only.detector).toBe('use-after-unmap');
    expect(only.summary).toContain('no invalidation said so yet');
  });

  it('is likely where an invalidation named the page, though no mapping was seen', () => {
    const { only } = new Scenario()
      .flush(0x5000)
      .after(2 * MS)
      .refused(0x5000);
    expect(only.detector).toBe('use-after-unmap');
    expect(only.summary).toContain('probably unmapped 2 ms before');
    expect(only.explanation).toContain('not certain');
  });

  it('is not guessed from an invalidation of the whole domain', () => {
    expect(new Scenario().flushDomain().refused(0x5000).names).toEqual(['never-mapped']);
  });

  it('knows a page that was removed without having been seen before', () => {
    const { only } = new Scenario().unmap(0x5000).after(MS).refused(0x5000);
    expect(only.detector).toBe('use-after-unmap');
    expect(only.explanation).toContain('When it was mapped is not known');
  });

  it('is another one for another mapping at the same address', () => {
    const scenario = new Scenario().map(0x5000).after(MS).unmapAndFlush(0x5000).after(MS).refused(0x5000);
    scenario.refused(0x5010).after(MS).map(0x5000, 1, { frame: 0x33333 }).after(MS);
    scenario.unmap(0x5000, 1, { frame: 0x33333 }).after(MS).refused(0x5000).after(MS).refused(0x5000);
    expect(scenario.findings.map(one => [one.detector, one.count])).toEqual([
      ['use-after-unmap', 2],
      ['use-after-unmap', 2],
    ]);
    expect(scenario.findings[1]!.evidence[0]!.text).toContain('0x33333000');
  });

  it('stays the same one when an invalidation tells of the unmapping later', () => {
    const scenario = new Scenario().map(0x5000).after(MS).refused(0x5000).after(MS).unmapAndFlush(0x5000);
    expect(scenario.after(MS).refused(0x5000).only.count).toBe(2);
  });

  it('is another one in another domain', () => {
    const scenario = new Scenario().map(0x5000).unmap(0x5000).refused(0x5000);
    scenario.map(0x5000, 1, { domain: 9 }).unmap(0x5000, 1, { domain: 9 }).fault(0x5000, { domain: 9 });
    expect(scenario.failed(0x5000, 64).findings.map(one => one.domain)).toEqual([DOMAIN, 9]);
  });

  it('mentions the live mapping beside the page', () => {
    const gone = () => new Scenario().map(0x6000).unmap(0x6000);
    const behind = gone().map(0x5000).refused(0x6000).only;
    expect(behind.detector).toBe('use-after-unmap');
    expect(behind.explanation).toContain('lies right behind the mapping 0x5000-0x5fff, which is there now');
    const between = gone().map(0x5000).map(0x7000).refused(0x6000).only;
    expect(between.explanation).toContain(
      'right behind the mapping 0x5000-0x5fff and right before the mapping 0x7000-0x7fff',
    );
    expect(gone().refused(0x6000).only.explanation).not.toContain('right');
  });

  it('takes the mapping that went last', () => {
    const scenario = new Scenario().map(0x5000).after(MS).unmap(0x5000).after(MS);
    scenario.map(0x5000, 1, { frame: 0x33333 }).after(MS).unmap(0x5000).after(MS).refused(0x5000);
    expect(scenario.only.evidence[0]!.text).toContain('0x33333000');
  });

  it('says that the IOMMU was reset where that took the mapping away', () => {
    const scenario = new Scenario({ policy: 'on,-mapping-leak' })
      .attach()
      .map(0x5000)
      .resetIommu()
      .attach()
      .refused(0x5000);
    expect(scenario.only.explanation).toContain('reset of the IOMMU');
  });
});

describe('out-of-bounds', () => {
  it('tells by how much a transfer leaves its mapping', () => {
    const { only } = new Scenario().map(0x5000, 2).refused(0x6f80, 256, 0x7000);
    expect(only.detector).toBe('out-of-bounds');
    expect(only.summary).toBe(
      'edu0 (01:00.0) tried to write 256 bytes at 0x6f80: 128 bytes of it lie beyond the end of the mapping 0x5000-0x6fff',
    );
  });

  it('goes before use-after-unmap where the transfer begins in a mapping', () => {
    const scenario = new Scenario().map(0x5000).map(0x6000).unmapAndFlush(0x6000).refused(0x5f80, 256, 0x6000);
    expect(scenario.only.detector).toBe('out-of-bounds');
    expect(scenario.only.explanation).toContain('was mapped once');
  });

  it('tells the distance behind a mapping', () => {
    const { only } = new Scenario().map(0x5000).refused(0x6010);
    expect(only.detector).toBe('out-of-bounds');
    expect(only.summary).toContain('16 bytes behind the end of the mapping 0x5000-0x5fff');
  });

  it('tells the distance before a mapping', () => {
    const { only } = new Scenario().map(0x5000).refused(0x4fc0);
    expect(only.detector).toBe('out-of-bounds');
    expect(only.summary).toContain('64 bytes before the begin of the mapping 0x5000-0x5fff');
  });

  it('takes neighbours that allow the same for one mapping', () => {
    const { only } = new Scenario().map(0x5000).map(0x6000, 3, { frame: 0x999 }).refused(0x9000);
    expect(only.summary).toContain('right behind the end of the mapping 0x5000-0x8fff');
  });

  it('is not told two pages away', () => {
    expect(new Scenario().map(0x5000).refused(0x7000).names).toEqual(['never-mapped']);
  });
});

describe('never-mapped', () => {
  it('is what has no history', () => {
    const { only } = new Scenario().attach().refused(0xbadc000);
    expect(only.detector).toBe('never-mapped');
    expect(only.summary).toBe(
      'edu0 (01:00.0) tried to write 64 bytes at 0xbadc000, which is not mapped (no mapping was seen there)',
    );
    expect(only.iova).toBe(0xbadc000n);
  });

  it('is certain where operations map all there is', () => {
    const operation = { how: MappingSource.operation };
    const scenario = new Scenario().attach().map(0x5000, 1, operation).flushDomain().refused(0xbadc000);
    expect(scenario.only.summary).toContain('which was never mapped');
    expect(scenario.only.explanation).toBe('No operation has ever mapped this page of domain 5.');
    const empty = new Scenario().note('dma-iommu.domainCreated', { domain: DOMAIN, type: 0 }).refused(0xbadc000);
    expect(empty.only.summary).toContain('which was never mapped');
    const callers = new Scenario().note('dma-iommu.domainCreated', { domain: DOMAIN, type: 2 }).refused(0xbadc000);
    expect(callers.only.summary).toContain('no mapping was seen there');
  });

  it('counts the invalidations since the attach that name no page: each may have been an unmapping', () => {
    const scenario = new Scenario()
      .flushDomain()
      .after(MS)
      .attach()
      .after(MS)
      .flushDomain()
      .flushDomain(DOMAIN + 1);
    scenario.after(MS).event('invalidation', { domain: -1, scope: InvalidationScope.all });
    scenario.after(3 * MS).refused(0xbadc000);
    expect(scenario.only.detector).toBe('never-mapped');
    expect(scenario.only.explanation).toContain(
      'There were 2 invalidations of the whole domain or of all domains since the device was attached, the last one 3 ms before',
    );
    expect(scenario.only.evidence.map(one => one.kind)).toEqual(['invalidation', 'fault']);
  });

  it('does not speak of invalidations where there were none', () => {
    expect(new Scenario().flush(0x9000).refused(0xbadc000).only.explanation).not.toContain('whole domain');
  });

  it('says that the address looks like a physical one, and in which region', () => {
    const { only } = new Scenario().memory(0, 0x20000000).refused(0xbadc000);
    expect(only.summary).toContain('looks like a physical address');
    expect(only.explanation).toContain('0x0-0x1fffffff');
  });

  it('does not say so of addresses below 1 MiB', () => {
    expect(new Scenario().memory(0, 0x20000000).refused(0x5000).only.summary).not.toContain('physical');
  });

  it('does not say so of memory that is gone, though another function had announced it too', () => {
    const scenario = new Scenario().memory(0, 0x20000000).memory(0, 0x20000000, 'edu1').noMemory(0, 0x20000000);
    expect(scenario.refused(0xbadc000).only.summary).toContain('physical');
    const gone = new Scenario().memory(0, 0x20000000).memory(0, 0x20000000, 'edu1');
    gone.noMemory(0, 0x20000000).noMemory(0, 0x20000000, 'edu1');
    expect(gone.refused(0xbadc000).only.summary).not.toContain('physical');
  });

  it('names the device in whose domain the page is mapped', () => {
    const scenario = new Scenario().attach(EDU0, 1).attach(EDU1, 2).map(0x6780000, 1, { domain: 1 });
    scenario.fault(0x6780000, { requesterId: EDU1, domain: 2 }).failed(0x6780000, 64, { requesterId: EDU1 });
    expect(scenario.only).toMatchObject({ detector: 'never-mapped', device: 'edu1' });
    expect(scenario.only.explanation).toContain('mapped in domain 1, to which edu0 (01:00.0) is attached');
  });

  it('says that the device comes from a domain that had the page', () => {
    const scenario = new Scenario({ policy: 'on,-mapping-leak' }).attach(EDU0, 1).map(0x5000, 1, { domain: 1 });
    scenario.detach(EDU0, 1).attach(EDU0, 2).fault(0x5000, { domain: 2 }).failed(0x5000, 64);
    expect(scenario.only.explanation).toContain('it was in domain 1, where this device was before');
  });

  it('works for addresses of 64 bits', () => {
    const address = 0xffff_ffff_ffff_f010n;
    expect(new Scenario().refused(address, 8).only.iova).toBe(address);
  });

  it('says that records are missing, where a recording lost some', () => {
    const scenario = new Scenario().event('dropped', { records: 12 }).refused(0x5000);
    expect(scenario.only.explanation).toContain('12 records');
  });
});

describe('a fault', () => {
  it('without a failed transfer is decided when the next event comes', () => {
    const scenario = new Scenario().fault(0x5008);
    expect(scenario.names).toEqual([]);
    scenario.flushDomain();
    expect(scenario.only).toMatchObject({ detector: 'never-mapped', iova: 0x5008n });
    expect(scenario.only.length).toBeUndefined();
  });

  it('without a failed transfer is due at once', () => {
    const scenario = new Scenario().fault(0x5000);
    expect(scenario.sanitizer.deadline).toBe(scenario.now);
    scenario.sanitizer.tick(scenario.now);
    expect(scenario.names).toEqual(['never-mapped']);
    expect(scenario.sanitizer.deadline).toBe(Number.POSITIVE_INFINITY);
  });

  it('is not taken together with the failed transfer of another device', () => {
    const scenario = new Scenario().fault(0x5000).failed(0x9000, 64, { requesterId: EDU1, status: 2 });
    expect(scenario.findings.map(one => [one.detector, one.iova])).toEqual([
      ['never-mapped', 0x5000n],
      ['bus-master-off', 0x9000n],
    ]);
  });

  it('may have notes between itself and its failed transfer', () => {
    const scenario = new Scenario().fault(0x5000).note('fault.recorded', { requesterId: EDU0 }).failed(0x5000, 48);
    expect(scenario.only.length).toBe(48);
  });

  it('that was injected is no finding, and the next one is', () => {
    const scenario = new Scenario().map(0x5000).note('injection.applied', { rule: 'refuse' }, 'edu0').refused(0x5000);
    expect(scenario.names).toEqual([]);
    scenario.refused(0x9000000);
    expect(scenario.names).toEqual(['never-mapped']);
  });

  it('of an operation that changed the mapping counts the mapping of before as gone', () => {
    const scenario = new Scenario().map(0x5000, 4, { how: MappingSource.operation });
    scenario.unmap(0x6000, 1, { how: MappingSource.operation }).after(MS);
    scenario.fault(0x6000, { access: READ }).failed(0x6000, 4, { write: 0 });
    expect(scenario.only.summary).toContain('tried to read 4 bytes at 0x6000, which was unmapped 1 ms before');
  });
});
