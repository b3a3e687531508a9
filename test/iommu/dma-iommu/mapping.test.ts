import { describe, expect, it } from 'vitest';
import { OPERATION_PAGES_MAX } from '../../../src/iommu/dma-iommu/limits.ts';
import {
  type DomainHandle,
  DomainType,
  type Mdl,
  type PhysicalAddressToMap,
} from '../../../src/iommu/dma-iommu/types.ts';
import { TableMemory } from '../../../src/page-tables/table-memory.ts';
import { expectStatus, mdl, NIC, PAGE, pfns, R, Rig, RW, range, W } from './support.ts';

const NONE = 12345 as DomainHandle;
const BAD_MEMORY: readonly (readonly [string, PhysicalAddressToMap])[] = [
  ['no page', pfns()],
  ['no byte', range(0x1000n, 0n)],
  ['half a page', range(0x1000n, 0x800n)],
  ['an unaligned base', range(0x1800n, 0x1000n)],
  ['a negative base', range(-0x1000n, 0x1000n)],
  ['memory beyond 8 TiB', range((1n << 43n) - PAGE, 2n * PAGE)],
  ['a negative frame', pfns(5, -1)],
  ['an MDL with an offset', { type: 'mdl', pages: Int32Array.of(5), byteOffset: 8, byteCount: 4096 }],
  ['an MDL of half a page', { type: 'mdl', pages: Int32Array.of(5), byteOffset: 0, byteCount: 2048 }],
  ['an MDL with too few pages', { type: 'mdl', pages: Int32Array.of(5), byteOffset: 0, byteCount: 8192 }],
  ['no such form', { type: 'other' } as unknown as PhysicalAddressToMap],
  ['nothing at all', undefined as unknown as PhysicalAddressToMap],
];

function mapEx(rig: Rig, domain: DomainHandle, physicalAddressToMap: PhysicalAddressToMap, at?: bigint) {
  return rig.unit.mapLogicalRangeEx({ domain, permissions: RW, physicalAddressToMap, explicitLogicalAddress: at });
}

describe('mapLogicalRange and mapLogicalRangeEx', () => {
  it.each([
    ['mdl', mdl(5, 9, 6)],
    ['pfnArray', pfns(5, 9, 6)],
  ] as const)('map the pages of an %s one after the other', (_, memory) => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.attach(domain);
    expect(mapEx(rig, domain, memory, 0xffff_ffff_d000n)).toEqual({ status: 0, logicalAddress: 0xffff_ffff_d000n });
    const seen = [0xffff_ffff_d001n, 0xffff_ffff_e002n, 0xffff_ffff_f003n].map(address => rig.dma(NIC, address, W));
    expect(seen).toEqual([0x5001n, 0x9002n, 0x6003n]);
  });

  it('map a contiguous range, of gibibytes too', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.attach(domain);
    expectStatus(mapEx(rig, domain, range(0x8000_0000n, 1n << 30n), 0x10_0000n), 'SUCCESS');
    expect(rig.dma(NIC, 0x4000_0000n)).toBe(0xbff0_0000n);
    expect(rig.dma(NIC, 0x4010_0000n)).toBeUndefined();
    expectStatus(rig.unmap(domain, 0x10_0000n, 1 << 18), 'SUCCESS');
    expect(rig.unit.snapshot().tablePages).toBe(1);
  });

  it.each(BAD_MEMORY)('refuse %s', (_, memory) => {
    const rig = new Rig();
    const domain = rig.domain();
    expectStatus(mapEx(rig, domain, memory, 0n), 'INVALID_PARAMETER_3');
    const args = { domain, permissions: RW, mdl: memory as Mdl, logicalAddress: 0n };
    expectStatus(rig.unit.mapLogicalRange(args), 'INVALID_PARAMETER_3');
  });

  it.each([0, 4, 7, -1, 1.5, Number.NaN])('refuse permissions %d', permissions => {
    const rig = new Rig();
    const domain = rig.domain();
    expectStatus(rig.map(domain, 0n, [5], permissions), 'INVALID_PARAMETER_2');
    expectStatus(rig.unit.mapIdentityRange({ domain, permissions, mdl: mdl(5) }), 'INVALID_PARAMETER_2');
  });

  it.each([1n, -PAGE, 1n << 48n, (1n << 48n) - PAGE, 1n << 64n])('refuse two pages at %d', address => {
    const rig = new Rig();
    const domain = rig.domain();
    expectStatus(mapEx(rig, domain, pfns(5, 6), address), 'INVALID_PARAMETER_4');
    expectStatus(rig.map(domain, address, [5, 6]), 'INVALID_PARAMETER_4');
  });

  it.each([DomainType.PassThrough, DomainType.Unmanaged])('refuse domain type %i', type => {
    const rig = new Rig();
    expectStatus(mapEx(rig, rig.domain(type), pfns(5), 0n), 'INVALID_PARAMETER_1');
  });

  it('refuse a handle that is none', () => {
    const rig = new Rig();
    expectStatus(mapEx(rig, NONE, pfns(5), 0n), 'INVALID_HANDLE');
    expectStatus(rig.map(NONE, 0n, [5]), 'INVALID_HANDLE');
  });

  it('refuse more pages than one operation may have', () => {
    const rig = new Rig();
    const size = BigInt(OPERATION_PAGES_MAX + 1) * PAGE;
    expectStatus(mapEx(rig, rig.domain(), range(0n, size), 0n), 'INSUFFICIENT_RESOURCES');
  });

  it('change nothing when table memory runs out', () => {
    const rig = new Rig({ tableMemory: new TableMemory({ maxPages: 5 }) });
    const domain = rig.domain();
    rig.attach(domain);
    expectStatus(mapEx(rig, domain, pfns(1), 0n), 'SUCCESS');
    expectStatus(mapEx(rig, domain, range(0n, 8n << 20n), 0x20_0000n), 'INSUFFICIENT_RESOURCES');
    expect(rig.unit.snapshot()).toMatchObject({ tablePages: 4, domains: [{ rangeCount: 1 }] });
    expect(rig.dma(NIC, 0x20_0000n)).toBeUndefined();
  });

  it('give a block back that could not be mapped', () => {
    const rig = new Rig({ tableMemory: new TableMemory({ maxPages: 3 }) });
    const domain = rig.buddy(32);
    expectStatus(mapEx(rig, domain, pfns(1)), 'INSUFFICIENT_RESOURCES');
    const { allocator } = rig.unit.snapshot().domains[0]!;
    expect(allocator?.freePages).toBe(allocator?.pages);
  });

  it('map again what was write-only as it is', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.attach(domain);
    rig.map(domain, 0x1000n, [5], W);
    expect([rig.dma(NIC, 0x1000n, R), rig.dma(NIC, 0x1000n, W)]).toEqual([undefined, 0x5000n]);
    rig.unmap(domain, 0x1000n, 1);
    rig.map(domain, 0x1000n, [5], R);
    expect([rig.dma(NIC, 0x1000n, R), rig.dma(NIC, 0x1000n, W)]).toEqual([0x5000n, undefined]);
  });

  it('ignore a window where there is no allocator', () => {
    const rig = new Rig();
    const answer = rig.unit.mapLogicalRangeEx({
      domain: rig.domain(),
      permissions: RW,
      physicalAddressToMap: pfns(5),
      explicitLogicalAddress: 0x1000n,
      minLogicalAddress: 0x9000n,
      maxLogicalAddress: 0n,
    });
    expectStatus(answer, 'SUCCESS');
  });

  it('say that the whole space of the allocator is full', () => {
    const rig = new Rig();
    const domain = rig.buddy(13);
    expectStatus(mapEx(rig, domain, pfns(5, 6)), 'SUCCESS');
    expectStatus(mapEx(rig, domain, pfns(7)), 'INSUFFICIENT_RESOURCES');
  });
});

describe('unmapLogicalRange', () => {
  it('unmaps parts of a mapping, and several at once', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.attach(domain);
    rig.map(domain, 0x1000n, [1, 2, 3]);
    rig.map(domain, 0x4000n, [4, 5, 6]);
    expectStatus(rig.unmap(domain, 0x3000n, 2), 'SUCCESS');
    const seen = [1n, 2n, 3n, 4n, 5n, 6n].map(page => rig.dma(NIC, page << 12n));
    expect(seen).toEqual([0x1000n, 0x2000n, undefined, undefined, 0x5000n, 0x6000n]);
  });

  it('refuses a range with a gap, whole', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.attach(domain);
    rig.map(domain, 0x1000n, [1]);
    rig.map(domain, 0x3000n, [3]);
    expectStatus(rig.unmap(domain, 0x1000n, 3), 'NOT_FOUND');
    expect([rig.dma(NIC, 0x1000n), rig.dma(NIC, 0x3000n)]).toEqual([0x1000n, 0x3000n]);
    rig.unmap(domain, 0x1000n, 1);
    expectStatus(rig.unmap(domain, 0x1000n, 1), 'NOT_FOUND');
  });

  it('does not touch what other operations mapped', () => {
    const rig = new Rig();
    const domain = rig.domain(DomainType.Translate, [{ base: 0x5000n, numberOfPages: 1, shouldMap: true }]);
    rig.unit.mapIdentityRange({ domain, permissions: RW, mdl: mdl(2) });
    rig.unit.reserveLogicalAddressRange({ domain, size: PAGE, explicitLogicalAddress: 0x3000n });
    for (const address of [0x2000n, 0x3000n, 0x5000n]) expectStatus(rig.unmap(domain, address, 1), 'NOT_FOUND');
  });

  it('takes back a whole mapping only where an allocator chose', () => {
    const rig = new Rig();
    const domain = rig.buddy(16);
    const { logicalAddress } = mapEx(rig, domain, pfns(5, 6, 7));
    expectStatus(rig.unmap(domain, logicalAddress!, 2), 'NOT_FOUND');
    expectStatus(rig.unmap(domain, logicalAddress! + PAGE, 2), 'NOT_FOUND');
    expectStatus(rig.unmap(domain, logicalAddress!, 3), 'SUCCESS');
    expect(rig.unit.snapshot().domains[0]!.allocator).toEqual({ pages: 16, freePages: 16 });
  });

  it.each([
    [0x1001n, 1, 'INVALID_PARAMETER_2'],
    [1n << 48n, 1, 'INVALID_PARAMETER_2'],
    [-PAGE, 1, 'INVALID_PARAMETER_2'],
    [0x1000n, 0, 'INVALID_PARAMETER_3'],
    [0x1000n, -1, 'INVALID_PARAMETER_3'],
    [0x1000n, 2 ** 60, 'INVALID_PARAMETER_3'],
    [0x1000n, Number.NaN, 'INVALID_PARAMETER_3'],
  ] as const)('refuses %d, %d pages', (address, pages, status) => {
    const rig = new Rig();
    expectStatus(rig.unmap(rig.domain(), address, pages), status);
  });

  it('refuses domains without tables of ours, and handles that are none', () => {
    const rig = new Rig();
    expectStatus(rig.unmap(rig.domain(DomainType.PassThrough), 0n, 1), 'INVALID_PARAMETER_1');
    expectStatus(rig.unmap(rig.domain(DomainType.Unmanaged), 0n, 1), 'INVALID_PARAMETER_1');
    expectStatus(rig.unmap(NONE, 0n, 1), 'INVALID_HANDLE');
  });

  it('leaves other domains’ cached translations alone', () => {
    const rig = new Rig();
    const one = rig.domain();
    const other = rig.domain();
    rig.attach(one);
    rig.attach(other, 0x200);
    for (const domain of [one, other]) rig.map(domain, 0x1000n, [5]);
    rig.dma(NIC, 0x1000n);
    rig.dma(0x200, 0x1000n);
    rig.unmap(one, 0x1000n, 1);
    expect(rig.probe(0x200, 0x1000n).source).toBe('iotlb');
  });
});

describe('identity ranges', () => {
  it('are refused whole where one page is taken, or named twice', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.attach(domain);
    rig.map(domain, 0x3000n, [9]);
    const map = (...pages: number[]) =>
      rig.unit.mapIdentityRangeEx({ domain, permissions: RW, physicalAddressToMap: pfns(...pages) });
    expectStatus(map(1, 2, 7, 3), 'IN_USE');
    expectStatus(map(5, 6, 5), 'IN_USE');
    for (const page of [1n, 2n, 5n, 6n, 7n]) expect(rig.dma(NIC, page << 12n)).toBeUndefined();
    expect(rig.dma(NIC, 0x3000n)).toBe(0x9000n);
    expect(rig.unit.snapshot().domains[0]!.rangeCount).toBe(1);
  });

  it('are unmapped in parts, but only where they are', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.attach(domain);
    rig.unit.mapIdentityRange({ domain, permissions: RW, mdl: mdl(1, 2, 3) });
    const unmap = (...pages: number[]) => rig.unit.unmapIdentityRange({ domain, mdl: mdl(...pages) });
    expectStatus(unmap(2, 4), 'NOT_FOUND');
    expect(rig.dma(NIC, 0x2000n)).toBe(0x2000n);
    expectStatus(unmap(2), 'SUCCESS');
    expect([1n, 2n, 3n].map(page => rig.dma(NIC, page << 12n))).toEqual([0x1000n, undefined, 0x3000n]);
    expectStatus(unmap(2), 'NOT_FOUND');
  });

  it.each(BAD_MEMORY)('refuse %s', (_, memory) => {
    const { unit, domain } = ((rig: Rig) => ({ unit: rig.unit, domain: rig.domain() }))(new Rig());
    const args = { domain, permissions: RW, physicalAddressToMap: memory };
    expectStatus(unit.mapIdentityRangeEx(args), 'INVALID_PARAMETER_3');
    expectStatus(unit.unmapIdentityRangeEx({ domain, mappedPhysicalAddress: memory }), 'INVALID_PARAMETER_2');
    expectStatus(unit.unmapIdentityRange({ domain, mdl: memory as Mdl }), 'INVALID_PARAMETER_2');
  });

  it('change nothing in a PassThrough domain, and are refused in an unmanaged one', () => {
    const rig = new Rig();
    for (const [type, status] of [
      [DomainType.PassThrough, 'SUCCESS'],
      [DomainType.Unmanaged, 'INVALID_PARAMETER_1'],
    ] as const) {
      const domain = rig.domain(type);
      const memory = pfns(5);
      const args = { domain, permissions: RW, physicalAddressToMap: memory };
      expectStatus(rig.unit.mapIdentityRangeEx(args), status);
      expectStatus(rig.unit.unmapIdentityRangeEx({ domain, mappedPhysicalAddress: memory }), status);
    }
    expectStatus(rig.unit.mapIdentityRange({ domain: NONE, permissions: RW, mdl: mdl(1) }), 'INVALID_HANDLE');
    expectStatus(rig.unit.unmapIdentityRange({ domain: NONE, mdl: mdl(1) }), 'INVALID_HANDLE');
  });
});
