/** Refuses definitions that no configuration space can hold, at start, where the mistake is still easy to find. */
import { BAR_COUNT, BarBit, Msix } from './config-layout.ts';
import type { BarDefinition, FunctionDefinition, MsixDefinition } from './definition.ts';

/** PCI 6.2.5.1: 16 bytes, because the low four bits say what kind of BAR it is. */
const MINIMUM_BAR_BYTES = BarBit.all + 1;
const MAXIMUM_BAR_BYTES = { 32: 2 ** 31, 64: 2 ** 52 } as const;
const MSI_VECTORS: readonly number[] = [1, 2, 4, 8, 16, 32];
/** PCI 6.8.2.3: the table size field has 11 bits. */
export const MAXIMUM_MSIX_VECTORS = 2048;

/** Throws an Error that names what is wrong. */
export function checkDefinition(definition: FunctionDefinition): void {
  const used = new Set<number>();
  for (const bar of definition.bars) checkBar(bar, used);
  const { msi, msix, interruptPin } = definition;
  if (!Number.isInteger(interruptPin) || interruptPin < 0 || interruptPin > 4) {
    throw new Error(`interrupt pin ${interruptPin}: 0 for none, 1 to 4 for INTA to INTD`);
  }
  if (msi && !MSI_VECTORS.includes(msi.vectors)) throw new Error(`${msi.vectors} MSI vectors: a power of two up to 32`);
  if (msix) checkMsix(msix, definition.bars);
}

function checkBar(bar: BarDefinition, used: Set<number>): void {
  const name = `BAR${bar.index}`;
  const last = bar.width === 64 ? bar.index + 1 : bar.index;
  if (!Number.isInteger(bar.index) || bar.index < 0 || last >= BAR_COUNT) {
    throw new Error(`${name} (${bar.width}-bit) does not fit: there are BAR0 to BAR${BAR_COUNT - 1}`);
  }
  const maximum = MAXIMUM_BAR_BYTES[bar.width];
  if (!isPowerOfTwo(bar.bytes) || bar.bytes < MINIMUM_BAR_BYTES || bar.bytes > maximum) {
    throw new Error(`${name} has ${bar.bytes} bytes: a power of two from ${MINIMUM_BAR_BYTES} to ${maximum}`);
  }
  for (let index = bar.index; index <= last; index++) {
    if (used.has(index)) throw new Error(`${name} (${bar.width}-bit) takes BAR${index}, which is taken`);
    used.add(index);
  }
}

function checkMsix(msix: MsixDefinition, bars: readonly BarDefinition[]): void {
  const { vectors, table, pending } = msix;
  if (!Number.isInteger(vectors) || vectors < 1 || vectors > MAXIMUM_MSIX_VECTORS) {
    throw new Error(`${vectors} MSI-X vectors: 1 to ${MAXIMUM_MSIX_VECTORS}`);
  }
  const tableEnd = checkPlace('table', table, vectors * Msix.entryBytes, bars);
  const pendingEnd = checkPlace('pending bits', pending, pendingBytes(vectors), bars);
  if (table.bar === pending.bar && table.offset < pendingEnd && pending.offset < tableEnd) {
    throw new Error('the MSI-X table and its pending bits overlap');
  }
}

function checkPlace(
  what: string,
  place: { readonly bar: number; readonly offset: number },
  bytes: number,
  bars: readonly BarDefinition[],
): number {
  const bar = bars.find(one => one.index === place.bar);
  if (!bar) throw new Error(`the MSI-X ${what} lies in BAR${place.bar}, which is not defined`);
  const end = place.offset + bytes;
  if (!Number.isInteger(place.offset) || place.offset < 0 || place.offset % 8 !== 0 || end > bar.bytes) {
    throw new Error(`the MSI-X ${what} at ${place.offset} must be a multiple of 8 and lie within BAR${place.bar}`);
  }
  return end;
}

/** The pending bit array in bytes: whole 64-bit words (PCI 6.8.2.10). */
export function pendingBytes(vectors: number): number {
  return Math.ceil(vectors / 64) * 8;
}

function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}
