import { describe, expect, it } from 'vitest';
import {
  COMPARES_MAX,
  KNOWN_MAPPINGS_MAX,
  KnownMappings,
  type TableView,
  WALKS_BY_MESSAGES_MAX,
} from '../../../src/iommu/dma-iommu/known-mappings.ts';
import { MappingEvents } from '../../../src/iommu/dma-iommu/mapping-events.ts';
import { DomainType } from '../../../src/iommu/dma-iommu/types.ts';
import { Translation } from '../../../src/iommu/translator.ts';
import { MappingSource } from '../../../src/trace/event-kinds.ts';
import { EventLog } from './event-log.ts';
import { Arm64Tables, arm64Config, X64Tables, x64Config } from './guest-tables.ts';
import { DISK, expectStatus, NIC, R, Rig, RW, W } from './support.ts';

const READ_ONLY = 0x65n;
const CLEAN = 0x27n;

function setUp() {
  const trace = new EventLog('mapping', 'invalidation', 'attach');
  const rig = new Rig({ trace, memoryBytes: 4 << 20 });
  const tables = new X64Tables(rig.memory);
  const domain = rig.domain(DomainType.Unmanaged);
  expectStatus(rig.attach(domain), 'SUCCESS');
  expectStatus(rig.unit.configureDomain({ domain, configuration: x64Config({ root: tables.root }) }), 'SUCCESS');
  trace.take();
  const dma = (...addresses: bigint[]) => {
    for (const address of addresses) expect(rig.dma(NIC, address)).toBeDefined();
  };
  /** Kinds, and what they are about in short. */
  const told = () =>
    trace.take().map(({ kind, fields: { iova, frame, pages, how } }) => [kind, iova, frame, pages, how]);
  return { trace, rig, tables, domain, dma, told };
}

describe('mappings of a caller', () => {
  it('are told when a walk comes to them, once', () => {
    const { trace, tables, domain, dma, rig } = setUp();
    tables.map(0x1000n, 0x5000n, CLEAN);
    tables.map(0x2000n, 0x6000n, READ_ONLY);
    dma(0x1008n, 0x2000n, 0x1000n);
    rig.dma(NIC, 0x1000n, W);
    const fields = { domain, pages: 1, how: 'walk', shift: 12 };
    expect(trace.take()).toEqual([
      {
        kind: 'mapping.added',
        source: 'iommu',
        fields: { ...fields, iova: 0x1000n, frame: 5, permissions: RW },
      },
      { kind: 'mapping.added', source: 'iommu', fields: { ...fields, iova: 0x2000n, frame: 6, permissions: R } },
    ]);
  });

  it('are whole large pages, wherever in them the access was', () => {
    const { trace, tables, dma } = setUp();
    tables.set(0x4000_0000n, 2, 0x20_00e7n);
    dma(0x4000_5000n, 0x4010_0000n);
    expect(trace.fields()).toMatchObject([{ iova: 0x4000_0000n, frame: 0x200, pages: 512, shift: 21 }]);
  });

  it('have whole addresses', () => {
    const { trace, rig, tables } = setUp();
    tables.map(0xffff_8000_0000_0000n, 0x5000n);
    rig.dma(NIC, 0xffff_8000_0000_0000n);
    const arm64 = new Arm64Tables(rig.memory, 16, 4, 512);
    const domain = rig.domain(DomainType.Unmanaged);
    rig.attach(domain, DISK);
    rig.unit.configureDomain({
      domain,
      configuration: arm64Config({ inputSize0: 0, inputSize1: 48, ttbr1: arm64.root, granule: 16 }),
    });
    arm64.map(0xffff_0000_0000_4000n & (2n ** 48n - 1n), 0x1_0000n);
    rig.dma(DISK, 0xffff_0000_0000_5000n);
    expect(trace.fields('mapping.added')).toMatchObject([
      { iova: 0xffff_8000_0000_0000n, frame: 5, pages: 1, shift: 12 },
      { iova: 0xffff_0000_0000_4000n, frame: 0x10, pages: 4, shift: 14, domain },
    ]);
  });

  it('that lead elsewhere when a walk comes again are changed', () => {
    const { trace, tables, rig, dma } = setUp();
    tables.map(0x1000n, 0x5000n, READ_ONLY);
    dma(0x1000n);
    tables.map(0x1000n, 0x7000n);
    // Reading would still be answered by the IOTLB.
    rig.dma(NIC, 0x1000n, W);
    expect(trace.fields('mapping.changed')).toMatchObject([
      { frame: 7, permissions: RW, oldFrame: 5, oldPermissions: R, how: 'walk', iova: 0x1000n, pages: 1 },
    ]);
  });
});

describe('FlushDomain', () => {
  it('is told first, and then what has changed', () => {
    const { trace, rig, tables, domain, dma } = setUp();
    for (const page of [1n, 2n, 3n, 5n, 6n]) tables.map(page << 12n, (page + 16n) << 12n);
    dma(0x1000n, 0x2000n, 0x3000n, 0x5000n, 0x6000n);
    trace.take();
    for (const page of [1n, 2n, 5n]) tables.set(page << 12n, 1, 0n);
    tables.map(0x6000n, 0x9000n, READ_ONLY);
    rig.unit.flushDomain({ domain });
    const fields = { domain, how: 'invalidation', permissions: RW, shift: 12 };
    expect(trace.take()).toEqual([
      {
        kind: 'invalidation',
        source: 'iommu',
        fields: {
          domain,
          iova: 0n,
          pages: 0,
          target: 'iotlb',
          scope: 'domain',
          origin: 'operation',
          leafOnly: 0,
          requesterId: 0,
        },
      },
      { kind: 'mapping.removed', source: 'iommu', fields: { ...fields, iova: 0x1000n, frame: 17, pages: 2 } },
      { kind: 'mapping.removed', source: 'iommu', fields: { ...fields, iova: 0x5000n, frame: 21, pages: 1 } },
      {
        kind: 'mapping.changed',
        source: 'iommu',
        fields: {
          ...fields,
          iova: 0x6000n,
          frame: 9,
          pages: 1,
          permissions: R,
          oldFrame: 22,
          oldPermissions: RW,
        },
      },
    ]);
    rig.unit.flushDomain({ domain });
    expect(trace.take().map(({ kind }) => kind)).toEqual(['invalidation']);
  });

  it('does not take a page that is clean again for a changed one', () => {
    const { rig, tables, domain, dma, told } = setUp();
    tables.map(0x1000n, 0x5000n);
    dma(0x1000n);
    told();
    tables.map(0x1000n, 0x5000n, CLEAN);
    rig.unit.flushDomain({ domain });
    expect(told()).toEqual([['invalidation', 0n, undefined, 0, undefined]]);
  });

  it('sees a large page give way to small ones, and the other way round', () => {
    const { rig, tables, domain, dma, told } = setUp();
    tables.set(0x4000_0000n, 2, 0x20_00e7n);
    dma(0x4000_0000n);
    told();
    tables.set(0x4000_0000n, 2, 0n);
    tables.map(0x4000_0000n, 0x20_0000n);
    rig.unit.flushDomain({ domain });
    expect(told().slice(1)).toEqual([
      ['mapping.removed', 0x4000_0000n, 0x200, 512, 'invalidation'],
      ['mapping.added', 0x4000_0000n, 0x200, 1, 'invalidation'],
    ]);
    tables.set(0x4000_0000n, 2, 0x20_00e7n);
    rig.unit.flushDomain({ domain });
    expect(told().slice(1)).toEqual([
      ['mapping.removed', 0x4000_0000n, 0x200, 1, 'invalidation'],
      ['mapping.added', 0x4000_0000n, 0x200, 512, 'invalidation'],
    ]);
  });

  it('of one domain leaves the others alone', () => {
    const { rig, tables, dma, told } = setUp();
    const other = rig.domain(DomainType.Unmanaged);
    tables.map(0x1000n, 0x5000n);
    dma(0x1000n);
    tables.set(0x1000n, 1, 0n);
    told();
    rig.unit.flushDomain({ domain: other });
    expect(told().map(([kind]) => kind)).toEqual(['invalidation']);
  });
});

describe('FlushDomainByVaList', () => {
  it('is told as ranges, and looks at these only', () => {
    const { trace, rig, tables, domain, dma, told } = setUp();
    for (const page of [1n, 2n, 3n, 4n]) tables.map(page << 12n, 0x5000n);
    dma(0x1000n, 0x2000n, 0x3000n, 0x4000n);
    told();
    for (const page of [1n, 2n, 3n, 4n]) tables.set(page << 12n, 1, 0n);
    rig.unit.flushDomainByVaList({ domain, lastLevel: true, vaList: [0x1000n, 0x2fffn, 0x2000n, 0x4000n] });
    const events = trace.take();
    expect(events.slice(0, 2).map(({ kind, fields }) => [kind, fields.iova, fields.pages])).toEqual([
      ['invalidation', 0x1000n, 2],
      ['invalidation', 0x4000n, 1],
    ]);
    expect(events[0]!.fields).toMatchObject({ scope: 'range', origin: 'operation', leafOnly: 1, target: 'iotlb' });
    expect(events.slice(2).map(({ kind, fields }) => [kind, fields.iova])).toEqual([
      ['mapping.removed', 0x1000n],
      ['mapping.removed', 0x2000n],
      ['mapping.removed', 0x4000n],
    ]);
  });

  it('finds a large page by any address in it', () => {
    const { rig, tables, domain, dma, told } = setUp();
    tables.set(0x4000_0000n, 2, 0x20_00e7n);
    dma(0x4000_0000n);
    told();
    tables.set(0x4000_0000n, 2, 0n);
    rig.unit.flushDomainByVaList({ domain, lastLevel: false, vaList: [0x4012_3000n] });
    expect(told().slice(1)).toEqual([['mapping.removed', 0x4000_0000n, 0x200, 512, 'invalidation']]);
  });

  it('means whole granules', () => {
    const { trace, rig } = setUp();
    const arm64 = new Arm64Tables(rig.memory, 64, 3, 512);
    const domain = rig.domain(DomainType.Unmanaged);
    rig.attach(domain, DISK);
    rig.unit.configureDomain({ domain, configuration: arm64Config({ ttbr0: arm64.root, granule: 64 }) });
    arm64.map(0x10_0000n, 0x2_0000n);
    rig.dma(DISK, 0x10_0000n);
    arm64.set(0x10_0000n, 1, 0n);
    trace.take();
    rig.unit.flushDomainByVaList({ domain, lastLevel: true, vaList: [0x10_3000n, 0x11_0000n] });
    expect(trace.take().map(({ kind, fields }) => [kind, fields.iova, fields.pages])).toEqual([
      ['invalidation', 0x10_0000n, 32],
      ['mapping.removed', 0x10_0000n, 16],
    ]);
  });
});

describe('the life of a domain', () => {
  it('ConfigureDomain with other tables compares what was known with them', () => {
    const { trace, rig, tables, domain, dma } = setUp();
    tables.map(0x1000n, 0x5000n);
    tables.map(0x2000n, 0x6000n);
    dma(0x1000n, 0x2000n);
    trace.take();
    const other = new X64Tables(rig.memory, 4, 100);
    other.map(0x2000n, 0x6000n);
    rig.unit.configureDomain({ domain, configuration: x64Config({ root: other.root }) });
    expect(trace.take().map(({ kind, fields: { iova, how } }) => [kind, iova, how])).toEqual([
      ['invalidation', 0n, undefined],
      ['mapping.removed', 0x1000n, 'operation'],
      ['attach', undefined, undefined],
    ]);
    rig.unit.configureDomain({ domain, configuration: x64Config({ root: 0n, translationEnabled: false }) });
    expect(trace.fields('mapping.removed')).toMatchObject([{ iova: 0x2000n, how: 'operation' }]);
  });

  it('the last detach looks at what is left in the tables, and then is told', () => {
    const { trace, rig, tables, domain, dma } = setUp();
    tables.map(0x1000n, 0x5000n);
    tables.map(0x2000n, 0x6000n);
    dma(0x1000n, 0x2000n);
    rig.attach(domain, DISK);
    tables.set(0x1000n, 1, 0n);
    trace.take();
    rig.detach(domain, DISK);
    expect(trace.take().map(({ kind }) => kind)).toEqual(['detach']);
    rig.detach(domain, NIC);
    expect(trace.take().map(({ kind, fields: { iova, how } }) => [kind, iova, how])).toEqual([
      ['mapping.removed', 0x1000n, 'detach'],
      ['detach', undefined, undefined],
    ]);
  });

  it('DeleteDomain takes what is known with it, and that is no mistake', () => {
    const { trace, rig, tables, domain, dma } = setUp();
    tables.map(0x1000n, 0x5000n);
    dma(0x1000n);
    rig.detach(domain);
    trace.take();
    rig.unit.deleteDomain({ domain });
    expect(trace.fields('mapping.removed')).toMatchObject([{ iova: 0x1000n, how: 'operation', domain }]);
    expect(trace.details('dma-iommu.mappingsLeft')).toEqual([]);
  });

  it('a reset forgets without a word', () => {
    const { trace, rig, tables, dma } = setUp();
    tables.map(0x1000n, 0x5000n);
    dma(0x1000n);
    trace.take();
    rig.unit.reset();
    expect(trace.take()).toEqual([]);
  });
});

class Fake implements TableView {
  byMessages = false;
  walks = 0;
  readonly frames = new Map<number, number>();

  fresh(_high: number, low: number, out: Translation): boolean {
    this.walks++;
    const frame = this.frames.get(low >>> 12);
    if (frame === undefined) return false;
    out.frame = frame;
    out.shift = 12;
    out.permissions = RW;
    return true;
  }
}

describe('the store', () => {
  function store(limit?: number) {
    const trace = new EventLog('mapping');
    const known = new KnownMappings(new MappingEvents(trace, trace.sourceId('iommu')), limit);
    const view = new Fake();
    const out = new Translation();
    const see = (domain: number, page: number, frame = page) => {
      view.frames.set(page, frame);
      out.frame = frame;
      known.seen(domain, 0, page << 12, out, view);
    };
    return { trace, known, view, see };
  }

  it('keeps so many, of one domain three quarters of that, and counts what it does not take in', () => {
    expect(KNOWN_MAPPINGS_MAX).toBe(65536);
    const { trace, known, view, see } = store(4);
    for (const page of [20, 21, 22, 23]) see(2, page);
    expect([known.size, known.forgotten]).toEqual([3, 1]);
    see(3, 30);
    see(4, 40);
    expect([known.size, known.forgotten]).toEqual([4, 2]);
    expect(trace.fields().map(({ iova }) => iova)).toEqual([0x14000n, 0x15000n, 0x16000n, 0x1e000n]);
    view.frames.clear();
    trace.take();
    for (const domain of [1, 2, 3, 4]) known.compareAll(domain, view, MappingSource.invalidation);
    expect(trace.fields().map(({ domain, iova, pages }) => [domain, iova, pages])).toEqual([
      [2, 0x14000n, 3],
      [3, 0x1e000n, 1],
    ]);
    expect(known.size).toBe(0);
  });

  it('compares so many for one flush, and others the next time', () => {
    const { known, view, see } = store();
    for (let page = 0; page < COMPARES_MAX + 100; page++) see(1, page);
    view.frames.clear();
    const before = known.comparisons;
    known.compareDomain(1, view, MappingSource.invalidation);
    expect([known.size, known.comparisons - before]).toEqual([100, COMPARES_MAX]);
    known.compareDomain(1, view, MappingSource.invalidation);
    expect(known.size).toBe(0);
  });

  it('compares one address when asked', () => {
    const { trace, known, view, see } = store();
    for (let page = 0; page < 10; page++) see(1, page);
    view.frames.clear();
    trace.take();
    known.compareAt(1, 0, 0x5123, view, MappingSource.walk);
    expect(trace.take()).toMatchObject([{ kind: 'mapping.removed', fields: { iova: 0x5000n, pages: 1, how: 'walk' } }]);
  });

  it('walks through messages so many times only for one flush', () => {
    const { trace, known, view, see } = store();
    for (let page = 0; page < 200; page++) see(1, page);
    trace.take();
    view.frames.clear();
    view.byMessages = true;
    view.walks = 0;
    known.compareAll(1, view, MappingSource.invalidation);
    expect(view.walks).toBe(WALKS_BY_MESSAGES_MAX);
    expect(trace.fields()).toMatchObject([{ pages: WALKS_BY_MESSAGES_MAX }]);
    expect(known.size).toBe(200 - WALKS_BY_MESSAGES_MAX);
    view.walks = 0;
    known.beginComparison();
    for (let page = 0; page < 200; page++) known.comparePages(1, page, 1, 1, view, MappingSource.invalidation);
    expect(view.walks).toBe(WALKS_BY_MESSAGES_MAX);
  });

  it('asks no walk about what it knows', () => {
    const { view, see } = store();
    see(1, 10);
    see(1, 10);
    expect(view.walks).toBe(1);
  });
});
