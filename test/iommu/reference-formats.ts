/** What the entries of each page-table format mean, for reference.ts. */
import type { ReferenceFormat } from './reference.ts';

const bitsSet = (value: bigint, last: number, first: number): boolean =>
  last >= first && ((value >> BigInt(first)) & ((1n << BigInt(last - first + 1)) - 1n)) !== 0n;
const bitSet = (value: bigint, bit: number): boolean => bitsSet(value, bit, bit);

export interface VtdReferenceOptions {
  readonly hostAddressWidth: number;
  readonly largePages: { readonly '2M': boolean; readonly '1G': boolean };
  readonly snoop?: boolean;
}

/** Second-stage tables: VT-d 4.1, 3.7 and 9.8. */
export function vtdReference(options: VtdReferenceOptions): ReferenceFormat {
  return {
    granuleShift: 12,
    indexBits: 9,
    inputWidth: levels => 12 + 9 * levels,
    addressEnd: 52,
    judge(entry, level, access) {
      if ((entry & 3n) === 0n) return 'notPresent';
      if ((entry & BigInt(access)) !== BigInt(access)) return 'denied';
      const pageSize = bitSet(entry, 7);
      if (level >= 4 && pageSize) return 'reserved';
      if (level === 3 && pageSize && !options.largePages['1G']) return 'reserved';
      if (level === 2 && pageSize && !options.largePages['2M']) return 'reserved';
      const leaf = level === 1 || pageSize;
      if (bitsSet(entry, 51, options.hostAddressWidth)) return 'reserved';
      if (bitSet(entry, 62)) return 'reserved';
      if (bitSet(entry, 11) && !(leaf && options.snoop)) return 'reserved';
      if (leaf && bitsSet(entry, 12 + 9 * (level - 1) - 1, 12)) return 'reserved';
      return leaf ? 'leaf' : 'table';
    },
    permissions: (tables, leaf) => Number(tables.reduce((all, entry) => all & entry, leaf) & 3n),
  };
}

export interface X64ReferenceOptions {
  readonly hostAddressWidth: number;
  readonly largePages: { readonly '2M': boolean; readonly '1G': boolean };
}

/** First-stage tables: VT-d 4.1, 3.6 and 9.7; Intel SDM, volume 3, 4.5 and 4.6, for user-mode accesses. */
export function x64Reference(options: X64ReferenceOptions): ReferenceFormat {
  return {
    granuleShift: 12,
    indexBits: 9,
    inputWidth: levels => 12 + 9 * levels,
    addressEnd: 52,
    judge(entry, level) {
      if (!bitSet(entry, 0)) return 'notPresent';
      if (bitsSet(entry, 51, options.hostAddressWidth)) return 'reserved';
      if (level === 1) return 'leaf';
      if (!bitSet(entry, 7)) return 'table';
      if (level === 2 && options.largePages['2M']) return bitsSet(entry, 20, 13) ? 'reserved' : 'leaf';
      if (level === 3 && options.largePages['1G']) return bitsSet(entry, 29, 13) ? 'reserved' : 'leaf';
      return 'reserved';
    },
    permissions(tables, leaf, access) {
      const entries = [...tables, leaf];
      if (!entries.every(entry => bitSet(entry, 2))) return 0;
      if (!entries.every(entry => bitSet(entry, 1))) return 1;
      // What was not yet written to must be walked again for the first write, to be marked dirty.
      return (access & 2) !== 0 || bitSet(leaf, 6) ? 3 : 1;
    },
  };
}

export interface Arm64ReferenceOptions {
  readonly granule: 4 | 16 | 64;
  readonly outputAddressBits: number;
  readonly privilege?: 'privileged' | 'unprivileged';
}

/** VMSAv8-64 stage 1: Arm ARM, D8.2 to D8.4. */
export function arm64Reference(options: Arm64ReferenceOptions): ReferenceFormat {
  const granuleShift = { 4: 12, 16: 14, 64: 16 }[options.granule];
  const blocks = { 4: [2, 3], 16: [2], 64: [2] }[options.granule];
  const unprivileged = options.privilege === 'unprivileged';
  return {
    granuleShift,
    indexBits: granuleShift - 3,
    inputWidth: levels => Math.min(48, granuleShift + (granuleShift - 3) * levels),
    addressEnd: 48,
    judge(entry, level) {
      const type = entry & 3n;
      if (type === 0n || type === 2n) return 'notPresent';
      const block = type === 1n;
      if (block && !blocks.includes(level)) return 'notPresent';
      if (bitsSet(entry, 47, options.outputAddressBits)) return 'addressSize';
      const leaf = block || level === 1;
      if (leaf && !bitSet(entry, 10)) return 'accessFlag';
      return leaf ? 'leaf' : 'table';
    },
    permissions(tables, leaf) {
      if (unprivileged && (!bitSet(leaf, 6) || tables.some(table => bitSet(table, 61)))) return 0;
      if (bitSet(leaf, 7) || tables.some(table => bitSet(table, 62))) return 1;
      return 3;
    },
  };
}
