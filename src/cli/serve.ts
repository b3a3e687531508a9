import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { readRegisterBase } from '../../qemu/acpi/dmar.ts';
import { HostPort } from '../inspector/host-port.ts';
import { MachineHost } from '../machine/host.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { DebugSession } from './debug-session.ts';
import { CommandFailure } from './errors.ts';
import { eventToJson, formatEvent, isNotable } from './event-printer.ts';
import { catchInterrupt } from './interrupt.ts';
import { addMachineOptions, type MachineFlags, machineFromFlags } from './machine-options.ts';
import { IOMMU_PLACED } from './placement.ts';
import { addSanitizeOptions, checkSanitizeFlags, type SanitizeFlags } from './sanitize-options.ts';
import { DMAR_FILE, MACHINE_FILE } from './serve-directory.ts';
import { type RemoteFlags, type ServedRemote, serveFlags } from './serve-remote.ts';

interface ServeFlags extends MachineFlags, SanitizeFlags, RemoteFlags {
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
  A dma-iommu, with its operations open to other programs on this machine:
    $ viommu serve --dir /tmp/m --iommu dma-iommu --listen 0
    $ viommu domain create --dir /tmp/m
  The same with everything that is looked for, recorded and reported when it is ended by Ctrl-C:
    $ viommu serve --dir /tmp/m --sanitize all --record run.viommu --report findings.json
  The same with the inspector's page for a browser on this machine:
    $ viommu serve --dir /tmp/m --inspect
  Then, in another terminal, a QEMU of your own:
    $ qemu-system-x86_64 ... $(viommu qemu-args --dir /tmp/m)
`;

export function addServe(program: Command): void {
  const command = program
    .command('serve')
    .description('serve a machine: one vfio-user socket for the IOMMU and one for each endpoint')
    .requiredOption('--dir <directory>', 'where the sockets are made (created if missing)')
    .option(
      '--listen <[host:]port>',
      "open the remote API there ('viommu domain'); 127.0.0.1 unless said otherwise, port 0: any free one",
    )
    .option('--inspect [[host:]port]', "serve the inspector's page there, beside the remote API; its URL is printed")
    .option('--json', 'print events as JSON lines')
    .option('--verbose', 'print every event, not only faults and clients')
    .addHelpText('after', EXAMPLES);
  addSanitizeOptions(addMachineOptions(command)).action(serve);
}

async function serve(flags: ServeFlags): Promise<void> {
  const description = machineFromFlags(flags, ['edu@01:00.0', 'edu@02:00.0']);
  const directory = resolve(flags.dir);
  mkdirSync(directory, { recursive: true });
  checkSanitizeFlags(flags);
  const interruption = catchInterrupt();
  const host = await MachineHost.start(description, directory, { sanitize: flags.sanitize });
  const machineFile = resolve(directory, MACHINE_FILE);
  const stop = async () => {
    await host.stop();
    interruption.stop();
  };
  let session: DebugSession;
  try {
    session = await DebugSession.start(host, flags, line => console.error(line));
  } catch (error) {
    await stop();
    throw error;
  }
  const { outcome } = await session.conclude(async () => {
    try {
      const remote = await serveFlags(flags, new HostPort(host), directory);
      try {
        writeFileSync(machineFile, `${JSON.stringify(description, undefined, 2)}\n`);
        host.on('event', event => printEvent(event, flags, directory));
        sayReady(host, remote, flags);
        const ending = await Promise.race([interruption.signalled, host.ended]);
        if (ending === undefined && !host.stoppedByFinding) {
          throw new CommandFailure('the device thread ended by itself');
        }
      } finally {
        await remote?.close();
        rmSync(machineFile, { force: true });
      }
    } finally {
      await stop();
    }
  });
  process.exitCode = outcome.status;
}

function sayReady({ sockets }: MachineHost, remote: ServedRemote | undefined, flags: ServeFlags): void {
  const { url, pageUrl } = remote ?? {};
  if (flags.json) {
    // What is undefined is left out.
    console.log(JSON.stringify({ kind: 'ready', sockets, remote: url, page: pageUrl }));
    return;
  }
  const places = [...Object.values(sockets), url, pageUrl].filter(place => place !== undefined);
  console.log(['ready', ...places.map(place => `  ${place}`)].join('\n'));
}

function printEvent(event: TraceEvent, flags: ServeFlags, directory: string): void {
  if (flags.verbose || isNotable(event)) console.log(flags.json ? eventToJson(event) : formatEvent(event));
  const complaint = event.kind === IOMMU_PLACED ? checkPlacement(event, directory) : undefined;
  if (complaint) console.error(`viommu: ${complaint}`);
}

/** Where the guest's firmware put the unit must be where the DMAR table made by `qemu-args` says it is. */
function checkPlacement(event: TraceEvent, directory: string): string | undefined {
  const placed = BigInt(event.detail.address ?? 0);
  let promised: bigint;
  try {
    promised = readRegisterBase(readFileSync(resolve(directory, DMAR_FILE)));
  } catch (error) {
    // No table was made for this directory (yet): nothing to compare with.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    return `${resolve(directory, DMAR_FILE)} cannot be compared with where the IOMMU is: ${(error as Error).message}`;
  }
  if (promised === placed) return undefined;
  return (
    `the firmware placed the IOMMU at 0x${placed.toString(16)}, but the DMAR table says 0x${promised.toString(16)}: the guest ` +
    'will not find it. Run viommu qemu-args again with the same extra QEMU arguments as the guest is started with'
  );
}
