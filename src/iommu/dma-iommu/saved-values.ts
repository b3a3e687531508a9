/** Addresses, page frames and faults in a saved state: what goes in, and how it is read back. */
import { StateError, type StateValue, stateBytes, stateFields, stateFlag, stateNumber } from '../../pci/state.ts';
import { HANDLE_MAX, PASID_MAX, PHYSICAL_FRAMES, STREAMS } from './limits.ts';
import { type FaultInformation, FaultInformationArch, FaultType } from './types.ts';

const WIDE_BYTES = 8;
const FLAGS = ['writeNotRead', 'instructionNotData', 'privileged', 'faultAddressValid'] as const;
const COMMON = ['type', 'isStage1', 'requesterId', 'access', 'pasid', 'information'] as const;
const X64 = ['domainHandle', 'faultAddress', 'faultAddressValid', 'type', 'iommuBaseAddress', 'pciSegment'] as const;
const ARM64 = [
  'domainHandle',
  'faultAddress',
  'physicalDeviceObject',
  'inputMappingId',
  ...FLAGS,
  'type',
  'iommuBaseAddress',
] as const;
const ACCESS_MAX = 7;
const FAULT_TYPE_MAX = FaultType.TranslationFault;
const SEGMENT_MAX = 0xffff_ffff;

/** 64 bits; of anything that is no bigint, zero. */
export function savedWide(value: unknown): Uint8Array {
  const bytes = new Uint8Array(WIDE_BYTES);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, typeof value === 'bigint' ? value : 0n), true);
  return bytes;
}

/** Throws a StateError. */
export function stateWide(value: unknown, what: string): bigint {
  const bytes = stateBytes(value, what, WIDE_BYTES);
  return new DataView(bytes.buffer, bytes.byteOffset, WIDE_BYTES).getBigUint64(0, true);
}

/** Frames that follow one another. */
export interface FrameRun {
  readonly first: number;
  readonly pages: number;
}

/** Reads runs off a list: first frame and length of each, one after the other. Throws StateErrors. */
export class RunReader {
  private at = 0;

  constructor(
    private readonly list: readonly unknown[],
    private readonly what: string,
  ) {}

  /** Those that make up so many pages. */
  take(pages: number): FrameRun[] {
    const runs: FrameRun[] = [];
    for (let left = pages; left > 0; ) {
      const first = stateNumber(this.list[this.at], `a page frame of ${this.what}`, 0, PHYSICAL_FRAMES - 1);
      const most = Math.min(left, PHYSICAL_FRAMES - first);
      const count = stateNumber(this.list[this.at + 1], `a number of page frames of ${this.what}`, 1, most);
      runs.push({ first, pages: count });
      this.at += 2;
      left -= count;
    }
    return runs;
  }

  end(): void {
    if (this.at !== this.list.length) throw new StateError(`${this.what} has page frames that nothing is mapped to`);
  }
}

export function savedFault(fault: FaultInformation): StateValue {
  const { type, isStage1, requesterId, access, pasid } = fault;
  const common = { type, isStage1, requesterId, access, pasid };
  if (fault.type === FaultInformationArch.X64) {
    const { flags, faultAddress, iommuBaseAddress, ...rest } = fault.x64;
    const addresses = { faultAddress: savedWide(faultAddress), iommuBaseAddress: savedWide(iommuBaseAddress) };
    return { ...common, information: { ...rest, ...flags, ...addresses } };
  }
  const { flags, faultAddress, iommuBaseAddress, ...rest } = fault.arm64;
  const addresses = { faultAddress: savedWide(faultAddress), iommuBaseAddress: savedWide(iommuBaseAddress) };
  return { ...common, information: { ...rest, ...flags, ...addresses } };
}

/** Throws a StateError. */
export function stateFault(value: unknown): FaultInformation {
  const what = 'a fault that waits';
  const fields = stateFields(value, what, COMMON);
  const common = {
    isStage1: stateFlag(fields.isStage1, 'the stage of a fault'),
    requesterId: stateNumber(fields.requesterId, 'the requester id of a fault', 0, STREAMS - 1),
    access: stateNumber(fields.access, 'the access of a fault', 0, ACCESS_MAX),
    pasid: stateNumber(fields.pasid, 'the PASID of a fault', -1, PASID_MAX),
  };
  if (fields.type === FaultInformationArch.X64) {
    const x64 = stateFields(fields.information, what, X64);
    const flags = { faultAddressValid: stateFlag(x64.faultAddressValid, 'a flag of a fault') };
    const pciSegment = stateNumber(x64.pciSegment, 'the PCI segment of a fault', 0, SEGMENT_MAX);
    return { ...common, type: FaultInformationArch.X64, x64: { ...reason(x64), flags, pciSegment } };
  }
  if (fields.type !== FaultInformationArch.Arm64) throw new StateError(`${what} has no form that faults have`);
  const arm64 = stateFields(fields.information, what, ARM64);
  const flag = (name: (typeof FLAGS)[number]) => stateFlag(arm64[name], 'a flag of a fault');
  return {
    ...common,
    type: FaultInformationArch.Arm64,
    arm64: {
      ...reason(arm64),
      physicalDeviceObject: stateNumber(arm64.physicalDeviceObject, 'the device of a fault', 0, STREAMS - 1),
      inputMappingId: stateNumber(arm64.inputMappingId, 'the input mapping of a fault', 0, STREAMS - 1),
      flags: {
        writeNotRead: flag('writeNotRead'),
        instructionNotData: flag('instructionNotData'),
        privileged: flag('privileged'),
        faultAddressValid: flag('faultAddressValid'),
      },
    },
  };
}

function reason(fields: Record<'domainHandle' | 'faultAddress' | 'type' | 'iommuBaseAddress', unknown>) {
  return {
    domainHandle: stateNumber(fields.domainHandle, 'the domain of a fault', 0, HANDLE_MAX),
    faultAddress: stateWide(fields.faultAddress, 'the address of a fault'),
    type: stateNumber(fields.type, 'the type of a fault', 0, FAULT_TYPE_MAX) as FaultType,
    iommuBaseAddress: stateWide(fields.iommuBaseAddress, 'the IOMMU of a fault'),
  };
}
