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
  /** Bits of the low word without all of which an entry of this level counts as not present. Default 0. */
  readonly presentAll?: number;
  /** Bits that must be zero in a present entry that points to a table. */
  readonly tableReserved: Words;
  /** Bits that must be zero in a present entry that maps a page. */
  readonly leafReserved: Words;
}

/** Bits of an entry's low word that allow accesses. */
export interface PermissionBits {
  /** A read is allowed where all of these are set. */
  readonly read: number;
  readonly write: number;
  /** Those of them that allow by being clear. Default 0. */
  readonly inverted?: number;
  /** Those of them that only entries which map pages have; entries that point to tables allow. Default 0. */
  readonly leafOnly?: number;
  /** Bits of the high word of an entry that points to a table, which deny reads (and so all) or writes of everything below it. */
  readonly tableDenies?: { readonly read: number; readonly write: number };
  /** Permissions are looked at once, when the walk has come to a page, not entry by entry. Default false. */
  readonly checkedLast?: boolean;
}

/** Entries as a builder of tables writes them. None may be zero, which is how it tells that there is nothing. */
export interface WrittenEntries {
  /** Of an entry that points to a table. */
  readonly table: Words;
  /**
   * Of an entry of level 1, by `Access` bits (0: none to 3: both). Where the format cannot say "write only", it says both. The entry
   * for none is not present, and marked in a bit that is ignored then.
   */
  readonly page: readonly [none: Words, read: Words, write: Words, both: Words];
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
  /** The widest input address in bits, where tables of full size would translate more. */
  readonly inputWidth?: number;
  /** A translation allows what every entry on its way allows. */
  readonly permissions: PermissionBits;
  /** The bit of the low word that makes an entry a leaf, on levels with `LeafRule.byLeafBit`. */
  readonly leafBit: number;
  /** Whether it does so by being clear. Default false. */
  readonly leafBitClear?: boolean;
  /** Where the next table's or the page's address is. */
  readonly address: Words;
  /** Address bits beyond the output size: where one is set the walk ends with `addressSize`. Default none. */
  readonly addressBeyond?: Words;
  /** The bit of the low word without which a page must not be used: `accessFlag`. */
  readonly accessFlag?: number;
  /** The bit of the low word that a walk sets in every entry it has used, if the translation succeeds. */
  readonly accessed?: number;
  /** The bit of the low word that a walk for a write sets in the entry that maps the page. Needs `accessed`. */
  readonly dirty?: number;
  /** Index 0 is level 1. */
  readonly levels: readonly LevelFormat[];
  /** What entries hold beside the address when tables are built; absent for formats that are only ever walked. */
  readonly written?: WrittenEntries;
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
