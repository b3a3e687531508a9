/**
 * Every operation by number. The numbers are part of what guests see: none is ever changed or given to another operation. The
 * interface tables of `getInterface` and `getInterfaceEx`, the guest's command ring, the remote API and the docs are made of this.
 */
import type { OperationName } from './operations.ts';

/** Version 1 is the same set of operations in DMA_IOMMU_INTERFACE and DMA_IOMMU_INTERFACE_EX. */
export type InterfaceVersion = 1 | 2 | 3;

export interface OperationInfo {
  readonly opcode: number;
  /** Its place among the interface's function pointers, from 0. */
  readonly slot: number;
  readonly versions: readonly InterfaceVersion[];
  /** The name of its function type in wdm.h. */
  readonly callback: string;
}

const V1 = [1] as const;
const ALL = [1, 2, 3] as const;
const EX = [2, 3] as const;
const V3 = [3] as const;

export const operations: { readonly [Name in OperationName]: OperationInfo } = {
  createDomain: { opcode: 0x01, slot: 0, versions: V1, callback: 'IOMMU_DOMAIN_CREATE' },
  deleteDomain: { opcode: 0x02, slot: 1, versions: ALL, callback: 'IOMMU_DOMAIN_DELETE' },
  attachDevice: { opcode: 0x03, slot: 2, versions: V1, callback: 'IOMMU_DOMAIN_ATTACH_DEVICE' },
  detachDevice: { opcode: 0x04, slot: 3, versions: V1, callback: 'IOMMU_DOMAIN_DETACH_DEVICE' },
  flushDomain: { opcode: 0x05, slot: 4, versions: ALL, callback: 'IOMMU_FLUSH_DOMAIN' },
  flushDomainByVaList: { opcode: 0x06, slot: 5, versions: ALL, callback: 'IOMMU_FLUSH_DOMAIN_VA_LIST' },
  queryInputMappings: { opcode: 0x07, slot: 6, versions: ALL, callback: 'IOMMU_QUERY_INPUT_MAPPINGS' },
  mapLogicalRange: { opcode: 0x08, slot: 7, versions: V1, callback: 'IOMMU_MAP_LOGICAL_RANGE' },
  unmapLogicalRange: { opcode: 0x09, slot: 8, versions: ALL, callback: 'IOMMU_UNMAP_LOGICAL_RANGE' },
  mapIdentityRange: { opcode: 0x0a, slot: 9, versions: V1, callback: 'IOMMU_MAP_IDENTITY_RANGE' },
  unmapIdentityRange: { opcode: 0x0b, slot: 10, versions: V1, callback: 'IOMMU_UNMAP_IDENTITY_RANGE' },
  setDeviceFaultReporting: { opcode: 0x0c, slot: 11, versions: V1, callback: 'IOMMU_SET_DEVICE_FAULT_REPORTING' },
  configureDomain: { opcode: 0x0d, slot: 12, versions: ALL, callback: 'IOMMU_DOMAIN_CONFIGURE' },

  createDomainEx: { opcode: 0x21, slot: 0, versions: EX, callback: 'IOMMU_DOMAIN_CREATE_EX' },
  attachDeviceEx: { opcode: 0x23, slot: 2, versions: EX, callback: 'IOMMU_DOMAIN_ATTACH_DEVICE_EX' },
  detachDeviceEx: { opcode: 0x24, slot: 3, versions: EX, callback: 'IOMMU_DOMAIN_DETACH_DEVICE_EX' },
  mapLogicalRangeEx: { opcode: 0x28, slot: 7, versions: EX, callback: 'IOMMU_MAP_LOGICAL_RANGE_EX' },
  mapIdentityRangeEx: { opcode: 0x2a, slot: 9, versions: EX, callback: 'IOMMU_MAP_IDENTITY_RANGE_EX' },
  unmapIdentityRangeEx: { opcode: 0x2b, slot: 10, versions: EX, callback: 'IOMMU_UNMAP_IDENTITY_RANGE_EX' },
  setDeviceFaultReportingEx: { opcode: 0x2c, slot: 11, versions: EX, callback: 'IOMMU_SET_DEVICE_FAULT_REPORTING_EX' },
  queryAvailableDomainTypes: { opcode: 0x2e, slot: 13, versions: EX, callback: 'IOMMU_DEVICE_QUERY_DOMAIN_TYPES' },
  registerInterfaceStateChangeCallback: {
    opcode: 0x2f,
    slot: 14,
    versions: EX,
    callback: 'IOMMU_REGISTER_INTERFACE_STATE_CHANGE_CALLBACK',
  },
  unregisterInterfaceStateChangeCallback: {
    opcode: 0x30,
    slot: 15,
    versions: EX,
    callback: 'IOMMU_UNREGISTER_INTERFACE_STATE_CHANGE_CALLBACK',
  },
  reserveLogicalAddressRange: {
    opcode: 0x31,
    slot: 16,
    versions: EX,
    callback: 'IOMMU_RESERVE_LOGICAL_ADDRESS_RANGE',
  },
  freeReservedLogicalAddressRange: {
    opcode: 0x32,
    slot: 17,
    versions: EX,
    callback: 'IOMMU_FREE_RESERVED_LOGICAL_ADDRESS_RANGE',
  },
  mapReservedLogicalRange: { opcode: 0x33, slot: 18, versions: EX, callback: 'IOMMU_MAP_RESERVED_LOGICAL_RANGE' },
  unmapReservedLogicalRange: { opcode: 0x34, slot: 19, versions: EX, callback: 'IOMMU_UNMAP_RESERVED_LOGICAL_RANGE' },
  createDevice: { opcode: 0x35, slot: 20, versions: EX, callback: 'IOMMU_DEVICE_CREATE' },
  deleteDevice: { opcode: 0x36, slot: 21, versions: EX, callback: 'IOMMU_DEVICE_DELETE' },

  createPasidDevice: { opcode: 0x41, slot: 22, versions: V3, callback: 'IOMMU_PASID_DEVICE_CREATE' },
  deletePasidDevice: { opcode: 0x42, slot: 23, versions: V3, callback: 'IOMMU_PASID_DEVICE_DELETE' },
  attachPasidDevice: { opcode: 0x43, slot: 24, versions: V3, callback: 'IOMMU_DOMAIN_ATTACH_PASID_DEVICE' },
  detachPasidDevice: { opcode: 0x44, slot: 25, versions: V3, callback: 'IOMMU_DOMAIN_DETACH_PASID_DEVICE' },
  queryDeviceInfo: { opcode: 0x45, slot: 26, versions: V3, callback: 'IOMMU_DEVICE_QUERY_INFORMATION' },
};

/** In the order of opcodes. */
export const operationNames: readonly OperationName[] = (Object.keys(operations) as OperationName[]).sort(
  (a, b) => operations[a].opcode - operations[b].opcode,
);

/** The operations of one version, in the order of its function pointers. */
export function operationsOf(version: InterfaceVersion): readonly OperationName[] {
  return operationNames
    .filter(name => operations[name].versions.includes(version))
    .sort((a, b) => operations[a].slot - operations[b].slot);
}

const BY_OPCODE = new Map(operationNames.map(name => [operations[name].opcode, name]));

/** undefined: no such operation. */
export function operationByOpcode(opcode: number): OperationName | undefined {
  return BY_OPCODE.get(opcode);
}
