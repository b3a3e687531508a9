/**
 * Second-stage page tables of Intel Virtualization Technology for Directed I/O, revision 4.1: sections 3.7 (translation,
 * reserved bits) and 9.8 (entries). Three, four or five levels of 512 entries; pages of 4 KiB, 2 MiB and 1 GiB.
 */
import { bits, LeafRule, type LevelFormat, type PageTableFormat, union, type Words } from './format.ts';

export interface VtdSecondStageOptions {
  /** Width of a physical address in bits, 13 to 52: higher address bits are reserved. */
  readonly hostAddressWidth: number;
  /** What the Capability Register's SSLPS field reports. */
  readonly largePages: { readonly '2M': boolean; readonly '1G': boolean };
  /** Snoop control (ECAP.SC): SNP, bit 11, may be set in an entry that maps a page. Default false. */
  readonly snoop?: boolean;
  /** Bit 62 of an entry that maps a page was TM (transient mapping) where device-TLBs are supported; reserved since 3.2. */
  readonly transientMapping?: boolean;
}

const ADDRESS_WIDTH_MAX = 52;
const READ = 1 << 0;
const WRITE = 1 << 1;
const PAGE_SIZE = 1 << 7;
const PAGE_SIZE_BIT = 7;
const SNOOP_BIT = 11;
const TRANSIENT_MAPPING_BIT = 62;
/** Ignored by hardware in every entry. */
const SOFTWARE_BIT = 52;

const bit = (n: number): Words => bits(n, n);

export function vtdSecondStage(options: VtdSecondStageOptions): PageTableFormat {
  const { hostAddressWidth, largePages, snoop = false, transientMapping = false } = options;
  if (!Number.isInteger(hostAddressWidth) || hostAddressWidth <= 12 || hostAddressWidth > ADDRESS_WIDTH_MAX) {
    throw new RangeError(`host address width must be 13 to ${ADDRESS_WIDTH_MAX}, not ${hostAddressWidth}`);
  }

  const beyondHost = bits(ADDRESS_WIDTH_MAX - 1, hostAddressWidth);
  const table = union(beyondHost, bit(SNOOP_BIT), bit(TRANSIENT_MAPPING_BIT));
  const page = union(
    beyondHost,
    snoop ? [0, 0] : bit(SNOOP_BIT),
    transientMapping ? [0, 0] : bit(TRANSIENT_MAPPING_BIT),
  );
  const noLargePage = union(table, bit(PAGE_SIZE_BIT));

  /** A level that can map a page of `1 << shift` bytes, if the unit supports it. */
  const large = (name: string, shift: number, supported: boolean): LevelFormat => ({
    name,
    leaf: supported ? LeafRule.byLeafBit : LeafRule.never,
    tableReserved: supported ? table : noLargePage,
    leafReserved: union(page, bits(shift - 1, 12)),
  });
  const tableOnly = (name: string): LevelFormat => ({
    name,
    leaf: LeafRule.never,
    tableReserved: noLargePage,
    leafReserved: noLargePage,
  });

  return {
    name: 'vtd-second-stage',
    section: 'VT-d 4.1, 9.8',
    entryBytes: 8,
    granuleShift: 12,
    bitsPerLevel: 9,
    depths: [3, 4, 5],
    presentAny: READ | WRITE,
    permissions: { read: READ, write: WRITE },
    leafBit: PAGE_SIZE,
    address: bits(ADDRESS_WIDTH_MAX - 1, 12),
    levels: [
      // Bit 7 of an SS-PTE is ignored, unlike that of the levels above.
      { name: 'SS-PTE', leaf: LeafRule.always, tableReserved: table, leafReserved: page },
      large('SS-PDE', 21, largePages['2M']),
      large('SS-PDPE', 30, largePages['1G']),
      tableOnly('SS-PML4E'),
      tableOnly('SS-PML5E'),
    ],
    written: {
      table: [READ | WRITE, 0],
      page: [bit(SOFTWARE_BIT), [READ, 0], [WRITE, 0], [READ | WRITE, 0]],
    },
  };
}
