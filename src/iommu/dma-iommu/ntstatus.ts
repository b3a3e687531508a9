/** The NTSTATUS values that the operations answer with, as unsigned 32-bit numbers (ntstatus.h; [MS-ERREF] 2.3.1). */

/**
 * The documentation names `STATUS_IN_USE` for ranges that are already mapped, but no NTSTATUS of that name is known. It has the
 * number of STATUS_RESOURCE_IN_USE here, until somebody sees another one.
 */
const STATUS_IN_USE = 0xc0000708;

/** `INVALID_PARAMETER_3` is about an operation's third parameter, and so on. Which operation answers what when: docs/dma-iommu-interface.md. */
export const NtStatus = {
  SUCCESS: 0x00000000,
  UNSUCCESSFUL: 0xc0000001,
  NOT_IMPLEMENTED: 0xc0000002,
  INVALID_HANDLE: 0xc0000008,
  INVALID_PARAMETER: 0xc000000d,
  INVALID_DEVICE_REQUEST: 0xc0000010,
  ACCESS_DENIED: 0xc0000022,
  BUFFER_TOO_SMALL: 0xc0000023,
  INVALID_PARAMETER_MIX: 0xc0000030,
  NONE_MAPPED: 0xc0000073,
  INSUFFICIENT_RESOURCES: 0xc000009a,
  NOT_SUPPORTED: 0xc00000bb,
  INVALID_PARAMETER_1: 0xc00000ef,
  INVALID_PARAMETER_2: 0xc00000f0,
  INVALID_PARAMETER_3: 0xc00000f1,
  INVALID_PARAMETER_4: 0xc00000f2,
  INVALID_PARAMETER_5: 0xc00000f3,
  INVALID_PARAMETER_6: 0xc00000f4,
  INVALID_PARAMETER_7: 0xc00000f5,
  NOT_FOUND: 0xc0000225,
  RESOURCE_IN_USE: 0xc0000708,
  IN_USE: STATUS_IN_USE,
} as const;
export type NtStatus = (typeof NtStatus)[keyof typeof NtStatus];

const NAMES = new Map<number, string>();
for (const [name, value] of Object.entries(NtStatus)) {
  if (!NAMES.has(value)) NAMES.set(value, `STATUS_${name}`);
}

/** `STATUS_...`; the number in hexadecimal where it is none of ours. IN_USE and RESOURCE_IN_USE share one number and one name. */
export function ntStatusName(value: number): string {
  return NAMES.get(value) ?? `0x${(value >>> 0).toString(16).toUpperCase().padStart(8, '0')}`;
}
