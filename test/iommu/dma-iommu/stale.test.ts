import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DomainType } from '../../../src/iommu/dma-iommu/types.ts';
import { DmaIommu } from '../../../src/iommu/dma-iommu/unit.ts';
import { Translation } from '../../../src/iommu/translator.ts';
import { FakeMemory } from '../support.ts';
import { EventLog } from './event-log.ts';
import { Arm64Tables, arm64Config, X64Tables, x64Config } from './guest-tables.ts';
import { Directory, expectStatus, Jobs, NIC, R, Rig, RW, W, wordsOf } from './support.ts';

/** Present, writable, user, accessed, dirty; the same without writing; and not yet written to. */
const READ_WRITE = 0x67n;
const READ_ONLY = 0x65n;
const CLEAN = 0x27n;

function setUp(checkStale = true) {
  const trace = new EventLog('fault');
  const rig = new Rig({ trace, checkStale, memoryBytes: 4 << 20 });
  const tables = new X64Tables(rig.memory);
  const domain = rig.domain(DomainType.Unmanaged);
  expectStatus(rig.attach(domain), 'SUCCESS');
  expectStatus(rig.unit.configureDomain({ domain, configuration: x64Config({ root: tables.root }) }), 'SUCCESS');
  return { trace, rig, tables, domain };
}

describe('a stale answer of the IOTLB', () => {
  it('is told where the page leads elsewhere by now', () => {
    const { trace, rig, tables, domain } = setUp();
    tables.map(0x1000n, 0x5000n);
    rig.dma(NIC, 0x1000n);
    tables.map(0x1000n, 0x9000n, READ_ONLY);
    const out = new Translation();
    expect(rig.unit.translateRun(NIC, 0, 0x1800, R, 0x400, out)).toBe(true);
    expect(out.bytes).toBe(0x400);
    expect(trace.take()).toEqual([
      {
        kind: 'stale',
        source: 'iommu',
        fields: {
          requesterId: NIC,
          access: R,
          what: 'iotlb',
          fresh: 'mapped',
          iova: 0x1800n,
          usedFrame: 5,
          domain,
          freshFrame: 9,
          usedPermissions: RW,
          freshPermissions: R,
          shift: 12,
          length: 0x400,
          freshDomain: domain,
        },
      },
    ]);
    expect(trace.details('dma-iommu.staleHit')).toHaveLength(1);
  });

  it('is told where the page is gone, malformed, or allows less', () => {
    const { trace, rig, tables } = setUp();
    for (const [entry, fresh, freshFrame] of [
      [0n, 'notPresent', -1],
      [READ_ONLY | 0x5000n, 'denied', 5],
    ] as const) {
      rig.unit.flushDomain({ domain: 1 as never });
      tables.map(0x1000n, 0x5000n);
      rig.dma(NIC, 0x1000n, W);
      tables.set(0x1000n, 1, entry);
      expect(rig.dma(NIC, 0x1000n, W)).toBe(0x5000n);
      expect(trace.fields('stale')).toMatchObject([{ fresh, freshFrame, usedFrame: 5, access: W }]);
    }
    rig.unit.flushDomain({ domain: 1 as never });
    tables.set(0x4000_0000n, 2, 0x20_00e7n);
    rig.dma(NIC, 0x4000_0000n);
    tables.set(0x4000_0000n, 2, 0x20_20e7n);
    rig.dma(NIC, 0x4000_0000n);
    expect(trace.fields('stale')).toMatchObject([{ fresh: 'malformed', freshFrame: -1, shift: 21 }]);
  });

  it('is told at each use until the flush', () => {
    const { trace, rig, tables, domain } = setUp();
    tables.map(0x1000n, 0x5000n);
    rig.dma(NIC, 0x1000n);
    tables.map(0x1000n, 0x6000n);
    rig.dma(NIC, 0x1000n);
    rig.dma(NIC, 0x1000n);
    rig.unit.flushDomainByVaList({ domain, lastLevel: true, vaList: [0x1000n] });
    expect(rig.dma(NIC, 0x1000n)).toBe(0x6000n);
    expect(trace.take()).toHaveLength(2);
  });

  it('has the whole address, also in the upper half', () => {
    const { trace, rig, tables } = setUp();
    tables.map(0xffff_ffff_ffff_f000n, 0x5000n);
    rig.dma(NIC, 0xffff_ffff_ffff_f008n);
    tables.map(0xffff_ffff_ffff_f000n, 0x6000n);
    rig.dma(NIC, 0xffff_ffff_ffff_f008n);
    expect(trace.fields('stale')).toMatchObject([{ iova: 0xffff_ffff_ffff_f008n }]);
  });

  it('is found in ARM64 tables of every granule', () => {
    for (const granule of [4, 16, 64] as const) {
      const { trace, rig } = setUp();
      const tables = new Arm64Tables(rig.memory, granule, granule === 64 ? 3 : 4, 512);
      const domain = rig.domain(DomainType.Unmanaged);
      rig.attach(domain, 0x200);
      rig.unit.configureDomain({ domain, configuration: arm64Config({ ttbr0: tables.root, granule }) });
      tables.map(0x10_0000n, 0x2_0000n);
      for (let i = 0; i < 3; i++) expect(rig.dma(0x200, 0x10_3000n)).toBe(granule === 4 ? undefined : 0x2_3000n);
      rig.dma(0x200, 0x10_0000n);
      expect(trace.take('stale')).toEqual([]);
      tables.map(0x10_0000n, 0x4_0000n);
      rig.dma(0x200, 0x10_0000n);
      expect(trace.fields('stale')).toMatchObject([{ freshFrame: 0x40 }]);
    }
  });
});

describe('a stale paging-structure cache', () => {
  it('is told where its answer differs from that of a walk from the root', () => {
    const { trace, rig, tables, domain } = setUp();
    tables.map(0x1000n, 0x5000n);
    tables.map(0x2000n, 0x6000n);
    rig.dma(NIC, 0x1000n);
    // Another table in place of the one that maps both pages, and a flush that says only pages have changed.
    const other = new X64Tables(rig.memory, 1, 100);
    other.set(0x2000n, 1, 0x7000n | READ_WRITE);
    tables.set(0x2000n, 2, other.root | READ_WRITE);
    rig.unit.flushDomainByVaList({ domain, lastLevel: true, vaList: [0x1000n, 0x2000n] });
    expect(rig.dma(NIC, 0x2000n)).toBe(0x6000n);
    expect(trace.fields()).toMatchObject([{ what: 'pagingStructure', fresh: 'mapped', usedFrame: 6, freshFrame: 7 }]);
    rig.unit.flushDomainByVaList({ domain, lastLevel: false, vaList: [0x2000n] });
    expect(rig.dma(NIC, 0x2000n)).toBe(0x7000n);
    expect(trace.take()).toEqual([]);
  });

  it('is told where it refuses what the tables map', () => {
    const { trace, rig, tables } = setUp();
    tables.map(0x1000n, 0x5000n);
    rig.dma(NIC, 0x1000n);
    const other = new X64Tables(rig.memory, 1, 100);
    other.set(0x2000n, 1, 0x7000n | READ_WRITE);
    tables.set(0x2000n, 2, other.root | READ_WRITE);
    expect(rig.dma(NIC, 0x2000n)).toBeUndefined();
    const events = trace.take();
    expect(events.map(({ kind }) => kind)).toEqual(['stale', 'fault']);
    expect(events[0]!.fields).toMatchObject({ what: 'pagingStructure', usedFrame: -1, freshFrame: 7 });
    expect(events[1]!.fields).toMatchObject({ cause: 'notPresent' });
  });
});

describe('no mistake is', () => {
  it('an answer that allows less than the tables by now', () => {
    const { trace, rig, tables } = setUp();
    tables.map(0x1000n, 0x5000n, READ_ONLY);
    rig.dma(NIC, 0x1000n);
    tables.map(0x1000n, 0x5000n, READ_WRITE);
    rig.dma(NIC, 0x1000n);
    rig.dma(NIC, 0x1000n, W);
    expect(trace.take()).toEqual([]);
  });

  it('a page that was written to and is clean again', () => {
    const { trace, rig, tables } = setUp();
    tables.map(0x1000n, 0x5000n, CLEAN);
    rig.dma(NIC, 0x1000n, W);
    tables.map(0x1000n, 0x5000n, CLEAN);
    rig.dma(NIC, 0x1000n);
    rig.dma(NIC, 0x1000n, W);
    expect(trace.take()).toEqual([]);
  });

  it('anything while checks are off', () => {
    const { trace, rig, tables } = setUp(false);
    tables.map(0x1000n, 0x5000n);
    rig.dma(NIC, 0x1000n);
    tables.map(0x1000n, 0x6000n);
    rig.dma(NIC, 0x1000n);
    expect(trace.take()).toEqual([]);
  });

  it('a mapping of tables that we own', () => {
    const { trace, rig } = setUp();
    const domain = rig.domain();
    rig.attach(domain, 0x200);
    rig.map(domain, 0x1000n, [5]);
    rig.dma(0x200, 0x1000n);
    rig.unmap(domain, 0x1000n, 1);
    rig.map(domain, 0x1000n, [6]);
    expect(rig.dma(0x200, 0x1000n)).toBe(0x6000n);
    expect(trace.take()).toEqual([]);
  });
});

it('tables that are reached by messages are looked at for one of eight answers only', () => {
  const trace = new EventLog('fault');
  const memory = new FakeMemory(4 << 20, { messagesOnly: true });
  const devices = new Directory();
  const options = { checkStale: true };
  const unit = new DmaIommu({ name: 'iommu', memory, devices, jobs: new Jobs(), trace, options });
  const tables = new X64Tables(memory as never);
  const { domain } = unit.createDomainEx({ domainType: DomainType.Unmanaged });
  unit.attachDevice({ domain: domain!, physicalDeviceObject: NIC, inputMappingIdBase: 0, mappingCount: 1 });
  unit.configureDomain({ domain: domain!, configuration: x64Config({ root: tables.root }) });
  tables.map(0x1000n, 0x5000n);
  const out = new Translation();
  const dma = () => unit.translate(NIC, ...wordsOf(0x1000n), R, out);
  dma();
  dma();
  tables.map(0x1000n, 0x6000n);
  memory.loads.length = 0;
  for (let i = 0; i < 16; i++) dma();
  expect(trace.take('stale')).toHaveLength(2);
  // Each check found a difference, and so looked twice.
  expect(memory.loads.length).toBe(2 * 2 * 4);
});

interface Step {
  readonly what: 'map' | 'unmap' | 'clean' | 'read' | 'write' | 'flushAll';
  readonly page: number;
  readonly frame: number;
  readonly writable: boolean;
  readonly flush: boolean;
  readonly byList: boolean;
}

const USES = ['read', 'write', 'read', 'write', 'read', 'write'] as const;
const WHATS = ['map', 'map', 'unmap', 'clean', ...USES, ...USES, 'flushAll'] as const;

const step: fc.Arbitrary<Step> = fc.record({
  what: fc.constantFrom(...WHATS),
  page: fc.integer({ min: 1, max: 4 }),
  frame: fc.integer({ min: 600, max: 602 }),
  writable: fc.boolean(),
  flush: fc.constantFrom(false, false, false, true),
  byList: fc.boolean(),
});

interface Cached {
  readonly frame: number;
  readonly permissions: number;
}

/** Runs the steps and compares, access by access, with what a plain map of the IOTLB says. Returns the number of stale answers. */
function run(steps: readonly Step[], always: boolean): number {
  const { trace, rig, tables, domain } = setUp();
  const present = new Map<number, { frame: number; writable: boolean; dirty: boolean }>();
  const cached = new Map<number, Cached>();
  const flush = (page: number, byList: boolean) => {
    if (byList) {
      rig.unit.flushDomainByVaList({ domain, lastLevel: true, vaList: [BigInt(page) << 12n] });
      cached.delete(page);
    } else {
      rig.unit.flushDomain({ domain });
      cached.clear();
    }
  };
  let stale = 0;
  for (const { what, page, frame, writable, flush: wanted, byList } of steps) {
    const address = BigInt(page) << 12n;
    const entry = present.get(page);
    if (what === 'flushAll') flush(page, false);
    else if (what === 'map' || what === 'unmap') {
      if (what === 'map') {
        tables.map(address, BigInt(frame) << 12n, writable ? CLEAN : READ_ONLY);
        present.set(page, { frame, writable, dirty: !writable });
      } else {
        tables.set(address, 1, 0n);
        present.delete(page);
      }
      // Nothing of what was not present is cached, so a new mapping needs no flush.
      if ((always && entry !== undefined) || wanted) flush(page, byList);
    } else if (what === 'clean') {
      if (entry?.writable) {
        tables.map(address, BigInt(entry.frame) << 12n, CLEAN);
        entry.dirty = false;
      }
    } else {
      const access = what === 'read' ? R : W;
      const known = cached.get(page);
      const allowed = entry?.writable ? RW : R;
      const hit = known !== undefined && (known.permissions & access) === access;
      const expected = hit ? known.frame : entry !== undefined && (allowed & access) !== 0 ? entry.frame : undefined;
      const isStale = hit && (entry?.frame !== known.frame || (known.permissions & ~allowed) !== 0);
      const result = rig.dma(NIC, address, access);
      expect(result === undefined ? undefined : Number(result >> 12n)).toBe(expected);
      expect(trace.take('stale').length).toBe(isStale ? 1 : 0);
      if (isStale) stale++;
      if (hit) continue;
      cached.delete(page);
      if (expected === undefined || entry === undefined) continue;
      entry.dirty ||= access === W;
      cached.set(page, { frame: expected, permissions: entry.writable && entry.dirty ? RW : R });
    }
  }
  return stale;
}

describe('random use of a caller-managed domain', () => {
  it('with every flush that is due is never told as stale', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 80, size: 'max' }), steps => {
        expect(run(steps, true)).toBe(0);
      }),
      { numRuns: 80 },
    );
  });

  it('with flushes left out is told exactly when a stale entry is used', () => {
    // None at all would mean that nothing was tried.
    let found = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 80, size: 'max' }), steps => {
        found += run(steps, false);
      }),
      { numRuns: 80 },
    );
    expect(found).toBeGreaterThan(0);
  });
});
