import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { readRegisterBase } from '../../qemu/acpi/dmar.ts';
import { HostPort } from '../inspector/host-port.ts';
import { LEASED_MACHINES } from '../inspector/limits.ts';
import { MachineHost } from '../machine/host.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { DebugSession } from './debug-session.ts';
import { CommandFailure } from './errors.ts';
import { eventToJson, formatEvent, isNotable } from './event-printer.ts';
import { catchInterrupt } from './interrupt.ts';
import { addMachineOptions, limitsHelp, type MachineFlags, machineFromFlags } from './machine-options.ts';
import { IOMMU_PLACED } from './placement.ts';
import { addSanitizeOptions, checkSanitizeFlags, type SanitizeFlags } from './sanitize-options.ts';
import { DMAR_FILE, MACHINE_FILE } from './serve-directory.ts';
import { type OnDemandFlags, serveOnDemand } from './serve-on-demand.ts';
import { addListenOptions, type ServedRemote, serveFlags } from './serve-remote.ts';

interface ServeFlags extends MachineFlags, SanitizeFlags, OnDemandFlags {
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
  The same with limits: at most 1024 DMA regions, and two seconds for the answer to a DMA message:
    $ viommu serve --dir /tmp/m --limit maxDmaMaps=1024 --limit dmaTimeout=2000
  A server that makes a machine for each client that asks, at most 4 at once ('viommu demo --server /tmp/m'):
    $ viommu serve --dir /tmp/m --on-demand 4
  The same for clients on other hosts, too; they need the token that is in /tmp/m/remote.json:
    $ viommu serve --dir /tmp/m --on-demand --listen unix --listen 0.0.0.0:7180 --tls-cert cert.pem --tls-key key.pem
  Then, in another terminal, a QEMU of your own:
    $ qemu-system-x86_64 ... $(viommu qemu-args --dir /tmp/m)
`;

const ENVIRONMENT = `
VIOMMU_TOKEN in the environment is the token that clients at addresses must give; without it, one is made at each start where other
machines could connect. GET /healthz at each place answers 200 while every machine does.
`;

/** Besides those that are notable everywhere. */
const NOTABLE_HERE =
  /^(link\.(lost|resumed|refused|closed|malformed)|lease\.(lost|resumed|expired)|machine\.(leased|released))$/;

export function addServe(program: Command): void {
  const command = program
    .command('serve')
    .description('serve a machine: one vfio-user socket for the IOMMU and one for each endpoint')
    .requiredOption('--dir <directory>', 'where the sockets are made (created if missing)')
    .option(
      '--on-demand [max]',
      `make a machine for each client that leases one, at most so many at once (default: ${LEASED_MACHINES}); the machine options say ` +
        'what it is where a client does not',
    )
    .option('--inspect [[host:]port]', "serve the inspector's page there, beside the remote API; its URL is printed")
    .option('--json', 'print events as JSON lines')
    .option('--verbose', 'print every event, not only faults and clients')
    .addHelpText('after', EXAMPLES + limitsHelp() + ENVIRONMENT);
  addSanitizeOptions(addMachineOptions(addListenOptions(command))).action(serve);
}

async function serve(flags: ServeFlags): Promise<void> {
  const description = machineFromFlags(flags, ['edu@01:00.0', 'edu@02:00.0']);
  const directory = resolve(flags.dir);
  mkdirSync(directory, { recursive: true });
  checkSanitizeFlags(flags);
  const interruption = catchInterrupt();
  if (flags.onDemand !== undefined) {
    try {
      process.exitCode = await serveOnDemand({
        flags,
        description,
        directory,
        interruption,
        onEvent: (event, machine) => printEvent(event, flags, join(directory, machine ?? ''), machine),
        onReady: remote => sayReady({}, remote, flags),
      });
    } finally {
      interruption.stop();
    }
    return;
  }
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
      const onLink = (kind: string, detail: TraceEvent['detail']) =>
        printEvent({ kind, source: 'remote', detail }, flags, directory);
      const remote = await serveFlags(flags, new HostPort(host), directory, onLink);
      try {
        writeFileSync(machineFile, `${JSON.stringify(description, undefined, 2)}\n`);
        host.on('event', event => printEvent(event, flags, directory));
        sayReady(host.sockets, remote, flags);
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

function sayReady(
  sockets: Readonly<Record<string, string>>,
  remote: ServedRemote | undefined,
  flags: ServeFlags,
): void {
  const { url, urls = [], pageUrl } = remote ?? {};
  if (flags.json) {
    // What is undefined is left out.
    const all = urls.length > 1 ? urls : undefined;
    console.log(JSON.stringify({ kind: 'ready', sockets, remote: url, remotes: all, page: pageUrl }));
    return;
  }
  const places = [...Object.values(sockets), ...urls, pageUrl].filter(place => place !== undefined);
  console.log(['ready', ...places.map(place => `  ${place}`)].join('\n'));
}

function printEvent(event: TraceEvent, flags: ServeFlags, directory: string, machine?: string): void {
  if (flags.verbose || isNotable(event) || NOTABLE_HERE.test(event.kind)) {
    const who = machine === undefined ? '' : `${machine} `;
    console.log(flags.json ? eventToJson({ ...event, ...(machine && { machine }) }) : `${who}${formatEvent(event)}`);
  }
  const complaint = event.kind === IOMMU_PLACED ? checkPlacement(event, directory) : undefined;
  if (complaint) console.error(`viommu: ${machine === undefined ? '' : `${machine}: `}${complaint}`);
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
