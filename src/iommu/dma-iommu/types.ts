/**
 * The types of wdm.h that the operations take and give, as plain data. Addresses and sizes in bytes are bigint, unsigned 64 bits;
 * counts of pages are numbers. Enumerations have the numbers of wdm.h.
 */

/** A small positive integer that stands for an object of the unit: the same on every way in. Not given out again soon. */
type Handle<Name extends string> = number & { readonly __handle: Name };
/** PIOMMU_DMA_DOMAIN. */
export type DomainHandle = Handle<'domain'>;
/** PIOMMU_DMA_DEVICE. */
export type DeviceHandle = Handle<'device'>;
/** PIOMMU_DMA_PASID_DEVICE. */
export type PasidDeviceHandle = Handle<'pasid-device'>;
/** PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN: a range of logical addresses that is set apart. */
export type TokenHandle = Handle<'token'>;
/** What is mapped in a part of such a range. */
export type SegmentHandle = Handle<'segment'>;

/** What stands for a physical device object: the requester id of an endpoint of the machine. */
export type PhysicalDeviceObject = number;

/** An endpoint, as far as the operations ask about it. */
export interface DirectoryDevice {
  /** Bus << 8 | device << 3 | function. */
  readonly requesterId: number;
  /**
   * Stream ids, 0 to 65535. DMA of an ACPI-enumerated device carries one of these as its requester id; that of any other device
   * carries `requesterId`.
   */
  readonly inputMappingIds: readonly number[];
  /** Enumerated by ACPI: ranges of input mapping ids may be attached one by one. */
  readonly acpi: boolean;
  /** Its DMA can carry a PASID. */
  readonly pasidCapable: boolean;
}

/** The endpoints of the machine, asked at each call: they may come and go. */
export interface DeviceDirectory {
  /** undefined: there is no such endpoint. */
  find(pdo: PhysicalDeviceObject): DirectoryDevice | undefined;
  all(): readonly DirectoryDevice[];
}

/** IOMMU_DMA_DOMAIN_TYPE. */
export const DomainType = {
  /** We own the page tables. */
  Translate: 0,
  /** Logical addresses are physical ones. */
  PassThrough: 1,
  /** The caller owns the page tables and flushes. */
  Unmanaged: 2,
  /** As `Translate`, and PASID devices, too, may be attached. */
  TranslateS1: 3,
  Max: 4,
} as const;
export type DomainType = Exclude<(typeof DomainType)[keyof typeof DomainType], 4>;

/** Bits of `permissions`; all others must be zero. */
export const Permission = { read: 1, write: 2 } as const;

/** IOMMU_MAP_PHYSICAL_ADDRESS_TYPE, for those who carry the type as a number. */
export const MapPhysicalAddressType = { Mdl: 0, ContiguousRange: 1, Pfn: 2, Max: 3 } as const;

/** A memory descriptor list: page frames, and which of their bytes are meant. */
export interface Mdl {
  readonly type: 'mdl';
  /** Page-frame numbers (physical address >> 12), each a non-negative int32. */
  readonly pages: Int32Array;
  /** Offset into the first page, 0 to 4095. */
  readonly byteOffset: number;
  /** From there on; the pages must be as many as it takes. */
  readonly byteCount: number;
}

/** IOMMU_MAP_PHYSICAL_ADDRESS. Every form must describe whole pages of 4 KiB. */
export type PhysicalAddressToMap =
  | Mdl
  | { readonly type: 'contiguousRange'; readonly base: bigint; readonly size: bigint }
  | { readonly type: 'pfnArray'; readonly pages: Int32Array };

/** IOMMU_DMA_RESERVED_REGION; an array instead of a linked list. */
export interface ReservedRegion {
  /** Logical address; a multiple of 4096. */
  readonly base: bigint;
  /** Of 4 KiB. */
  readonly numberOfPages: number;
  /** True: mapped to itself. False: never mapped. */
  readonly shouldMap: boolean;
}

/** IOMMU_DMA_LOGICAL_ALLOCATOR_TYPE. */
export const LogicalAllocatorType = { None: 0, Buddy: 1, Max: 2 } as const;

/** IOMMU_DMA_LOGICAL_ALLOCATOR_CONFIG. */
export interface LogicalAllocatorConfig {
  /** `LogicalAllocatorType`. */
  readonly logicalAllocatorType: number;
  /** Bits; up to 63. For `Buddy`. */
  readonly addressWidth?: number | undefined;
}

/** DOMAIN_CONFIGURATION_ARCH. */
export const DomainConfigurationArch = { Arm64: 0, X64: 1, Invalid: 2 } as const;

/** DOMAIN_CONFIGURATION_ARM64. */
export interface DomainConfigurationArm64 {
  readonly type: typeof DomainConfigurationArch.Arm64;
  /** Physical addresses of the tables for the lower and the upper end of the address space; 4 KiB aligned. */
  readonly ttbr0: bigint;
  readonly ttbr1: bigint;
  /** Memory attributes, unsigned 32 bits each: kept and shown, and of no effect, as all memory here is coherent. */
  readonly mair0: number;
  readonly mair1: number;
  /** Width in bits of the addresses that each translates; 0: nothing there is translated. */
  readonly inputSize0: number;
  readonly inputSize1: number;
  /** Kept and shown, and of no effect. */
  readonly coherentTableWalks: boolean;
  /** False: stage 1 is bypassed. */
  readonly translationEnabled: boolean;
  /** Our extension: KiB of the translation granule, 4 (default), 16 or 64. */
  readonly granule?: number | undefined;
}

/** DOMAIN_CONFIGURATION_X64. */
export interface DomainConfigurationX64 {
  readonly type: typeof DomainConfigurationArch.X64;
  /** Physical address, 4 KiB aligned. */
  readonly firstLevelPageTableRoot: bigint;
  /** False: translation is bypassed. */
  readonly translationEnabled: boolean;
  /** Our extension: levels of page tables, 4 (default) or 5. */
  readonly levels?: number | undefined;
}

/** DOMAIN_CONFIGURATION: tables of the caller's own. */
export type DomainConfiguration = DomainConfigurationArm64 | DomainConfigurationX64;

/** IOMMU_DEVICE_CREATION_CONFIGURATION_TYPE. */
export const DeviceCreationConfigType = { None: 0, Acpi: 1, DeviceId: 2, Pasid: 3, Max: 4 } as const;

/** IOMMU_PASID_CONFIGURATION_TYPE. */
export const PasidConfigType = { DefaultPasidOnly: 0, PasidTaggedDma: 1, Max: 2 } as const;

/** IOMMU_DEVICE_CREATION_CONFIGURATION; an array of these instead of a linked list. */
export type DeviceCreationConfiguration =
  | {
      readonly configType: typeof DeviceCreationConfigType.Acpi;
      readonly inputMappingBase: number;
      readonly mappingsCount: number;
    }
  | { readonly configType: typeof DeviceCreationConfigType.DeviceId; readonly deviceId: number }
  | {
      readonly configType: typeof DeviceCreationConfigType.Pasid;
      readonly pasidConfigType: number;
      readonly suppressPasidFaults: boolean;
    };

/** IOMMU_DMA_DEVICE_INFORMATION. */
export interface DeviceInformation {
  /** It was created with a PASID configuration. */
  readonly defaultPasidEnabled: boolean;
  /** Its DMA may carry PASIDs. */
  readonly pasidTaggedDmaEnabled: boolean;
  /** Faults of DMA with a PASID are told to no handler. */
  readonly pasidFaultsSuppressed: boolean;
}
/** Its size in bytes. */
export const DEVICE_INFORMATION_BYTES = 3;

/** INPUT_MAPPING_ELEMENT's size in bytes. */
export const INPUT_MAPPING_ELEMENT_BYTES = 4;

/** FAULT_INFORMATION_ARCH. */
export const FaultInformationArch = { Invalid: 0, Arm64: 1, X64: 2 } as const;

/** FAULT_INFORMATION_ARM64_TYPE; the X64 form uses it too. */
export const FaultType = {
  /** The device is attached to no domain, or to one that is not configured. */
  UnsupportedUpstreamTransaction: 0,
  /** More address bits than the tables translate, in the request or in an entry. */
  AddressSizeFault: 1,
  /** Nothing here causes it. */
  TlbMatchConflict: 2,
  /** A table could not be read, or makes no sense. */
  ExternalFault: 3,
  /** Mapped, but not for this access. */
  PermissionFault: 4,
  /** An entry's access flag is clear (ARM64). */
  AccessFlagFault: 5,
  /** Nothing is mapped there. */
  TranslationFault: 6,
} as const;
export type FaultType = (typeof FaultType)[keyof typeof FaultType];

/** FAULT_INFORMATION_ARM64. */
export interface FaultInformationArm64 {
  /** 0 where the device is attached to no domain. */
  readonly domainHandle: number;
  /** Logical address of the request's first byte. */
  readonly faultAddress: bigint;
  readonly physicalDeviceObject: PhysicalDeviceObject;
  /** The requester id of an ACPI-enumerated device's DMA; 0 for others. */
  readonly inputMappingId: number;
  readonly flags: {
    readonly writeNotRead: boolean;
    readonly instructionNotData: boolean;
    readonly privileged: boolean;
    readonly faultAddressValid: boolean;
  };
  readonly type: FaultType;
  /** What the unit was told of its place (`DmaIommuTuning`). */
  readonly iommuBaseAddress: bigint;
}

/** FAULT_INFORMATION_X64. */
export interface FaultInformationX64 {
  /** 0 where the device is attached to no domain. */
  readonly domainHandle: number;
  /** Logical address of the request's first byte. */
  readonly faultAddress: bigint;
  readonly flags: { readonly faultAddressValid: boolean };
  readonly type: FaultType;
  /** What the unit was told of its place (`DmaIommuTuning`). */
  readonly iommuBaseAddress: bigint;
  readonly pciSegment: number;
}

/** FAULT_INFORMATION, and what Windows leaves out: who did what. */
export type FaultInformation = {
  /** Tables of the first stage were to translate it. */
  readonly isStage1: boolean;
  /** Bus << 8 | device << 3 | function. */
  readonly requesterId: number;
  /** `Access` bits. */
  readonly access: number;
  /** -1: the request carried none. */
  readonly pasid: number;
} & (
  | { readonly type: typeof FaultInformationArch.Arm64; readonly arm64: FaultInformationArm64 }
  | { readonly type: typeof FaultInformationArch.X64; readonly x64: FaultInformationX64 }
);

/** IOMMU_DEVICE_FAULT_HANDLER; called by a job, after the DMA. */
export type DeviceFaultHandler = (context: unknown, fault: FaultInformation) => void;

/** DEVICE_FAULT_CONFIGURATION. */
export interface DeviceFaultConfiguration {
  readonly faultHandler: DeviceFaultHandler;
  /** Given to the handler as it is. */
  readonly faultContext?: unknown;
}

/** Bits of IOMMU_INTERFACE_STATE_CHANGE_FIELDS; all others must be zero. */
export const InterfaceStateField = { availableDomainTypes: 1 } as const;

/** IOMMU_INTERFACE_STATE_CHANGE. */
export interface InterfaceStateChange {
  /** `InterfaceStateField` bits. */
  readonly presentFields: number;
  /** Bits `1 << DomainType`. */
  readonly availableDomainTypes: number;
}

/** IOMMU_INTERFACE_STATE_CHANGE_CALLBACK. */
export type InterfaceStateChangeCallback = (change: InterfaceStateChange, context: unknown) => void;

/** `extended` does what the hardware could do; `windows` refuses what Windows documents that it refuses. */
export type Compat = 'extended' | 'windows';
