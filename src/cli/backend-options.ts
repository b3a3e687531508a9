/** The options of a vfio-user backend program (vfio-user, section "Backend Program Conventions"). */
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Command, CommanderError } from 'commander';
import { checkDescription, DescriptionError, type MachineDescription, parseDevice } from '../machine/description.ts';
import { type GivenSocket, givenSocket } from '../posix/given-socket.ts';
import { SOCKET_PATH_LIMIT } from '../posix/socket.ts';
import { backendCapabilities, DEFAULT_KIND } from './backend-files.ts';
import { CommandFailure, UsageError } from './errors.ts';
import { type MachineFlags, withServing } from './machine-options.ts';
import type { SanitizeFlags } from './sanitize-options.ts';

export interface BackendFlags extends SanitizeFlags, Pick<MachineFlags, 'pollUs' | 'limit'> {
  readonly socketPath?: string;
  readonly fd?: string;
  readonly device?: string;
  readonly printDescription?: boolean;
  readonly binary?: string;
  readonly json?: boolean;
  readonly verbose?: boolean;
}

export const PRINT_CAPABILITIES = '--print-capabilities';
/** What every backend takes, and what is about this program's own output. */
const NO_FEATURES = new Set([
  '--socket-path',
  '--fd',
  PRINT_CAPABILITIES,
  '--print-description',
  '--binary',
  '--json',
  '--verbose',
  '--version',
]);
/** Standard input, output and error keep their meaning. */
const LAST_STANDARD_DESCRIPTOR = 2;
const MAX_DESCRIPTOR = 0x7fff_ffff;

/** A command whose `--print-capabilities` goes before everything else on its command line, be that right or wrong. */
export class BackendCommand extends Command {
  override parseOptions(words: string[]): ReturnType<Command['parseOptions']> {
    const end = words.indexOf('--');
    if (!(end < 0 ? words : words.slice(0, end)).includes(PRINT_CAPABILITIES)) return super.parseOptions(words);
    console.log(JSON.stringify(backendCapabilities(this.features)));
    throw new CommanderError(0, 'viommu.capabilities', 'the capabilities are printed');
  }

  private get features(): string[] {
    const names = this.options.map(({ long }) => long ?? '').filter(name => name !== '' && !NO_FEATURES.has(name));
    return names.map(name => name.replace(/^--/, ''));
  }
}

/**
 * Where clients come from: an absolute path, or a socket that this process was started with. Throws a UsageError for flags that do not say
 * it, a CommandFailure where it cannot be.
 */
export function backendPlace({ socketPath, fd }: Pick<BackendFlags, 'socketPath' | 'fd'>): string | GivenSocket {
  if (socketPath !== undefined && fd !== undefined) throw new UsageError('give --socket-path or --fd, not both');
  if (fd !== undefined) return placeOfDescriptor(fd);
  if (socketPath === undefined)
    throw new UsageError('say where clients come from, with --socket-path=PATH or --fd=FDNUM');
  if (socketPath === '') throw new UsageError('--socket-path needs a path');
  const path = resolve(socketPath);
  if (Buffer.byteLength(path) > SOCKET_PATH_LIMIT) {
    throw new UsageError(`the path of a socket has at most ${SOCKET_PATH_LIMIT} bytes: ${path}`);
  }
  if (!existsSync(dirname(path))) throw new CommandFailure(`there is no directory ${dirname(path)}: make it first`);
  return path;
}

function placeOfDescriptor(text: string): GivenSocket {
  const fd = Number(text);
  if (!/^[0-9]+$/.test(text) || fd > MAX_DESCRIPTOR) {
    throw new UsageError(`'${text}' is no file descriptor: write its number, as in --fd=3`);
  }
  if (fd <= LAST_STANDARD_DESCRIPTOR) {
    throw new UsageError(`--fd=${fd}: 0 to ${LAST_STANDARD_DESCRIPTOR} are standard input, output and error`);
  }
  try {
    return givenSocket(fd);
  } catch (error) {
    throw new CommandFailure(
      `--fd=${fd}: ${(error as Error).message}. It must be a unix stream socket, listening or connected`,
    );
  }
}

/** A machine of this one device and no IOMMU: `KIND[,OPTION=VALUE]...`. Throws a DescriptionError. */
export function backendMachine({ device = DEFAULT_KIND.kind, ...serving }: BackendFlags): MachineDescription {
  const [kind = '', ...options] = device.split(',');
  if (kind.includes('@')) {
    throw new DescriptionError(`'${device}': leave out the address, which the guest's command line says`);
  }
  // Nothing here looks at the address.
  const parsed = parseDevice([`${kind}@00.0`, ...options].join(','));
  const machine = checkDescription({ iommu: 'none', endpoints: [{ id: parsed.kind, ...parsed }] });
  return withServing(machine, serving);
}
