/** Arguments that every operation takes, with each member in use. */
import type { OperationName } from '../../src/iommu/dma-iommu/operations.ts';
import type { OperationArguments } from '../../src/machine/operations-command.ts';

const pages = Int32Array.of(0x100, 0x101, 0x7fffffff);
const mdl = { type: 'mdl', pages, byteOffset: 0, byteCount: 3 * 4096 } as const;
const contiguousRange = { type: 'contiguousRange', base: 0x100000n, size: 0x4000n } as const;
const pfnArray = { type: 'pfnArray', pages } as const;
const chosen = {
  explicitLogicalAddress: 0xffff_ffff_ffff_f000n,
  minLogicalAddress: 0x1000n,
  maxLogicalAddress: 0xffff_ffffn,
};

/** Handles are plain numbers on the wire. */
type Unbranded<T> = T extends number
  ? number
  : T extends bigint | string | boolean | undefined | Int32Array
    ? T
    : { [K in keyof T]: Unbranded<T[K]> };

const samples: { readonly [Name in OperationName]: Unbranded<OperationArguments[Name]> } = {
  createDomain: { osManagedPageTable: true },
  createDomainEx: {
    domainType: 0,
    flags: 0n,
    logicalAllocatorConfig: { logicalAllocatorType: 1, addressWidth: 40 },
    reservedRegions: [{ base: 0xfee00000n, numberOfPages: 256, shouldMap: false }],
  },
  deleteDomain: { domain: 1 },
  attachDevice: { domain: 1, physicalDeviceObject: 0x100, inputMappingIdBase: 0, mappingCount: 1 },
  attachDeviceEx: { domain: 1, dmaDevice: 2 },
  detachDevice: { domain: 1, physicalDeviceObject: 0x100, inputMappingId: 0 },
  detachDeviceEx: { dmaDevice: 2 },
  flushDomain: { domain: 1 },
  flushDomainByVaList: { domain: 1, lastLevel: true, vaList: [0n, 0x1234n, 0xffff_ffff_ffff_ffffn] },
  queryInputMappings: { physicalDeviceObject: 0x100, bufferLength: 64 },
  mapLogicalRange: { domain: 1, permissions: 3, mdl, logicalAddress: 0x8000_0000n },
  mapLogicalRangeEx: { domain: 1, permissions: 3, physicalAddressToMap: contiguousRange, ...chosen },
  unmapLogicalRange: { domain: 1, logicalAddress: 0x8000_0000n, numberOfPages: 4 },
  mapIdentityRange: { domain: 1, permissions: 1, mdl },
  mapIdentityRangeEx: { domain: 1, permissions: 2, physicalAddressToMap: pfnArray },
  unmapIdentityRange: { domain: 1, mdl },
  unmapIdentityRangeEx: { domain: 1, mappedPhysicalAddress: mdl },
  setDeviceFaultReporting: {
    physicalDeviceObject: 0x100,
    inputMappingIdBase: 0,
    enable: true,
    faultConfig: { faultContext: 'nic' },
  },
  setDeviceFaultReportingEx: { dmaDevice: 2, inputMappingIdBase: 0, enable: true, faultConfig: { faultContext: 7n } },
  configureDomain: {
    domain: 1,
    configuration: {
      type: 0,
      ttbr0: 0x1000n,
      ttbr1: 0x2000n,
      mair0: 0xff,
      mair1: 0xffff_ffff,
      inputSize0: 48,
      inputSize1: 48,
      coherentTableWalks: true,
      translationEnabled: true,
      granule: 64,
    },
  },
  queryAvailableDomainTypes: { dmaDevice: 2 },
  registerInterfaceStateChangeCallback: { dmaDevice: 2, stateFields: 1, context: 9 },
  unregisterInterfaceStateChangeCallback: { dmaDevice: 2 },
  reserveLogicalAddressRange: { domain: 1, size: 0x10000n, ...chosen },
  freeReservedLogicalAddressRange: { token: 3 },
  mapReservedLogicalRange: { token: 3, offset: 0x1000n, permissions: 3, physicalAddressToMap: contiguousRange },
  unmapReservedLogicalRange: { mappedSegment: 4 },
  createDevice: {
    physicalDeviceObject: 0x100,
    deviceConfig: [
      { configType: 1, inputMappingBase: 8, mappingsCount: 4 },
      { configType: 2, deviceId: 5 },
      { configType: 3, pasidConfigType: 1, suppressPasidFaults: false },
    ],
  },
  deleteDevice: { dmaDevice: 2 },
  createPasidDevice: { dmaDevice: 2 },
  deletePasidDevice: { pasidDevice: 5 },
  attachPasidDevice: { domain: 1, pasidDevice: 5 },
  detachPasidDevice: { pasidDevice: 5 },
  queryDeviceInfo: { dmaDevice: 2, size: 3 },
};

export const sampleArguments = samples as unknown as { readonly [Name in OperationName]: OperationArguments[Name] };

/** Members that may be missing. */
export const OPTIONAL_MEMBERS = new Set([
  'flags',
  'logicalAllocatorConfig',
  'reservedRegions',
  'addressWidth',
  'explicitLogicalAddress',
  'minLogicalAddress',
  'maxLogicalAddress',
  'faultConfig',
  'faultContext',
  'context',
  'deviceConfig',
  'granule',
  'levels',
]);
