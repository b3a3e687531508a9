/** A machine of `viommu serve --on-demand` as commands that run a guest have it, with a test in place of QEMU. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
// The bridge has a thread, which runs compiled code.
import { CommandFailure } from '../../dist/src/cli/errors.js';
import type { MachineRequest, MachineSource } from '../../dist/src/cli/machine-access.js';
import { ServerMachine } from '../../dist/src/cli/server-machine.js';
import { machineSource } from '../../dist/src/cli/server-options.js';
import { RemoteMachine } from '../../src/inspector/remote-client.ts';
import { readRemoteFile } from '../../src/inspector/remote-file.ts';
import { describeMachine } from '../../src/machine/description.ts';
import { TestGuest } from '../../src/testing/guest.ts';
import { EventClass } from '../../src/trace/event-kinds.ts';
import { RecordCursor } from '../../src/trace/record-cursor.ts';
import { parsePolicy } from '../../src/trace/sanitizer/policy.ts';
import type { TraceEvent } from '../../src/trace/trace.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { type RunningProgram, startProgram } from '../support.ts';
import { CuttingProxy } from '../vfio-user/websocket/cutting-proxy.ts';

const NEVER_MAPPED = 0x55000n;
const SOON_MS = 10_000;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Server {
  readonly directory: string;
  readonly program: RunningProgram;
  readonly source: MachineSource;
}

async function serve(...flags: string[]): Promise<Server> {
  const { path: directory, remove } = temporaryDirectory();
  cleanups.push(remove);
  const program = startProgram(['serve', '--dir', directory, '--on-demand', ...flags]);
  cleanups.push(async () => {
    program.child.kill('SIGKILL');
    await program.ended;
  });
  await program.says(/^ready/m);
  return { directory, program, source: machineSource({ server: directory }) };
}

async function lease({ source, directory }: Server, more: Partial<MachineRequest> = {}): Promise<ServerMachine> {
  const description = describeMachine('vtd', ['edu@01:00.0', 'edu@02:00.0,id=nic']);
  const machine = await source.start({ description, directory, ...more });
  cleanups.push(() => machine.stop());
  expect(machine).toBeInstanceOf(ServerMachine);
  return machine as ServerMachine;
}

interface Proxied extends Server {
  readonly proxy: CuttingProxy;
}

/** The same by an address, behind a network that fails when it is told to. `grace`: seconds. */
async function serveBehindProxy(grace: number): Promise<Proxied> {
  const server = await serve('--listen', '127.0.0.1:0');
  const [, port] = /ws:\/\/127[^:]+:(\d+)/.exec(server.program.stdout()) ?? [];
  const proxy = await CuttingProxy.start({ port: Number(port) });
  cleanups.push(() => proxy.close());
  return { ...server, proxy, source: machineSource({ server: `ws://127.0.0.1:${proxy.port}`, grace }) };
}

/** Connects as QEMU does, and has a device use an address that was never mapped. */
async function misuse({ sockets }: Pick<ServerMachine, 'sockets'>): Promise<TestGuest> {
  const guest = new TestGuest(sockets);
  cleanups.push(() => guest.close());
  const vtd = guest.vtd();
  await vtd.attach('01:00.0', vtd.createDomain());
  use(guest, NEVER_MAPPED);
  return guest;
}

function use(guest: TestGuest, iova: bigint): void {
  const edu = guest.function('edu0');
  for (const [register, value] of [
    [0x80, 0x40000n],
    [0x88, iova],
    [0x90, 8n],
    [0x98, 3n],
  ] as const) {
    edu.write64(0, register, value);
  }
}

describe('a leased machine', () => {
  it('has its sockets in the shared directory, until it is given back', async () => {
    const server = await serve();
    const machine = await lease(server);
    expect(Object.keys(machine.sockets).sort()).toEqual(['edu0', 'iommu', 'nic']);
    for (const path of Object.values(machine.sockets)) {
      expect(path.startsWith(server.directory)).toBe(true);
      expect(existsSync(path)).toBe(true);
    }
    expect(machine.description.endpoints.map(({ id }) => id)).toEqual(['edu0', 'nic']);
    await machine.stop();
    await machine.ended;
    expect(readdirSync(server.directory).filter(name => /^m\d/.test(name))).toEqual([]);
  });

  it('tells events, findings and statistics, and what was found in all after the end', async () => {
    const machine = await lease(await serve());
    const events: TraceEvent[] = [];
    machine.on('event', event => events.push(event));
    const found = new Promise(resolve => machine.on('finding', resolve));
    const connected = machine.waitFor(({ kind, source }) => kind === 'client.connected' && source === 'edu0');
    await misuse(machine);
    expect(await connected).toMatchObject({ source: 'edu0' });
    expect(await found).toMatchObject({ id: 'F1', detector: 'never-mapped', iova: NEVER_MAPPED });
    expect(machine.toldFindings).toMatchObject([{ id: 'F1' }]);
    expect((await machine.statistics()).functions.edu0).toMatchObject({ connected: true });
    expect(await machine.findings()).toMatchObject({ state: 'on', findings: [{ id: 'F1' }] });
    await machine.stop();
    expect(await machine.findings()).toMatchObject({ state: 'on', findings: [{ id: 'F1' }], lost: 0 });
    expect(events.map(({ kind }) => kind)).not.toContain('finding');
    expect(machine.stoppedByFinding).toBe(false);
  });

  it('is recorded, up to its last record', async () => {
    const machine = await lease(await serve());
    const cursor = new RecordCursor();
    let count = 0;
    const tap = await machine.record(EventClass.dma | EventClass.finding, words => {
      cursor.load(words);
      while (cursor.next()) count++;
    });
    await misuse(machine);
    await vi.waitFor(() => expect(machine.toldFindings).toHaveLength(1), { timeout: SOON_MS });
    await machine.stop();
    tap.stop();
    expect(count).toBeGreaterThan(0);
    expect(machine.kinds.length).toBeGreaterThan(0);
  });

  it('looks for what its client says', async () => {
    const machine = await lease(await serve(), { sanitize: parsePolicy('off') });
    expect(await machine.findings()).toMatchObject({ state: 'off' });
  });

  it('is stopped by a finding that is to do so', async () => {
    const machine = await lease(await serve(), { sanitize: parsePolicy('never-mapped=stop') });
    await misuse(machine);
    await machine.ended;
    expect(machine.stoppedByFinding).toBe(true);
    await machine.stop();
    expect(await machine.findings()).toMatchObject({ findings: [{ id: 'F1', severity: 'stop' }] });
  });

  it('is lost with its server, and says so', async () => {
    const server = await serve();
    const machine = await lease(server);
    server.program.child.kill('SIGKILL');
    await expect(machine.ended).rejects.toThrow(CommandFailure);
    await expect(machine.ended).rejects.toThrow(`the server ${server.directory}: `);
    await expect(machine.statistics()).rejects.toThrow(/the machine is gone|connection is closed/);
    await expect(machine.waitFor(() => true)).rejects.toThrow(/the machine is gone/);
    await machine.stop();
    await expect(machine.findings()).rejects.toThrow(/the server is gone/);
  });

  it('is not one too many', async () => {
    const server = await serve('1');
    const first = await lease(server);
    await expect(lease(server)).rejects.toThrow(`the server ${server.directory} leases no machine: all 1 machines`);
    await first.stop();
    await lease(server);
  });

  it('needs the token where there is one', async () => {
    const server = await serve('--listen', '0.0.0.0:0');
    const [, port] = /ws:\/\/[^:]+:(\d+)/.exec(server.program.stdout()) ?? [];
    const source = machineSource({ server: `ws://127.0.0.1:${port}`, token: 'another' });
    const description = describeMachine('vtd', ['edu@01:00.0']);
    await expect(source.start({ description, directory: server.directory })).rejects.toThrow(/401 .*--token/s);
  });

  it('is not to be had where nobody serves any more', async () => {
    const server = await serve();
    server.program.child.kill('SIGKILL');
    await server.program.ended;
    await expect(lease(server)).rejects.toThrow(`Start it again: viommu serve --dir ${server.directory} --on-demand`);
    expect(existsSync(join(server.directory, 'remote.json'))).toBe(true);
  });
});

describe('a machine leased by an address', () => {
  const LONG = 20;
  const kindsOf = (machine: ServerMachine) => {
    const kinds: string[] = [];
    machine.on('event', ({ kind }) => kinds.push(kind));
    return kinds;
  };
  /** The guest is beside the server: it keeps this process, and with it the bridge, from all else while it waits. */
  const besideServer = ({ directory }: Server, { name, sockets }: ServerMachine) => {
    const ids = Object.keys(sockets);
    return { sockets: Object.fromEntries(ids.map(id => [id, join(directory, name!, `${id}.sock`)])) };
  };
  const leaseKinds = (kinds: readonly string[]) => kinds.filter(kind => kind.startsWith('lease.'));

  it('goes on when its connection is cut, again and again', async () => {
    const server = await serveBehindProxy(LONG);
    const machine = await lease(server);
    const kinds = kindsOf(machine);
    await misuse(besideServer(server, machine));
    for (let round = 1; round <= 3; round++) {
      server.proxy.cut();
      expect((await machine.statistics()).functions.edu0).toMatchObject({ connected: true });
    }
    expect(leaseKinds(kinds)).toEqual(Array(3).fill(['lease.lost', 'lease.resumed']).flat());
    await machine.stop();
    expect(await machine.findings()).toMatchObject({ state: 'on', findings: [{ id: 'F1' }] });
    await machine.ended;
    expect(server.program.stdout()).toMatch(/lease\.lost.*lease\.resumed/s);
  });

  it('tells what was found meanwhile, once, and how much of its recording is lost', async () => {
    const server = await serveBehindProxy(LONG);
    const machine = await lease(server);
    const kinds = kindsOf(machine);
    const found: string[] = [];
    machine.on('finding', ({ id }) => found.push(id));
    let lost = 0;
    await machine.record(
      EventClass.dma | EventClass.finding,
      () => {},
      batches => {
        lost += batches;
      },
    );
    const guest = await misuse(besideServer(server, machine));
    await vi.waitFor(() => expect(found).toEqual(['F1']), { timeout: SOON_MS });
    // The server's report of what it sends into the void is not to come back.
    server.proxy.swallow();
    use(guest, NEVER_MAPPED + 0x10000n);
    const address = readRemoteFile(server.directory)!;
    const onlooker = await RemoteMachine.connect(address.url, { machine: machine.name });
    cleanups.push(() => onlooker.close());
    server.proxy.cut();
    server.proxy.swallow(false);
    await vi.waitFor(async () => expect((await onlooker.findings()).findings).toHaveLength(2), { timeout: SOON_MS });
    await vi.waitFor(() => expect(found).toEqual(['F1', 'F2']), { timeout: SOON_MS });
    server.proxy.cut();
    await machine.statistics();
    expect(found).toEqual(['F1', 'F2']);
    expect(leaseKinds(kinds).length).toBeGreaterThanOrEqual(4);
    await vi.waitFor(() => expect(lost).toBeGreaterThan(0), { timeout: SOON_MS });
  });

  it('is lost, and says so, when its server is killed and the grace is over', async () => {
    const server = await serveBehindProxy(0.5);
    const machine = await lease(server);
    server.program.child.kill('SIGKILL');
    await expect(machine.ended).rejects.toThrow(CommandFailure);
    await expect(machine.ended).rejects.toThrow(/the machine is gone/);
    await machine.stop();
    await expect(machine.findings()).rejects.toThrow(/the server is gone/);
  });

  it('is lost where the network stays silent for longer than the grace', async () => {
    const server = await serveBehindProxy(0.5);
    const machine = await lease(server);
    server.proxy.swallow();
    await expect(machine.ended).rejects.toThrow(/did not come back within 500 ms/);
    await machine.stop();
    await server.program.says(/lease\.expired/);
    await server.program.says(/machine\.released/);
  });

  it('is given back at once when its user ends it', async () => {
    const server = await serveBehindProxy(LONG);
    const machine = await lease(server);
    await machine.stop();
    await server.program.says(/machine\.released/);
    expect(server.program.stdout()).not.toMatch(/lease\.lost/);
  });
});
