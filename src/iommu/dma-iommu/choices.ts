/**
 * What Windows does not document, and so is our choice: every such choice is here and nowhere else, and each is listed in
 * docs/dma-iommu-interface.md. Where Windows turns out to do otherwise, this is the place to change.
 */
import { WalkStatus } from '../../page-tables/walker.ts';
import { NtStatus } from './ntstatus.ts';
import {
  type Compat,
  DomainConfigurationArch,
  DomainType,
  FaultInformationArch,
  FaultType,
  Permission,
} from './types.ts';

// Handles and physical device objects

/** A handle that is not, or no longer, one of the kind asked for. Windows would touch freed memory. */
export const BAD_HANDLE = NtStatus.INVALID_HANDLE;
/** The segment of UnmapReservedLogicalRange is documented: not mapped is STATUS_INVALID_PARAMETER, whatever the handle was. */
export const SEGMENT_NOT_MAPPED = NtStatus.INVALID_PARAMETER;
/** No such device behind this unit. CreateDevice documents this and INVALID_PARAMETER; V1 documents none. */
export const UNKNOWN_DEVICE = NtStatus.NOT_FOUND;
/** An old interface (IoGetIommuInterface) asked for with an unknown version; documented for IoGetIommuInterfaceEx. */
export const BAD_VERSION = NtStatus.INVALID_PARAMETER_1;

// Domains

/** CreateDomainEx: no such type. */
export const BAD_DOMAIN_TYPE = NtStatus.INVALID_PARAMETER_1;
/** CreateDomainEx: flags that are not zero. */
export const BAD_DOMAIN_FLAGS = NtStatus.INVALID_PARAMETER_2;
/** CreateDomainEx: an unknown allocator, a width that is none, or an allocator for a domain whose tables we do not own. */
export const BAD_ALLOCATOR = NtStatus.INVALID_PARAMETER_3;
/** CreateDomainEx: regions that are unaligned, empty, beyond the address space, too many, or overlap. */
export const BAD_RESERVED_REGION = NtStatus.INVALID_PARAMETER_4;
/** What a reserved region with ShouldMap allows. Regions of domains whose tables we do not own are checked and change nothing. */
export const RESERVED_REGION_PERMISSIONS = Permission.read | Permission.write;
/** DeleteDomain while devices, PASID devices or tokens remain: what DeleteDevice and its kin document for the like. */
export const DOMAIN_IN_USE = NtStatus.RESOURCE_IN_USE;
/** Map, unmap and flush on the wrong type of domain: what ConfigureDomain and MapLogicalRangeEx document. */
export const WRONG_DOMAIN_TYPE = NtStatus.INVALID_PARAMETER_1;
/** What CreateDomain's parameter means as a domain type. */
export const V1_DOMAIN_TYPES = { osManaged: DomainType.Translate, callerManaged: DomainType.Unmanaged } as const;
/** DomainTypeTranslateS1 is a Translate domain that PASID devices, too, may be attached to. */
export function ownsPageTables(type: number): boolean {
  return type === DomainType.Translate || type === DomainType.TranslateS1;
}
/** Types that AttachPasidDevice takes; the tables of a Translate domain are for a whole device. */
export function takesPasidDevices(type: number): boolean {
  return type !== DomainType.Translate;
}
/** What QueryAvailableDomainTypes says of a device that DMA Guard leaves alone. */
export const AVAILABLE_DOMAIN_TYPES =
  (1 << DomainType.Translate) |
  (1 << DomainType.PassThrough) |
  (1 << DomainType.Unmanaged) |
  (1 << DomainType.TranslateS1);

// Attach and detach

/** AttachDevice where any of the ids is attached already: as AttachDeviceEx. */
export const ALREADY_ATTACHED = NtStatus.INVALID_PARAMETER;
/** AttachDevice: the base is not an id of the device (not 0, for one not enumerated by ACPI). */
export const BAD_MAPPING_BASE = NtStatus.INVALID_PARAMETER_3;
/** AttachDevice: the count is zero or goes beyond the device's ids (not 1, for one not enumerated by ACPI). */
export const BAD_MAPPING_COUNT = NtStatus.INVALID_PARAMETER_4;
/** DetachDevice: attached to another domain. */
export const ATTACHED_ELSEWHERE = NtStatus.INVALID_PARAMETER_1;
/** DetachDevice: not attached by AttachDevice. What AttachDeviceEx attached, DetachDeviceEx detaches. */
export const NOT_ATTACHED_V1 = NtStatus.INVALID_PARAMETER_2;
/** DetachDevice: not the id that its group was attached with. */
export const NOT_A_GROUP_BASE = NtStatus.INVALID_PARAMETER_3;
/** CreateDevice for ids that another DMA device stands for. */
export const DEVICE_EXISTS = NtStatus.RESOURCE_IN_USE;
/**
 * CreateDevice with PasidTaggedDma for a device without PASIDs. The page of CreateDevice is older than PASID configurations: any
 * device may have one; an ACPI configuration is needed for, and only for, a device that ACPI enumerated; no other is known.
 */
export const PASID_INCAPABLE = NtStatus.NOT_SUPPORTED;
/** DeleteDevice while PASID devices of it remain. */
export const DEVICE_HAS_PASIDS = NtStatus.RESOURCE_IN_USE;
/** DMA of what is attached to no domain, or to an unmanaged one that is not configured, is blocked, and faults as this. */
export const BLOCKED_FAULT = FaultType.UnsupportedUpstreamTransaction;
/** PASID 0 stands for requests without a PASID. */
export const FIRST_PASID = 1;

// Mapping. The operations of version 1 answer as their Ex forms do, for which Microsoft documents more.

/** Permission bits that are reserved, or none at all. */
export const BAD_PERMISSIONS = NtStatus.INVALID_PARAMETER_2;
/** The same of MapReservedLogicalRange, whose third parameter they are. */
export const BAD_RESERVED_PERMISSIONS = NtStatus.INVALID_PARAMETER_3;
/** MapLogicalRange and MapIdentityRange: an MDL that is not whole pages. */
export const BAD_MDL = NtStatus.INVALID_PARAMETER_3;
/** UnmapIdentityRange: an MDL that is not whole pages. */
export const BAD_UNMAP_MDL = NtStatus.INVALID_PARAMETER_2;
/** Mapping beyond 48 bits: as an address that is not page aligned, which is documented. */
export const BAD_LOGICAL_ADDRESS = NtStatus.INVALID_PARAMETER_4;
/** UnmapLogicalRange: an address that is not page aligned, or beyond 48 bits. */
export const BAD_UNMAP_ADDRESS = NtStatus.INVALID_PARAMETER_2;
/** UnmapLogicalRange: no pages, or more than there are from the address on. */
export const BAD_UNMAP_PAGES = NtStatus.INVALID_PARAMETER_3;
/**
 * An unmap with any page that was not mapped by the operation's own counterpart: refused whole. Without an allocator a range may be
 * a part of a mapping or span several; with one it must be exactly one mapping, whose block goes back.
 */
export const NOT_MAPPED = NtStatus.NOT_FOUND;
/** A token's offset plus size beyond its end: as an unaligned offset. */
export const BAD_SEGMENT_OFFSET = NtStatus.INVALID_PARAMETER_2;
/** The allocator's whole space, not a window that the caller chose, is full. */
export const ALLOCATOR_EXHAUSTED = NtStatus.INSUFFICIENT_RESOURCES;
/** Identity mappings of a PassThrough domain change nothing, and none is remembered: they are all there already. */
export const PASS_THROUGH_IDENTITY = NtStatus.SUCCESS;

// Caller-managed page tables

/** ConfigureDomain with a configuration that no table can have: width, alignment, granule, unknown architecture. */
export const BAD_CONFIGURATION = NtStatus.INVALID_PARAMETER_2;
/** ConfigureDomain drops what is cached of the domain, since it replaces the root of the tables. */
export const CONFIGURE_FLUSHES = true;
/** FlushDomainByVaList takes plain addresses, not the packed entries that the kernel uses within; this many at most. */
export const VA_LIST_MAX = 65536;
/** FlushDomainByVaList: something in the list is no address, or there is too much of it. */
export const BAD_VA_LIST = NtStatus.INVALID_PARAMETER_4;

// Queries and reports

/** QueryInputMappings of a device that ACPI did not enumerate: Windows has it on ARM64 only; we give the requester id. */
export function inputMappingsOutsideAcpi(compat: Compat): NtStatus {
  return compat === 'windows' ? NtStatus.NOT_SUPPORTED : NtStatus.SUCCESS;
}
/** SetDeviceFaultReporting, both forms: the device is attached to nothing. Detaching it ends the reporting. */
export const REPORTING_NOT_ATTACHED = NtStatus.INVALID_PARAMETER_1;
/** SetDeviceFaultReporting, both forms: not the id that the device, or its group, was attached with. */
export const REPORTING_BAD_BASE = NtStatus.INVALID_PARAMETER_2;
/** SetDeviceFaultReporting, both forms: enabled without a handler. */
export const REPORTING_NO_HANDLER = NtStatus.INVALID_PARAMETER_4;
/** RegisterInterfaceStateChangeCallback without a callback. */
export const BAD_STATE_CALLBACK = NtStatus.INVALID_PARAMETER_1;
/** QueryAvailableDomainTypes returns nothing in Windows; here a status, and no types for a bad handle. */
export const NO_DOMAIN_TYPES = 0;

/** How a walk that failed shows in a fault's type; Windows documents no mapping from the hardware's reasons. */
export function faultTypeOf(status: WalkStatus): FaultType {
  switch (status) {
    case WalkStatus.notPresent:
      return FaultType.TranslationFault;
    case WalkStatus.denied:
      return FaultType.PermissionFault;
    case WalkStatus.tooWide:
    case WalkStatus.addressSize:
      return FaultType.AddressSizeFault;
    case WalkStatus.accessFlag:
      return FaultType.AccessFlagFault;
    default:
      return FaultType.ExternalFault;
  }
}

/** Which form a fault is told in: that of the domain's tables; X64 where there are none, but ARM64 for an ACPI device. */
export function faultForm(configured: number, acpi: boolean): 1 | 2 {
  const arm64 = configured === DomainConfigurationArch.Arm64 || (configured !== DomainConfigurationArch.X64 && acpi);
  return arm64 ? FaultInformationArch.Arm64 : FaultInformationArch.X64;
}
