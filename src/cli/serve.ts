import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { readRegisterBase } from '../../qemu/acpi/dmar.ts';
import { MachineHost } from '../machine/host.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { CommandFailure, ExitStatus } from './errors.ts';
import { eventToJson, formatEvent, isNotable } from './event-printer.ts';
import { catchInterrupt } from './interrupt.ts';
import { addMachineOptions, type MachineFlags, machineFromFlags } from './machine-options.ts';
import { DMAR_FILE, MACHINE_FILE } from './serve-directory.ts';

interface ServeFlags extends MachineFlags {
  readonly dir: string;
  readonly json?: boolean;
  readonly verbose?: boolean;
}

const EXAMPLES = `
Examples:
  A VT-d unit and two edu devices on the root bus; sockets iommu.sock, edu0.sock, edu1.sock in /tmp/m:
    $ viommu serve --dir /tmp/m --iommu vtd --device edu@04.0 --device edu@05.0
  The same behind root ports, with a 32-bit DMA mask and a name for the second:
    $ viommu serve --dir /tmp/m --device edu@01:00.0 --device edu@02:00.0,id=nic,dmaMask=32
  Then, in another terminal, a QEMU of your own:
    $ qemu-system-x86_64 ... $(viommu qemu-args --dir /tmp/m)
`;

export function addServe(program: Command): void {
  const command = program
    .command('serve')
    .description('serve a machine: one vfio-user socket for the IOMMU and one for each endpoint')
    .requiredOption('--dir <directory>', 'where the sockets are made (created if missing)')
    .option('--json', 'print events as JSON lines')
    .option('--verbose', 'print every event, not only faults and clients')
    .addHelpText('after', EXAMPLES);
  addMachineOptions(command).action(serve);
}

async function serve(flags: ServeFlags): Promise<void> {
  const description = machineFromFlags(flags, ['edu@01:00.0', 'edu@02:00.0']);
  const directory = resolve(flags.dir);
  mkdirSync(directory, { recursive: true });
  const interruption = catchInterrupt();
  const host = await MachineHost.start(description, directory);
  const machineFile = resolve(directory, MACHINE_FILE);
  writeFileSync(machineFile, `${JSON.stringify(description, undefined, 2)}\n`);

  host.on('event', event => {
    if (flags.verbose || isNotable(event)) console.log(flags.json ? eventToJson(event) : formatEvent(event));
    const complaint = event.kind === 'iommu.placed' ? checkPlacement(event, directory) : undefined;
    if (complaint) console.error(`viommu: ${complaint}`);
  });
  if (flags.json) console.log(JSON.stringify({ kind: 'ready', sockets: host.sockets }));
  else console.log(['ready', ...Object.values(host.sockets).map(path => `  ${path}`)].join('\n'));

  const ending = await Promise.race([interruption.signalled, host.ended]);
  interruption.stop();
  rmSync(machineFile, { force: true });
  if (ending === undefined) throw new CommandFailure('the device thread ended by itself');
  await host.stop();
  process.exitCode = ExitStatus.ok;
}

/** Where the guest's firmware put the unit must be where the DMAR table made by `qemu-args` says it is. */
function checkPlacement(event: TraceEvent, directory: string): string | undefined {
  const placed = BigInt(event.detail.address ?? 0);
  let table: Uint8Array;
  try {
    table = readFileSync(resolve(directory, DMAR_FILE));
  } catch {
    // No table was made for this directory (yet): nothing to compare with.
    return undefined;
  }
  const promised = readRegisterBase(table);
  if (promised === placed) return undefined;
  return (
    `the firmware placed the IOMMU at 0x${placed.toString(16)}, but the DMAR table says 0x${promised.toString(16)}: the guest ` +
    'will not find it. Run viommu qemu-args again with the same extra QEMU arguments as the guest is started with'
  );
}
