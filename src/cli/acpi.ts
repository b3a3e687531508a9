import { writeFileSync } from 'node:fs';
import { type Command, InvalidArgumentError } from 'commander';
import { acpiTables, needsTables } from './acpi-tables.ts';
import { UsageError } from './errors.ts';
import { addMachineOptions, type MachineFlags, machineFromFlags } from './machine-options.ts';
import { topologyOf } from './topology.ts';

interface AcpiFlags extends MachineFlags {
  readonly base: bigint;
  readonly dmar?: string;
  readonly ssdt?: string;
}

const EXAMPLES = `
Examples:
  $ viommu acpi --base 0xfe801000 --device edu@01:00.0 --dmar dmar.aml --ssdt ssdt.aml
  $ viommu acpi --base 0xfeb00000 --device edu@04.0 --dmar dmar.aml && iasl -d dmar.aml
`;

export function addAcpi(program: Command): void {
  const command = program
    .command('acpi')
    .description('write the ACPI tables of a machine whose IOMMU is at a known address')
    .requiredOption('--base <address>', "guest-physical address of the IOMMU's registers, e.g. 0xfeb00000", address)
    .option('--dmar <file>', 'where to write the DMAR table')
    .option('--ssdt <file>', 'where to write the SSDT that marks root ports as external-facing')
    .addHelpText('after', EXAMPLES);
  addMachineOptions(command).action(acpi);
}

function acpi(flags: AcpiFlags): void {
  const description = machineFromFlags(flags, ['edu@01:00.0', 'edu@02:00.0']);
  if (!needsTables(description)) throw new UsageError(`the tables are about vtd, not about ${description.iommu.kind}`);
  if (flags.dmar === undefined && flags.ssdt === undefined) throw new UsageError('name a file: --dmar, --ssdt or both');
  const { dmar, ssdt } = acpiTables(topologyOf(description), flags.base);
  if (flags.dmar !== undefined) write(flags.dmar, dmar);
  if (flags.ssdt === undefined) return;
  if (ssdt === undefined)
    throw new UsageError('no endpoint is behind a root port, so there is nothing to mark: leave out --ssdt');
  write(flags.ssdt, ssdt);
}

function write(path: string, table: Uint8Array): void {
  writeFileSync(path, table);
  console.log(`${path}: ${table.length} bytes`);
}

function address(text: string): bigint {
  try {
    const value = BigInt(text);
    if (value >= 0n && value < 1n << 64n && value % 4096n === 0n) return value;
  } catch {
    // Not a number: the same advice.
  }
  throw new InvalidArgumentError('It must be a multiple of 4096, e.g. 0xfeb00000.');
}
