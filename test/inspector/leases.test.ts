/** Machines on demand, with device threads of their own. */
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { type LeaseOptions, Leases } from '../../dist/src/inspector/leases.js';
import type { RemoteServer } from '../../dist/src/inspector/remote-server.js';
// The device thread is a worker, which runs compiled code.
import { RemoteServer as CompiledServer } from '../../dist/src/inspector/remote-server.js';
import { attachMachine } from '../../dist/src/testing/machine.js';
import { encodeMessage } from '../../src/inspector/codec.ts';
import type { RemoteEvent } from '../../src/inspector/protocol.ts';
import { type LeasedMachine, RemoteMachine } from '../../src/inspector/remote-client.ts';
import { describeMachine } from '../../src/machine/description.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { connect as connectGuest, NEVER_MAPPED } from '../testing/support.ts';
import { connect, later, rawClient } from './support.ts';

/** A busy machine may take its time to start and end threads. */
const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 20_000 });

const standard = describeMachine('vtd', ['edu@01:00.0']);

interface OnDemand {
  readonly server: RemoteServer;
  readonly leases: Leases;
  readonly url: string;
  readonly directory: string;
}

async function serveOnDemand(options: Partial<LeaseOptions> = {}): Promise<OnDemand> {
  const { path: directory, remove } = temporaryDirectory();
  later(remove);
  let leases: Leases | undefined;
  const server = await CompiledServer.start({
    leases: shelf => {
      leases = new Leases({ directory, shelf, description: standard, ...options });
      return leases;
    },
  });
  later(() => server.close());
  return { server, leases: leases!, url: server.url, directory };
}

async function lease(url: string, options: Parameters<typeof RemoteMachine.lease>[1] = {}): Promise<LeasedMachine> {
  const leased = await RemoteMachine.lease(url, options);
  later(() => leased.machine.close());
  return leased;
}

describe('a lease', () => {
  it('gives a machine of its own in a directory that only its owner can enter', async () => {
    const { url, directory, server } = await serveOnDemand();
    const description = describeMachine('none', ['edu@02:00.0,id=nic']);
    const leased = await lease(url, { description });
    expect(leased.sockets).toEqual({ nic: 'm1/nic.sock' });
    expect(leased.description).toEqual(description);
    expect(leased.machine.name).toBe('m1');
    expect(statSync(join(directory, 'm1')).mode & 0o777).toBe(0o700);
    const socket = statSync(join(directory, leased.sockets.nic!));
    expect([socket.isSocket(), socket.mode & 0o777]).toEqual([true, 0o600]);
    expect((await leased.machine.inspect()).functions.map(({ name }) => name)).toEqual(['nic']);
    expect(server.machines).toEqual(['m1']);
  });

  it('gives what the server makes where nothing is said', async () => {
    const { url } = await serveOnDemand();
    const { description, sockets } = await lease(url);
    expect(description).toEqual(standard);
    expect(Object.keys(sockets)).toEqual(['iommu', 'edu0']);
  });

  it('has the limits of the server, or lower ones', async () => {
    const own = { maxDmaMaps: 100, dmaTimeout: 5000 };
    const { url, directory } = await serveOnDemand({ description: { ...standard, limits: own } });
    expect((await lease(url)).description.limits).toEqual(own);
    const asked = { ...describeMachine('none', ['edu@02:00.0']), limits: { maxDmaMaps: 1 } };
    const { description, sockets } = await lease(url, { description: asked });
    expect(description).toEqual({ ...asked, limits: { maxDmaMaps: 1, dmaTimeout: 5000 } });
    const loop = new EventLoop(error => {
      throw error;
    });
    const client = new VfioUserClient(loop, join(directory, sockets.edu0!));
    later(() => {
      client.close();
      loop.close();
    });
    client.negotiate();
    const region = { size: 4096n, offset: 0n, readable: true, writable: true, descriptor: -1 };
    client.dmaMap({ ...region, address: 0n });
    expect(() => client.dmaMap({ ...region, address: 4096n })).toThrow(/errno 28/);
  });

  it('is refused with limits beyond those of the server', async () => {
    const { url, server } = await serveOnDemand({ description: { ...standard, limits: { maxDmaMaps: 100 } } });
    for (const limits of [{ maxDmaMaps: 101 }, { dmaTimeout: 600_000 }]) {
      await expect(lease(url, { description: { ...standard, limits } })).rejects.toMatchObject({
        code: 'bad-arguments',
        message: expect.stringMatching(/^the limit \w+ is at most \d+ \w+ here/),
      });
    }
    expect(server.machines).toEqual([]);
  });

  it('can be held twice at once, by one client or two', async () => {
    const { url, server } = await serveOnDemand();
    const [first, second] = await Promise.all([lease(url), lease(url)]);
    expect([first.machine.name, second.machine.name].sort()).toEqual(['m1', 'm2']);
    const { machine } = (await first.machine.request('lease')) as unknown as { machine: string };
    expect(machine).toBe('m3');
    expect(await second.machine.machines()).toEqual(server.machines);
    await first.machine.close();
    await eventually(() => server.machines).toEqual([second.machine.name]);
    expect((await second.machine.inspect()).state).toBe('running');
  });

  it('ends with its release, and its name is never given again', async () => {
    const { url, server, directory } = await serveOnDemand();
    const leased = await lease(url);
    expect(await leased.release()).toMatchObject({ state: 'on', findings: [], lost: 0 });
    expect(await leased.release()).toMatchObject({ state: 'on' });
    expect(server.machines).toEqual([]);
    expect(readdirSync(directory)).toEqual([]);
    expect((await leased.ended).stoppedByFinding).toBe(false);
    expect((await lease(url)).machine.name).toBe('m2');
  });

  it.each([
    ['is closed', (socket: WebSocket) => socket.close()],
    ['is cut', (socket: WebSocket) => socket.terminate()],
  ])('ends with the connection that %s', async (_how, end) => {
    const { url, server, directory } = await serveOnDemand();
    const client = await rawClient(url);
    client.send({ id: 1, operation: 'lease' });
    expect(await client.receive()).toMatchObject({ id: 1, machine: 'm1' });
    expect(existsSync(join(directory, 'm1', 'edu0.sock'))).toBe(true);
    end(client.socket);
    await eventually(() => [server.machines, readdirSync(directory)]).toEqual([[], []]);
  });

  it('ends where its client went while it was being made', async () => {
    const { url, leases, server, directory } = await serveOnDemand();
    const socket = new WebSocket(url, 'viommu.v1');
    socket.on('open', () => {
      for (let id = 0; id < 3; id++) socket.send(encodeMessage({ id, operation: 'lease' }));
      socket.close();
    });
    await eventually(() => leases.count).toBe(3);
    await eventually(() => [leases.count, server.machines, readdirSync(directory)]).toEqual([0, [], []]);
    expect((await lease(url)).machine.name).toBe('m4');
  });

  it('ends with the server, with its files', async () => {
    const { url, server, directory } = await serveOnDemand();
    const leased = await lease(url);
    await server.close();
    expect(readdirSync(directory)).toEqual([]);
    expect((await leased.ended).reason).toMatch(/the server stops/);
    expect(await leased.release()).toBeUndefined();
  });

  it('is told to those who looked on', async () => {
    const { url } = await serveOnDemand();
    const leased = await lease(url);
    const other = await connect(url, { machine: 'm1' });
    const heard: RemoteEvent[] = [];
    await other.subscribe({ kinds: ['machine.ended'] }, event => heard.push(event));
    await leased.release();
    await eventually(() => heard.map(({ event }) => event)).toEqual(['machine.ended', 'machine.removed']);
  });
});

describe('a lease is refused', () => {
  it('beyond what the server makes, until one is released', async () => {
    const { url } = await serveOnDemand({ maxMachines: 2 });
    const first = await lease(url);
    await lease(url);
    await expect(lease(url)).rejects.toMatchObject({ code: 'limit', message: /all 2 machines .* are leased/ });
    await first.release();
    expect((await lease(url)).machine.name).toBe('m3');
  });

  it('never beyond the limit, however many ask at once', async () => {
    const { url, leases } = await serveOnDemand({ maxMachines: 3 });
    const asked = await Promise.allSettled(Array.from({ length: 8 }, () => lease(url)));
    expect(asked.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    expect(leases.count).toBe(3);
  });

  it.each([
    [{ description: { iommu: 'smmu' } }, /no IOMMU is called 'smmu'/],
    [{ description: { endpoints: ['edu@1'] } }, /is not a device/],
    [{ description: 7 }, /must be an object/],
    [{ sanitize: 'everything' }, /no detector 'everything'/],
    [{ sanitize: 'x'.repeat(5000) }, /at most 4096 characters/],
    [{ name: 'mine' }, /no member 'name'/],
    [[], /must be an object/],
  ])('for bad arguments (%#)', async (args, message) => {
    const { url, leases, directory } = await serveOnDemand();
    const client = await connect(url);
    await expect(client.request('lease', args)).rejects.toMatchObject({ code: 'bad-arguments', message });
    expect([leases.count, readdirSync(directory)]).toEqual([0, []]);
  });

  it('where the machine cannot be made, and nothing of it stays', async () => {
    const { url, directory, leases } = await serveOnDemand();
    writeFileSync(join(directory, 'm1'), 'in the way');
    await expect(lease(url)).rejects.toMatchObject({ code: 'failed', message: /cannot be made: .*m1/ });
    expect(leases.count).toBe(0);
    expect((await lease(url)).machine.name).toBe('m2');
  });

  it('where what attends it fails, and nothing of it stays', async () => {
    const { url, directory, leases } = await serveOnDemand({
      attend: () => Promise.reject(new Error('the disk is full')),
    });
    await expect(lease(url)).rejects.toMatchObject({ code: 'failed', message: /the disk is full/ });
    expect([leases.count, readdirSync(directory)]).toEqual([0, []]);
  });

  it('by a server that makes none', async () => {
    const server = await CompiledServer.start({});
    later(() => server.close());
    await expect(lease(server.url)).rejects.toMatchObject({ code: 'failed', message: /--on-demand/ });
  });
});

describe('a release is refused', () => {
  it('to everybody but the client that leased the machine', async () => {
    const { url, server } = await serveOnDemand();
    await lease(url);
    const other = await connect(url);
    for (const machine of ['m1', 'm2', '', '../m1']) {
      await expect(other.request('release', { machine })).rejects.toMatchObject({ code: 'bad-arguments' });
    }
    await expect(other.request('release')).rejects.toMatchObject({ code: 'bad-arguments' });
    expect(server.machines).toEqual(['m1']);
  });
});

describe('a leased machine that a finding stops', () => {
  it('tells its client, and what was found is there until its release', async () => {
    const { url, directory } = await serveOnDemand();
    const leased = await lease(url, { sanitize: 'never-mapped=stop' });
    const watched = await attachMachine({ url, machine: 'm1', directory: join(directory, 'm1') });
    later(() => watched.stop());
    const { edu } = await connectGuest(watched);
    edu.begin(NEVER_MAPPED, 8, 2n);
    expect(await leased.ended).toEqual({ reason: 'a finding stopped it', stoppedByFinding: true });
    expect((await leased.machine.findings()).findings).toMatchObject([{ detector: 'never-mapped' }]);
    expect(await leased.release()).toMatchObject({ findings: [{ detector: 'never-mapped', severity: 'stop' }] });
  });
});

describe('what attends a leased machine', () => {
  it('comes before its client knows of it, and ends before its directory does', async () => {
    const order: string[] = [];
    const { url } = await serveOnDemand({
      attend: async (name, host, directory) => {
        order.push(`attend ${name}`);
        host.on('finding', () => order.push('finding'));
        mkdirSync(join(directory, 'more'));
        return {
          finish: async () => {
            order.push(`finish ${existsSync(join(directory, 'more'))} ${(await host.findings()).state}`);
          },
        };
      },
    });
    const leased = await lease(url);
    order.push('leased');
    await leased.release();
    expect(order).toEqual(['attend m1', 'leased', 'finish true on']);
  });
});
