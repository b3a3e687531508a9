/**
 * The operations of DMA_IOMMU_INTERFACE and DMA_IOMMU_INTERFACE_EX, versions 1 to 3 (wdm.h), in camelCase. Each takes one plain
 * object and answers at once with an NTSTATUS; outputs are there on success only, unless said otherwise. None throws, whatever
 * it is given. What each answers when is in docs/dma-iommu-interface.md.
 */
import type {
  DeviceCreationConfiguration,
  DeviceFaultConfiguration,
  DeviceHandle,
  DeviceInformation,
  DomainConfiguration,
  DomainHandle,
  InterfaceStateChangeCallback,
  LogicalAllocatorConfig,
  Mdl,
  PasidDeviceHandle,
  PhysicalAddressToMap,
  PhysicalDeviceObject,
  ReservedRegion,
  SegmentHandle,
  TokenHandle,
} from './types.ts';

export interface Answer {
  /** An NTSTATUS, unsigned. */
  readonly status: number;
}

export interface DmaIommuOperations {
  createDomain(args: { osManagedPageTable: boolean }): Answer & { domain?: DomainHandle };

  createDomainEx(args: {
    /** `DomainType`. */
    domainType: number;
    /** Must be zero. */
    flags?: bigint | number | undefined;
    logicalAllocatorConfig?: LogicalAllocatorConfig | undefined;
    reservedRegions?: readonly ReservedRegion[] | undefined;
  }): Answer & { domain?: DomainHandle };

  deleteDomain(args: { domain: DomainHandle }): Answer;

  attachDevice(args: {
    domain: DomainHandle;
    physicalDeviceObject: PhysicalDeviceObject;
    /** 0 unless the device is enumerated by ACPI. */
    inputMappingIdBase: number;
    /** 1 unless the device is enumerated by ACPI. */
    mappingCount: number;
  }): Answer;

  attachDeviceEx(args: { domain: DomainHandle; dmaDevice: DeviceHandle }): Answer;

  detachDevice(args: {
    domain: DomainHandle;
    physicalDeviceObject: PhysicalDeviceObject;
    /** The base that the group was attached with. */
    inputMappingId: number;
  }): Answer;

  detachDeviceEx(args: { dmaDevice: DeviceHandle }): Answer;

  flushDomain(args: { domain: DomainHandle }): Answer;

  flushDomainByVaList(args: {
    domain: DomainHandle;
    /** True: only entries that map pages were changed; cached pointers to tables may stay. */
    lastLevel: boolean;
    /** Any address within the pages. */
    vaList: readonly bigint[];
  }): Answer;

  queryInputMappings(args: {
    physicalDeviceObject: PhysicalDeviceObject;
    /** Bytes, 4 for each id. */
    bufferLength: number;
  }): Answer & {
    inputMappingIds?: readonly number[];
    /** Bytes; also with STATUS_BUFFER_TOO_SMALL. */
    returnLength?: number;
  };

  mapLogicalRange(args: { domain: DomainHandle; permissions: number; mdl: Mdl; logicalAddress: bigint }): Answer;

  mapLogicalRangeEx(args: {
    domain: DomainHandle;
    permissions: number;
    physicalAddressToMap: PhysicalAddressToMap;
    /** Required without an allocator, forbidden with one. */
    explicitLogicalAddress?: bigint | undefined;
    /** The lowest and the highest address to choose from, both included; for the allocator. */
    minLogicalAddress?: bigint | undefined;
    maxLogicalAddress?: bigint | undefined;
  }): Answer & { logicalAddress?: bigint };

  unmapLogicalRange(args: { domain: DomainHandle; logicalAddress: bigint; numberOfPages: number }): Answer;

  mapIdentityRange(args: { domain: DomainHandle; permissions: number; mdl: Mdl }): Answer;

  mapIdentityRangeEx(args: {
    domain: DomainHandle;
    permissions: number;
    physicalAddressToMap: PhysicalAddressToMap;
  }): Answer;

  unmapIdentityRange(args: { domain: DomainHandle; mdl: Mdl }): Answer;

  unmapIdentityRangeEx(args: { domain: DomainHandle; mappedPhysicalAddress: PhysicalAddressToMap }): Answer;

  setDeviceFaultReporting(args: {
    physicalDeviceObject: PhysicalDeviceObject;
    /** The base that the group was attached with; 0 unless the device is enumerated by ACPI. */
    inputMappingIdBase: number;
    enable: boolean;
    /** Needed to enable, not looked at otherwise. */
    faultConfig?: DeviceFaultConfiguration | undefined;
  }): Answer;

  setDeviceFaultReportingEx(args: {
    dmaDevice: DeviceHandle;
    inputMappingIdBase: number;
    enable: boolean;
    faultConfig?: DeviceFaultConfiguration | undefined;
  }): Answer;

  configureDomain(args: { domain: DomainHandle; configuration: DomainConfiguration }): Answer;

  queryAvailableDomainTypes(args: { dmaDevice: DeviceHandle }): Answer & {
    /** Bits `1 << DomainType`. */
    availableDomains: number;
  };

  registerInterfaceStateChangeCallback(args: {
    /** Called once before this returns. */
    stateChangeCallback: InterfaceStateChangeCallback;
    context?: unknown;
    dmaDevice: DeviceHandle;
    /** `InterfaceStateField` bits. */
    stateFields: number;
  }): Answer;

  unregisterInterfaceStateChangeCallback(args: {
    stateChangeCallback: InterfaceStateChangeCallback;
    dmaDevice: DeviceHandle;
  }): Answer;

  reserveLogicalAddressRange(args: {
    domain: DomainHandle;
    /** Bytes. */
    size: bigint;
    explicitLogicalAddress?: bigint | undefined;
    minLogicalAddress?: bigint | undefined;
    maxLogicalAddress?: bigint | undefined;
  }): Answer & {
    token?: TokenHandle;
    logicalAddressBase?: bigint;
    size?: bigint;
  };

  freeReservedLogicalAddressRange(args: { token: TokenHandle }): Answer;

  mapReservedLogicalRange(args: {
    token: TokenHandle;
    /** Bytes from the token's base. */
    offset: bigint;
    permissions: number;
    physicalAddressToMap: PhysicalAddressToMap;
  }): Answer & {
    mappedSegment?: SegmentHandle;
    offset?: bigint;
    size?: bigint;
  };

  unmapReservedLogicalRange(args: { mappedSegment: SegmentHandle }): Answer;

  createDevice(args: {
    physicalDeviceObject: PhysicalDeviceObject;
    deviceConfig?: readonly DeviceCreationConfiguration[] | undefined;
  }): Answer & { dmaDevice?: DeviceHandle };

  deleteDevice(args: { dmaDevice: DeviceHandle }): Answer;

  createPasidDevice(args: { dmaDevice: DeviceHandle }): Answer & {
    pasidDevice?: PasidDeviceHandle;
    /** The PASID, 20 bits. */
    asid?: number;
  };

  deletePasidDevice(args: { pasidDevice: PasidDeviceHandle }): Answer;

  attachPasidDevice(args: { domain: DomainHandle; pasidDevice: PasidDeviceHandle }): Answer;

  detachPasidDevice(args: { pasidDevice: PasidDeviceHandle }): Answer;

  queryDeviceInfo(args: {
    dmaDevice: DeviceHandle;
    /** Bytes of the caller's buffer. */
    size: number;
  }): Answer & { bytesWritten: number; information?: DeviceInformation };
}

export type OperationName = keyof DmaIommuOperations;
