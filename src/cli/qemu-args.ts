import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { connectionArguments, memoryArguments, shellCommand } from '../../qemu/command-line.ts';
import { provisionQemu } from '../../qemu/provision.ts';
import type { MachineDescription } from '../machine/description.ts';
import { IOMMU_ID } from '../machine/machine.ts';
import { acpiTables, needsTables } from './acpi-tables.ts';
import { UsageError } from './errors.ts';
import { addGuestOptions, type GuestFlags, guestConfiguration } from './guest-options.ts';
import { addMachineOptions, type MachineFlags, machineFromFlags } from './machine-options.ts';
import { findPlacement } from './placement.ts';
import { printProgress } from './progress.ts';
import { DMAR_FILE, MACHINE_FILE, SSDT_FILE } from './serve-directory.ts';

interface QemuArgsFlags extends MachineFlags, GuestFlags {
  readonly dir: string;
  readonly json?: boolean;
  readonly quote?: boolean;
}

const EXAMPLES = `
The address of the IOMMU depends on the firmware and on the whole machine, so it is learnt from a short run of the firmware
with the same QEMU and arguments, and remembered. Give what else is in your command line behind --, and start QEMU with
-nodefaults, because devices that QEMU adds by itself move addresses too. The machine type and the memory are in the output.

Examples:
  For the machine that 'viommu serve --dir /tmp/m ...' serves now:
    $ qemu-system-x86_64 -nodefaults -nographic -serial mon:stdio $(viommu qemu-args --dir /tmp/m) \\
        -kernel vmlinuz -initrd initrd.img -append console=ttyS0
  With a network card of QEMU's own in the same machine:
    $ ARGS="-device virtio-net-pci"
    $ qemu-system-x86_64 -nodefaults ... $(viommu qemu-args --dir /tmp/m -- $ARGS) $ARGS
`;

export function addQemuArgs(program: Command): void {
  const command = program
    .command('qemu-args')
    .description('print what to add to your own QEMU command line, and write the ACPI tables it needs')
    .argument('[extra...]', 'the rest of your QEMU command line, behind --: devices in it move addresses')
    .requiredOption('--dir <directory>', "the directory of 'viommu serve'; the tables are written there")
    .option('--json', 'print a JSON list of arguments')
    .option('--quote', 'quote the words for a shell, to paste instead of to substitute')
    .addHelpText('after', EXAMPLES);
  addGuestOptions(addMachineOptions(command)).action(qemuArgs);
}

async function qemuArgs(extra: string[], flags: QemuArgsFlags): Promise<void> {
  const directory = resolve(flags.dir);
  const description = describe(flags, directory);
  mkdirSync(directory, { recursive: true });
  const installation = await provisionQemu({ progress: printProgress, ...(flags.qemu ? { path: flags.qemu } : {}) });
  const configuration = await guestConfiguration(flags, installation, description, { kind: 'firmware' }, extra);
  const socket = (id: string) => join(directory, `${id}.sock`);
  const tables: string[] = [];
  if (needsTables(description)) {
    const question = { description, installation, configuration, progress: printProgress };
    tables.push(...writeTables(directory, acpiTables(configuration.topology, await findPlacement(question))));
  }
  const words = [
    ...memoryArguments(configuration),
    ...connectionArguments(configuration.topology, {
      ...(description.iommu.kind === 'none' ? {} : { iommuSocket: socket(IOMMU_ID) }),
      endpointSockets: Object.fromEntries(description.endpoints.map(({ id }) => [id, socket(id)])),
      acpiTables: tables,
    }),
  ];
  console.log(render(words, flags));
}

/** What the server in that directory serves, unless flags describe a machine. */
function describe(flags: QemuArgsFlags, directory: string): MachineDescription {
  const file = join(directory, MACHINE_FILE);
  const described = flags.machine !== undefined || flags.iommu !== undefined || flags.device !== undefined;
  if (described) return machineFromFlags(flags, []);
  if (!existsSync(file)) {
    throw new UsageError(
      `nothing is served in ${directory}: start 'viommu serve --dir ${flags.dir}' first, or give --device`,
    );
  }
  if ((flags.cachingMode ?? flags.compat ?? flags.checkStale) !== undefined) {
    throw new UsageError(`what is served in ${directory} has its options already: give them to 'viommu serve'`);
  }
  return machineFromFlags({ machine: file }, []);
}

function writeTables(directory: string, { dmar, ssdt }: ReturnType<typeof acpiTables>): string[] {
  const write = (name: string, table: Uint8Array) => {
    const path = join(directory, name);
    // In one step: a server may be reading it.
    writeFileSync(`${path}.new`, table);
    renameSync(`${path}.new`, path);
    return path;
  };
  return [write(DMAR_FILE, dmar), ...(ssdt ? [write(SSDT_FILE, ssdt)] : [])];
}

function render(words: readonly string[], flags: QemuArgsFlags): string {
  if (flags.json) return JSON.stringify(words);
  if (flags.quote) return shellCommand(words, true);
  // The output of $(...) is split at blanks and its quotes stay as they are: words that need either cannot be given so.
  const broken = words.find(word => /[\s*?[\]\\]/.test(word));
  if (broken !== undefined) {
    throw new UsageError(
      `'${broken}' does not survive $(...): use a --dir without blanks and wildcards, or --quote or --json`,
    );
  }
  return words.join(' ');
}
