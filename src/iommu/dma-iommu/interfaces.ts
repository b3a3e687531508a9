/** The interface objects that IoGetIommuInterface and IoGetIommuInterfaceEx hand out: the operations of one version. */
import { BAD_VERSION } from './choices.ts';
import { NtStatus } from './ntstatus.ts';
import { type InterfaceVersion, operationsOf } from './opcodes.ts';
import type { DmaIommuOperations, OperationName } from './operations.ts';

const POINTER_BYTES = 8;
/** Size and Version, each padded to a pointer. */
const HEADER_EX_BYTES = 16;
/** Version alone. */
const HEADER_BYTES = 8;

export const INTERFACE_VERSION_1 = 1;
export const INTERFACE_EX_VERSION_MIN = 1;
export const INTERFACE_EX_VERSION_MAX = 3;

type OperationsV1 = Pick<
  DmaIommuOperations,
  | 'createDomain'
  | 'deleteDomain'
  | 'attachDevice'
  | 'detachDevice'
  | 'flushDomain'
  | 'flushDomainByVaList'
  | 'queryInputMappings'
  | 'mapLogicalRange'
  | 'unmapLogicalRange'
  | 'mapIdentityRange'
  | 'unmapIdentityRange'
  | 'setDeviceFaultReporting'
  | 'configureDomain'
>;
type OperationsV3 = Omit<
  DmaIommuOperations,
  | 'createDomain'
  | 'attachDevice'
  | 'detachDevice'
  | 'mapLogicalRange'
  | 'mapIdentityRange'
  | 'unmapIdentityRange'
  | 'setDeviceFaultReporting'
>;
type OperationsV2 = Omit<
  OperationsV3,
  'createPasidDevice' | 'deletePasidDevice' | 'attachPasidDevice' | 'detachPasidDevice' | 'queryDeviceInfo'
>;

/** `size` is that of the structure on a 64-bit system, in bytes. */
type Interface<Version, Operations> = Readonly<{ version: Version; size: number } & Operations>;
export type DmaIommuInterface = Interface<1, OperationsV1>;
export type DmaIommuInterfaceEx = Interface<1, OperationsV1> | Interface<2, OperationsV2> | Interface<3, OperationsV3>;

/** What `getInterfaceEx` gives for a version that is known beforehand. */
export interface InterfaceByVersion {
  1: Interface<1, OperationsV1>;
  2: Interface<2, OperationsV2>;
  3: Interface<3, OperationsV3>;
}

/** IoGetIommuInterface: DMA_IOMMU_INTERFACE. Refused: STATUS_INVALID_PARAMETER_1. */
export function getInterface(
  unit: DmaIommuOperations,
  version: number,
): { readonly status: NtStatus; readonly interface?: DmaIommuInterface } {
  if (version !== INTERFACE_VERSION_1) return { status: BAD_VERSION };
  return { status: NtStatus.SUCCESS, interface: build(unit, 1, HEADER_BYTES) };
}

/** IoGetIommuInterfaceEx: DMA_IOMMU_INTERFACE_EX. Refused: STATUS_INVALID_PARAMETER_1 (version), _3 (flags). */
export function getInterfaceEx<Version extends number>(
  unit: DmaIommuOperations,
  version: Version,
  flags: bigint | number,
): {
  readonly status: NtStatus;
  readonly interface?: Version extends InterfaceVersion ? InterfaceByVersion[Version] : DmaIommuInterfaceEx;
} {
  if (version !== 1 && version !== 2 && version !== 3) return { status: NtStatus.INVALID_PARAMETER_1 };
  if (flags !== 0 && flags !== 0n) return { status: NtStatus.INVALID_PARAMETER_3 };
  return { status: NtStatus.SUCCESS, interface: build(unit, version as InterfaceVersion, HEADER_EX_BYTES) as never };
}

function build<Version extends InterfaceVersion>(
  unit: DmaIommuOperations,
  version: Version,
  headerBytes: number,
): InterfaceByVersion[Version] {
  const names = operationsOf(version);
  const bound = Object.fromEntries(names.map((name: OperationName) => [name, unit[name].bind(unit)]));
  const size = headerBytes + names.length * POINTER_BYTES;
  return Object.freeze({ version, size, ...bound }) as unknown as InterfaceByVersion[Version];
}
