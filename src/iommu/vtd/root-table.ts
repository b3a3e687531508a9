/** Root entry of legacy mode (9.1): 16 bytes for each bus, which lead to the bus's context table. */
import { frameOf } from './core.ts';
import { FaultReason } from './fault-reasons.ts';

export const ROOT_ENTRY_BYTES = 16;

const PRESENT = 1;

/** Reserved bits, by 32-bit word of the entry. */
export interface ReservedBits {
  readonly words: readonly [number, number, number, number];
}

/** Bits of the upper word of an address that lie at or above the host address width. */
export function beyondWidth(hostAddressWidth: number): number {
  return ~(2 ** (hostAddressWidth - 32) - 1);
}

export function rootReserved(hostAddressWidth: number): ReservedBits {
  return { words: [0xffe, beyondWidth(hostAddressWidth), -1, -1] };
}

/** The reason why the entry cannot be used, or zero. */
export function checkRoot(w0: number, w1: number, w2: number, w3: number, reserved: ReservedBits): FaultReason | 0 {
  if ((w0 & PRESENT) === 0) return FaultReason.rootNotPresent;
  const [r0, r1, r2, r3] = reserved.words;
  if ((w0 & r0) | (w1 & r1) | (w2 & r2) | (w3 & r3)) return FaultReason.rootReserved;
  return 0;
}

/** Page frame of the context table. */
export function contextTableFrame(w0: number, w1: number): number {
  return frameOf(w1, w0);
}
