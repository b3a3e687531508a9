/** The sanitizer over real units and a real DMA port: what they tell has to lead to the findings that it should. */
import { describe, expect, it } from 'vitest';
import { DomainType } from '../../../src/iommu/dma-iommu/types.ts';
import { DmaIommu } from '../../../src/iommu/dma-iommu/unit.ts';
import { TranslatedDmaPort } from '../../../src/iommu/dma-port.ts';
import type { Translator } from '../../../src/iommu/translator.ts';
import { LocalMemory } from '../../../src/memory/local-memory.ts';
import { Kind } from '../../../src/trace/event-kinds.ts';
import type { Finding } from '../../../src/trace/sanitizer/finding.ts';
import { defaultPolicy } from '../../../src/trace/sanitizer/policy.ts';
import { Sanitizer } from '../../../src/trace/sanitizer/sanitizer.ts';
import { TraceLog } from '../../../src/trace/trace.ts';
import { Tracer } from '../../../src/trace/tracer.ts';
import { X64Tables, x64Config } from '../../iommu/dma-iommu/guest-tables.ts';
import { Directory, expectStatus, Jobs, mdl, NIC, RW } from '../../iommu/dma-iommu/support.ts';
import { Bench, DOMAIN, FRAMES, RID } from '../../iommu/vtd/support.ts';

const MS = 1e6;
const PAGE = 4096;
const IOVA = 0x10_0000n;

/** A tracer with the sanitizer behind it, and a device. */
class Watched {
  now = 0;
  readonly gate = { busMaster: true, generation: 0 };
  readonly forwarded = new TraceLog();
  readonly sanitizer = new Sanitizer({ policy: defaultPolicy(), endpoints: new Map([[RID, 'edu0']]) });
  readonly tracer = new Tracer({ forward: this.forwarded, listener: this.sanitizer, now: () => this.now });

  port(translator: Translator, memory: LocalMemory, bytes: number): TranslatedDmaPort {
    const source = this.tracer.sourceId('edu0');
    this.tracer.emit(Kind['memory.added'], source, 3, 0, 0, 0, bytes);
    const { gate, tracer: trace } = this;
    return new TranslatedDmaPort({ translator, memory, requesterId: RID, gate, trace, name: 'edu0' });
  }

  after(nanoseconds: number): this {
    this.now += nanoseconds;
    this.sanitizer.tick(this.now);
    return this;
  }

  get names(): string[] {
    this.after(MS);
    expect(this.forwarded.kinds()).not.toContain('internal.error');
    return this.sanitizer.findings.map(finding => finding.detector);
  }

  get only(): Finding {
    expect(this.names).toHaveLength(1);
    return this.sanitizer.findings[0]!;
  }
}

class Vtd extends Watched {
  readonly bench = new Bench({}, { checks: true, trace: this.tracer });
  readonly dma = this.port(this.bench.unit, this.bench.memory, FRAMES * PAGE);

  constructor() {
    super();
    this.bench.setContext(RID);
    this.bench.enable().enableQueue();
  }

  write(iova: bigint, length = 64): number {
    this.now += 1000;
    return this.dma.write(Number(iova >> 32n), Number(BigInt.asIntN(32, iova)), new Uint8Array(length), 0, length);
  }

  read(iova: bigint, length = 64): number {
    this.now += 1000;
    return this.dma.read(Number(iova >> 32n), Number(BigInt.asIntN(32, iova)), new Uint8Array(length), 0, length);
  }

  flush(iova: bigint): this {
    this.now += 1000;
    this.bench.submit([(BigInt(DOMAIN) << 16n) | 0x32n, iova]);
    return this;
  }
}

describe('a VT-d unit', () => {
  it('that is used correctly gives no finding', () => {
    const vtd = new Vtd();
    for (let round = 0; round < 5; round++) {
      vtd.bench.map(IOVA, 300 + round);
      expect([vtd.write(IOVA), vtd.read(IOVA + 128n)]).toEqual([0, 0]);
      vtd.bench.unmap(IOVA);
      vtd.flush(IOVA).after(50 * MS);
    }
    expect(vtd.names).toEqual([]);
  });

  it('use-after-unmap', () => {
    const vtd = new Vtd();
    vtd.bench.map(IOVA, 300);
    vtd.write(IOVA);
    vtd.bench.unmap(IOVA);
    vtd.flush(IOVA);
    vtd.now += 3 * MS;
    vtd.write(IOVA);
    expect(vtd.only.detector).toBe('use-after-unmap');
    expect(vtd.only.summary).toMatch(
      /^edu0 \(01:00\.0\) tried to write 64 bytes at 0x100000, which was unmapped 3 ms before$/,
    );
    expect(vtd.only.evidence.map(one => one.kind)).toEqual([
      'mapping.added',
      'invalidation',
      'mapping.removed',
      'fault',
    ]);
  });

  it('stale-iotlb where nothing is invalidated', () => {
    const vtd = new Vtd();
    vtd.bench.map(IOVA, 300);
    vtd.write(IOVA);
    vtd.bench.unmap(IOVA);
    vtd.write(IOVA);
    expect(vtd.names).toEqual([]);
    expect(vtd.after(200 * MS).names).toEqual(['stale-iotlb']);
  });

  it('dma-before-flush where the invalidation comes later', () => {
    const vtd = new Vtd();
    vtd.bench.map(IOVA, 300);
    vtd.write(IOVA);
    vtd.bench.unmap(IOVA);
    vtd.write(IOVA);
    vtd.flush(IOVA).after(200 * MS);
    expect(vtd.only).toMatchObject({ detector: 'dma-before-flush', device: 'edu0', iova: IOVA, length: 64 });
  });

  it('out-of-bounds across the end of a mapping', () => {
    const vtd = new Vtd();
    vtd.bench.map(IOVA, 300);
    expect(vtd.write(IOVA + 0xfc0n, 128)).toBe(1);
    expect(vtd.only.summary).toContain('64 bytes of it lie beyond the end of the mapping 0x100000-0x100fff');
  });

  it('wrong-direction', () => {
    const vtd = new Vtd();
    vtd.bench.map(IOVA, 300, 1n);
    vtd.read(IOVA);
    vtd.write(IOVA);
    expect(vtd.only).toMatchObject({ detector: 'wrong-direction' });
    expect(vtd.only.summary).toContain('mapped for reading only');
  });

  it('never-mapped', () => {
    const vtd = new Vtd();
    vtd.write(0x4000_0000n);
    expect(vtd.names).toEqual(['never-mapped']);
  });

  it('malformed-table', () => {
    const vtd = new Vtd();
    vtd.bench.setEntry(IOVA, 1, (1n << 50n) | (300n << 12n) | 3n);
    vtd.write(IOVA);
    expect(vtd.only.detector).toBe('malformed-table');
    expect(vtd.only.summary).toContain('is 0x400000012c003');
  });

  it('dma-while-detached, after the detach was noticed', () => {
    const vtd = new Vtd();
    vtd.write(IOVA);
    vtd.bench.setContext(RID, { present: false });
    vtd.bench.submit([0x11n, 0n]);
    vtd.now += MS;
    vtd.write(0x7000_0000n);
    expect(vtd.names).toEqual(['never-mapped', 'dma-while-detached']);
    expect(vtd.sanitizer.findings[1]!.summary).toContain('was detached from domain 7');
  });

  it('stale-context', () => {
    const vtd = new Vtd();
    vtd.bench.map(IOVA, 300);
    vtd.write(IOVA);
    vtd.bench.setContext(RID, { domain: DOMAIN + 1 });
    vtd.write(IOVA);
    expect(vtd.names).toEqual([]);
    expect(vtd.after(100 * MS).names).toEqual(['stale-context']);
  });

  it('wrong-requester-id', () => {
    const vtd = new Vtd();
    vtd.bench.setContext(RID, { present: false });
    vtd.bench.setContext(RID + 8);
    vtd.write(IOVA);
    expect(vtd.only.detector).toBe('wrong-requester-id');
    expect(vtd.only.summary).toContain('01:01.0');
  });

  it('bus-master-off, dma-to-no-memory, invalidation-queue-misuse', () => {
    const vtd = new Vtd();
    vtd.gate.busMaster = false;
    vtd.write(IOVA);
    vtd.gate.busMaster = true;
    vtd.bench.map(IOVA, FRAMES + 1);
    expect(vtd.write(IOVA)).toBe(3);
    vtd.bench.submit([0xfn, 0n]);
    expect(vtd.names).toEqual(['bus-master-off', 'dma-to-no-memory', 'invalidation-queue-misuse']);
    expect(vtd.sanitizer.findings[1]!.summary).toContain('0x100000 leads to 0x201000, where no memory is');
  });
});

/** Two devices whose domains have the same number, one after the other, as kernels give numbers again. */
describe('a domain id that is used again on a VT-d unit', () => {
  const OTHER = RID + 8;
  const flushContexts: [bigint, bigint] = [0x11n, 0n];

  /** The first device leaves a mapping behind; the second has the same domain id, and tables of its own. */
  function reused(): { vtd: Vtd; write: (iova: bigint) => boolean; table: number } {
    const vtd = new Vtd();
    const { bench } = vtd;
    bench.map(IOVA, 300);
    bench.map(IOVA + 0x3000n, 301);
    vtd.write(IOVA);
    vtd.write(IOVA + 0x3000n);
    bench.unmap(IOVA + 0x3000n);
    vtd.flush(IOVA + 0x3000n).after(MS);
    bench.setContext(RID, { present: false });
    bench.submit(flushContexts, [0x12n, 0n]);
    vtd.after(MS);
    expect(vtd.sanitizer.mappings()).toEqual([]);
    expect(vtd.only).toMatchObject({ detector: 'mapping-leak', severity: 'note' });
    const table = bench.newTable();
    bench.setContext(OTHER, { table });
    const write = (iova: bigint) => {
      vtd.after(1000);
      return bench.translate(iova, 2, OTHER);
    };
    return { vtd, write, table };
  }

  const mistakes = (vtd: Vtd) => {
    vtd.after(MS);
    return vtd.sanitizer.findings.slice(1);
  };

  it('has nothing mapped of what was left behind', () => {
    const { vtd, write, table } = reused();
    vtd.bench.setEntry(IOVA, 1, (302n << 12n) | 3n, 4, table);
    expect(write(IOVA)).toBe(true);
    expect(vtd.sanitizer.mappings()).toMatchObject([{ domain: DOMAIN, iova: IOVA, pages: 1, frame: 302 }]);
    expect(mistakes(vtd)).toEqual([]);
  });

  it.each([
    ['a page that was left behind', IOVA],
    ['a page beside it', IOVA + 0x1000n],
    ['a page that had been unmapped', IOVA + 0x3000n],
  ])('takes %s for one that was never mapped', (_name, iova) => {
    const { vtd, write } = reused();
    expect(write(iova)).toBe(false);
    expect(mistakes(vtd)).toMatchObject([{ detector: 'never-mapped', device: '01:01.0', iova }]);
  });

  it('says that the page was mapped in the earlier one', () => {
    const { vtd, write } = reused();
    write(IOVA);
    expect(mistakes(vtd)[0]!.explanation).toMatch(
      /It was mapped in an earlier domain with this number, until .* before/,
    );
  });

  it('is the old one for the device that was there before', () => {
    const { vtd } = reused();
    vtd.bench.setContext(RID, { table: vtd.bench.newTable() });
    vtd.after(MS).write(IOVA);
    expect(mistakes(vtd)).toMatchObject([{ detector: 'use-after-unmap', device: 'edu0' }]);
  });

  it('knows a re-attach with the same tables', () => {
    const vtd = new Vtd();
    const { bench } = vtd;
    bench.map(IOVA, 300);
    vtd.write(IOVA);
    for (let round = 0; round < 2; round++) {
      bench.setContext(RID, { present: false });
      bench.submit(flushContexts, [0x12n, 0n]);
      expect(vtd.sanitizer.mappings()).toEqual([]);
      bench.setContext(RID);
      expect(vtd.after(MS).write(IOVA)).toBe(0);
      expect(vtd.sanitizer.mappings()).toMatchObject([{ iova: IOVA, frame: 300 }]);
    }
    bench.unmap(IOVA);
    vtd.flush(IOVA).after(MS).write(IOVA);
    expect(vtd.sanitizer.findings.map(one => one.detector)).toContain('use-after-unmap');
    expect(vtd.sanitizer.findings.filter(one => one.severity !== 'note')).toHaveLength(1);
  });
});

describe('what a VT-d unit tells of attachments', () => {
  it('gives no leak where another device of the domain did no DMA yet', () => {
    const vtd = new Vtd();
    vtd.bench.map(IOVA, 300);
    vtd.write(IOVA);
    vtd.bench.setContext(RID + 8);
    vtd.bench.setContext(RID, { present: false });
    vtd.bench.submit([0x11n, 0n]);
    expect(vtd.names).toEqual([]);
    expect(vtd.sanitizer.mappings()).toHaveLength(1);
    vtd.bench.setContext(RID + 8, { present: false });
    vtd.bench.submit([0x11n, 0n]);
    expect(vtd.only).toMatchObject({ detector: 'mapping-leak', device: '01:01.0', severity: 'note' });
    expect(vtd.only.explanation).toContain('It is a note only: a kernel that hands a device to somebody else');
  });

  it('gives no leak where an entry cannot be used for a while', () => {
    const vtd = new Vtd();
    vtd.bench.map(IOVA, 300);
    vtd.write(IOVA);
    vtd.bench.setContext(RID, { type: 3 });
    vtd.bench.submit([0x11n, 0n]);
    vtd.write(IOVA);
    vtd.bench.setContext(RID);
    vtd.bench.submit([0x11n, 0n]);
    expect(vtd.write(IOVA)).toBe(0);
    expect(vtd.names).toEqual(['malformed-table']);
  });

  it('shows an entry for the wrong requester, also after an earlier detach', () => {
    const vtd = new Vtd();
    vtd.write(IOVA);
    vtd.bench.setContext(RID, { present: false });
    vtd.bench.submit([0x11n, 0n]);
    vtd.bench.setContext(RID + 1);
    vtd.after(MS).write(0x7000_0000n);
    expect(vtd.names).toEqual(['never-mapped', 'wrong-requester-id']);
  });

  it('shows a table that contains itself', () => {
    const vtd = new Vtd();
    const loop = (5n << 39n) | (5n << 30n) | (5n << 21n) | (5n << 12n);
    vtd.bench.setEntry(loop, 4, (BigInt(vtd.bench.tableRoot) << 12n) | 3n);
    expect(vtd.read(loop)).toBe(0);
    expect(vtd.only).toMatchObject({ detector: 'malformed-table', device: 'edu0', iova: loop, domain: DOMAIN });
  });

  it('never speaks of what happens now as of something before', () => {
    const vtd = new Vtd();
    vtd.bench.map(IOVA, 300);
    vtd.write(IOVA);
    vtd.bench.setContext(RID, { present: false });
    vtd.bench.submit([0x11n, 0n]);
    const texts = vtd.only.evidence.map(one => one.text);
    expect(texts.at(-1)).toBe('edu0 (01:00.0) detached from domain 7');
    expect(texts.join()).not.toContain(' 0 ns');
  });
});

class Windows extends Watched {
  readonly memory = new LocalMemory(4 << 20);
  readonly unit = new DmaIommu({
    name: 'iommu',
    memory: this.memory,
    devices: new Directory(),
    jobs: new Jobs(),
    trace: this.tracer,
    options: { checkStale: true },
  });
  readonly dma = this.port(this.unit, this.memory, 4 << 20);

  domain(type: number = DomainType.Translate) {
    return this.unit.createDomainEx({ domainType: type, reservedRegions: undefined }).domain!;
  }

  attached(type: number = DomainType.Translate) {
    const domain = this.domain(type);
    const attach = { domain, physicalDeviceObject: NIC, inputMappingIdBase: 0, mappingCount: 1 };
    expectStatus(this.unit.attachDevice(attach), 'SUCCESS');
    return domain;
  }

  write(address: number, length = 64): number {
    this.now += 1000;
    return this.dma.write(0, address, new Uint8Array(length), 0, length);
  }
}

describe('a dma-iommu unit', () => {
  const page = (logicalAddress: bigint) => ({ permissions: RW, mdl: mdl(9), logicalAddress });

  it('that is used correctly gives no finding', () => {
    const it = new Windows();
    const domain = it.attached();
    for (let round = 0; round < 3; round++) {
      expectStatus(it.unit.mapLogicalRange({ domain, ...page(IOVA) }), 'SUCCESS');
      expect(it.write(0x10_0000)).toBe(0);
      expectStatus(it.unit.unmapLogicalRange({ domain, logicalAddress: IOVA, numberOfPages: 1 }), 'SUCCESS');
    }
    const detach = { domain, physicalDeviceObject: NIC, inputMappingId: 0 };
    expectStatus(it.unit.detachDevice(detach), 'SUCCESS');
    expectStatus(it.unit.deleteDomain({ domain }), 'SUCCESS');
    it.sanitizer.finish(it.now);
    expect(it.names).toEqual([]);
  });

  it('use-after-unmap, double-unmap and overlapping-map', () => {
    const it = new Windows();
    const domain = it.attached();
    it.unit.mapLogicalRange({ domain, ...page(IOVA) });
    it.now += MS;
    it.unit.mapLogicalRange({ domain, ...page(IOVA) });
    it.unit.unmapLogicalRange({ domain, logicalAddress: IOVA, numberOfPages: 1 });
    it.now += 2 * MS;
    it.unit.unmapLogicalRange({ domain, logicalAddress: IOVA, numberOfPages: 1 });
    expect(it.write(0x10_0000)).toBe(1);
    expect(it.names).toEqual(['overlapping-map', 'double-unmap', 'use-after-unmap']);
    expect(it.sanitizer.findings[0]!.explanation).toContain('has been there for 1 ms');
    expect(it.sanitizer.findings[1]!.summary).toContain('was unmapped 2 ms before already');
    expect(it.sanitizer.findings[2]!.evidence[0]!.text).toContain('mapped by an operation');
  });

  it('mapping-leak where a domain is deleted with mappings', () => {
    const it = new Windows();
    const domain = it.domain();
    it.unit.mapLogicalRange({ domain, ...page(IOVA) });
    it.unit.deleteDomain({ domain });
    expect(it.only).toMatchObject({ detector: 'mapping-leak', severity: 'warning' });
    expect(it.sanitizer.mappings()).toEqual([]);
  });

  it("stale-iotlb and dma-before-flush with the caller's own tables", () => {
    const it = new Windows();
    const tables = new X64Tables(it.memory);
    const domain = it.attached(DomainType.Unmanaged);
    expectStatus(it.unit.configureDomain({ domain, configuration: x64Config({ root: tables.root }) }), 'SUCCESS');
    tables.map(0x5000n, 0x200000n);
    tables.map(0x6000n, 0x201000n);
    expect([it.write(0x5000), it.write(0x6000)]).toEqual([0, 0]);
    tables.set(0x6000n, 1, 0n);
    expect(it.write(0x6000)).toBe(0);
    it.now += MS;
    expectStatus(it.unit.flushDomain({ domain }), 'SUCCESS');
    tables.map(0x5000n, 0x300000n);
    expect(it.write(0x5000)).toBe(0);
    expect(it.names).toEqual(['dma-before-flush']);
  });

  it('dma-while-detached', () => {
    const it = new Windows();
    expect(it.write(0x5000)).toBe(1);
    expect(it.names).toEqual(['dma-while-detached']);
  });
});
