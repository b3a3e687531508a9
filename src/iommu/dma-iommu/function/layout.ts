/**
 * The entries of the rings and what commands point at, as data. images/guest/include/dma_iommu.h says the same in C: a test compiles it
 * and compares. Fields of structures have the names of the C ones, in camelCase; `reserved` ones are the gaps.
 */
import type { OperationName } from '../operations.ts';
import { type StructLayout, struct } from './struct.ts';

/** IOMMU_MAP_PHYSICAL_ADDRESS. */
export const memoryLayout = struct({ type: 'u32', byteOffset: 'u32', address: 'u64', size: 'u64' });

/** Elements of lists. */
export const reservedRegionLayout = struct({ base: 'u64', numberOfPages: 'u64', shouldMap: 'u32' });
export const deviceConfigurationLayout = struct({ type: 'u32', u: { bytes: 8, align: 8 } });
/** What `u` of a device configuration is, by type; `deviceId` is 64 bits. */
export const acpiConfigurationLayout = struct({ inputMappingBase: 'u32', mappingsCount: 'u32' });
export const pasidConfigurationLayout = struct({ type: 'u32', suppressFaults: 'u32' });
export const FRAME_NUMBER_BYTES = 8;
export const VIRTUAL_ADDRESS_BYTES = 8;

/** What `u` of configureDomain is, by architecture. */
export const arm64ConfigurationLayout = struct({
  ttbr0: 'u64',
  ttbr1: 'u64',
  mair0: 'u32',
  mair1: 'u32',
  inputSize0: 'u8',
  inputSize1: 'u8',
  coherentTableWalks: 'u8',
  translationEnabled: 'u8',
  granule: 'u32',
});
export const x64ConfigurationLayout = struct({
  firstLevelPageTableRoot: 'u64',
  translationEnabled: 'u32',
  levels: 'u32',
});

/** Bits of `present`. */
export const Present = { explicit: 1, minimum: 2, maximum: 4 } as const;

export const argumentLayouts = {
  createDomain: struct({ osManagedPageTable: 'u32' }),
  createDomainEx: struct({
    domainType: 'u32',
    hasAllocator: 'u32',
    allocatorType: 'u32',
    addressWidth: 'u32',
    flags: 'u64',
    reservedRegions: 'u64',
    reservedRegionCount: 'u32',
  }),
  deleteDomain: struct({ domain: 'u32' }),
  attachDevice: struct({ domain: 'u32', pdo: 'u32', inputMappingIdBase: 'u32', mappingCount: 'u32' }),
  attachDeviceEx: struct({ domain: 'u32', device: 'u32' }),
  detachDevice: struct({ domain: 'u32', pdo: 'u32', inputMappingId: 'u32' }),
  detachDeviceEx: struct({ device: 'u32' }),
  flushDomain: struct({ domain: 'u32' }),
  flushDomainByVaList: struct({ domain: 'u32', lastLevel: 'u32', vaList: 'u64', number: 'u32' }),
  queryInputMappings: struct({ pdo: 'u32', bufferLength: 'u32', buffer: 'u64' }),
  mapLogicalRange: struct({ domain: 'u32', permissions: 'u32', mdl: memoryLayout, logicalAddress: 'u64' }),
  mapLogicalRangeEx: struct({
    domain: 'u32',
    permissions: 'u32',
    memory: memoryLayout,
    present: 'u32',
    explicitLogicalAddress: 'u64',
    minLogicalAddress: 'u64',
    maxLogicalAddress: 'u64',
  }),
  unmapLogicalRange: struct({ domain: 'u32', logicalAddress: 'u64', numberOfPages: 'u64' }),
  mapIdentityRange: struct({ domain: 'u32', permissions: 'u32', mdl: memoryLayout }),
  mapIdentityRangeEx: struct({ domain: 'u32', permissions: 'u32', memory: memoryLayout }),
  unmapIdentityRange: struct({ domain: 'u32', mdl: memoryLayout }),
  unmapIdentityRangeEx: struct({ domain: 'u32', memory: memoryLayout }),
  setDeviceFaultReporting: struct({
    pdo: 'u32',
    inputMappingIdBase: 'u32',
    enable: 'u32',
    hasConfig: 'u32',
    context: 'u64',
  }),
  setDeviceFaultReportingEx: struct({
    device: 'u32',
    inputMappingIdBase: 'u32',
    enable: 'u32',
    hasConfig: 'u32',
    context: 'u64',
  }),
  configureDomain: struct({ domain: 'u32', arch: 'u32', u: { bytes: arm64ConfigurationLayout.bytes, align: 8 } }),
  queryAvailableDomainTypes: struct({ device: 'u32' }),
  registerInterfaceStateChangeCallback: struct({
    device: 'u32',
    stateFields: 'u32',
    callback: 'u64',
    context: 'u64',
  }),
  unregisterInterfaceStateChangeCallback: struct({ device: 'u32', callback: 'u64' }),
  reserveLogicalAddressRange: struct({
    domain: 'u32',
    present: 'u32',
    size: 'u64',
    explicitLogicalAddress: 'u64',
    minLogicalAddress: 'u64',
    maxLogicalAddress: 'u64',
  }),
  freeReservedLogicalAddressRange: struct({ token: 'u32' }),
  mapReservedLogicalRange: struct({ token: 'u32', permissions: 'u32', offset: 'u64', memory: memoryLayout }),
  unmapReservedLogicalRange: struct({ segment: 'u32' }),
  createDevice: struct({ pdo: 'u32', configurationCount: 'u32', configurations: 'u64' }),
  deleteDevice: struct({ device: 'u32' }),
  createPasidDevice: struct({ device: 'u32' }),
  deletePasidDevice: struct({ pasidDevice: 'u32' }),
  attachPasidDevice: struct({ domain: 'u32', pasidDevice: 'u32' }),
  detachPasidDevice: struct({ pasidDevice: 'u32' }),
  queryDeviceInfo: struct({ device: 'u32', size: 'u32' }),
} satisfies { readonly [Name in OperationName]: StructLayout };

/** Operations that are not here have no outputs. */
export const resultLayouts = {
  createDomain: struct({ domain: 'u32' }),
  createDomainEx: struct({ domain: 'u32' }),
  queryInputMappings: struct({ returnLength: 'u32' }),
  mapLogicalRangeEx: struct({ logicalAddress: 'u64' }),
  queryAvailableDomainTypes: struct({ availableDomains: 'u32' }),
  reserveLogicalAddressRange: struct({ token: 'u32', logicalAddressBase: 'u64', size: 'u64' }),
  mapReservedLogicalRange: struct({ segment: 'u32', offset: 'u64', size: 'u64' }),
  createDevice: struct({ device: 'u32' }),
  createPasidDevice: struct({ pasidDevice: 'u32', asid: 'u32' }),
  queryDeviceInfo: struct({
    bytesWritten: 'u32',
    defaultPasidEnabled: 'u8',
    pasidTaggedDmaEnabled: 'u8',
    pasidFaultsSuppressed: 'u8',
  }),
} satisfies { readonly [Name in OperationName]?: StructLayout };

/** What a completion's result is where its kind is a state change. */
export const stateChangeLayout = struct({
  callback: 'u64',
  device: 'u32',
  presentFields: 'u32',
  availableDomainTypes: 'u32',
});

export const ARGUMENT_BYTES = 112;
export const RESULT_BYTES = 48;

export const commandLayout = struct({
  opcode: 'u16',
  flags: 'u16',
  reserved: 'u32',
  cookie: 'u64',
  args: { bytes: ARGUMENT_BYTES, align: 8 },
});
/** Bits of a command's `flags`. */
export const CommandFlag = { noInterrupt: 1 } as const;

export const completionLayout = struct({
  phase: 'u8',
  kind: 'u8',
  opcode: 'u16',
  status: 'u32',
  cookie: 'u64',
  result: { bytes: RESULT_BYTES, align: 8 },
});
export const CompletionKind = { command: 0, stateChange: 1 } as const;

export const faultLayout = struct({
  phase: 'u8',
  arch: 'u8',
  isStage1: 'u8',
  access: 'u8',
  requesterId: 'u32',
  context: 'u64',
  faultAddress: 'u64',
  iommuBaseAddress: 'u64',
  domain: 'u32',
  type: 'u32',
  flags: 'u32',
  pasid: 'i32',
  pdo: 'u32',
  inputMappingId: 'u32',
  pciSegment: 'u32',
  sequence: 'u32',
});

/** Bits of a fault's `flags`, by its architecture (FAULT_INFORMATION_ARM64_FLAGS, FAULT_INFORMATION_X64_FLAGS). */
export const Arm64FaultFlag = { writeNotRead: 1, instructionNotData: 2, privileged: 4, addressValid: 8 } as const;
export const X64FaultFlag = { addressValid: 1 } as const;
