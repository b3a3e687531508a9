/**
 * The operations of DMA_IOMMU_INTERFACE as commands to a device thread: plain data that can be cloned. A function cannot
 * travel: where an operation takes a callback, the command carries its context only, and each call becomes an event.
 */
import type { DmaIommuOperations, OperationName } from '../iommu/dma-iommu/operations.ts';
import {
  DeviceCreationConfigType,
  type DeviceCreationConfiguration,
  type DeviceHandle,
  type DomainConfiguration,
  DomainConfigurationArch,
  type DomainHandle,
  type FaultInformation,
  type InterfaceStateChange,
  type LogicalAllocatorConfig,
  type Mdl,
  type PasidDeviceHandle,
  type PhysicalAddressToMap,
  type ReservedRegion,
  type SegmentHandle,
  type TokenHandle,
} from '../iommu/dma-iommu/types.ts';
import type { TraceEvent } from '../trace/trace.ts';
import {
  type ArgumentError,
  boolean,
  type Check,
  checked,
  count,
  list,
  optional,
  pageFrames,
  record,
  tag,
  text,
  uint8,
  uint16,
  uint32,
  uint64,
  variant,
  whole,
} from './argument-checks.ts';

/** Page-frame numbers in one command: 4 GiB of memory. */
export const MAX_PAGE_FRAMES = 1 << 20;
/** Addresses in one list of FlushDomainByVaList. */
export const MAX_FLUSH_ADDRESSES = 1 << 16;
/** Reserved regions of one domain. */
export const MAX_RESERVED_REGIONS = 1024;
/** Configurations of one device: one of each type is all that makes sense. */
export const MAX_DEVICE_CONFIGURATIONS = 8;
/** Characters of a callback's context. */
export const MAX_CONTEXT_CHARACTERS = 256;

/** What a callback's owner wants to be told again with each call; never looked at. */
export type CallbackContext = string | number | bigint | boolean;

export interface RemoteFaultConfiguration {
  readonly faultContext?: CallbackContext | undefined;
}

type Local<Name extends OperationName> = Parameters<DmaIommuOperations[Name]>[0];

interface WithoutFunctions {
  setDeviceFaultReporting: Omit<Local<'setDeviceFaultReporting'>, 'faultConfig'> & {
    faultConfig?: RemoteFaultConfiguration | undefined;
  };
  setDeviceFaultReportingEx: Omit<Local<'setDeviceFaultReportingEx'>, 'faultConfig'> & {
    faultConfig?: RemoteFaultConfiguration | undefined;
  };
  registerInterfaceStateChangeCallback: Omit<
    Local<'registerInterfaceStateChangeCallback'>,
    'stateChangeCallback' | 'context'
  > & { context?: CallbackContext | undefined };
  unregisterInterfaceStateChangeCallback: Omit<Local<'unregisterInterfaceStateChangeCallback'>, 'stateChangeCallback'>;
}

/** The arguments of each operation as a command has them. */
export type OperationArguments = {
  [Name in OperationName]: Name extends keyof WithoutFunctions ? WithoutFunctions[Name] : Local<Name>;
};

/** What each operation answers with. */
export type OperationAnswer<Name extends OperationName> = ReturnType<DmaIommuOperations[Name]>;

/** What an IOVA of a device translates to; nothing is changed, cached or reported by asking. */
export interface ProbeArguments {
  readonly requesterId: number;
  /** Missing: the request carries no PASID. */
  readonly pasid?: number | undefined;
  readonly logicalAddress: bigint;
  /** `Access` bits. */
  readonly access: number;
}

/** IoGetIommuInterface, or with `ex` IoGetIommuInterfaceEx. */
export interface InterfaceArguments {
  readonly version: number;
  readonly ex?: boolean | undefined;
  /** Of IoGetIommuInterfaceEx; must be zero. */
  readonly flags?: bigint | undefined;
}

/** What a device thread is asked for the remote API, besides its statistics. */
export type RemoteCommand =
  | { [Name in OperationName]: OperateCommand<Name> }[OperationName]
  | { readonly name: 'probe'; readonly args: ProbeArguments }
  | { readonly name: 'interface'; readonly args: InterfaceArguments }
  | { readonly name: 'snapshot' };

export interface OperateCommand<Name extends OperationName> {
  readonly name: 'operate';
  readonly operation: Name;
  readonly args: OperationArguments[Name];
}

export const FAULT_EVENT = 'callback.fault';
export const STATE_CHANGE_EVENT = 'callback.stateChange';

/** A call of a fault handler or of a state-change callback. */
export type CallbackEvent =
  | {
      readonly kind: typeof FAULT_EVENT;
      readonly source: string;
      readonly detail: { readonly context: CallbackContext | undefined; readonly fault: FaultInformation };
    }
  | {
      readonly kind: typeof STATE_CHANGE_EVENT;
      readonly source: string;
      readonly detail: {
        readonly context: CallbackContext | undefined;
        readonly dmaDevice: DeviceHandle;
        readonly change: InterfaceStateChange;
      };
    };

export type MachineEvent = TraceEvent | CallbackEvent;

export function isCallback(event: MachineEvent): event is CallbackEvent {
  return event.kind === FAULT_EVENT || event.kind === STATE_CHANGE_EVENT;
}

const domain = uint32 as Check<DomainHandle>;
const dmaDevice = uint32 as Check<DeviceHandle>;
const pasidDevice = uint32 as Check<PasidDeviceHandle>;
const token = uint32 as Check<TokenHandle>;
const mappedSegment = uint32 as Check<SegmentHandle>;
const physicalDeviceObject = uint32;
const permissions = uint32;
const pages = pageFrames(MAX_PAGE_FRAMES);

const mdl = record<Mdl>({ type: tag('mdl'), pages, byteOffset: uint32, byteCount: count });
/** Where an operation takes nothing but an MDL, its type need not be said. */
const onlyMdl = variant<Mdl>('type', { mdl }, 'mdl');

const physicalAddressToMap = variant<PhysicalAddressToMap>('type', {
  mdl,
  contiguousRange: record<Extract<PhysicalAddressToMap, { type: 'contiguousRange' }>>({
    type: tag('contiguousRange'),
    base: uint64,
    size: uint64,
  }),
  pfnArray: record<Extract<PhysicalAddressToMap, { type: 'pfnArray' }>>({ type: tag('pfnArray'), pages }),
});

const reservedRegion = record<ReservedRegion>({ base: uint64, numberOfPages: count, shouldMap: boolean });
const allocatorConfig = record<LogicalAllocatorConfig>({
  logicalAllocatorType: uint32,
  addressWidth: optional(uint32),
});

const domainConfiguration = variant<DomainConfiguration>('type', {
  [DomainConfigurationArch.Arm64]: record<Extract<DomainConfiguration, { type: 0 }>>({
    type: tag(DomainConfigurationArch.Arm64),
    ttbr0: uint64,
    ttbr1: uint64,
    mair0: uint32,
    mair1: uint32,
    inputSize0: uint8,
    inputSize1: uint8,
    coherentTableWalks: boolean,
    translationEnabled: boolean,
    granule: optional(uint8),
  }),
  [DomainConfigurationArch.X64]: record<Extract<DomainConfiguration, { type: 1 }>>({
    type: tag(DomainConfigurationArch.X64),
    firstLevelPageTableRoot: uint64,
    translationEnabled: boolean,
    levels: optional(uint8),
  }),
});

const deviceConfiguration = variant<DeviceCreationConfiguration>('configType', {
  [DeviceCreationConfigType.Acpi]: record<Extract<DeviceCreationConfiguration, { configType: 1 }>>({
    configType: tag(DeviceCreationConfigType.Acpi),
    inputMappingBase: uint32,
    mappingsCount: uint32,
  }),
  [DeviceCreationConfigType.DeviceId]: record<Extract<DeviceCreationConfiguration, { configType: 2 }>>({
    configType: tag(DeviceCreationConfigType.DeviceId),
    deviceId: count,
  }),
  [DeviceCreationConfigType.Pasid]: record<Extract<DeviceCreationConfiguration, { configType: 3 }>>({
    configType: tag(DeviceCreationConfigType.Pasid),
    pasidConfigType: uint32,
    suppressPasidFaults: boolean,
  }),
});

const contextText = text(MAX_CONTEXT_CHARACTERS);
const context: Check<CallbackContext> = (value, where) => {
  if (typeof value === 'number' || typeof value === 'boolean') return value;
  return typeof value === 'bigint' ? uint64(value, where) : contextText(value, where);
};
const faultConfig = optional(record<RemoteFaultConfiguration>({ faultContext: optional(context) }));

const chosenAddress = {
  explicitLogicalAddress: optional(uint64),
  minLogicalAddress: optional(uint64),
  maxLogicalAddress: optional(uint64),
};

const checks: { readonly [Name in OperationName]: Check<OperationArguments[Name]> } = {
  createDomain: record({ osManagedPageTable: boolean }),
  createDomainEx: record({
    domainType: uint32,
    flags: optional(uint64),
    logicalAllocatorConfig: optional(allocatorConfig),
    reservedRegions: optional(list(reservedRegion, MAX_RESERVED_REGIONS)),
  }),
  deleteDomain: record({ domain }),
  attachDevice: record({ domain, physicalDeviceObject, inputMappingIdBase: uint32, mappingCount: uint32 }),
  attachDeviceEx: record({ domain, dmaDevice }),
  detachDevice: record({ domain, physicalDeviceObject, inputMappingId: uint32 }),
  detachDeviceEx: record({ dmaDevice }),
  flushDomain: record({ domain }),
  flushDomainByVaList: record({ domain, lastLevel: boolean, vaList: list(uint64, MAX_FLUSH_ADDRESSES) }),
  queryInputMappings: record({ physicalDeviceObject, bufferLength: uint32 }),
  mapLogicalRange: record({ domain, permissions, mdl: onlyMdl, logicalAddress: uint64 }),
  mapLogicalRangeEx: record({ domain, permissions, physicalAddressToMap, ...chosenAddress }),
  unmapLogicalRange: record({ domain, logicalAddress: uint64, numberOfPages: count }),
  mapIdentityRange: record({ domain, permissions, mdl: onlyMdl }),
  mapIdentityRangeEx: record({ domain, permissions, physicalAddressToMap }),
  unmapIdentityRange: record({ domain, mdl: onlyMdl }),
  unmapIdentityRangeEx: record({ domain, mappedPhysicalAddress: physicalAddressToMap }),
  setDeviceFaultReporting: record({ physicalDeviceObject, inputMappingIdBase: uint32, enable: boolean, faultConfig }),
  setDeviceFaultReportingEx: record({ dmaDevice, inputMappingIdBase: uint32, enable: boolean, faultConfig }),
  configureDomain: record({ domain, configuration: domainConfiguration }),
  queryAvailableDomainTypes: record({ dmaDevice }),
  registerInterfaceStateChangeCallback: record({ dmaDevice, stateFields: uint32, context: optional(context) }),
  unregisterInterfaceStateChangeCallback: record({ dmaDevice }),
  reserveLogicalAddressRange: record({ domain, size: uint64, ...chosenAddress }),
  freeReservedLogicalAddressRange: record({ token }),
  mapReservedLogicalRange: record({ token, offset: uint64, permissions, physicalAddressToMap }),
  unmapReservedLogicalRange: record({ mappedSegment }),
  createDevice: record({
    physicalDeviceObject,
    deviceConfig: optional(list(deviceConfiguration, MAX_DEVICE_CONFIGURATIONS)),
  }),
  deleteDevice: record({ dmaDevice }),
  createPasidDevice: record({ dmaDevice }),
  deletePasidDevice: record({ pasidDevice }),
  attachPasidDevice: record({ domain, pasidDevice }),
  detachPasidDevice: record({ pasidDevice }),
  queryDeviceInfo: record({ dmaDevice, size: uint32 }),
};

/** 20 bits (PCI Express 6.0, 6.20). */
const PASID_MAX = (1 << 20) - 1;
const probe = record<ProbeArguments>({
  requesterId: uint16,
  pasid: optional(whole(0, PASID_MAX)),
  logicalAddress: uint64,
  access: uint8,
});
const getInterface = record<InterfaceArguments>({ version: uint32, ex: optional(boolean), flags: optional(uint64) });

/** Whether there is an operation of that name. */
export function isOperationName(name: string): name is OperationName {
  return Object.hasOwn(checks, name);
}

/**
 * Typed arguments from untrusted ones, or what is wrong with them. Only what has no place in the types is refused here: a value
 * that an operation itself must refuse (unaligned, reserved bits, an unknown handle) passes, to be answered with its NTSTATUS.
 */
export function checkArguments<Name extends OperationName>(
  operation: Name,
  value: unknown,
): OperationArguments[Name] | ArgumentError {
  return checked<OperationArguments[Name]>(checks[operation], value, 'args');
}

export function checkProbeArguments(value: unknown): ProbeArguments | ArgumentError {
  return checked(probe, value, 'args');
}

export function checkInterfaceArguments(value: unknown): InterfaceArguments | ArgumentError {
  return checked(getInterface, value, 'args');
}
