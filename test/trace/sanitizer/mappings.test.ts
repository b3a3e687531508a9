import { describe, expect, it } from 'vitest';
import { AttachKind, MappingSource } from '../../../src/trace/event-kinds.ts';
import { DOMAIN, EDU0, EDU1, MS, READ, Scenario } from './scenario.ts';

const operation = { how: MappingSource.operation };

describe('overlapping-map', () => {
  it('is told of an operation over what an operation mapped', () => {
    const scenario = new Scenario().map(0x5000, 4, operation).after(MS);
    scenario.map(0x7000, 2, { ...operation, frame: 0x99999 });
    expect(scenario.only).toMatchObject({ detector: 'overlapping-map', device: 'iommu', iova: 0x7000n, length: 8192 });
    expect(scenario.only.summary).toBe(
      '0x7000-0x8fff was mapped in domain 5 over 0x5000-0x8fff, which is mapped already',
    );
  });

  it('says where both lead to the same', () => {
    const scenario = new Scenario().map(0x5000, 4, operation).map(0x6000, 1, { ...operation, frame: 0x10001 });
    expect(scenario.only.summary).toContain('to the same memory');
  });

  it('is not told of other domains and neighbours', () => {
    const scenario = new Scenario().map(0x5000, 1, operation).map(0x6000, 1, operation);
    scenario.map(0x5000, 1, { ...operation, domain: 6, frame: 1 });
    expect(scenario.names).toEqual([]);
  });

  it('is not told of what walks and invalidations see', () => {
    const scenario = new Scenario().map(0x5000).map(0x5000, 1, { frame: 0x20000 });
    scenario.map(0x5000, 1, { how: MappingSource.invalidation, frame: 0x30000 });
    scenario.event('mapping.changed', {
      domain: DOMAIN,
      iova: 0x5000,
      frame: 1,
      pages: 1,
      permissions: 3,
      oldFrame: 0x30000,
    });
    expect(scenario.names).toEqual([]);
    expect(scenario.sanitizer.mappings()).toMatchObject([{ iova: 0x5000n, frame: 1 }]);
  });
});

describe('mapping-leak', () => {
  it('is a note where the last device of a domain is detached with mappings in the tables', () => {
    const scenario = new Scenario()
      .attach()
      .map(0x5000, 2)
      .map(0x9000)
      .after(5 * MS)
      .detach();
    expect(scenario.only).toMatchObject({ detector: 'mapping-leak', device: 'edu0', severity: 'note', domain: DOMAIN });
    expect(scenario.only.summary).toBe(
      '2 mappings (12 KiB) of domain 5 were left behind when edu0 (01:00.0), the last device of the domain, was detached',
    );
    expect(scenario.only.explanation).toContain('0x5000-0x6fff, 0x9000-0x9fff');
  });

  it('is not told while another device uses the domain', () => {
    expect(new Scenario().attach().attach(EDU1).map(0x5000).detach().names).toEqual([]);
  });

  it('does not count devices that pass through', () => {
    const scenario = new Scenario().attach().attach(EDU1, DOMAIN, AttachKind.passThrough).map(0x5000).detach();
    expect(scenario.names).toEqual(['mapping-leak']);
  });

  it('is not told of identity mappings', () => {
    expect(new Scenario().attach().map(0x5000, 4, { frame: 5 }).detach().finish().names).toEqual([]);
  });

  it('is not told where all is unmapped', () => {
    expect(new Scenario().attach().map(0x5000).unmap(0x5000).detach().finish().names).toEqual([]);
  });

  it('is not told of a domain that operations map: it lives on', () => {
    const scenario = new Scenario().attach().map(0x5000, 1, operation).detach();
    expect(scenario.names).toEqual([]);
    expect(scenario.sanitizer.mappings()).toHaveLength(1);
  });

  it('is a warning where a domain is deleted with mappings', () => {
    const scenario = new Scenario().map(0x5000, 1, operation);
    scenario.note('dma-iommu.mappingsLeft', { domain: DOMAIN, mappings: 1, pages: 1 });
    expect(scenario.only).toMatchObject({ detector: 'mapping-leak', severity: 'warning', device: 'iommu' });
    expect(scenario.only.summary).toBe('1 mapping (4 KiB) of domain 5 was left behind when the domain was deleted');
  });

  it('is a note at a reset and at the end', () => {
    const reset = new Scenario().attach().map(0x5000).resetIommu();
    expect(reset.only).toMatchObject({ detector: 'mapping-leak', severity: 'note', device: 'edu0' });
    const end = new Scenario().attach().map(0x5000).finish().finish();
    expect(end.only).toMatchObject({ detector: 'mapping-leak', severity: 'note', count: 1 });
  });

  it('is one finding for each device and domain, however often', () => {
    const scenario = new Scenario();
    for (const domain of [1, 2, 1, 1]) {
      scenario.attach(EDU0, domain).after(MS).map(0x5000, 1, { domain }).detach(EDU0, domain);
    }
    expect(scenario.findings.map(one => [one.domain, one.count])).toEqual([
      [1, 3],
      [2, 1],
    ]);
  });

  it('names the oldest mapping and how many there are', () => {
    const scenario = new Scenario().attach().map(0x20000).after(MS);
    for (let page = 1; page < 10; page++) scenario.map(0x2000 * page - 0x1000, 1, { frame: 0x70000 });
    scenario.after(MS).detach();
    expect(scenario.only.explanation).toContain('and 7 others');
    expect(scenario.only.explanation).toContain('The oldest is 0x20000-0x20fff, first known 2 ms before');
  });
});

describe('the shadow', () => {
  it('shows what is mapped', () => {
    const scenario = new Scenario().map(0x5000, 4, { permissions: READ }).unmap(0x6000);
    expect(scenario.sanitizer.mappings()).toEqual([
      { domain: DOMAIN, iova: 0x5000n, pages: 1, frame: 0x10000, permissions: READ, since: scenario.now, how: 'walk' },
      { domain: DOMAIN, iova: 0x7000n, pages: 2, frame: 0x10002, permissions: READ, since: scenario.now, how: 'walk' },
    ]);
  });

  it('shows who is attached', () => {
    const scenario = new Scenario().attach().attach(0x300, 7).attach(EDU0, 9, AttachKind.translated, 4);
    expect(scenario.sanitizer.attachments()).toEqual([
      { requesterId: EDU0, device: 'edu0', domain: DOMAIN, kind: 0, pasid: -1, since: scenario.now },
      { requesterId: 0x300, device: '03:00.0', domain: 7, kind: 0, pasid: -1, since: scenario.now },
      { requesterId: EDU0, device: 'edu0', domain: 9, kind: 0, pasid: 4, since: scenario.now },
    ]);
  });

  it('forgets what walks saw when the domain lost its last device without a word', () => {
    const scenario = new Scenario().attach().map(0x5000).attach(EDU0, 6);
    expect(scenario.sanitizer.mappings()).toEqual([]);
    expect(scenario.names).toEqual([]);
  });

  it('is empty after a reset', () => {
    const scenario = new Scenario({ policy: 'off' }).attach().map(0x5000).resetIommu();
    expect(scenario.sanitizer.mappings()).toEqual([]);
    expect(scenario.sanitizer.attachments()).toEqual([]);
  });

  it('keeps scattered pages as such', () => {
    const scenario = new Scenario().map(0x5000, 4, { frame: -1 }).unmap(0x5000, 1, { frame: -1 });
    expect(scenario.sanitizer.mappings()).toMatchObject([{ iova: 0x6000n, pages: 3, frame: -1 }]);
  });
});
