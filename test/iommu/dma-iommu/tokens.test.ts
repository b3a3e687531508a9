import { describe, expect, it } from 'vitest';
import { OPERATION_PAGES_MAX } from '../../../src/iommu/dma-iommu/limits.ts';
import {
  type DomainHandle,
  DomainType,
  type PhysicalAddressToMap,
  type SegmentHandle,
  type TokenHandle,
} from '../../../src/iommu/dma-iommu/types.ts';
import { TableMemory } from '../../../src/page-tables/table-memory.ts';
import { expectStatus, NIC, PAGE, pfns, R, Rig, RW, W } from './support.ts';

const NONE = 12345;
const BASE = 0x20_0000n;

function reserved(rig: Rig, pages = 4, domain = rig.domain()) {
  rig.attach(domain);
  const answer = rig.unit.reserveLogicalAddressRange({
    domain,
    size: BigInt(pages) * PAGE,
    explicitLogicalAddress: BASE,
  });
  expectStatus(answer, 'SUCCESS');
  return { domain, token: answer.token! };
}

const map = (rig: Rig, token: TokenHandle, offset: bigint, memory: PhysicalAddressToMap, permissions: number = RW) =>
  rig.unit.mapReservedLogicalRange({ token, offset, permissions, physicalAddressToMap: memory });

describe('reserveLogicalAddressRange', () => {
  it.each([0n, -PAGE, 0x800n])('refuses a size of %d', size => {
    const rig = new Rig();
    const args = { domain: rig.domain(), size, explicitLogicalAddress: BASE };
    expectStatus(rig.unit.reserveLogicalAddressRange(args), 'INVALID_PARAMETER_2');
  });

  it.each([1n, 1n << 48n, (1n << 48n) - PAGE])('refuses two pages at %d', explicitLogicalAddress => {
    const rig = new Rig();
    const args = { domain: rig.domain(), size: 2n * PAGE, explicitLogicalAddress };
    expectStatus(rig.unit.reserveLogicalAddressRange(args), 'INVALID_PARAMETER_3');
  });

  it('refuses what is taken, by mappings and by other tokens', () => {
    const rig = new Rig();
    const { domain } = reserved(rig);
    rig.map(domain, 0x1000n, [5]);
    for (const explicitLogicalAddress of [0n, BASE - PAGE, BASE + 3n * PAGE]) {
      const args = { domain, size: 2n * PAGE, explicitLogicalAddress };
      expectStatus(rig.unit.reserveLogicalAddressRange(args), 'IN_USE');
    }
    expectStatus(rig.map(domain, BASE + PAGE, [5]), 'IN_USE');
  });

  it('wants an explicit address exactly where there is no allocator', () => {
    const rig = new Rig();
    const size = PAGE;
    expectStatus(rig.unit.reserveLogicalAddressRange({ domain: rig.domain(), size }), 'NOT_SUPPORTED');
    const domain = rig.buddy(16);
    expectStatus(rig.unit.reserveLogicalAddressRange({ domain, size, explicitLogicalAddress: BASE }), 'NOT_SUPPORTED');
    expect(rig.unit.reserveLogicalAddressRange({ domain, size, minLogicalAddress: 0x2001n })).toMatchObject({
      status: 0,
      logicalAddressBase: 0x3000n,
      size,
    });
    expectStatus(
      rig.unit.reserveLogicalAddressRange({ domain, size, minLogicalAddress: 0x1_0000n }),
      'INVALID_PARAMETER_MIX',
    );
  });

  it('refuses other types of domains, handles that are none, and too much', () => {
    const rig = new Rig();
    const reserve = (domain: DomainHandle, size = PAGE) =>
      rig.unit.reserveLogicalAddressRange({ domain, size, explicitLogicalAddress: 0n });
    expectStatus(reserve(rig.domain(DomainType.PassThrough)), 'INVALID_PARAMETER_1');
    expectStatus(reserve(rig.domain(DomainType.Unmanaged)), 'INVALID_PARAMETER_1');
    expectStatus(reserve(NONE as DomainHandle), 'INVALID_HANDLE');
    expectStatus(reserve(rig.domain(), BigInt(OPERATION_PAGES_MAX + 1) * PAGE), 'INSUFFICIENT_RESOURCES');
  });

  it('takes nothing when table memory runs out', () => {
    const rig = new Rig({ tableMemory: new TableMemory({ maxPages: 3 }) });
    const domain = rig.buddy(32);
    expectStatus(rig.unit.reserveLogicalAddressRange({ domain, size: PAGE }), 'INSUFFICIENT_RESOURCES');
    expect(rig.unit.snapshot()).toMatchObject({ tablePages: 1, tokens: [], domains: [{ tokens: 0, rangeCount: 0 }] });
    const { allocator } = rig.unit.snapshot().domains[0]!;
    expect(allocator?.freePages).toBe(allocator?.pages);
  });
});

describe('mapReservedLogicalRange', () => {
  it('maps segments where the token lies, and no more of it', () => {
    const rig = new Rig();
    const { token } = reserved(rig);
    expect(map(rig, token, PAGE, pfns(5, 8))).toMatchObject({ status: 0, offset: PAGE, size: 2n * PAGE });
    const seen = [0n, 1n, 2n, 3n].map(page => rig.dma(NIC, BASE + page * PAGE, W));
    expect(seen).toEqual([undefined, 0x5000n, 0x8000n, undefined]);
  });

  it('refuses offsets, memory, permissions and overlaps, each with its status', () => {
    const rig = new Rig();
    const { token } = reserved(rig);
    expectStatus(map(rig, token, 0x800n, pfns(5)), 'INVALID_PARAMETER_2');
    expectStatus(map(rig, token, -PAGE, pfns(5)), 'INVALID_PARAMETER_2');
    expectStatus(map(rig, token, 3n * PAGE, pfns(5, 6)), 'INVALID_PARAMETER_2');
    expectStatus(map(rig, token, 1n << 70n, pfns(5)), 'INVALID_PARAMETER_2');
    expectStatus(map(rig, token, 0n, pfns(5), 0), 'INVALID_PARAMETER_3');
    expectStatus(map(rig, token, 0n, pfns()), 'INVALID_PARAMETER_4');
    expectStatus(map(rig, NONE as TokenHandle, 0n, pfns(5)), 'INVALID_HANDLE');
    expectStatus(map(rig, token, PAGE, pfns(5, 6)), 'SUCCESS');
    expectStatus(map(rig, token, 0n, pfns(7, 8)), 'RESOURCE_IN_USE');
    expect(rig.dma(NIC, BASE)).toBeUndefined();
  });

  it('never needs table memory', () => {
    const rig = new Rig({ tableMemory: new TableMemory({ maxPages: 5 }) });
    const { token, domain } = reserved(rig);
    // What is left of it is used up elsewhere.
    expectStatus(rig.map(domain, BASE - PAGE, [1]), 'SUCCESS');
    expect(rig.unit.snapshot().tablePages).toBe(5);
    for (let i = 0; i < 3; i++) {
      const { status, mappedSegment } = map(rig, token, 0n, pfns(5, 6, 7, 8));
      expectStatus(status, 'SUCCESS');
      expectStatus(rig.unit.unmapReservedLogicalRange({ mappedSegment: mappedSegment! }), 'SUCCESS');
    }
  });
});

describe('unmapReservedLogicalRange', () => {
  it('leaves nothing in the IOTLB', () => {
    const rig = new Rig();
    const { token } = reserved(rig);
    const { mappedSegment } = map(rig, token, 0n, pfns(5, 6, 7), R);
    for (const page of [0n, 1n, 2n]) rig.dma(NIC, BASE + page * PAGE);
    rig.unit.unmapReservedLogicalRange({ mappedSegment: mappedSegment! });
    for (const page of [0n, 1n, 2n]) expect(rig.dma(NIC, BASE + page * PAGE)).toBeUndefined();
  });

  it('answers INVALID_PARAMETER whatever the handle was', () => {
    const rig = new Rig();
    const { token } = reserved(rig);
    for (const mappedSegment of [NONE, 0, token] as number[] as SegmentHandle[]) {
      expectStatus(rig.unit.unmapReservedLogicalRange({ mappedSegment }), 'INVALID_PARAMETER');
    }
  });
});

describe('freeReservedLogicalAddressRange', () => {
  it('gives the addresses and the tables back', () => {
    const rig = new Rig();
    const { token, domain } = reserved(rig);
    expect(rig.unit.snapshot().tablePages).toBe(4);
    expectStatus(rig.unit.freeReservedLogicalAddressRange({ token }), 'SUCCESS');
    expectStatus(rig.unit.freeReservedLogicalAddressRange({ token }), 'INVALID_HANDLE');
    expect(rig.unit.snapshot()).toMatchObject({ tablePages: 1, domains: [{ tokens: 0, rangeCount: 0 }] });
    expectStatus(rig.map(domain, BASE, [5]), 'SUCCESS');
    expect(rig.dma(NIC, BASE)).toBe(0x5000n);
  });
});
