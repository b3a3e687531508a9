import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
// Both have threads of their own, which run compiled code.
import { Bridge, type BridgeOptions } from '../../dist/src/bridge/bridge.js';
import { MachineHost } from '../../dist/src/machine/host.js';
import { HostPort } from '../../src/inspector/host-port.ts';
import { RemoteServer } from '../../src/inspector/remote-server.ts';
import { describeMachine } from '../../src/machine/description.ts';
import type { TraceEvent } from '../../src/trace/trace.ts';
import { VfioUserAcceptor } from '../../src/vfio-user/websocket/acceptor.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { openDescriptors } from '../vfio-user/rig.ts';
import { CuttingProxy } from '../vfio-user/websocket/cutting-proxy.ts';
import { FakeQemu } from './fake-qemu.ts';

const TOKEN = '0123456789abcdef0123456789abcdef';
const description = describeMachine('none', ['edu@01:00.0']);

describe('a bridge to a server behind a network', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let host: MachineHost;
  let server: RemoteServer;
  let acceptor: VfioUserAcceptor;
  let proxy: CuttingProxy;
  let events: TraceEvent[];
  const bridges: Bridge[] = [];
  const qemus: FakeQemu[] = [];

  beforeEach(async () => {
    events = [];
    directory = temporaryDirectory();
    host = await MachineHost.start(description, directory.path);
    server = await startServer();
    proxy = await CuttingProxy.start({ port: portOf(server) });
  });

  afterEach(async () => {
    await Promise.all(qemus.splice(0).map(qemu => qemu.stop()));
    await Promise.all(bridges.splice(0).map(bridge => bridge.close()));
    await proxy.close();
    await server.close();
    await host.stop();
    directory.remove();
  });

  /** Neither the server, nor the machine, nor the network between knows any connection. */
  async function untilGone(): Promise<void> {
    await expect.poll(() => acceptor.statistics.sessions + proxy.connections).toBe(0);
    await expect.poll(async () => (await host.statistics()).functions.edu0!.connected).toBe(false);
  }

  function startServer(port = 0): Promise<RemoteServer> {
    return RemoteServer.start({
      machines: new Map([['machine', new HostPort(host as never)]]),
      port,
      token: TOKEN,
      acceptor: open => {
        acceptor = new VfioUserAcceptor({ open });
        return acceptor;
      },
    });
  }

  function portOf({ url }: RemoteServer): number {
    return Number(new URL(url).port);
  }

  async function start(more: Partial<BridgeOptions> = {}): Promise<Bridge> {
    const bridge = await Bridge.start({
      directory: join(directory.path, 'bridge'),
      url: `ws://127.0.0.1:${proxy.port}`,
      machine: 'machine',
      functions: ['edu0'],
      token: TOKEN,
      onEvent: event => events.push(event),
      ...more,
    });
    bridges.push(bridge);
    return bridge;
  }

  function connect(bridge: Bridge): FakeQemu {
    const qemu = new FakeQemu(bridge.sockets.edu0!);
    qemus.push(qemu);
    return qemu;
  }

  function kinds(): string[] {
    return events.map(({ kind }) => kind);
  }

  it('carries registers, DMA and interrupts, and says what it did', async () => {
    const bridge = await start();
    const qemu = connect(bridge);
    await qemu.goOn(20);
    expect(await qemu.stop()).toBeUndefined();
    await expect.poll(kinds).toContain('link.closed');
    const { edu0 } = (await bridge.statistics()).functions;
    expect(edu0).toMatchObject({ clients: 1, connected: false, linked: false, reconnections: 0, dmaThroughClient: 0 });
    expect(edu0!.dmaBytesRead).toBe(4096 * qemu.rounds);
    expect(edu0!.dmaBytesWritten).toBe(4096 * qemu.rounds);
    expect(edu0!.interrupts).toBe(2 * qemu.rounds);
    expect(kinds()).toEqual(expect.arrayContaining(['client.connected', 'link.opened', 'client.closed']));
  });

  it('loses nothing where the connection breaks again and again', async () => {
    const bridge = await start();
    const qemu = connect(bridge);
    await qemu.goOn(5);
    for (let cuts = 1; cuts <= 5; cuts++) {
      proxy.cut();
      await expect.poll(() => kinds().filter(kind => kind === 'link.resumed').length).toBe(cuts);
      await qemu.goOn(5);
    }
    expect(await qemu.stop()).toBeUndefined();
    expect((await bridge.statistics()).functions.edu0).toMatchObject({ reconnections: 5, clients: 1 });
  });

  it('ends QEMU where the connection does not come back within the grace time, and serves the next one', async () => {
    const bridge = await start({ graceMilliseconds: 300 });
    const qemu = connect(bridge);
    await qemu.goOn(3);
    proxy.refuse();
    proxy.cut();
    expect(await qemu.ended).toBeDefined();
    await expect.poll(kinds).toContain('link.closed');
    expect(events.find(({ kind }) => kind === 'link.closed')?.detail.reason).toMatch(/did not come back within 300 ms/);
    proxy.allow();
    const next = connect(bridge);
    await next.goOn(3);
    expect(await next.stop()).toBeUndefined();
  });

  it('ends QEMU where the machine ends', async () => {
    const bridge = await start();
    const qemu = connect(bridge);
    await qemu.goOn(3);
    await host.stop();
    expect(await qemu.ended).toBeDefined();
    await expect.poll(kinds).toContain('client.closed');
    expect((await bridge.statistics()).functions.edu0).toMatchObject({ connected: false, memory: { regions: 0 } });
  });

  it.each([
    ['the token is wrong', { token: 'no-such-token-and-not-one' }, /refused: 401/],
    ['there is no such machine', { machine: 'elsewhere' }, /no machine 'elsewhere'/],
    ['there is no server', { url: 'ws://127.0.0.1:1' }, /cannot connect to ws:\/\/127\.0\.0\.1:1/],
  ])('ends QEMU, and says why, where %s', async (_, more, why) => {
    const qemu = connect(await start(more));
    expect(await qemu.ended).toMatch(/no answer to version/);
    await expect.poll(() => events.find(({ kind }) => kind === 'link.failed')?.detail.reason).toMatch(why);
  });

  it('gives the function to one QEMU after the other, without a moment in between', async () => {
    const bridge = await start();
    for (let i = 0; i < 5; i++) {
      const qemu = connect(bridge);
      await qemu.goOn(2);
      expect(await qemu.stop()).toBeUndefined();
    }
    expect((await bridge.statistics()).functions.edu0).toMatchObject({ clients: 5 });
    expect(kinds()).not.toContain('link.failed');
  });

  it('reaches a server on another end of a slow line', async () => {
    const bridge = await start();
    const qemu = connect(bridge);
    await qemu.goOn(2);
    proxy.delay(10);
    await qemu.goOn(2);
    expect(await qemu.stop()).toBeUndefined();
  });

  it('leaves nothing behind', async () => {
    // The first one loads what stays for the life of the process.
    const first = await start();
    await connect(first).goOn(1);
    await qemus.pop()!.stop();
    await first.close();
    await untilGone();
    const before = openDescriptors();
    const bridge = await start();
    const qemu = connect(bridge);
    await qemu.goOn(2);
    await bridge.close();
    await bridge.close();
    expect(await bridge.ended).toBe('the bridge was closed');
    expect(await qemu.ended).toBeDefined();
    expect(existsSync(bridge.sockets.edu0!)).toBe(false);
    expect(readdirSync(join(directory.path, 'bridge'))).toEqual([]);
    expect((await bridge.statistics()).functions.edu0).toMatchObject({ clients: 1, connected: false });
    await untilGone();
    // Fewer, where the system was still about to close one of the first connection's.
    await expect.poll(openDescriptors).toBeLessThanOrEqual(before);
  });

  it('calls a connection off that is being made when it is closed', async () => {
    const silent = createServer(socket => socket.on('error', () => {}).resume()).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const connected = once(silent, 'connection') as Promise<[Socket]>;
    const bridge = await start({ url: `ws://127.0.0.1:${(silent.address() as AddressInfo).port}` });
    const qemu = connect(bridge);
    const [socket] = await connected;
    const gone = new Promise(resolve => socket.once('close', resolve));
    await bridge.close();
    await gone;
    expect(await qemu.ended).toMatch(/no answer to version/);
    expect(kinds()).not.toContain('link.failed');
    silent.close();
    await once(silent, 'close');
  });

  it.each([
    ['its QEMU has gone', false],
    ['another QEMU has come in its place', true],
  ])('calls a connection off that is being made when %s', async (_, next) => {
    const silent = createServer(socket => socket.on('error', () => {}).resume()).listen(0, '127.0.0.1');
    const dials: Socket[] = [];
    silent.on('connection', socket => dials.push(socket));
    await once(silent, 'listening');
    const bridge = await start({ url: `ws://127.0.0.1:${(silent.address() as AddressInfo).port}` });
    const first = connectSocket(bridge.sockets.edu0!);
    await expect.poll(() => dials.length).toBe(1);
    const gone = new Promise(resolve => dials[0]!.once('close', resolve));
    first.destroy();
    const second = next ? connectSocket(bridge.sockets.edu0!) : undefined;
    await gone;
    if (next) await expect.poll(() => dials.length).toBe(2);
    expect(dials.map(({ destroyed }) => destroyed)).toEqual(next ? [true, false] : [true]);
    expect(kinds()).not.toContain('link.failed');
    second?.destroy();
    await bridge.close();
    silent.close();
    await once(silent, 'close');
  });

  it('tells its numbers also while it ends', async () => {
    const bridge = await start();
    const closed = bridge.close();
    const asked = bridge.statistics();
    expect((await asked).functions.edu0).toMatchObject({ clients: 0, connected: false });
    await closed;
  });

  it('says where it cannot be started', async () => {
    await expect(start({ functions: [] })).rejects.toThrow(/functions/);
    await expect(start({ functions: ['../edu0'] })).rejects.toThrow(/functions/);
    await expect(start({ url: 'http://127.0.0.1' })).rejects.toThrow(/not the address of a server/);
    await expect(start({ directory: '/dev/null/nowhere' })).rejects.toThrow(/nowhere/);
    const bridge = await start();
    await expect(start()).rejects.toThrow(/another server answers there/);
    expect(existsSync(bridge.sockets.edu0!)).toBe(true);
  });
});
