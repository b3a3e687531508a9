/**
 * How commands are answered that never become an operation: of the guest's ring, which Windows does not have, so all of it is our
 * choice. What the operations themselves answer, and which of that is a choice, is beside them.
 */
import { BAD_MDL, BAD_RESERVED_REGION, BAD_UNMAP_MDL, BAD_VA_LIST } from '../choices.ts';
import { NtStatus } from '../ntstatus.ts';

export const UNKNOWN_OPCODE = NtStatus.INVALID_DEVICE_REQUEST;
/** A flag that does not exist, or a byte that no field names and that is not zero: a later version may give it a meaning. */
export const RESERVED_NOT_ZERO = NtStatus.INVALID_PARAMETER;
/** A list longer than its limit. */
export const LIST_TOO_LONG = NtStatus.INSUFFICIENT_RESOURCES;

/**
 * A list (or buffer) that is not aligned, or not readable (or writable) where the command says: the parameter that it belongs to is
 * bad. Where a parameter says how to read the list (its type), an unknown value is left to the operation to refuse.
 */
export const BAD_LIST = {
  createDomainEx: BAD_RESERVED_REGION,
  createDevice: NtStatus.INVALID_PARAMETER_2,
  flushDomainByVaList: BAD_VA_LIST,
  queryInputMappings: NtStatus.INVALID_PARAMETER_2,
  mapLogicalRange: BAD_MDL,
  mapLogicalRangeEx: NtStatus.INVALID_PARAMETER_3,
  mapIdentityRange: BAD_MDL,
  mapIdentityRangeEx: NtStatus.INVALID_PARAMETER_3,
  unmapIdentityRange: BAD_UNMAP_MDL,
  unmapIdentityRangeEx: NtStatus.INVALID_PARAMETER_2,
  mapReservedLogicalRange: NtStatus.INVALID_PARAMETER_4,
} as const;
