/** The operations' documented rules, one by one, end to end: what each answers and what DMA does afterwards. */
import { describe, expect, it } from 'vitest';
import {
  DeviceCreationConfigType,
  DomainConfigurationArch,
  DomainType,
  FaultType,
  InterfaceStateField,
  PasidConfigType,
} from '../../../src/iommu/dma-iommu/types.ts';
import { Arm64Tables, arm64Config, X64Tables, x64Config } from './guest-tables.ts';
import {
  expectStatus,
  GPU,
  mdl,
  NIC,
  PAGE,
  pfns,
  R,
  Rig,
  type RigOptions,
  RW,
  range,
  STRANGER,
  UART,
  W,
} from './support.ts';

const TAGGED = [
  {
    configType: DeviceCreationConfigType.Pasid,
    pasidConfigType: PasidConfigType.PasidTaggedDma,
    suppressPasidFaults: false,
  },
] as const;

describe.each(['extended', 'windows'] as const)('in both modes of the interface: %s', compat => {
  const newRig = (options: RigOptions = {}) => new Rig({ compat, ...options });

  it('1: configuring a domain whose tables the system owns is INVALID_PARAMETER_1', () => {
    const rig = newRig();
    const { domain } = rig.unit.createDomain({ osManagedPageTable: true });
    const configuration = arm64Config({ ttbr0: 0x1000n });
    expectStatus(rig.unit.configureDomain({ domain: domain!, configuration }), 'INVALID_PARAMETER_1');
  });

  it('2: mapping in a domain whose tables the caller owns is refused', () => {
    const rig = newRig();
    const { domain } = rig.unit.createDomain({ osManagedPageTable: false });
    expectStatus(rig.map(domain!, 0x1000n, [5]), 'INVALID_PARAMETER_1');
    expectStatus(
      rig.unit.mapLogicalRangeEx({
        domain: domain!,
        permissions: RW,
        physicalAddressToMap: pfns(5),
        explicitLogicalAddress: 0x1000n,
      }),
      'INVALID_PARAMETER_1',
    );
  });

  it('3: an unmanaged domain that is not configured blocks all DMA', () => {
    const rig = newRig();
    const { domain } = rig.unit.createDomain({ osManagedPageTable: false });
    expectStatus(rig.attach(domain!), 'SUCCESS');
    for (const address of [0n, 0x1000n, 0xffff_ffff_f000n]) expect(rig.dma(NIC, address)).toBeUndefined();
    expect(rig.unit.statistics.blocked).toBe(3);
  });

  it('5: a domain is deleted only after its device is detached', () => {
    const rig = newRig();
    const domain = rig.domain();
    rig.attach(domain);
    expectStatus(rig.unit.deleteDomain({ domain }), 'RESOURCE_IN_USE');
    expectStatus(rig.map(domain, 0x1000n, [5]), 'SUCCESS');
    expectStatus(rig.detach(domain), 'SUCCESS');
    expectStatus(rig.unit.deleteDomain({ domain }), 'SUCCESS');
    expectStatus(rig.unit.deleteDomain({ domain }), 'INVALID_HANDLE');
  });

  it('6: attaching twice is INVALID_PARAMETER and the first attachment stays', () => {
    const rig = newRig();
    const first = rig.domain();
    const second = rig.domain();
    const dmaDevice = rig.device();
    rig.map(first, 0x1000n, [5]);
    expectStatus(rig.unit.attachDeviceEx({ domain: first, dmaDevice }), 'SUCCESS');
    expectStatus(rig.unit.attachDeviceEx({ domain: second, dmaDevice }), 'INVALID_PARAMETER');
    expect(rig.dma(NIC, 0x1000n)).toBe(0x5000n);
    expectStatus(rig.unit.deleteDomain({ domain: second }), 'SUCCESS');
  });

  it('7: detaching what is not attached is INVALID_PARAMETER_1', () => {
    const rig = newRig();
    expectStatus(rig.unit.detachDeviceEx({ dmaDevice: rig.device() }), 'INVALID_PARAMETER_1');
  });

  it('8: a PCI device is attached with base 0 and count 1 only', () => {
    const rig = newRig();
    const domain = rig.domain();
    expectStatus(rig.attach(domain, NIC, 1, 1), 'INVALID_PARAMETER_3');
    expectStatus(rig.attach(domain, NIC, 0, 2), 'INVALID_PARAMETER_4');
    expectStatus(rig.attach(domain, NIC, 0, 0), 'INVALID_PARAMETER_4');
    expectStatus(rig.attach(domain, NIC, 0, 1), 'SUCCESS');
  });

  it('9: a group is detached by its base, whole', () => {
    const rig = newRig();
    const domain = rig.domain();
    rig.map(domain, 0x1000n, [5]);
    expectStatus(rig.attach(domain, UART, 8, 4), 'SUCCESS');
    for (const id of [8, 9, 10, 11]) expect(rig.dma(id, 0x1000n)).toBe(0x5000n);
    expect(rig.dma(12, 0x1000n)).toBeUndefined();
    expectStatus(rig.detach(domain, UART, 9), 'INVALID_PARAMETER_3');
    expect(rig.dma(9, 0x1000n)).toBe(0x5000n);
    expectStatus(rig.detach(domain, UART, 8), 'SUCCESS');
    for (const id of [8, 9, 10, 11]) expect(rig.dma(id, 0x1000n)).toBeUndefined();
  });

  it('10: without an allocator the address must be explicit', () => {
    const rig = newRig();
    const answer = rig.unit.mapLogicalRangeEx({
      domain: rig.domain(),
      permissions: RW,
      physicalAddressToMap: pfns(5),
      minLogicalAddress: 0n,
    });
    expectStatus(answer, 'NOT_SUPPORTED');
  });

  it('11: with the buddy allocator it must not be', () => {
    const rig = newRig();
    const domain = rig.buddy(32);
    const answer = rig.unit.mapLogicalRangeEx({
      domain,
      permissions: RW,
      physicalAddressToMap: pfns(5),
      explicitLogicalAddress: 0x1000n,
    });
    expectStatus(answer, 'NOT_SUPPORTED');
    expectStatus(rig.map(domain, 0x1000n, [5]), 'NOT_SUPPORTED');
  });

  it('12: with the buddy allocator there are no identity mappings', () => {
    const rig = newRig();
    const domain = rig.buddy(32);
    const physicalAddressToMap = pfns(5);
    expectStatus(rig.unit.mapIdentityRangeEx({ domain, permissions: RW, physicalAddressToMap }), 'NOT_SUPPORTED');
    expectStatus(
      rig.unit.unmapIdentityRangeEx({ domain, mappedPhysicalAddress: physicalAddressToMap }),
      'NOT_SUPPORTED',
    );
  });

  it('13 and 14: an unaligned address is INVALID_PARAMETER_4, half a page INVALID_PARAMETER_3', () => {
    const rig = newRig();
    const domain = rig.domain();
    const args = { domain, permissions: RW, physicalAddressToMap: pfns(5), explicitLogicalAddress: 0x1001n };
    expectStatus(rig.unit.mapLogicalRangeEx(args), 'INVALID_PARAMETER_4');
    expectStatus(
      rig.unit.mapLogicalRangeEx({
        domain,
        permissions: RW,
        physicalAddressToMap: range(0x5000n, 0x800n),
        explicitLogicalAddress: 0x1000n,
      }),
      'INVALID_PARAMETER_3',
    );
    expect(rig.unit.snapshot().domains[0]!.rangeCount).toBe(0);
  });

  it('15: an overlap by one page is IN_USE, and nothing is mapped', () => {
    const rig = newRig();
    const domain = rig.domain();
    rig.attach(domain);
    expectStatus(rig.map(domain, 0x4000n, [5, 6]), 'SUCCESS');
    expectStatus(rig.map(domain, 0x2000n, [7, 8, 9]), 'IN_USE');
    expectStatus(rig.map(domain, 0x5000n, [7, 8, 9]), 'IN_USE');
    expect(rig.dma(NIC, 0x2000n)).toBeUndefined();
    expect(rig.dma(NIC, 0x3000n)).toBeUndefined();
    expect(rig.dma(NIC, 0x4000n)).toBe(0x5000n);
    expect(rig.dma(NIC, 0x5000n)).toBe(0x6000n);
    expect(rig.dma(NIC, 0x6000n)).toBeUndefined();
  });

  it('16: a window that is empty or full is INVALID_PARAMETER_MIX', () => {
    const rig = newRig();
    const domain = rig.buddy(20);
    const map = (minLogicalAddress: bigint, maxLogicalAddress: bigint) =>
      rig.unit.mapLogicalRangeEx({
        domain,
        permissions: RW,
        physicalAddressToMap: pfns(5),
        minLogicalAddress,
        maxLogicalAddress,
      });
    expectStatus(map(0x5000n, 0x4fffn), 'INVALID_PARAMETER_MIX');
    expectStatus(map(0x4000n, 0x4ffen), 'INVALID_PARAMETER_MIX');
    expectStatus(map(0x4000n, 0x4fffn), 'SUCCESS');
    expectStatus(map(0x4000n, 0x4fffn), 'INVALID_PARAMETER_MIX');
  });

  it('17: the buddy allocator keeps to the window and aligns to powers of two', () => {
    const rig = newRig();
    const domain = rig.buddy(32);
    const pages = Array.from({ length: 3 }, (_, i) => 5 + i);
    const answer = rig.unit.mapLogicalRangeEx({
      domain,
      permissions: RW,
      physicalAddressToMap: pfns(...pages),
      minLogicalAddress: 0x5000n,
      maxLogicalAddress: 0xafffn,
    });
    expectStatus(answer, 'SUCCESS');
    expect(answer.logicalAddress).toBe(0x8000n);
    rig.attach(domain);
    expect(rig.dma(NIC, 0xa123n)).toBe(0x7123n);
    expect(rig.dma(NIC, 0xb000n)).toBeUndefined();
  });

  it('18: identity mappings have the logical address of each page frame', () => {
    const rig = newRig();
    const domain = rig.domain();
    rig.attach(domain);
    expectStatus(rig.unit.mapIdentityRange({ domain, permissions: RW, mdl: mdl(9, 3, 4, 0x12345) }), 'SUCCESS');
    for (const frame of [9n, 3n, 4n, 0x12345n]) expect(rig.dma(NIC, frame * PAGE, W)).toBe(frame * PAGE);
    expect(rig.dma(NIC, 5n * PAGE)).toBeUndefined();
    expectStatus(rig.unit.unmapIdentityRange({ domain, mdl: mdl(9, 3, 4, 0x12345) }), 'SUCCESS');
    for (const frame of [9n, 3n, 4n, 0x12345n]) expect(rig.dma(NIC, frame * PAGE)).toBeUndefined();
  });

  it('19: reserved regions are mapped to themselves or never', () => {
    const rig = newRig();
    const regions = [
      { base: 0x2000n, numberOfPages: 2, shouldMap: true },
      { base: 0n, numberOfPages: 2, shouldMap: false },
    ];
    const domain = rig.buddy(16, regions);
    rig.attach(domain);
    expect(rig.dma(NIC, 0x3abcn, W)).toBe(0x3abcn);
    expect(rig.dma(NIC, 0x1000n)).toBeUndefined();
    const given = new Set<bigint>();
    for (;;) {
      const answer = rig.unit.mapLogicalRangeEx({ domain, permissions: RW, physicalAddressToMap: pfns(100) });
      if (answer.logicalAddress === undefined) break;
      given.add(answer.logicalAddress);
    }
    expect([...given].sort((a, b) => Number(a - b))).toEqual(
      Array.from({ length: 12 }, (_, i) => BigInt(i + 4) * PAGE),
    );
    expect(rig.dma(NIC, 0x2000n)).toBe(0x2000n);
  });

  it('20: tokens: size, live segment, unmapping twice, deleting their domain', () => {
    const rig = newRig();
    const domain = rig.domain();
    const reserve = (size: bigint) =>
      rig.unit.reserveLogicalAddressRange({ domain, size, explicitLogicalAddress: 0x8000n });
    expectStatus(reserve(0x1800n), 'INVALID_PARAMETER_2');
    const { token } = reserve(0x4000n);
    const segment = rig.unit.mapReservedLogicalRange({
      token: token!,
      offset: 0x1000n,
      permissions: RW,
      physicalAddressToMap: pfns(5, 7),
    });
    expectStatus(segment, 'SUCCESS');
    expectStatus(rig.unit.freeReservedLogicalAddressRange({ token: token! }), 'RESOURCE_IN_USE');
    const mappedSegment = segment.mappedSegment!;
    expectStatus(rig.unit.unmapReservedLogicalRange({ mappedSegment }), 'SUCCESS');
    expectStatus(rig.unit.unmapReservedLogicalRange({ mappedSegment }), 'INVALID_PARAMETER');
    expectStatus(rig.unit.deleteDomain({ domain }), 'RESOURCE_IN_USE');
    expectStatus(rig.unit.freeReservedLogicalAddressRange({ token: token! }), 'SUCCESS');
    expectStatus(rig.unit.deleteDomain({ domain }), 'SUCCESS');
    expect(rig.unit.snapshot().tablePages).toBe(0);
  });

  it('21: a read-only page refuses writes', () => {
    const rig = newRig();
    const faults = rig.listen();
    const domain = rig.domain();
    rig.attach(domain);
    rig.map(domain, 0x1000n, [5], R);
    expect(rig.dma(NIC, 0x1000n, R)).toBe(0x5000n);
    expect(rig.dma(NIC, 0x1000n, W)).toBeUndefined();
    expect(rig.dma(NIC, 0x1000n, RW)).toBeUndefined();
    rig.jobs.run();
    expect(faults.map(fault => (fault.type === 2 ? fault.x64.type : -1))).toEqual([
      FaultType.PermissionFault,
      FaultType.PermissionFault,
    ]);
  });

  it('22: what is unmapped faults although the IOTLB was warm', () => {
    const rig = newRig();
    const domain = rig.domain();
    rig.attach(domain);
    rig.map(domain, 0x1000n, [5, 6, 7]);
    for (const address of [0x1000n, 0x2000n, 0x3000n]) rig.dma(NIC, address);
    expect(rig.probe(NIC, 0x2000n).source).toBe('iotlb');
    expectStatus(rig.unmap(domain, 0x1000n, 2), 'SUCCESS');
    expect(rig.dma(NIC, 0x1000n)).toBeUndefined();
    expect(rig.dma(NIC, 0x2000n)).toBeUndefined();
    expect(rig.dma(NIC, 0x3000n)).toBe(0x7000n);
  });

  it('23: the caller’s changes are seen after a flush, and stale entries before it are told', () => {
    const rig = newRig({ checkStale: true });
    const domain = rig.domain(DomainType.Unmanaged);
    rig.attach(domain);
    const tables = new Arm64Tables(rig.memory);
    tables.map(0x40_0000n, 0x5000n);
    const configuration = arm64Config({ ttbr0: tables.root });
    expectStatus(rig.unit.configureDomain({ domain, configuration }), 'SUCCESS');
    const stale = () => rig.trace.events.filter(event => event.kind === 'dma-iommu.staleHit').length;

    expect(rig.dma(NIC, 0x40_0000n)).toBe(0x5000n);
    tables.set(0x40_0000n, 1, 0n);
    expect(rig.dma(NIC, 0x40_0000n)).toBe(0x5000n);
    expect(stale()).toBe(1);
    expect(rig.probe(NIC, 0x40_0000n)).toMatchObject({ translated: true, source: 'iotlb', stale: true });
    expectStatus(rig.unit.flushDomainByVaList({ domain, lastLevel: true, vaList: [0x40_0000n] }), 'SUCCESS');
    expect(rig.dma(NIC, 0x40_0000n)).toBeUndefined();
    expect(stale()).toBe(1);

    tables.map(0x40_0000n, 0x6000n);
    expect(rig.dma(NIC, 0x40_0000n)).toBe(0x6000n);
    tables.set(0x40_0000n, 2, 0n);
    rig.unit.flushDomainByVaList({ domain, lastLevel: true, vaList: [0x40_0000n] });
    expect(rig.probe(NIC, 0x40_0000n)).toMatchObject({ translated: true, source: 'paging-structure', stale: true });
    expect(rig.dma(NIC, 0x40_0000n)).toBe(0x6000n);
    expect(stale()).toBe(2);
    expect(rig.trace.events.at(-1)).toMatchObject({ detail: { from: 'paging-structure' } });
    rig.unit.flushDomainByVaList({ domain, lastLevel: false, vaList: [0x40_0000n] });
    expect(rig.dma(NIC, 0x40_0000n)).toBeUndefined();
  });

  it('24: a short buffer for input mappings gets the needed length and nothing else', () => {
    const rig = newRig();
    const query = (bufferLength: number) => rig.unit.queryInputMappings({ physicalDeviceObject: UART, bufferLength });
    expect(query(31)).toEqual({ status: 0xc0000023, returnLength: 32 });
    expect(query(32)).toMatchObject({ status: 0, inputMappingIds: [8, 9, 10, 11, 12, 13, 14, 15], returnLength: 32 });
  });

  it('25: fault reporting needs an attached device', () => {
    const rig = newRig();
    const faultConfig = { faultHandler: () => {} };
    const enable = { physicalDeviceObject: NIC, inputMappingIdBase: 0, enable: true, faultConfig };
    expectStatus(rig.unit.setDeviceFaultReporting(enable), 'INVALID_PARAMETER_1');
    rig.attach(rig.domain());
    expectStatus(rig.unit.setDeviceFaultReporting(enable), 'SUCCESS');
  });

  it('26: the callback comes at once, and only one may be registered', () => {
    const rig = newRig();
    const dmaDevice = rig.device();
    const calls: unknown[] = [];
    const stateChangeCallback = (change: unknown, context: unknown) => calls.push([change, context]);
    const fields = InterfaceStateField.availableDomainTypes;
    const register = (stateFields: number) =>
      rig.unit.registerInterfaceStateChangeCallback({ stateChangeCallback, context: 'mine', dmaDevice, stateFields });
    expectStatus(rig.unit.unregisterInterfaceStateChangeCallback({ stateChangeCallback, dmaDevice }), 'UNSUCCESSFUL');
    expectStatus(register(0), 'INVALID_PARAMETER_4');
    expect(calls).toEqual([]);
    expectStatus(register(fields), 'SUCCESS');
    expect(calls).toEqual([[{ presentFields: 1, availableDomainTypes: 0b1111 }, 'mine']]);
    expectStatus(register(fields), 'UNSUCCESSFUL');
    expect(calls.length).toBe(1);
    expectStatus(rig.unit.unregisterInterfaceStateChangeCallback({ stateChangeCallback, dmaDevice }), 'SUCCESS');
    expectStatus(register(fields), 'SUCCESS');
  });

  it('27: DMA Guard takes PassThrough away, tells, and denies', () => {
    const rig = newRig();
    const dmaDevice = rig.device();
    const types: number[] = [];
    rig.unit.registerInterfaceStateChangeCallback({
      stateChangeCallback: change => types.push(change.availableDomainTypes),
      dmaDevice,
      stateFields: InterfaceStateField.availableDomainTypes,
    });
    rig.unit.setDmaGuard(NIC, true);
    expect(types).toEqual([0b1111, 0b1101]);
    expect(rig.unit.queryAvailableDomainTypes({ dmaDevice }).availableDomains).toBe(0b1101);
    const passThrough = rig.domain(DomainType.PassThrough);
    expectStatus(rig.unit.attachDeviceEx({ domain: passThrough, dmaDevice }), 'ACCESS_DENIED');
    expectStatus(rig.attach(passThrough), 'ACCESS_DENIED');
    expect(rig.dma(NIC, 0x1000n)).toBeUndefined();
    expectStatus(rig.unit.attachDeviceEx({ domain: rig.domain(), dmaDevice }), 'SUCCESS');
    rig.unit.setDmaGuard(NIC, false);
    expect(types).toEqual([0b1111, 0b1101, 0b1111]);
  });

  it('28: PASID devices', () => {
    const rig = newRig();
    expectStatus(rig.unit.createPasidDevice({ dmaDevice: rig.device(NIC) }), 'INVALID_PARAMETER_1');
    const dmaDevice = rig.device(GPU, TAGGED);
    const { pasidDevice } = rig.unit.createPasidDevice({ dmaDevice });
    const domain = rig.domain(DomainType.TranslateS1);
    const args = { domain, pasidDevice: pasidDevice! };
    expectStatus(rig.unit.detachPasidDevice(args), 'INVALID_PARAMETER_1');
    expectStatus(rig.unit.attachPasidDevice(args), 'SUCCESS');
    expectStatus(rig.unit.attachPasidDevice(args), 'UNSUCCESSFUL');
    expectStatus(rig.unit.deletePasidDevice(args), 'RESOURCE_IN_USE');
    expect(rig.unit.queryDeviceInfo({ dmaDevice, size: 2 })).toEqual({ status: 0xc0000023, bytesWritten: 0 });
    expect(rig.unit.queryDeviceInfo({ dmaDevice, size: 3 })).toEqual({
      status: 0,
      bytesWritten: 3,
      information: { defaultPasidEnabled: true, pasidTaggedDmaEnabled: true, pasidFaultsSuppressed: false },
    });
  });

  it('29: interface versions, flags and sizes', () => {
    const { unit } = newRig();
    for (const version of [0, 4, -1, 1.5]) expectStatus(unit.getInterfaceEx(version, 0), 'INVALID_PARAMETER_1');
    expectStatus(unit.getInterfaceEx(2, 1), 'INVALID_PARAMETER_3');
    expect(unit.getInterfaceEx(2, 1).interface).toBeUndefined();
    const sizes = ([1, 2, 3] as const).map(version => unit.getInterfaceEx(version, 0n).interface!.size);
    expect(sizes).toEqual([0x78, 0xc0, 0xe8]);
    expectStatus(unit.createDevice({ physicalDeviceObject: STRANGER }), 'NOT_FOUND');
  });
});

it('4: an X64 configuration is for the system only; here it works in the extended mode', () => {
  for (const [compat, status] of [
    ['windows', 'NOT_SUPPORTED'],
    ['extended', 'SUCCESS'],
  ] as const) {
    const rig = new Rig({ compat });
    const domain = rig.domain(DomainType.Unmanaged);
    rig.attach(domain);
    const tables = new X64Tables(rig.memory);
    tables.map(0x40_0000n, 0x5000n);
    const configuration = x64Config({ root: tables.root });
    expect(configuration.type).toBe(DomainConfigurationArch.X64);
    expectStatus(rig.unit.configureDomain({ domain, configuration }), status);
    expect(rig.dma(NIC, 0x40_0000n)).toBe(status === 'SUCCESS' ? 0x5000n : undefined);
  }
});

it('25: the Ex form of fault reporting is not implemented in Windows; here it works in the extended mode', () => {
  for (const [compat, status] of [
    ['windows', 'NOT_IMPLEMENTED'],
    ['extended', 'SUCCESS'],
  ] as const) {
    const rig = new Rig({ compat });
    const dmaDevice = rig.device();
    rig.unit.attachDeviceEx({ domain: rig.domain(), dmaDevice });
    const seen: unknown[] = [];
    const faultConfig = { faultHandler: (context: unknown) => seen.push(context), faultContext: 'mine' };
    const args = { dmaDevice, inputMappingIdBase: 0, enable: true, faultConfig };
    expectStatus(rig.unit.setDeviceFaultReportingEx(args), status);
    rig.dma(NIC, 0x1000n);
    expect(seen).toEqual([]);
    rig.jobs.run();
    expect(seen).toEqual(status === 'SUCCESS' ? ['mine'] : []);
  }
});
