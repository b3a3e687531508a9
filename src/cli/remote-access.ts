/** How a command reaches a running server, and shows what it answers. */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { Named } from '../inspector/protocol.ts';
import { RemoteError } from '../inspector/protocol.ts';
import { ConnectionError, RemoteMachine } from '../inspector/remote-client.ts';
import { REMOTE_FILE, type RemoteAddress, readRemoteFile } from '../inspector/remote-file.ts';
import type { Answer } from '../iommu/dma-iommu/operations.ts';
import { readNamed, type TokenFlags, tokenOf, tokenOfEnvironment } from './client-access.ts';
import { CommandFailure, ExitStatus, UsageError } from './errors.ts';

/** Which server is meant. */
export interface ServerFlags extends Pick<TokenFlags, 'tokenFile'> {
  readonly dir?: string;
  readonly connect?: string;
  readonly ca?: string;
}

export interface RemoteFlags extends ServerFlags {
  readonly machine?: string;
  readonly json?: boolean;
}

/** Where a command's output goes; tests have their own. */
export interface Terminal {
  print(line: string): void;
  /** The command did what it was asked, and the answer is no. */
  fail(): void;
}

export const processTerminal: Terminal = {
  print: line => console.log(line),
  fail: () => {
    process.exitCode = ExitStatus.failed;
  },
};

export function addServerOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--dir <directory>', "the directory of 'viommu serve --listen', where the address is").env(
        'VIOMMU_DIR',
      ),
    )
    .option('--connect <url>', 'the address instead, e.g. ws://127.0.0.1:8123')
    .option('--token-file <file>', 'a file with the token that the server wants (default: VIOMMU_TOKEN)')
    .option('--ca <file>', "for wss: certificates (PEM) to trust instead of the system's");
}

export function addRemoteOptions(command: Command): Command {
  return addServerOptions(command)
    .option('--machine <name>', 'which machine of the server, where it has several')
    .option('--json', 'print JSON; 64-bit numbers as hexadecimal text');
}

/** Connects, does it, and disconnects. What went wrong on the way becomes a message for the user. */
export async function withMachine<T>(flags: RemoteFlags, use: (machine: RemoteMachine) => Promise<T>): Promise<T> {
  return await withServer(flags, use, flags.machine);
}

/** The same for a server, whichever machines it has. */
export async function withServer<T>(
  flags: ServerFlags,
  use: (server: RemoteMachine) => Promise<T>,
  machine?: string,
): Promise<T> {
  const { url, token } = addressFrom(flags);
  const ca = flags.ca === undefined ? undefined : readNamed(flags.ca);
  try {
    const server = await RemoteMachine.connect(url, { token, ca, machine });
    try {
      return await use(server);
    } finally {
      await server.close();
    }
  } catch (error) {
    if (error instanceof RemoteError && error.code === 'bad-arguments') throw new UsageError(error.message);
    if (error instanceof RemoteError || error instanceof ConnectionError) throw new CommandFailure(error.message);
    throw error;
  }
}

/** Where the flags say that the server is, with the token if one is known. Throws a `UsageError`. */
export function addressFrom(flags: ServerFlags): RemoteAddress {
  const token = tokenOf(flags);
  // An address that was given beats a directory that may come from the environment.
  if (flags.connect !== undefined) return { url: flags.connect, token: token ?? tokenOfEnvironment() };
  if (flags.dir === undefined) {
    throw new UsageError("say which server: --dir DIR of 'viommu serve --listen', or --connect ws://HOST:PORT");
  }
  const address = readRemoteFile(resolve(flags.dir));
  if (!address) {
    throw new UsageError(
      `there is no ${REMOTE_FILE} in ${flags.dir}: start 'viommu serve --dir ${flags.dir} --listen 0' first`,
    );
  }
  return { url: address.url, token: token ?? address.token };
}

/** The status' name first, then one line for each output. Not a success: exit status 1. */
export function showAnswer(terminal: Terminal, flags: RemoteFlags, answer: Named<Answer>): void {
  if (flags.json) terminal.print(toJson(answer));
  else {
    const { status: _, statusName, ...outputs } = answer;
    terminal.print(statusName);
    for (const [name, value] of Object.entries(outputs)) terminal.print(`  ${name} ${formatValue(value)}`);
  }
  if (answer.status !== 0) terminal.fail();
}

/** JSON has no 64-bit integers: they become hexadecimal text. */
export function toJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, (_name, one) => (typeof one === 'bigint' ? formatValue(one) : one), indent);
}

export function formatValue(value: unknown): string {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  return typeof value === 'object' ? toJson(value) : String(value);
}
