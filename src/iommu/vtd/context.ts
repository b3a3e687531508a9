/** Context entry of legacy mode (9.3): 16 bytes for each function of a bus, which say how its requests are translated. */
import { addressWidthOf, type VtdCapabilities } from './capabilities.ts';
import { frameOf } from './core.ts';
import { FaultReason } from './fault-reasons.ts';
import { beyondWidth, type ReservedBits } from './root-table.ts';

export const CONTEXT_ENTRY_BYTES = 16;

const PRESENT = 1;
const FAULT_PROCESSING_DISABLE = 2;
const TRANSLATION_TYPE_SHIFT = 2;
const ADDRESS_WIDTH_MASK = 0x7;
const DOMAIN_SHIFT = 8;

/** 01b is for device-TLBs, which are not supported, and 11b is reserved: both are invalid here. */
export const TranslationType = { secondStage: 0, deviceTlb: 1, passThrough: 2, reserved: 3 } as const;

export interface ContextRules {
  readonly reserved: ReservedBits;
  readonly levels: readonly number[];
  readonly guestAddressWidth: number;
  readonly hostAddressWidth: number;
  readonly passThrough: boolean;
}

export function contextRules(unit: VtdCapabilities): ContextRules {
  const domain = unit.domainMask << DOMAIN_SHIFT;
  return {
    // In the third word: address width, four ignored bits, a reserved one, domain id, reserved from there.
    reserved: { words: [0xff0, beyondWidth(unit.hostAddressWidth), ~(domain | 0x7f), -1] },
    levels: unit.levels,
    guestAddressWidth: unit.guestAddressWidth,
    hostAddressWidth: unit.hostAddressWidth,
    passThrough: unit.passThrough,
  };
}

/** A decoded entry; one object is reused, so read it before the next `decode`. */
export class ContextEntry {
  domain = 0;
  /** Page frame of the first page table. */
  rootFrame = 0;
  levels = 0;
  passThrough = false;
  faultProcessingDisabled = false;
  /** How far to shift the upper word of an IOVA to the right to see whether the IOVA is too wide. */
  limitShift = 0;

  /** Returns the reason why the entry cannot be used, or zero. */
  decode(w0: number, w1: number, w2: number, w3: number, rules: ContextRules): FaultReason | 0 {
    // Valid whether the entry is present or not.
    this.faultProcessingDisabled = (w0 & FAULT_PROCESSING_DISABLE) !== 0;
    if ((w0 & PRESENT) === 0) return FaultReason.contextNotPresent;

    const type = (w0 >>> TRANSLATION_TYPE_SHIFT) & 3;
    this.passThrough = type === TranslationType.passThrough;
    const [r0, r1, r2, r3] = rules.reserved.words;
    // Pass-through ignores the page-table pointer, reserved bits and all.
    const pointer = this.passThrough ? 0 : w1 & r1;
    if ((w0 & r0) | pointer | (w2 & r2) | (w3 & r3)) return FaultReason.contextReserved;

    if (this.passThrough ? !rules.passThrough : type !== TranslationType.secondStage) {
      return FaultReason.contextInvalid;
    }
    // 001b is three levels, and so on.
    this.levels = (w2 & ADDRESS_WIDTH_MASK) + 2;
    if (!rules.levels.includes(this.levels)) return FaultReason.contextInvalid;
    this.domain = (w2 >>> DOMAIN_SHIFT) & 0xffff;
    this.rootFrame = frameOf(w1, w0);
    const widest = this.passThrough ? rules.hostAddressWidth : rules.guestAddressWidth;
    this.limitShift = Math.min(addressWidthOf(this.levels), widest) - 32;
    return 0;
  }
}
