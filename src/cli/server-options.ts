/** `--server`: the flags by which a command that runs a guest is told to take its machine from a server elsewhere. */
import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { REMOTE_FILE, type RemoteFile, readRemoteFile } from '../inspector/remote-file.ts';
import { readNamed, type TokenFlags, tokenOf, tokenOfEnvironment } from './client-access.ts';
import { CommandFailure, UsageError } from './errors.ts';
import { type GuestMachine, localMachines, type MachineSource } from './machine-access.ts';
import { serverMachines } from './server-machine.ts';
import type { ServerPlace } from './server-place.ts';

export interface ServerFlags extends TokenFlags {
  readonly server?: string;
  readonly ca?: string;
  /** Seconds. */
  readonly grace?: number;
}

/** As the transport has it where nothing is said; QEMU by itself waits for five seconds. */
const DEFAULT_GRACE_SECONDS = 4;
const MAX_GRACE_SECONDS = 3600;
const URL_PATTERN = /^(wss?:\/\/|ws\+unix:)/;

/** What `--help` says about it, for the end of a command's examples. */
export const SERVER_EXAMPLES = `
With a server in another process, container or host ('viommu serve --on-demand'), which makes a machine for this guest:
  $ viommu serve --dir /run/viommu --on-demand &
  $ viommu COMMAND --server /run/viommu                                # a directory shared with the server
  $ VIOMMU_TOKEN=... viommu COMMAND --server wss://lab:7180 --ca ca.pem   # through a bridge in this process
`;

export function addServerOptions(command: Command): Command {
  return command
    .optionsGroup('The server:')
    .addOption(
      new Option(
        '--server <dir|url>',
        "take the machine from 'viommu serve --on-demand' there: a directory shared with it, or ws://HOST:PORT or wss://HOST:PORT",
      ).env('VIOMMU_SERVER'),
    )
    .option('--token <text>', 'the token that the server wants (default: VIOMMU_TOKEN, or that in the directory)')
    .option('--token-file <file>', 'a file with that token')
    .option('--ca <file>', 'certificates (PEM) to trust instead of those of the system, for wss://')
    .option(
      '--grace <seconds>',
      `how long a broken connection may take to come back, for ws:// and wss:// (default: ${DEFAULT_GRACE_SECONDS})`,
      graceUpTo(MAX_GRACE_SECONDS),
    )
    .optionsGroup('Options:');
}

/** Where the flags say that machines come from. Throws a UsageError or a CommandFailure. */
export function machineSource(flags: ServerFlags): MachineSource<GuestMachine> {
  const place = serverPlace(flags);
  return place === undefined ? localMachines : serverMachines(place);
}

/**
 * undefined: nothing is said of a server. A directory has its server's token: only one that was given by flags takes its place.
 * Throws a UsageError or a CommandFailure.
 */
export function serverPlace(flags: ServerFlags, environment: NodeJS.ProcessEnv = process.env): ServerPlace | undefined {
  const { server, grace } = flags;
  // A variable of the environment that is empty counts as one that is not there.
  if (server === undefined || server === '') {
    if (flags.tokenFile !== undefined || flags.ca !== undefined || grace !== undefined) {
      throw new UsageError('--token-file, --ca and --grace are about a server: say which, by --server DIR or URL');
    }
    return undefined;
  }
  const token = tokenOf(flags);
  const ca = flags.ca === undefined ? undefined : readNamed(flags.ca);
  if (URL_PATTERN.test(server)) {
    const known = token ?? tokenOfEnvironment(environment);
    return { kind: 'url', url: server, token: known, ca, graceMilliseconds: (grace ?? DEFAULT_GRACE_SECONDS) * 1000 };
  }
  if (server.includes('://')) {
    throw new UsageError(
      `'${server}' is no address of a server: write ws://HOST:PORT or wss://HOST:PORT, or a directory`,
    );
  }
  if (grace !== undefined) throw new UsageError('--grace is about ws:// and wss://: a unix socket does not break');
  const directory = resolve(server);
  const address = addressIn(directory, server);
  return { kind: 'directory', directory, url: address.url, token: token ?? address.token, ca };
}

function addressIn(directory: string, server: string): RemoteFile {
  let address: RemoteFile | undefined;
  try {
    address = readRemoteFile(directory);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const advice = code === 'EACCES' ? '. Run this command as the user that runs the server' : '';
    throw new CommandFailure(`cannot read ${directory}/${REMOTE_FILE}: ${message}${advice}`);
  }
  if (address !== undefined) return address;
  throw new CommandFailure(
    `no server is to be found in ${directory} (it has no ${REMOTE_FILE}): start 'viommu serve --dir ${server} --on-demand' first`,
  );
}

/** What `--grace` takes: seconds from 0 to `most`. */
export function graceUpTo(most: number): (text: string) => number {
  return text => {
    const seconds = Number(text);
    if (text.trim() !== '' && seconds >= 0 && seconds <= most) return seconds;
    throw new InvalidArgumentError(`It must be a number of seconds from 0 to ${most}.`);
  };
}
