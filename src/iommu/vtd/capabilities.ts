/** What a VT-d unit is asked to be, checked, and the figures that its registers and its behaviour derive from that. */

export type PageTableLevels = 3 | 4 | 5;

export interface VtdOptions {
  /** CAP.CM: not-present and faulting entries are cached too, so that software must invalidate after every change. */
  readonly cachingMode: boolean;
  /** Bits of a guest-physical address, 32-43. The DMAR table's Host Address Width must say the same. */
  readonly hostAddressWidth: number;
  /** CAP.SAGAW: 3 levels translate 39 bits, 4 levels 48, 5 levels 57. */
  readonly levels: readonly PageTableLevels[];
  readonly largePages: { readonly '2M': boolean; readonly '1G': boolean };
  /** CAP.NFR + 1: 1-222. */
  readonly faultRecords: number;
  /** A fault of a requester that has a pending record already is not recorded again (7.2.1 leaves the choice). */
  readonly collapseFaults: boolean;
  /** CAP.ND: 4, 6, 8, 10, 12, 14 or 16. */
  readonly domainIdBits: number;
  /** ECAP.PT. */
  readonly passThrough: boolean;
  /** ECAP.SC: software may set SNP in page-table entries. */
  readonly snoopControl: boolean;
}

/** A frame number is a non-negative int32, so 31 + 12 bits is the widest address that exists here. */
export const MAX_HOST_ADDRESS_WIDTH = 43;
export const MIN_HOST_ADDRESS_WIDTH = 32;
export const DEFAULT_HOST_ADDRESS_WIDTH = MAX_HOST_ADDRESS_WIDTH;

export const REGISTER_BYTES = 4096;
/** Reported in ECAP.IRO: IVA here, IOTLB 8 bytes on. */
export const IOTLB_OFFSET = 0x100;
/** Reported in CAP.FRO: 16 bytes for each record from here. */
export const FAULT_RECORD_OFFSET = 0x220;
export const FAULT_RECORD_BYTES = 16;
export const MAX_FAULT_RECORDS = (REGISTER_BYTES - FAULT_RECORD_OFFSET) / FAULT_RECORD_BYTES;
/** CAP.MAMV: 2^18 pages, as 11.4.2 recommends with 1 GiB pages. */
export const MAX_ADDRESS_MASK = 18;

export const DEFAULT_VTD_OPTIONS: VtdOptions = {
  cachingMode: false,
  hostAddressWidth: DEFAULT_HOST_ADDRESS_WIDTH,
  levels: [3, 4],
  largePages: { '2M': true, '1G': true },
  faultRecords: 8,
  collapseFaults: false,
  domainIdBits: 16,
  passThrough: true,
  snoopControl: true,
};

export interface VtdCapabilities extends VtdOptions {
  /** Bits of the widest IOVA: what CAP.MGAW reports, plus one. */
  readonly guestAddressWidth: number;
  readonly domainMask: number;
}

/** Bits of an IOVA that so many levels translate. */
export function addressWidthOf(levels: number): number {
  return 12 + 9 * levels;
}

/** Throws an Error that says what to change where the options contradict the specification or each other. */
export function vtdCapabilities(options: Partial<VtdOptions> = {}): VtdCapabilities {
  const all = { ...DEFAULT_VTD_OPTIONS, ...options };
  const range = (name: string, value: number, low: number, high: number) => {
    if (!Number.isInteger(value) || value < low || value > high) {
      throw new Error(`vtd: ${name} is ${value}; it must be an integer from ${low} to ${high}`);
    }
  };
  range('hostAddressWidth', all.hostAddressWidth, MIN_HOST_ADDRESS_WIDTH, MAX_HOST_ADDRESS_WIDTH);
  range('faultRecords', all.faultRecords, 1, MAX_FAULT_RECORDS);
  range('domainIdBits', all.domainIdBits, 4, 16);
  if (all.domainIdBits % 2 !== 0) throw new Error(`vtd: domainIdBits is ${all.domainIdBits}; it must be even`);
  if (all.levels.length === 0) throw new Error('vtd: levels is empty; name at least one of 3, 4 and 5');
  for (const levels of all.levels) range('levels', levels, 3, 5);
  if (all.largePages['1G'] && !all.largePages['2M']) {
    throw new Error('vtd: largePages has 1G without 2M; a larger size needs all smaller ones (11.4.2, SSLPS)');
  }
  const guestAddressWidth = addressWidthOf(Math.max(...all.levels));
  if (guestAddressWidth < all.hostAddressWidth) {
    throw new Error(
      `vtd: levels reach ${guestAddressWidth} bits but hostAddressWidth is ${all.hostAddressWidth}; ` +
        'lower hostAddressWidth or add a level (11.4.2, MGAW)',
    );
  }
  return { ...all, guestAddressWidth, domainMask: 2 ** all.domainIdBits - 1 };
}
