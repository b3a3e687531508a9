/**
 * What a page-table format is to the walker: pure data. Adding a format adds a function that returns one of these, never
 * another walker. Levels count from 1, the level whose entries map the smallest page.
 */

/** A 64-bit mask as two int32 words. */
export type Words = readonly [low: number, high: number];

/** The walker's fixed tables are sized by this; VT-d's five levels are the deepest there are. */
export const MAX_LEVELS = 5;

/** When an entry of this level maps a page rather than pointing to the next table. */
export const LeafRule = { never: 0, byLeafBit: 1, always: 2 } as const;
export type LeafRule = (typeof LeafRule)[keyof typeof LeafRule];

export interface LevelFormat {
  /** The specification's name for an entry of this level, e.g. `SS-PDE`. */
  readonly name: string;
  readonly leaf: LeafRule;
  /** Bits that must be zero in a present entry that points to a table. */
  readonly tableReserved: Words;
  /** Bits that must be zero in a present entry that maps a page. */
  readonly leafReserved: Words;
}

export interface PageTableFormat {
  readonly name: string;
  /** Where the specification defines the entries. */
  readonly section: string;
  readonly entryBytes: 8;
  /** log2 of the smallest page, and of the alignment of tables, in bytes. At least 12. */
  readonly granuleShift: number;
  /** How many bits of the input address choose the entry of one table. */
  readonly bitsPerLevel: number;
  /** How many levels a walk may start with. */
  readonly depths: readonly number[];
  /** An entry is present if any of these bits of its low word is set. */
  readonly presentAny: number;
  /** Bits of the low word that allow an access. A translation allows what every entry on its way allows. */
  readonly permissions: { readonly read: number; readonly write: number };
  /** The bit of the low word that makes an entry a leaf, on levels with `LeafRule.byLeafBit`. */
  readonly leafBit: number;
  /** Where the next table's or the page's address is. */
  readonly address: Words;
  /** Index 0 is level 1. */
  readonly levels: readonly LevelFormat[];
}

/** The mask of bits `first` to `last`, both included, of a 64-bit word. Empty if `last < first`. */
export function bits(last: number, first: number): Words {
  if (last < first) return [0, 0];
  const mask = ((1n << BigInt(last - first + 1)) - 1n) << BigInt(first);
  return [Number(BigInt.asIntN(32, mask)), Number(BigInt.asIntN(32, mask >> 32n))];
}

export function union(...masks: readonly Words[]): Words {
  let low = 0;
  let high = 0;
  for (const mask of masks) {
    low |= mask[0];
    high |= mask[1];
  }
  return [low, high];
}
