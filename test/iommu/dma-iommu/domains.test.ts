import { describe, expect, it } from 'vitest';
import { DOMAINS_MAX, RESERVED_REGIONS_MAX } from '../../../src/iommu/dma-iommu/limits.ts';
import { NtStatus } from '../../../src/iommu/dma-iommu/ntstatus.ts';
import { type DomainHandle, DomainType, LogicalAllocatorType } from '../../../src/iommu/dma-iommu/types.ts';
import { TableMemory } from '../../../src/page-tables/table-memory.ts';
import { expectStatus, NIC, Rig, W } from './support.ts';

const NONE = 12345 as DomainHandle;
const hole = (base: bigint, numberOfPages = 1) => ({ base, numberOfPages, shouldMap: false });
const identity = (base: bigint, numberOfPages = 1) => ({ base, numberOfPages, shouldMap: true });
const buddy = (addressWidth?: number) => ({ logicalAllocatorType: LogicalAllocatorType.Buddy, addressWidth });

describe('createDomain', () => {
  it('makes a Translate domain or an unmanaged one', () => {
    const { unit } = new Rig();
    unit.createDomain({ osManagedPageTable: true });
    unit.createDomain({ osManagedPageTable: false });
    expect(unit.snapshot().domains.map(domain => domain.type)).toEqual([DomainType.Translate, DomainType.Unmanaged]);
  });

  it('never gives a handle again that was deleted', () => {
    const { unit } = new Rig();
    const first = unit.createDomain({ osManagedPageTable: true }).domain!;
    unit.deleteDomain({ domain: first });
    expect(unit.createDomain({ osManagedPageTable: true }).domain).not.toBe(first);
  });
});

describe('createDomainEx', () => {
  it.each([
    ['no such type', { domainType: 4 }, 'INVALID_PARAMETER_1'],
    ['a negative type', { domainType: -1 }, 'INVALID_PARAMETER_1'],
    ['half a type', { domainType: 0.5 }, 'INVALID_PARAMETER_1'],
    ['a flag', { domainType: 0, flags: 1n }, 'INVALID_PARAMETER_2'],
    ['a flag as a number', { domainType: 0, flags: 2 ** 40 }, 'INVALID_PARAMETER_2'],
    [
      'no such allocator',
      { domainType: 0, logicalAllocatorConfig: { logicalAllocatorType: 2 } },
      'INVALID_PARAMETER_3',
    ],
    ['an allocator of 64 bits', { domainType: 0, logicalAllocatorConfig: buddy(64) }, 'INVALID_PARAMETER_3'],
    ['an allocator of 11 bits', { domainType: 0, logicalAllocatorConfig: buddy(11) }, 'INVALID_PARAMETER_3'],
    ['an allocator without a width', { domainType: 0, logicalAllocatorConfig: buddy() }, 'INVALID_PARAMETER_3'],
    [
      'an allocator for the caller’s tables',
      { domainType: 2, logicalAllocatorConfig: buddy(32) },
      'INVALID_PARAMETER_3',
    ],
    ['an unaligned region', { domainType: 0, reservedRegions: [hole(0x1001n)] }, 'INVALID_PARAMETER_4'],
    ['an empty region', { domainType: 0, reservedRegions: [hole(0x1000n, 0)] }, 'INVALID_PARAMETER_4'],
    ['a region beyond 48 bits', { domainType: 0, reservedRegions: [hole(1n << 48n)] }, 'INVALID_PARAMETER_4'],
    ['a region mapped beyond 8 TiB', { domainType: 0, reservedRegions: [identity(1n << 43n)] }, 'INVALID_PARAMETER_4'],
    [
      'regions that overlap',
      { domainType: 0, reservedRegions: [hole(0n, 3), identity(0x2000n)] },
      'INVALID_PARAMETER_4',
    ],
    [
      'too many regions',
      {
        domainType: 0,
        reservedRegions: Array.from({ length: RESERVED_REGIONS_MAX + 1 }, (_, i) => hole(BigInt(i) << 12n)),
      },
      'INVALID_PARAMETER_4',
    ],
  ] as const)('refuses %s, and leaves nothing', (_, args, status) => {
    const { unit } = new Rig();
    expectStatus(unit.createDomainEx(args), status);
    expect(unit.snapshot()).toMatchObject({ domains: [], tablePages: 0 });
  });

  it('takes an allocator wider than the tables', () => {
    const rig = new Rig();
    const domain = rig.buddy(63);
    expect(rig.unit.snapshot().domains[0]!.allocator?.pages).toBe(2 ** 36);
    expectStatus(rig.unit.deleteDomain({ domain }), 'SUCCESS');
  });

  it('needs memory for a table, and gives back what it took of it', () => {
    const rig = new Rig({ tableMemory: new TableMemory({ maxPages: 2 }) });
    expectStatus(rig.unit.createDomainEx({ domainType: 0, reservedRegions: [identity(0n)] }), 'INSUFFICIENT_RESOURCES');
    expect(rig.unit.snapshot().tablePages).toBe(0);
    rig.domain();
    rig.domain();
    expectStatus(rig.unit.createDomain({ osManagedPageTable: true }), 'INSUFFICIENT_RESOURCES');
    rig.domain(DomainType.Unmanaged);
  });

  it('makes only so many', () => {
    const { unit } = new Rig();
    let last: number = NtStatus.SUCCESS;
    let count = 0;
    for (; last === NtStatus.SUCCESS && count <= DOMAINS_MAX; count++) {
      last = unit.createDomain({ osManagedPageTable: false }).status;
    }
    expectStatus(last, 'INSUFFICIENT_RESOURCES');
    expect(count).toBe(DOMAINS_MAX + 1);
  });
});

describe('a PassThrough domain', () => {
  it('translates every address to itself, up to 8 TiB', () => {
    const rig = new Rig();
    rig.attach(rig.domain(DomainType.PassThrough));
    expect(rig.dma(NIC, 0x7ff_ffff_ffffn, W)).toBe(0x7ff_ffff_ffffn);
    expect(rig.dma(NIC, 0x800_0000_0000n)).toBeUndefined();
  });
});

describe('deleteDomain', () => {
  it('refuses handles that are none, or of something else', () => {
    const rig = new Rig();
    const dmaDevice = rig.device();
    for (const domain of [NONE, 0, -1, Number.NaN, dmaDevice] as DomainHandle[]) {
      expectStatus(rig.unit.deleteDomain({ domain }), 'INVALID_HANDLE');
    }
  });

  it('gives back every page of the tables, whatever is mapped', () => {
    const rig = new Rig();
    const domain = rig.domain();
    for (let i = 0; i < 10; i++) rig.map(domain, BigInt(i) << 30n, [i]);
    expect(rig.unit.snapshot().tablePages).toBeGreaterThan(10);
    expectStatus(rig.unit.deleteDomain({ domain }), 'SUCCESS');
    expect(rig.unit.snapshot().tablePages).toBe(0);
  });
});

describe('flushDomain and flushDomainByVaList', () => {
  it.each([DomainType.Translate, DomainType.PassThrough, DomainType.TranslateS1])('refuse domain type %i', type => {
    const rig = new Rig();
    const domain = rig.domain(type);
    expectStatus(rig.unit.flushDomain({ domain }), 'INVALID_PARAMETER_1');
    expectStatus(rig.unit.flushDomainByVaList({ domain, lastLevel: true, vaList: [] }), 'INVALID_PARAMETER_1');
  });

  it('refuse a handle that is none', () => {
    const { unit } = new Rig();
    expectStatus(unit.flushDomain({ domain: NONE }), 'INVALID_HANDLE');
    expectStatus(unit.flushDomainByVaList({ domain: NONE, lastLevel: true, vaList: [] }), 'INVALID_HANDLE');
  });

  it('refuse lists of what is no address, or of too many', () => {
    const rig = new Rig();
    const domain = rig.domain(DomainType.Unmanaged);
    const flush = (vaList: readonly bigint[]) => rig.unit.flushDomainByVaList({ domain, lastLevel: false, vaList });
    expectStatus(flush([1n << 64n]), 'INVALID_PARAMETER_4');
    expectStatus(flush([-1n]), 'INVALID_PARAMETER_4');
    expectStatus(flush(new Array<bigint>(65537).fill(0n)), 'INVALID_PARAMETER_4');
    expectStatus(flush(new Array<bigint>(65536).fill(0n)), 'SUCCESS');
  });
});

it('notes and counts every refusal', () => {
  const { unit, trace } = new Rig();
  unit.deleteDomain({ domain: NONE });
  expect(trace.events).toEqual([
    {
      kind: 'dma-iommu.refused',
      source: 'iommu',
      detail: {
        operation: 'deleteDomain',
        status: 'STATUS_INVALID_HANDLE',
        statusName: 'STATUS_INVALID_HANDLE',
        domain: NONE,
      },
    },
  ]);
  expect(unit.statistics.operations.deleteDomain).toEqual({ succeeded: 0, failed: 1 });
});
