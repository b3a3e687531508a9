/**
 * VMSAv8-64 stage 1 page tables as an SMMU walks them (Arm ARM, D8.2 and D8.3): granules of 4, 16 and 64 KiB, addresses of up to 48
 * bits, in and out. Input addresses come without the bits above the input size, which is for the caller to check; it also tells
 * the tables of TTBR0 from those of TTBR1, in the caches too. A root table must be aligned to 4 KiB.
 *
 * Left out because it says nothing to DMA without a PASID: memory attributes, shareability, NS, nG, PXN and UXN. Hardware does not
 * set the access flag and the dirty state (FEAT_HAFDBS is not implemented).
 */
import { bits, LeafRule, type LevelFormat, type PageTableFormat, type Words } from './format.ts';

export interface Arm64Stage1Options {
  /** Of a table and of the smallest page, in KiB. */
  readonly granule: 4 | 16 | 64;
  /** As IPS and IDR5.OAS can say: 32, 36, 40, 42, 44 or 48. */
  readonly outputAddressBits: number;
  /**
   * What transactions count as (SMMUv3, STE.PRIVCFG). Unprivileged ones need AP[1], and APTable[0] clear. Default: privileged, for
   * which neither means anything.
   */
  readonly privilege?: 'privileged' | 'unprivileged';
}

const OUTPUT_SIZES: readonly number[] = [32, 36, 40, 42, 44, 48];
const ADDRESS_BITS = 48;
export const ARM64_INPUT_BITS_MIN = 16;
export const ARM64_INPUT_BITS_MAX = 48;

const VALID = 1 << 0;
/** Bits 1:0 are 11 in a pointer to a table and in a page of the last level; 01 is a block. */
const TABLE_OR_PAGE = 1 << 1;
/** AP[1]: unprivileged accesses are allowed. */
const UNPRIVILEGED = 1 << 6;
/** AP[2]: no writes. */
const READ_ONLY = 1 << 7;
const ACCESS_FLAG = 1 << 10;
// Of the high word of a pointer to a table.
/** APTable[0], bit 61: no unprivileged accesses below. */
const TABLE_NO_UNPRIVILEGED = 1 << 29;
/** APTable[1], bit 62: no writes below. */
const TABLE_READ_ONLY = 1 << 30;

const NOTHING_RESERVED: Words = [0, 0];

/** log2 of the granule in bytes. */
function shiftOf(granule: 4 | 16 | 64): number {
  return 10 + Math.log2(granule);
}

/** How many levels of tables an input address of that many bits needs. Throws a RangeError if there is no such input size. */
export function arm64Levels(granule: 4 | 16 | 64, inputSize: number): number {
  const shift = shiftOf(granule);
  if (!Number.isInteger(inputSize) || inputSize < ARM64_INPUT_BITS_MIN || inputSize > ARM64_INPUT_BITS_MAX) {
    throw new RangeError(
      `input size must be ${ARM64_INPUT_BITS_MIN} to ${ARM64_INPUT_BITS_MAX} bits, not ${inputSize}`,
    );
  }
  return Math.max(1, Math.ceil((inputSize - shift) / (shift - 3)));
}

export function arm64Stage1(options: Arm64Stage1Options): PageTableFormat {
  const { granule, outputAddressBits, privilege = 'privileged' } = options;
  if (![4, 16, 64].includes(granule)) throw new RangeError(`granule must be 4, 16 or 64 KiB, not ${granule}`);
  if (!OUTPUT_SIZES.includes(outputAddressBits)) {
    throw new RangeError(`output size must be one of ${OUTPUT_SIZES.join(', ')} bits, not ${outputAddressBits}`);
  }
  const shift = shiftOf(granule);
  const depth = arm64Levels(granule, ARM64_INPUT_BITS_MAX);
  // Blocks on level 2 with every granule, on level 1 only with the smallest.
  const blockLevels = granule === 4 ? [2, 1] : [2];
  const allowed = VALID | (privilege === 'unprivileged' ? UNPRIVILEGED : 0);

  const levels = Array.from({ length: depth }, (_, i): LevelFormat => {
    // Arm counts from the root: the last level is 3.
    const level = 3 - i;
    const block = blockLevels.includes(level);
    return {
      name: `level ${level} descriptor`,
      leaf: level === 3 ? LeafRule.always : block ? LeafRule.byLeafBit : LeafRule.never,
      // Other values of bits 1:0 are reserved, which is to say invalid.
      presentAll: block ? VALID : VALID | TABLE_OR_PAGE,
      tableReserved: NOTHING_RESERVED,
      leafReserved: NOTHING_RESERVED,
    };
  });

  return {
    name: `arm64-stage1-${granule}k`,
    section: 'Arm ARM, D8.3',
    entryBytes: 8,
    granuleShift: shift,
    bitsPerLevel: shift - 3,
    depths: levels.map((_, i) => i + 1),
    inputWidth: ARM64_INPUT_BITS_MAX,
    presentAny: VALID,
    permissions: {
      read: allowed,
      write: allowed | READ_ONLY,
      inverted: READ_ONLY,
      leafOnly: READ_ONLY | UNPRIVILEGED,
      tableDenies: { read: privilege === 'unprivileged' ? TABLE_NO_UNPRIVILEGED : 0, write: TABLE_READ_ONLY },
      checkedLast: true,
    },
    leafBit: TABLE_OR_PAGE,
    leafBitClear: true,
    address: bits(ADDRESS_BITS - 1, shift),
    addressBeyond: bits(ADDRESS_BITS - 1, outputAddressBits),
    accessFlag: ACCESS_FLAG,
    levels,
  };
}
