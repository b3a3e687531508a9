/** `viommu backend`: one function as a program by itself, after the conventions of vfio-user for such programs. */
import { dirname } from 'node:path';
import type { Command } from 'commander';
import type { MachineDescription } from '../machine/description.ts';
import { MachineHost } from '../machine/host.ts';
import type { GivenSocket } from '../posix/given-socket.ts';
import type { TraceEvent } from '../trace/trace.ts';
import {
  BACKEND_PROGRAM,
  backendDescription,
  DEFAULT_KIND,
  DESCRIPTION_NAME,
  DESCRIPTIONS_DIRECTORY,
} from './backend-files.ts';
import {
  BackendCommand,
  type BackendFlags,
  backendMachine,
  backendPlace,
  PRINT_CAPABILITIES,
} from './backend-options.ts';
import { DebugSession } from './debug-session.ts';
import { CommandFailure, UsageError } from './errors.ts';
import { eventToJson, formatEvent, isNotable } from './event-printer.ts';
import { catchInterrupt } from './interrupt.ts';
import { addLimitOption, addPollOption, limitsHelp } from './machine-options.ts';
import { addSanitizeOptions, checkSanitizeFlags } from './sanitize-options.ts';
import { VERSION } from './version.ts';

const EXAMPLES = `
Examples:
  One device for a QEMU, which is its client:
    $ viommu backend --socket-path=/tmp/edu.sock &
    $ qemu-system-x86_64 -machine q35,memory-backend=ram -object memory-backend-memfd,id=ram,size=1G,share=on ... \\
        -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/tmp/edu.sock"}}'
  With a 32-bit DMA mask, on a socket that whoever starts it listens on, or is connected by, as descriptor 5:
    $ viommu backend --device edu,dmaMask=32 --fd=5
  The file that tells management software of it:
    $ viommu backend --print-description | sudo tee ${DESCRIPTIONS_DIRECTORY}/${DESCRIPTION_NAME}

It stays in the foreground, logs to standard error, and ends with status 0 on SIGTERM and Ctrl-C, and when the client of a connected
socket has gone. On a socket that listens, the next client may come then. An IOMMU has its endpoints in its own process: that is 'viommu
serve'.
`;

/** How a client that is gone has left, in the words of its connection. All others are mistakes of the client. */
const HUNG_UP = /^(end of stream|hung up|receive failed|send failed)/;

export function addBackend(program: Command): void {
  program.addCommand(backendCommand('backend'));
}

export function backendCommand(name: string): Command {
  const command = new BackendCommand(name)
    .description('serve one device on one socket, as a vfio-user backend program that a management layer starts')
    .option('--socket-path <path>', 'make the socket there')
    .option('--fd <fdnum>', 'take the unix socket with this descriptor instead, which listens or is connected')
    .option('--device <device>', `what to serve, KIND[,OPTION=VALUE]... (default: ${DEFAULT_KIND.kind})`)
    .option(PRINT_CAPABILITIES, 'print what it can do, as JSON, and do nothing else')
    .option('--print-description', `print the file for ${DESCRIPTIONS_DIRECTORY}, as JSON, and do nothing else`)
    .option('--binary <path>', 'which program that file is to name (default: the one beside this)')
    .option('--json', 'log events as JSON lines')
    .option('--verbose', 'log every event, not only faults and clients')
    .addHelpText('after', EXAMPLES + limitsHelp());
  return addSanitizeOptions(addLimitOption(addPollOption(command))).action(backend);
}

async function backend(flags: BackendFlags): Promise<void> {
  // A log whose reader has gone does not end a device.
  process.stderr.on('error', error => {
    if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error;
  });
  if (flags.printDescription) {
    console.log(JSON.stringify(backendDescription(flags.binary ?? BACKEND_PROGRAM, VERSION), undefined, 2));
    return;
  }
  if (flags.binary !== undefined) throw new UsageError('--binary is for --print-description');
  const interruption = catchInterrupt();
  try {
    const description = backendMachine(flags);
    checkSanitizeFlags(flags);
    const place = backendPlace(flags);
    const host = await startAt(place, description, flags);
    host.on('event', event => logEvent(event, flags));
    let session: DebugSession;
    try {
      session = await DebugSession.start(host, flags, log);
    } catch (error) {
      await host.stop();
      throw error;
    }
    const { outcome } = await session.conclude(async () => {
      try {
        sayReady(place, description, flags);
        const ending = await Promise.race([
          interruption.signalled,
          host.abandoned.then(reason => ({ reason })),
          host.ended,
        ]);
        if (typeof ending === 'object' && !HUNG_UP.test(ending.reason)) {
          throw new CommandFailure(`the connection was ended, because of what the client sent: ${ending.reason}`);
        }
        if (ending === undefined && !host.stoppedByFinding) {
          throw new CommandFailure('the device thread ended by itself');
        }
      } finally {
        await host.stop();
      }
    });
    process.exitCode = outcome.status;
  } finally {
    interruption.stop();
  }
}

async function startAt(
  place: string | GivenSocket,
  description: MachineDescription,
  { sanitize }: BackendFlags,
): Promise<MachineHost> {
  const [{ id } = { id: '' }] = description.endpoints;
  const directory = typeof place === 'string' ? dirname(place) : '';
  try {
    return await MachineHost.start(description, directory, { sanitize, places: { [id]: place } });
  } catch (error) {
    throw new CommandFailure(`cannot serve: ${(error as Error).message}`);
  }
}

function sayReady(place: string | GivenSocket, { endpoints }: MachineDescription, { json }: BackendFlags): void {
  const device = endpoints[0]?.kind;
  const where = typeof place === 'string' ? { path: place } : { fd: place.fd, listening: place.isListening };
  if (json) {
    log(JSON.stringify({ kind: 'ready', device, ...where }));
    return;
  }
  log(`ready: ${device} ${'path' in where ? `at ${where.path}` : `on descriptor ${where.fd}`}`);
}

function logEvent(event: TraceEvent, { json, verbose }: BackendFlags): void {
  if (verbose || isNotable(event)) log(json ? eventToJson(event) : formatEvent(event));
}

/** Standard output is for what was asked for. */
function log(line: string): void {
  console.error(line);
}
