/** `viommu bridge`: vfio-user sockets beside a QEMU whose server is elsewhere. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { Bridge, type BridgeStatistics } from '../bridge/bridge.ts';
import { RemoteError } from '../inspector/protocol.ts';
import { ConnectionError, RemoteMachine } from '../inspector/remote-client.ts';
import { checkDescription, DescriptionError, type MachineDescription } from '../machine/description.ts';
import { IOMMU_ID } from '../machine/machine.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { readNamed, tokenOf } from './client-access.ts';
import { CommandFailure, UsageError } from './errors.ts';
import { eventToJson, formatEvent, isNotable, printable } from './event-printer.ts';
import { catchInterrupt, Interrupted, type Interruption, unlessInterrupted } from './interrupt.ts';
import { MACHINE_FILE } from './serve-directory.ts';
import { graceUpTo } from './server-options.ts';

interface BridgeFlags {
  readonly dir: string;
  readonly connect: string;
  readonly machine?: string;
  readonly lease?: boolean;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly ca?: string;
  readonly grace?: number;
  readonly json?: boolean;
  readonly verbose?: boolean;
}

interface Access {
  readonly token: string | undefined;
  readonly ca: Buffer | undefined;
}

/** The machine behind the bridge. */
interface BridgedMachine {
  readonly name: string;
  readonly description: MachineDescription;
  /** Resolves with the reason where it ends before the bridge does. */
  readonly ended: Promise<string>;
  release(): Promise<void>;
}

/** Beyond it the server's own DMA gives up. */
const MAX_GRACE_SECONDS = 25;
/** Milliseconds that an interrupted bridge waits for a machine that it has asked for, to give it back. */
const RELEASE_PATIENCE = 2000;
/** As the links have it. */
const DEFAULT_GRACE_SECONDS = 4;

const EXAMPLES = `
QEMU keeps its guest's memory here: the bridge maps it and answers the server's DMA from it, and signals the guest's interrupts.
A link that breaks and comes back within the grace time goes on without loss; after it the device is lost, and QEMU says so.

Examples:
  On the server's host, a machine for the network, with its token in /tmp/m/remote.json:
    $ viommu serve --dir /tmp/m --device edu@01:00.0 --listen 0.0.0.0:7180
  Beside QEMU, on another host or in another container:
    $ viommu bridge --dir /tmp/b --connect ws://lab:7180 --token-file token.txt
    $ qemu-system-x86_64 -nodefaults -nographic -serial mon:stdio $(viommu qemu-args --dir /tmp/b) -kernel vmlinuz ...
  A server that makes machines on demand, over TLS with a certificate of its own:
    $ VIOMMU_TOKEN=... viommu bridge --dir /tmp/b --connect wss://lab:7180 --ca cert.pem --lease
  Links that may be away for 20 seconds; QEMU must be as patient:
    $ viommu bridge --dir /tmp/b --connect ws://lab:7180 --grace 20
    $ qemu-system-x86_64 -global vfio-user-pci.x-msg-timeout=30000 ...
`;

export function addBridge(program: Command): void {
  program
    .command('bridge')
    .description('serve a machine of a server elsewhere to a QEMU on this host, over WebSockets')
    .requiredOption('--dir <directory>', 'where the sockets for QEMU are made (created if missing)')
    .requiredOption('--connect <url>', 'the server: ws://HOST:PORT, wss://HOST:PORT or ws+unix:/PATH.sock:/')
    .option('--machine <name>', 'which machine of the server, where it has several')
    .option(
      '--lease',
      "have a server that was started with 'viommu serve --on-demand' make a machine while the bridge runs",
    )
    .addOption(new Option('--token <text>', 'the token that the server wants').env('VIOMMU_TOKEN'))
    .option('--token-file <file>', 'a file with that token: nobody sees it in the list of processes')
    .option('--ca <file>', 'certificates (PEM) to trust instead of those of the system, for wss://')
    .option(
      '--grace <seconds>',
      'how long a broken link may take to come back (default: 4)',
      graceUpTo(MAX_GRACE_SECONDS),
    )
    .option('--json', 'print events as JSON lines')
    .option('--verbose', 'print every event, not only links and clients')
    .addHelpText('after', EXAMPLES)
    .action(bridge);
}

async function bridge(flags: BridgeFlags): Promise<void> {
  const directory = resolve(flags.dir);
  const access = { token: tokenOf(flags), ca: flags.ca === undefined ? undefined : readNamed(flags.ca) };
  const interruption = catchInterrupt();
  try {
    const machine = await findUnlessInterrupted(interruption, flags, access);
    try {
      mkdirSync(directory, { recursive: true });
      const running = await startBridge(flags, access, directory, machine);
      const machineFile = join(directory, MACHINE_FILE);
      try {
        writeFileSync(machineFile, `${JSON.stringify(machine.description, undefined, 2)}\n`);
        sayReady(running, machine, flags);
        const ending = await Promise.race([
          interruption.signalled.then(() => undefined),
          running.ended,
          machine.ended.then(reason => `the machine '${machine.name}' is gone: ${reason}`),
        ]);
        if (ending !== undefined) throw new CommandFailure(printable(ending));
      } finally {
        rmSync(machineFile, { force: true });
        await running.close();
        sayEnd(await running.statistics(), flags);
      }
    } finally {
      await machine.release();
    }
  } finally {
    interruption.stop();
  }
}

/** A machine that is leased after the signal is given back: its server would keep it for the grace time. */
async function findUnlessInterrupted(
  interruption: Interruption,
  flags: BridgeFlags,
  access: Access,
): Promise<BridgedMachine> {
  const found = findMachine(flags, access);
  try {
    return await unlessInterrupted(interruption, found);
  } catch (error) {
    if (error instanceof Interrupted && flags.lease) {
      // Where none comes there is none to give back.
      const released = found.then(machine => machine.release()).catch(() => {});
      await Promise.race([released, wait(RELEASE_PATIENCE)]);
    }
    throw error;
  }
}

async function startBridge(
  flags: BridgeFlags,
  { token, ca }: Access,
  directory: string,
  { name, description }: BridgedMachine,
): Promise<Bridge> {
  const { iommu, endpoints } = description;
  try {
    return await Bridge.start({
      directory,
      url: flags.connect,
      machine: name,
      functions: [...(iommu.kind === 'none' ? [] : [IOMMU_ID]), ...endpoints.map(({ id }) => id)],
      token,
      ca,
      graceMilliseconds: flags.grace === undefined ? undefined : flags.grace * 1000,
      onEvent: event => printEvent(event, flags),
    });
  } catch (error) {
    throw new CommandFailure((error as Error).message);
  }
}

async function findMachine(
  { connect, machine: wanted, lease, grace }: BridgeFlags,
  access: Access,
): Promise<BridgedMachine> {
  if (lease && wanted !== undefined) throw new UsageError('--lease makes a machine of its own: leave out --machine');
  try {
    if (lease) {
      const graceMilliseconds = (grace ?? DEFAULT_GRACE_SECONDS) * 1000;
      const leased = await RemoteMachine.lease(connect, { ...access, graceMilliseconds });
      const { machine, ended } = leased;
      const release = async () => {
        await leased.release();
      };
      let description: MachineDescription;
      try {
        description = checkDescription(leased.description);
      } catch (error) {
        await release();
        throw error;
      }
      return { name: machine.name!, description, ended: ended.then(({ reason }) => reason ?? 'it ended'), release };
    }
    const server = await RemoteMachine.connect(connect, access);
    try {
      const name = chooseMachine(await server.machines(), wanted);
      const { description } = await server.at(name).describe();
      return { name, description: checkDescription(description), ended: never(), release: async () => {} };
    } finally {
      await server.close();
    }
  } catch (error) {
    if (error instanceof ConnectionError) {
      throw new CommandFailure(`${printable(error.message)}${advice(error.message)}`);
    }
    if (error instanceof RemoteError) throw new CommandFailure(`${connect} refused: ${printable(error.message)}`);
    if (error instanceof DescriptionError) {
      const why = printable(error.message);
      throw new CommandFailure(
        `${connect} describes a machine that this bridge does not know: ${why}. Do both have the same version?`,
      );
    }
    throw error;
  }
}

function chooseMachine(machines: readonly string[], wanted: string | undefined): string {
  if (wanted !== undefined && machines.includes(wanted)) return wanted;
  if (machines.length === 0) {
    throw new CommandFailure('the server has no machine: add --lease if it was started with --on-demand');
  }
  const names = printable(machines.join(', '));
  if (wanted !== undefined) throw new UsageError(`the server has no machine '${wanted}', but ${names}`);
  if (machines.length > 1) throw new UsageError(`the server has several machines: say --machine, one of ${names}`);
  return machines[0]!;
}

function advice(message: string): string {
  if (/refused: 401/.test(message)) {
    return ". Give the token that is in the remote.json of the server's directory: --token-file FILE or VIOMMU_TOKEN";
  }
  if (/certificate|self.signed/i.test(message)) return '. Give the certificate to trust: --ca FILE';
  return ". Does 'viommu serve --listen HOST:PORT' run there, and can it be reached from here?";
}

function sayReady({ sockets }: Bridge, { name }: BridgedMachine, flags: BridgeFlags): void {
  if (flags.json) console.log(JSON.stringify({ kind: 'ready', machine: name, server: flags.connect, sockets }));
  else
    console.log(
      [`ready: ${printable(name)} of ${flags.connect}`, ...Object.values(sockets).map(path => `  ${path}`)].join('\n'),
    );
}

function sayEnd({ functions }: BridgeStatistics, flags: BridgeFlags): void {
  if (flags.json) {
    console.log(JSON.stringify({ kind: 'ended', functions }));
    return;
  }
  for (const [name, one] of Object.entries(functions)) {
    if (one.clients === 0) continue;
    console.log(
      `${name}: ${one.fromQemu.messages} messages from QEMU, ${one.fromServer.messages} from the server, ` +
        `${one.dmaBytesRead} bytes of DMA out of and ${one.dmaBytesWritten} into guest memory, ${one.interrupts} interrupts, ` +
        `${one.reconnections} reconnections`,
    );
  }
}

function printEvent(event: TraceEvent, flags: BridgeFlags): void {
  const notable = isNotable(event) || event.kind.startsWith('link.');
  if (flags.verbose || notable) console.log(flags.json ? eventToJson(event) : formatEvent(event));
}

function never(): Promise<string> {
  return new Promise(() => {});
}
