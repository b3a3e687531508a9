/** The two ACPI tables of a machine: where its IOMMU is, and which root ports face outwards. */
import { buildDmar } from '../../qemu/acpi/dmar.ts';
import { buildExternalPortsSsdt } from '../../qemu/acpi/ssdt.ts';
import { describeDmar, type Topology } from '../../qemu/topology.ts';
import { DEFAULT_HOST_ADDRESS_WIDTH, REGISTER_BYTES } from '../iommu/vtd/capabilities.ts';
import type { MachineDescription } from '../machine/description.ts';

/** Only VT-d is found by a table; other IOMMUs are PCI functions that their drivers find as such. */
export function needsTables(description: MachineDescription): boolean {
  return description.iommu.kind === 'vtd';
}

export interface AcpiTables {
  readonly dmar: Uint8Array;
  /** Missing where no endpoint is behind a root port. */
  readonly ssdt?: Uint8Array;
}

export function acpiTables(topology: Topology, registerBase: bigint): AcpiTables {
  const unit = { registerBase, registerBytes: REGISTER_BYTES, hostAddressWidth: DEFAULT_HOST_ADDRESS_WIDTH };
  const dmar = buildDmar(describeDmar(topology, unit));
  if (topology.rootPorts.length === 0) return { dmar };
  return { dmar, ssdt: buildExternalPortsSsdt(topology.rootPorts) };
}
