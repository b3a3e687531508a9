/** QEMUs that are killed while devices work, or before they have begun: the server goes on with the next one. */
import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { readRegisterBase } from '../../qemu/acpi/dmar.ts';
import { connectionArguments, memoryArguments } from '../../qemu/command-line.ts';
import { provisionQemu } from '../../qemu/provision.ts';
import { topologyOf } from '../../src/cli/topology.ts';
import { RemoteMachine } from '../../src/inspector/remote-client.ts';
import { checkDescription, type MachineDescription } from '../../src/machine/description.ts';
import { footprint, type ProcessFootprint, type RunningProgram, runProgram, startProgram } from '../support.ts';
import { READY_TIMEOUT_MS, type ServedGuest, startGuestOn, temporaryDirectory } from './support.ts';

/** More of them by command, with the whole demo: `VIOMMU_KILLS=100 npx vitest run --project guest test/guest/killed-qemu.test.ts`. */
const BY_COMMAND = process.env.VIOMMU_KILLS !== undefined;
const KILLS = Number(process.env.VIOMMU_KILLS ?? 5);
/** The first guests fill pools and let the compiler settle. */
const WARM_UP = 3;
/** Garbage not yet collected, in KiB. */
const RESIDENT_SLACK_KIB = 24 * 1024;
/** Of the process: JavaScript's own heap comes and goes. */
const MAPPINGS_SLACK = 32;
const COMMAND_TIMEOUT_MS = 120_000;
const PATIENCE_MS = 30_000;
/** Transfers of each device after which QEMU is killed: each time at another moment. */
const TRANSFERS = 20;
const TRANSFERS_MORE = 7;
const ENDPOINTS = ['edu0', 'edu1'] as const;
/** Each QEMU's first message is longer than its header. */
const HEADER_BYTES = 16;

/** Without faults made on purpose: then whatever else the sanitizer finds is a mistake. */
const CASES = ['device-reads', 'device-writes', 'remap', 'msi'];
const SELECTION = BY_COMMAND ? '' : CASES.map(name => `--case ${name}`).join(' ');

interface Statistics {
  readonly functions: Readonly<Record<string, { readonly dma?: { readonly reads: number; readonly writes: number } }>>;
}

describe('a server whose QEMUs are killed', () => {
  const directory = temporaryDirectory();
  let server: RunningProgram;
  let remote: RemoteMachine;
  let description: MachineDescription;
  let address: bigint;
  let idle: ProcessFootprint;
  let guest: ServedGuest | undefined;
  const footprints: ProcessFootprint[] = [];

  beforeAll(async () => {
    const devices = ['--device', 'edu@01:00.0', '--device', 'edu@02:00.0'];
    server = startProgram(['serve', '--dir', directory.path, '--listen', 'unix', ...devices]);
    await server.says(/^ready/m);
    const { url, token } = JSON.parse(readFileSync(join(directory.path, 'remote.json'), 'utf8'));
    remote = await RemoteMachine.connect(url, { token });
    // Before any QEMU has connected.
    idle = footprint(server.pid);
    const args = await runProgram(['qemu-args', '--dir', directory.path]);
    expect(args.status, args.stderr).toBe(0);
    address = readRegisterBase(readFileSync(join(directory.path, 'dmar.aml')));
    description = checkDescription(JSON.parse(readFileSync(join(directory.path, 'machine.json'), 'utf8')));
  });

  afterAll(async () => {
    guest?.agent.close();
    await guest?.qemu.quit();
    await remote?.close();
    server?.child.kill('SIGTERM');
    await server?.ended;
    directory.remove();
  });

  async function transfers(): Promise<number[]> {
    const { functions } = (await remote.statistics()) as unknown as Statistics;
    return ENDPOINTS.map(name => functions[name]!.dma!.reads + functions[name]!.dma!.writes);
  }

  async function boot(): Promise<ServedGuest> {
    guest = await startGuestOn(directory.path, description, address);
    return guest;
  }

  async function demo({ agent }: ServedGuest): Promise<void> {
    const { status, output } = await agent.run(`dma-demo ${SELECTION}`, { timeoutMs: COMMAND_TIMEOUT_MS });
    expect(status, output.join('\n')).toBe(0);
  }

  /** Nothing of the guests is left in the server. */
  async function settle(): Promise<void> {
    // It learns of the end by its sockets, a moment later.
    await expect.poll(() => footprint(server.pid).descriptors, { timeout: PATIENCE_MS }).toBe(idle.descriptors);
    expect(footprint(server.pid).guestMappings).toBe(0);
  }

  it(`serves the next one ${KILLS} times after SIGKILL in the middle of DMA, and nothing grows`, {
    timeout: 60_000 + KILLS * 120_000,
  }, async () => {
    for (let kill = 1; kill <= KILLS; kill++) {
      const { agent, qemu } = await boot();
      await demo({ agent, qemu });
      const before = await transfers();
      await agent.run('dma-soak --seconds 1000 >/dev/null 2>&1 &');
      const wanted = TRANSFERS + kill * TRANSFERS_MORE;
      const seen = async () => (await transfers()).map((count, index) => count - before[index]!);
      await vi.waitFor(async () => expect(Math.min(...(await seen()))).toBeGreaterThan(wanted), {
        timeout: PATIENCE_MS,
        interval: 20,
      });
      process.kill(qemu.pid, 'SIGKILL');
      expect((await qemu.exit).signal).toBe('SIGKILL');
      agent.close();
      await settle();
      footprints.push(footprint(server.pid));
    }
    const settled = footprints[Math.min(WARM_UP, KILLS) - 1]!;
    const last = footprints[KILLS - 1]!;
    console.log(`footprint after ${WARM_UP} kills`, settled, `after ${KILLS}`, last);
    // A leak would be one a kill at least.
    expect(last.mappings).toBeLessThan(settled.mappings + Math.max(MAPPINGS_SLACK, KILLS - WARM_UP));
    expect(last.residentKiB).toBeLessThan(settled.residentKiB + RESIDENT_SLACK_KIB);
  });

  it.each([
    ['right after its first message', (message: Buffer) => message],
    ['within its first message', (message: Buffer) => message.subarray(0, message.length >>> 1)],
    ['within the header of it', (message: Buffer) => message.subarray(0, HEADER_BYTES >>> 1)],
  ])('is ready for the next one when QEMU ends %s', async (_, cut) => {
    const message = await firstMessageOfKilledQemu();
    expect(message.length).toBeGreaterThan(HEADER_BYTES);
    const socket = createConnection(join(directory.path, 'iommu.sock'));
    socket.end(cut(message));
    await new Promise((resolve, reject) => socket.once('close', resolve).once('error', reject).resume());
    await settle();
  });

  /** What QEMU says to the IOMMU's function before it is killed for it. */
  async function firstMessageOfKilledQemu(): Promise<Buffer> {
    const path = join(directory.path, 'first.sock');
    const installation = await provisionQemu({ progress: () => {} });
    const topology = topologyOf(description);
    const endpointSockets = Object.fromEntries(ENDPOINTS.map(name => [name, join(directory.path, `${name}.sock`)]));
    const listener = createServer();
    await new Promise<void>(resolve => listener.listen(path, resolve));
    const qemu = spawn(
      installation.argv[0]!,
      [
        ...installation.argv.slice(1),
        ...['-no-user-config', '-nodefaults', '-display', 'none', '-accel', 'tcg'],
        ...memoryArguments({ memory: 'shared' }),
        ...connectionArguments(topology, { iommuSocket: path, endpointSockets }),
      ],
      { stdio: 'ignore' },
    );
    const ended = new Promise<NodeJS.Signals | null>(resolve => qemu.once('close', (_, signal) => resolve(signal)));
    try {
      return await new Promise<Buffer>((resolve, reject) => {
        void ended.then(() => reject(new Error('QEMU ended without a word')));
        listener.once('connection', socket => {
          socket.on('error', () => {});
          socket.once('data', message => {
            qemu.kill('SIGKILL');
            resolve(message);
          });
        });
      });
    } finally {
      qemu.kill('SIGKILL');
      expect(await ended).toBe('SIGKILL');
      listener.close();
      rmSync(path, { force: true });
    }
  }

  it('serves a guest after all that, and again after its reboot', async () => {
    const { agent, qemu } = await boot();
    await demo({ agent, qemu });
    await agent.reboot(READY_TIMEOUT_MS);
    await demo({ agent, qemu });
    agent.close();
    await qemu.quit();
    await settle();
  });

  it('has seen no mistake in what the guests did, and nothing go wrong of its own', async () => {
    await remote.close();
    server.child.kill('SIGTERM');
    const { status, stdout, stderr } = await server.ended;
    expect(stdout).not.toMatch(/internal\./);
    const found = [...stderr.matchAll(/^F\d+ ([a-z-]+):/gm)].map(match => match[1]);
    // What a guest had mapped when it was killed: the sanitizer cannot know that its kernel had no time to clean up.
    if (!BY_COMMAND) expect(found.filter(detector => detector !== 'mapping-leak')).toEqual([]);
    expect(status).toBe(0);
  });
});
