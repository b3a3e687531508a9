/**
 * A Secondary System Description Table that marks root ports as external-facing: what is behind them may be plugged in by
 * anyone, so Linux and Windows keep it behind the IOMMU whatever the command line says (Microsoft, "DSD for PCIe Root
 * Ports": Identifying externally exposed PCIe root ports; ACPI 6.5, 6.2.5 "_DSD").
 */
import { type Aml, concat, integer, name, packageOf, scope, string, uuid } from './aml.ts';
import { buildTable } from './table.ts';

const EXTERNAL_FACING_PORT = 'efcc06cc-73ac-4bc3-bff0-76143807c389';
/** DSDT and SSDT with this revision or a later one have 64-bit integers (ACPI 6.5, 5.2.11.1). */
const SSDT_REVISION = 2;

/** The name QEMU's DSDT gives to a device on q35's root bus: `S` and slot * 8 + function in hexadecimal. */
export function rootBusDeviceName(slot: number, fn: number): string {
  if (slot < 0 || slot > 31 || fn < 0 || fn > 7) throw new RangeError(`No PCI function ${slot}.${fn}`);
  return `\\_SB.PCI0.S${(slot * 8 + fn).toString(16).toUpperCase().padStart(2, '0')}`;
}

export interface ExternalPort {
  /** Slot of the root port on the root bus; its function is 0. */
  readonly slot: number;
}

export function buildExternalPortsSsdt(ports: readonly ExternalPort[]): Uint8Array {
  const body = concat(...ports.map(({ slot }, uid) => scope(rootBusDeviceName(slot, 0), externalFacing(uid))));
  return buildTable({ signature: 'SSDT', revision: SSDT_REVISION, oemTableId: 'EXTPORTS' }, body);
}

function externalFacing(uid: number): Aml {
  const property = (key: string, value: number) => packageOf(string(key), integer(value));
  const properties = packageOf(property('ExternalFacingPort', 1), property('UID', uid));
  return name('_DSD', packageOf(uuid(EXTERNAL_FACING_PORT), properties));
}
