/** Root and context entries (9.1, 9.3) decoded for people. */
import { address64 } from '../address64.ts';
import { bitsOf, reservedField } from '../entry-fields.ts';
import type { InspectedField, WalkStep } from '../inspection.ts';
import type { VtdCapabilities } from './capabilities.ts';
import { CONTEXT_ENTRY_BYTES, contextRules, TranslationType } from './context.ts';
import type { ContextReader } from './context-reader.ts';
import type { EntryReader } from './entry-reader.ts';
import { type ReservedBits, ROOT_ENTRY_BYTES, rootReserved } from './root-table.ts';

type Named = readonly [name: string, high: number, low: number];

const ROOT_FIELDS: readonly Named[] = [
  ['P', 0, 0],
  ['CTP', 63, 12],
];
const CONTEXT_FIELDS: readonly Named[] = [
  ['P', 0, 0],
  ['FPD', 1, 1],
  ['TT', 3, 2],
  ['SSPTPTR', 63, 12],
  ['AW', 66, 64],
  ['IGN', 70, 67],
  ['DID', 87, 72],
];

export function rootStep(
  { root, tablesRead }: ContextReader,
  rootFrame: number,
  requesterId: number,
  { hostAddressWidth }: VtdCapabilities,
): WalkStep {
  const address = addressOf(rootFrame, (requesterId >>> 8) * ROOT_ENTRY_BYTES);
  return step('root entry', address, tablesRead > 0 ? root : undefined, ROOT_FIELDS, rootReserved(hostAddressWidth));
}

/** `isRead`: the entry holds what stands there; false: it could not be read, or nobody looked. */
export function contextStep(
  entry: EntryReader,
  isRead: boolean,
  tableFrame: number,
  requesterId: number,
  capabilities: VtdCapabilities,
): WalkStep {
  const address = addressOf(tableFrame, (requesterId & 0xff) * CONTEXT_ENTRY_BYTES);
  const { reserved } = contextRules(capabilities);
  const [w0, , w2, w3] = reserved.words;
  // Pass-through ignores the page-table pointer, reserved bits and all.
  const ignoresPointer = ((entry.w0 >>> 2) & 3) === TranslationType.passThrough;
  const rules: ReservedBits = ignoresPointer ? { words: [w0, 0, w2, w3] } : reserved;
  return step('context entry', address, isRead ? entry : undefined, CONTEXT_FIELDS, rules);
}

function step(
  what: string,
  address: bigint,
  entry: EntryReader | undefined,
  named: readonly Named[],
  { words: [r0, r1, r2, r3] }: ReservedBits,
): WalkStep {
  if (entry === undefined) return { what, address, words: [], fields: [], present: false };
  const { w0, w1, w2, w3 } = entry;
  const words = [address64(w1, w0), address64(w3, w2)];
  const whole = (words[1]! << 64n) | words[0]!;
  const present = (w0 & 1) !== 0;
  const fields: InspectedField[] = named.map(([name, high, low]) => ({
    name,
    bits: [high, low],
    value: bitsOf(whole, [high, low]),
  }));
  const wrong = (address64(w3 & r3, w2 & r2) << 64n) | address64(w1 & r1, w0 & r0);
  return { what, address, words, fields: present ? [...fields, ...reservedField(wrong)] : fields, present };
}

function addressOf(frame: number, offset: number): bigint {
  return (BigInt(frame) << 12n) | BigInt(offset);
}
