/** What a guest can make the unit remember has an end, and all of it comes back. */
import { beforeAll, describe, expect, it } from 'vitest';
import { BUDDY_NODES_MAX, RANGES_MAX, SNAPSHOT_ENTRIES_MAX } from '../../../src/iommu/dma-iommu/limits.ts';
import { SNAPSHOT_RANGES_MAX } from '../../../src/iommu/dma-iommu/snapshot.ts';
import {
  type DomainHandle,
  DomainType,
  LogicalAllocatorType,
  type PhysicalAddressToMap,
  type ReservedRegion,
} from '../../../src/iommu/dma-iommu/types.ts';
import { expectStatus, PAGE, pfns, Rig, RW, range } from './support.ts';

/** Every second frame: as many ranges as frames. */
function scattered(count: number): PhysicalAddressToMap {
  return { type: 'pfnArray', pages: Int32Array.from({ length: count }, (_, i) => 2 * i) };
}

function mapIdentity(rig: Rig, domain: DomainHandle, physicalAddressToMap: PhysicalAddressToMap): number {
  return rig.unit.mapIdentityRangeEx({ domain, permissions: RW, physicalAddressToMap }).status;
}

function unmapIdentity(rig: Rig, domain: DomainHandle, mappedPhysicalAddress: PhysicalAddressToMap): number {
  return rig.unit.unmapIdentityRangeEx({ domain, mappedPhysicalAddress }).status;
}

const whole = (first: number, pages: number) => range(BigInt(first) * PAGE, BigInt(pages) * PAGE);

describe('ranges of all domains together', () => {
  const rig = new Rig();
  const HIGH = 1 << 24;
  /** As much as there is, but for two: one is in `other`, and one is left. */
  let full: DomainHandle;
  let other: DomainHandle;

  beforeAll(() => {
    full = rig.domain();
    other = rig.domain();
    expectStatus(mapIdentity(rig, full, scattered(RANGES_MAX - 2)), 'SUCCESS');
    expectStatus(mapIdentity(rig, other, whole(HIGH, 10)), 'SUCCESS');
  });

  const last = () => mapIdentity(rig, other, pfns(1));
  const giveLast = () => unmapIdentity(rig, other, pfns(1));

  /** With no range left: `operation` is refused, and nothing is different. */
  function refusedWhenFull(operation: () => number): void {
    expectStatus(last(), 'SUCCESS');
    const before = rig.unit.snapshot();
    expectStatus(operation(), 'INSUFFICIENT_RESOURCES');
    expect(rig.unit.snapshot()).toEqual(before);
    expectStatus(giveLast(), 'SUCCESS');
  }

  it('have a limit for identity mappings', () => {
    refusedWhenFull(() => mapIdentity(rig, other, pfns(7)));
  });

  it('have a limit for logical mappings', () => {
    refusedWhenFull(() => rig.map(other, 0x7000n, [7]));
  });

  it('have a limit for tokens', () => {
    refusedWhenFull(
      () => rig.unit.reserveLogicalAddressRange({ domain: other, size: PAGE, explicitLogicalAddress: 0x7000n }).status,
    );
  });

  it('have a limit for segments of tokens', () => {
    const { token } = rig.unit.reserveLogicalAddressRange({
      domain: other,
      size: PAGE,
      explicitLogicalAddress: 0x7000n,
    });
    const map = () =>
      rig.unit.mapReservedLogicalRange({ token: token!, offset: 0n, permissions: RW, physicalAddressToMap: pfns(5) });
    expectStatus(map(), 'INSUFFICIENT_RESOURCES');
    expect(rig.unit.snapshot().tokens).toMatchObject([{ segments: 0 }]);
    expectStatus(unmapIdentity(rig, full, pfns(0)), 'SUCCESS');
    const { status, mappedSegment } = map();
    expectStatus(status, 'SUCCESS');
    expectStatus(mapIdentity(rig, full, pfns(0)), 'INSUFFICIENT_RESOURCES');
    expectStatus(rig.unit.unmapReservedLogicalRange({ mappedSegment: mappedSegment! }), 'SUCCESS');
    expectStatus(mapIdentity(rig, full, pfns(0)), 'SUCCESS');
    expectStatus(rig.unit.freeReservedLogicalAddressRange({ token: token! }), 'SUCCESS');
  });

  it('have a limit for reserved regions', () => {
    const regions = (shouldMap: boolean) => [{ base: 0n, numberOfPages: 1, shouldMap }];
    for (const shouldMap of [false, true]) {
      refusedWhenFull(() => rig.unit.createDomainEx({ domainType: 0, reservedRegions: regions(shouldMap) }).status);
    }
  });

  it('have a limit for an unmap that makes two of one', () => {
    refusedWhenFull(() => unmapIdentity(rig, other, pfns(HIGH + 5)));
  });

  it('have a limit for an unmap that makes three of one, all or none', () => {
    const before = rig.unit.snapshot();
    expectStatus(unmapIdentity(rig, other, pfns(HIGH + 3, HIGH + 6)), 'INSUFFICIENT_RESOURCES');
    expect(rig.unit.snapshot()).toEqual(before);
  });

  it('are there for an unmap that needs none, at the limit too', () => {
    expectStatus(last(), 'SUCCESS');
    expectStatus(unmapIdentity(rig, other, pfns(HIGH + 9, HIGH)), 'SUCCESS');
    expectStatus(mapIdentity(rig, other, pfns(HIGH)), 'INSUFFICIENT_RESOURCES');
    expectStatus(giveLast(), 'SUCCESS');
  });

  it('are refused to a whole list of frames that goes over the limit', () => {
    const before = rig.unit.snapshot();
    expectStatus(mapIdentity(rig, other, pfns(3, 5)), 'INSUFFICIENT_RESOURCES');
    expect(rig.unit.snapshot()).toEqual(before);
    expectStatus(mapIdentity(rig, other, pfns(3)), 'SUCCESS');
    expectStatus(unmapIdentity(rig, other, pfns(3)), 'SUCCESS');
  });

  it('come back when a domain is deleted, and when the unit is reset', () => {
    for (const giveBack of [() => rig.unit.deleteDomain({ domain: full }), () => rig.unit.reset()]) {
      giveBack();
      full = rig.domain();
      other = rig.unit.snapshot().domains.length === 1 ? rig.domain() : other;
      expectStatus(mapIdentity(rig, full, scattered(RANGES_MAX - 2)), 'SUCCESS');
      expectStatus(mapIdentity(rig, full, pfns(1)), 'SUCCESS');
      expectStatus(unmapIdentity(rig, full, pfns(1)), 'SUCCESS');
    }
  });
});

describe('nodes of all buddy allocators together', () => {
  /** Far apart, so that each takes a path of its own through the tree. */
  const regions: readonly ReservedRegion[] = Array.from({ length: 1024 }, (_, i) => ({
    base: (BigInt(i) << 38n) + 0x5000n,
    numberOfPages: 1,
    shouldMap: false,
  }));
  const create = (rig: Rig) =>
    rig.unit.createDomainEx({
      domainType: DomainType.Translate,
      logicalAllocatorConfig: { logicalAllocatorType: LogicalAllocatorType.Buddy, addressWidth: 48 },
      reservedRegions: regions,
    });

  function fill(rig: Rig): DomainHandle[] {
    const made: DomainHandle[] = [];
    for (;;) {
      const { status, domain } = create(rig);
      if (domain === undefined) {
        expectStatus(status, 'INSUFFICIENT_RESOURCES');
        return made;
      }
      made.push(domain);
    }
  }

  it('have a limit, at which nothing changes', () => {
    const rig = new Rig();
    const made = fill(rig);
    // Each of these domains has at least 26 nodes of its own for every region.
    expect(made.length).toBeLessThanOrEqual(BUDDY_NODES_MAX / (1024 * 26));
    expect(made.length).toBeGreaterThan(4);
    const before = rig.unit.snapshot();
    expectStatus(create(rig).status, 'INSUFFICIENT_RESOURCES');
    expect(rig.unit.snapshot()).toEqual(before);
  });

  it('come back when a domain is deleted, and when the unit is reset', () => {
    const rig = new Rig();
    const made = fill(rig);
    for (let i = 0; i < 3; i++) {
      const domain = made.pop()!;
      rig.unit.deleteDomain({ domain });
      made.push(...fill(rig));
    }
    rig.unit.reset();
    expect(fill(rig)).toHaveLength(made.length);
  });
});

describe('a snapshot', () => {
  it('has a limit for all that it lists, and says what it leaves out', () => {
    const rig = new Rig();
    const count = Math.ceil(SNAPSHOT_ENTRIES_MAX / SNAPSHOT_RANGES_MAX) + 1;
    for (let i = 0; i < count; i++) {
      expectStatus(mapIdentity(rig, rig.domain(), scattered(SNAPSHOT_RANGES_MAX + 1)), 'SUCCESS');
    }
    const { domains, omitted } = rig.unit.snapshot();
    expect(domains).toHaveLength(count);
    const listed = domains.reduce((sum, { ranges }) => sum + ranges.length, 0);
    expect(listed).toBe(SNAPSHOT_ENTRIES_MAX - count);
    expect(domains[0]!.ranges).toHaveLength(SNAPSHOT_RANGES_MAX);
    expect(domains.map(({ rangeCount }) => rangeCount)).toEqual(domains.map(() => SNAPSHOT_RANGES_MAX + 1));
    expect(omitted).toEqual({
      domains: 0,
      attachments: 0,
      devices: 0,
      pasidDevices: 0,
      tokens: 0,
      ranges: count * (SNAPSHOT_RANGES_MAX + 1) - listed,
    });
  });

  it('leaves out tokens rather than go over its limit', () => {
    const rig = new Rig();
    const domain = rig.domain();
    const tokens = SNAPSHOT_ENTRIES_MAX + 5;
    for (let i = 0; i < tokens; i++) {
      rig.unit.reserveLogicalAddressRange({ domain, size: PAGE, explicitLogicalAddress: BigInt(i) * PAGE });
    }
    const snapshot = rig.unit.snapshot();
    expect(snapshot.tokens).toHaveLength(SNAPSHOT_ENTRIES_MAX - 1);
    expect(snapshot.domains).toMatchObject([{ tokens, rangeCount: tokens, ranges: [] }]);
    expect(snapshot.omitted).toMatchObject({ domains: 0, tokens: 6, ranges: tokens });
  });
});
