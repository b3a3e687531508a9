/**
 * x86-64 page tables as an IOMMU walks them: first-stage translation of VT-d 4.1, sections 3.6 (translation, accessed and dirty
 * flags) and 9.7 (entries), which are those of the Intel SDM, volume 3, section 4.5. Four or five levels of 512 entries; pages of
 * 4 KiB, 2 MiB and 1 GiB. Execute-disable (bit 63) says nothing to DMA, which executes nothing.
 *
 * Input addresses must be canonical (VT-d 4.1, 3.6): that is for the caller to check, who then passes only the 48 or 57 bits that
 * are translated.
 */
import { bits, LeafRule, type LevelFormat, type PageTableFormat, union } from './format.ts';

export interface X64FirstLevelOptions {
  /** Width of a physical address in bits, 13 to 52: higher address bits are reserved. */
  readonly hostAddressWidth: number;
  /** How many levels tables may have. Default: 4 and 5. */
  readonly levels?: 4 | 5;
  /** Large pages that the unit supports; 1 GiB: CAP.FS1GP. Default: both. */
  readonly largePages?: { readonly '2M': boolean; readonly '1G': boolean };
}

const ADDRESS_WIDTH_MAX = 52;
const PRESENT = 1 << 0;
const WRITABLE = 1 << 1;
/** A request without PASID has user privilege (VT-d 4.1, 3.6.1), so every entry on the way must allow that. */
const USER = 1 << 2;
const ACCESSED = 1 << 5;
const DIRTY = 1 << 6;
const PAGE_SIZE = 1 << 7;
const PAGE_SIZE_BIT = 7;
/** Bit 12 of an entry that maps a large page is PAT, not an address. */
const LARGE_ADDRESS_FIRST = 13;

export function x64FirstLevel(options: X64FirstLevelOptions): PageTableFormat {
  const { hostAddressWidth, levels, largePages = { '2M': true, '1G': true } } = options;
  if (!Number.isInteger(hostAddressWidth) || hostAddressWidth <= 12 || hostAddressWidth > ADDRESS_WIDTH_MAX) {
    throw new RangeError(`host address width must be 13 to ${ADDRESS_WIDTH_MAX}, not ${hostAddressWidth}`);
  }

  const beyondHost = bits(ADDRESS_WIDTH_MAX - 1, hostAddressWidth);
  const noLargePage = union(beyondHost, bits(PAGE_SIZE_BIT, PAGE_SIZE_BIT));
  /** A level that can map a page of `1 << shift` bytes, if the unit supports it. */
  const large = (name: string, shift: number, supported: boolean): LevelFormat => ({
    name,
    leaf: supported ? LeafRule.byLeafBit : LeafRule.never,
    tableReserved: supported ? beyondHost : noLargePage,
    leafReserved: union(beyondHost, bits(shift - 1, LARGE_ADDRESS_FIRST)),
  });
  const tableOnly = (name: string): LevelFormat => ({
    name,
    leaf: LeafRule.never,
    tableReserved: noLargePage,
    leafReserved: noLargePage,
  });

  return {
    name: 'x64-first-level',
    section: 'VT-d 4.1, 9.7',
    entryBytes: 8,
    granuleShift: 12,
    bitsPerLevel: 9,
    depths: levels === undefined ? [4, 5] : [levels],
    presentAny: PRESENT,
    permissions: { read: PRESENT | USER, write: PRESENT | USER | WRITABLE, checkedLast: true },
    leafBit: PAGE_SIZE,
    address: bits(ADDRESS_WIDTH_MAX - 1, 12),
    accessed: ACCESSED,
    dirty: DIRTY,
    levels: [
      // Bit 7 of an FS-PTE is PAT.
      { name: 'FS-PTE', leaf: LeafRule.always, tableReserved: beyondHost, leafReserved: beyondHost },
      large('FS-PDE', 21, largePages['2M']),
      large('FS-PDPE', 30, largePages['1G']),
      tableOnly('FS-PML4E'),
      tableOnly('FS-PML5E'),
    ],
  };
}
