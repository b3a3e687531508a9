/** `viommu inspect`: the inspector's page for a recorded file, or for a server that runs elsewhere. */
import { type Command, InvalidArgumentError } from 'commander';
import { AccessError, parseListen } from '../inspector/access.ts';
import { MachineMirror } from '../inspector/machine-mirror.ts';
import { RECORDING_NAME, RecordingPort } from '../inspector/recording-port.ts';
import type { RemoteMachine } from '../inspector/remote-client.ts';
import { CommandFailure, UsageError } from './errors.ts';
import { catchInterrupt, type Interruption } from './interrupt.ts';
import { complaints, withRecording } from './recording-options.ts';
import { addServerOptions, type ServerFlags, withServer } from './remote-access.ts';
import { type ServedRemote, serveAt, serveMachines } from './serve-remote.ts';

interface InspectFlags extends ServerFlags {
  readonly listen?: string;
  readonly port?: string;
  readonly json?: boolean;
}

const ANY_PORT = '0';

const EXAMPLES = `
Nothing leaves this machine: the page and the file are served on 127.0.0.1 unless you say otherwise, and until Ctrl-C. A running machine
has its page by 'viommu serve --inspect' or 'viommu boot --inspect', too.

Examples:
  Look at a file of 'viommu record' or 'viommu serve --record':
    $ viommu inspect run.viommu
  Look at all machines of a running server, as they come and go:
    $ viommu inspect --dir /tmp/m
  The same of a server on another host:
    $ viommu inspect --connect wss://server:7180 --ca ca.pem --token-file token
  The same at an address that other machines reach; the URL that is printed holds the token that they need:
    $ viommu inspect run.viommu --listen 0.0.0.0:8123
`;

export function addInspect(program: Command): void {
  const command = program
    .command('inspect')
    .description('look at a recorded file, or at the machines of a running server, in a browser')
    .argument('[file]', "a file of 'viommu record' or 'viommu serve --record'");
  addServerOptions(command)
    .option(
      '--listen <[host:]port>',
      'serve the page there; 127.0.0.1 unless said otherwise, port 0: any free one (default)',
      checkPlace,
    )
    .option('--port <[host:]port>', 'the same', checkPlace)
    .option('--json', 'print the address as JSON')
    .addHelpText('after', EXAMPLES)
    .action(inspect);
}

async function inspect(file: string | undefined, flags: InspectFlags): Promise<void> {
  if (file !== undefined && flags.connect !== undefined) {
    throw new UsageError('give a file, or the server with --connect: not both');
  }
  const interruption = catchInterrupt();
  try {
    // The directory may come from the environment.
    if (file === undefined) await withServer(flags, server => inspectServer(server, flags, interruption));
    else await inspectFile(file, flags, interruption);
  } finally {
    interruption.stop();
  }
}

async function inspectFile(file: string, flags: InspectFlags, interruption: Interruption): Promise<void> {
  await withRecording(file, async reader => {
    for (const complaint of complaints(reader)) console.error(`viommu: ${complaint}`);
    const port = new RecordingPort(reader);
    const served = await serveAt(placeFrom(flags), port, { page: true, name: RECORDING_NAME });
    try {
      sayReady(served, flags);
      await interruption.signalled;
    } finally {
      port.close();
      await served.close();
    }
  });
}

async function inspectServer(server: RemoteMachine, flags: InspectFlags, interruption: Interruption): Promise<void> {
  const served = await serveMachines([placeFrom(flags)], new Map(), { page: true });
  try {
    await MachineMirror.start(server, served.server, error => console.error(`viommu: ${(error as Error).message}`));
    sayReady(served, flags);
    const gone = await Promise.race([interruption.signalled, server.closed]);
    if (gone instanceof Error) throw new CommandFailure(`the server that was looked at is gone: ${gone.message}`);
  } finally {
    await served.close();
  }
}

function sayReady({ url, pageUrl }: ServedRemote, { json }: InspectFlags): void {
  console.log(json ? JSON.stringify({ kind: 'ready', remote: url, page: pageUrl }) : pageUrl);
}

function placeFrom({ listen, port }: InspectFlags): string {
  if (listen !== undefined && port !== undefined && listen !== port) {
    throw new UsageError('--port is another name of --listen: leave one of them out');
  }
  return listen ?? port ?? ANY_PORT;
}

/** Commander shows what it throws beside the option's name. */
function checkPlace(text: string): string {
  try {
    parseListen(text);
    return text;
  } catch (error) {
    throw error instanceof AccessError ? new InvalidArgumentError(error.message) : error;
  }
}
