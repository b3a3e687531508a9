/**
 * The DMA Remapping Reporting table, by which Linux and Windows find a VT-d unit and learn which devices are behind it
 * (Intel VT-d specification 4.1, chapter 8 "BIOS Considerations").
 */
import { concat, littleEndian } from './aml.ts';
import { buildTable, checkTable, TABLE_HEADER_BYTES } from './table.ts';

/** DMAR flags (8.1). Interrupt remapping (bit 0) is never set: the unit has none. */
const DMAR_REVISION = 1;
const DMA_CTRL_PLATFORM_OPT_IN = 1 << 2;
const RESERVED_BYTES = 10;

/** Remapping structure type of a hardware unit definition (8.2, 8.3). */
const DRHD_TYPE = 0;
/** Type, length, flags, size, segment, register base (8.3). */
const DRHD_HEADER_BYTES = 16;
const DRHD_REGISTER_BASE_AT = 8;
const PAGE_BYTES = 4096n;
/** The size field holds 2^N pages of 4 KiB in four bits (8.3). */
const MAX_SIZE_EXPONENT = 15;

/** Device scope entry types (8.3.1). */
export const DeviceScopeType = { endpoint: 1, bridge: 2 } as const;
export type DeviceScopeType = (typeof DeviceScopeType)[keyof typeof DeviceScopeType];
/** Type, length, two reserved bytes, enumeration id, start bus number; the path follows. */
const SCOPE_HEADER_BYTES = 6;
const MAX_PATH_STEPS = (255 - SCOPE_HEADER_BYTES) / 2;

export interface PathStep {
  /** 0-31. */
  readonly device: number;
  /** 0-7. */
  readonly function: number;
}

/** One device (or all behind one bridge) that the unit translates for. */
export interface DeviceScope {
  /** Linux refuses a bridge named as an endpoint and the other way round. */
  readonly type: DeviceScopeType;
  readonly startBus: number;
  /** From the start bus down: every bridge on the way, then the device itself. */
  readonly path: readonly PathStep[];
}

export interface DmarDescription {
  /** Guest-physical address of the unit's registers; a multiple of 4096. */
  readonly registerBase: bigint;
  /** Bytes of the register page or pages: 4096 times a power of two. */
  readonly registerBytes: number;
  /** Bits of the widest guest-physical address that the unit reaches: 1-64. */
  readonly hostAddressWidth: number;
  /** Asks the system to keep DMA remapping on and external devices isolated (Kernel DMA Protection). */
  readonly platformOptIn: boolean;
  /** Exactly what is behind the unit; INCLUDE_PCI_ALL is never set, so that other devices stay outside. */
  readonly scopes: readonly DeviceScope[];
}

/** The whole table. Throws RangeError for what the table cannot say. */
export function buildDmar(description: DmarDescription): Uint8Array {
  const { hostAddressWidth, platformOptIn } = description;
  if (!Number.isInteger(hostAddressWidth) || hostAddressWidth < 1 || hostAddressWidth > 64) {
    throw new RangeError(`The host address width is 1-64 bits: ${hostAddressWidth}`);
  }
  const fixed = new Uint8Array(2 + RESERVED_BYTES);
  fixed[0] = hostAddressWidth - 1;
  fixed[1] = platformOptIn ? DMA_CTRL_PLATFORM_OPT_IN : 0;
  const body = concat(fixed, hardwareUnit(description));
  return buildTable({ signature: 'DMAR', revision: DMAR_REVISION, oemTableId: 'VIOMMU' }, body);
}

function hardwareUnit(description: DmarDescription): Uint8Array {
  const { registerBase, registerBytes } = description;
  if (registerBase < 0n || registerBase >= 1n << 64n || registerBase % PAGE_BYTES !== 0n) {
    throw new RangeError(`The register base is a 64-bit multiple of 4096: 0x${registerBase.toString(16)}`);
  }
  const exponent = Math.log2(registerBytes / Number(PAGE_BYTES));
  if (!Number.isInteger(exponent) || exponent < 0 || exponent > MAX_SIZE_EXPONENT) {
    throw new RangeError(
      `The registers take 4096 bytes times a power of two up to 2^${MAX_SIZE_EXPONENT}: ${registerBytes}`,
    );
  }
  const scopes = concat(...description.scopes.map(deviceScope));
  const unit = new Uint8Array(DRHD_HEADER_BYTES);
  const view = new DataView(unit.buffer);
  const length = unit.length + scopes.length;
  if (length > 0xffff) throw new RangeError(`${description.scopes.length} device scopes do not fit in one unit`);
  view.setUint16(0, DRHD_TYPE, true);
  view.setUint16(2, length, true);
  // Flags (offset 4) and segment (offset 6) stay zero: no INCLUDE_PCI_ALL, PCI segment 0.
  view.setUint8(5, exponent);
  unit.set(littleEndian(registerBase, 8), DRHD_REGISTER_BASE_AT);
  return concat(unit, scopes);
}

function deviceScope(scope: DeviceScope): Uint8Array {
  const { path, startBus, type } = scope;
  if (path.length === 0 || path.length > MAX_PATH_STEPS) throw new RangeError(`A path of ${path.length} steps`);
  if (!Number.isInteger(startBus) || startBus < 0 || startBus > 255) throw new RangeError(`Start bus ${startBus}`);
  for (const step of path) {
    if (step.device < 0 || step.device > 31 || step.function < 0 || step.function > 7) {
      throw new RangeError(`No PCI function has device ${step.device}, function ${step.function}`);
    }
  }
  const steps = path.flatMap(step => [step.device, step.function]);
  return Uint8Array.of(type, SCOPE_HEADER_BYTES + steps.length, 0, 0, 0, startBus, ...steps);
}

/** Where a table says that its first unit's registers are. Throws when it is not a whole DMAR table with a unit in it. */
export function readRegisterBase(table: Uint8Array): bigint {
  checkTable(table, 'DMAR');
  const view = new DataView(table.buffer, table.byteOffset, table.length);
  let at = TABLE_HEADER_BYTES + 2 + RESERVED_BYTES;
  while (at + DRHD_HEADER_BYTES <= table.length) {
    if (view.getUint16(at, true) === DRHD_TYPE) return view.getBigUint64(at + DRHD_REGISTER_BASE_AT, true);
    const length = view.getUint16(at + 2, true);
    if (length < 4) break;
    at += length;
  }
  throw new Error('DMAR: it describes no remapping hardware unit');
}
