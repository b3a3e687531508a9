import { describe, expect, it } from 'vitest';
import { LogicalAllocatorType } from '../../../src/iommu/dma-iommu/types.ts';
import { DISK, mdl, NIC, pfns, R, Rig, range } from './support.ts';

/** The detail of the last refusal, without what all of them have. */
function refusal(rig: Rig) {
  const { detail } = rig.trace.events.findLast(({ kind }) => kind === 'dma-iommu.refused')!;
  const { operation: _operation, status: _status, statusName, ...about } = detail;
  return [statusName, about];
}

describe('a refusal notes', () => {
  it('what was to be mapped and where', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.map(domain, 0x1000n, [5]);
    rig.map(domain, 0n, [5, 6]);
    expect(refusal(rig)).toEqual(['STATUS_RESOURCE_IN_USE', { domain, iova: 0n, bytes: 0x2000n }]);
    rig.unit.mapLogicalRangeEx({
      domain,
      permissions: R,
      physicalAddressToMap: range(0x10000n, 0x3000n),
      explicitLogicalAddress: 0x1000n,
    });
    expect(refusal(rig)).toEqual(['STATUS_RESOURCE_IN_USE', { domain, iova: 0x1000n, bytes: 0x3000n }]);
  });

  it('what was to be unmapped', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.unmap(domain, 0x7000n, 3);
    expect(refusal(rig)).toEqual(['STATUS_NOT_FOUND', { domain, iova: 0x7000n, bytes: 0x3000n }]);
  });

  it('the physical address where that is the logical one', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.unit.unmapIdentityRange({ domain, mdl: mdl(7, 8) });
    expect(refusal(rig)).toEqual(['STATUS_NOT_FOUND', { domain, iova: 0x7000n, bytes: 0x2000n }]);
    rig.unit.unmapIdentityRangeEx({ domain, mappedPhysicalAddress: range(0x9000n, 0x1000n) });
    expect(refusal(rig)).toEqual(['STATUS_NOT_FOUND', { domain, iova: 0x9000n, bytes: 0x1000n }]);
    rig.map(domain, 0x4000n, [1]);
    rig.unit.mapIdentityRangeEx({ domain, permissions: R, physicalAddressToMap: pfns(4) });
    expect(refusal(rig)).toEqual(['STATUS_RESOURCE_IN_USE', { domain, iova: 0x4000n, bytes: 0x1000n }]);
    rig.unit.mapIdentityRange({ domain, permissions: R, mdl: mdl(3, 4) });
    expect(refusal(rig)).toEqual(['STATUS_RESOURCE_IN_USE', { domain, iova: 0x3000n, bytes: 0x2000n }]);
  });

  it('no address where the allocator was to choose one', () => {
    const rig = new Rig();
    const { domain } = rig.unit.createDomainEx({
      domainType: 0,
      logicalAllocatorConfig: { logicalAllocatorType: LogicalAllocatorType.Buddy, addressWidth: 13 },
    });
    rig.unit.mapLogicalRangeEx({ domain: domain!, permissions: R, physicalAddressToMap: pfns(1, 2, 3) });
    expect(refusal(rig)).toEqual(['STATUS_INSUFFICIENT_RESOURCES', { domain, bytes: 0x3000n }]);
  });

  it('where in its domain a token lies', () => {
    const rig = new Rig();
    const domain = rig.domain();
    const explicitLogicalAddress = 0x10000n;
    const { token } = rig.unit.reserveLogicalAddressRange({ domain, size: 0x4000n, explicitLogicalAddress });
    const segment = { token: token!, offset: 0x1000n, permissions: R, physicalAddressToMap: pfns(7, 8) };
    rig.unit.mapReservedLogicalRange(segment);
    rig.unit.mapReservedLogicalRange(segment);
    expect(refusal(rig)).toEqual(['STATUS_RESOURCE_IN_USE', { domain, iova: 0x11000n, bytes: 0x2000n }]);
    rig.unit.freeReservedLogicalAddressRange({ token: token! });
    expect(refusal(rig)).toEqual(['STATUS_RESOURCE_IN_USE', { domain, iova: 0x10000n, bytes: 0x4000n }]);
    rig.unit.reserveLogicalAddressRange({ domain, size: 0x1000n, explicitLogicalAddress: 0x12000n });
    expect(refusal(rig)).toEqual(['STATUS_RESOURCE_IN_USE', { domain, iova: 0x12000n, bytes: 0x1000n }]);
  });

  it('which device and domain were meant', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.attach(domain);
    rig.unit.deleteDomain({ domain });
    expect(refusal(rig)).toEqual(['STATUS_RESOURCE_IN_USE', { domain }]);
    rig.attach(domain);
    expect(refusal(rig)).toEqual(['STATUS_INVALID_PARAMETER', { domain, device: NIC }]);
    const dmaDevice = rig.device(DISK);
    rig.unit.detachDeviceEx({ dmaDevice });
    expect(refusal(rig)).toEqual(['STATUS_INVALID_PARAMETER_1', { device: DISK }]);
  });

  it('nothing that is no such value', () => {
    const rig = new Rig();
    const wrong = (args: unknown) => args as never;
    rig.unit.unmapLogicalRange(wrong({ domain: 'x', logicalAddress: -1n, numberOfPages: 1.5 }));
    expect(refusal(rig)).toEqual(['STATUS_INVALID_HANDLE', {}]);
    rig.unit.unmapLogicalRange(wrong({ domain: rig.domain(), logicalAddress: 1n << 64n, numberOfPages: 2 ** 53 }));
    expect(refusal(rig)[1]).toEqual({ domain: 1 });
    rig.unit.mapIdentityRange(wrong({ domain: 1, permissions: R, mdl: 5 }));
    expect(refusal(rig)[1]).toEqual({ domain: 1 });
  });
});

describe('an unmap that is not what one call had mapped', () => {
  const mismatches = (rig: Rig) =>
    rig.trace.events.filter(({ kind }) => kind === 'dma-iommu.unmapMismatch').map(({ detail }) => detail);

  it('is noted, although it is done', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.map(domain, 0x1000n, [5, 6, 7]);
    rig.unmap(domain, 0x2000n, 1);
    expect(mismatches(rig)).toEqual([
      { domain, iova: 0x2000n, bytes: 0x1000n, mappedIova: 0x1000n, mappedBytes: 0x3000n },
    ]);
  });

  it('is noted for several mappings at once, and for identity mappings', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.map(domain, 0x1000n, [5]);
    rig.map(domain, 0x2000n, [6]);
    rig.unmap(domain, 0x1000n, 2);
    rig.unit.mapIdentityRange({ domain, permissions: R, mdl: mdl(40, 41) });
    rig.unit.unmapIdentityRange({ domain, mdl: mdl(41) });
    expect(mismatches(rig)).toEqual([
      { domain, iova: 0x1000n, bytes: 0x2000n, mappedIova: 0x1000n, mappedBytes: 0x1000n },
      { domain, iova: 0x29000n, bytes: 0x1000n, mappedIova: 0x28000n, mappedBytes: 0x2000n },
    ]);
  });

  it('is no such thing where it is exactly that, or was refused', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.map(domain, 0x1000n, [5, 9]);
    rig.unmap(domain, 0x1000n, 3);
    rig.unmap(domain, 0x1000n, 2);
    rig.unit.mapIdentityRange({ domain, permissions: R, mdl: mdl(40, 45, 46) });
    rig.unit.unmapIdentityRange({ domain, mdl: mdl(40, 45, 46) });
    expect(mismatches(rig)).toEqual([]);
  });
});
