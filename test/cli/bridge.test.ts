import { EventEmitter, once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readRemoteFile } from '../../src/inspector/remote-file.ts';
import { RemoteServer } from '../../src/inspector/remote-server.ts';
import { FakeQemu } from '../bridge/fake-qemu.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { type RunningProgram, runProgram, startProgram } from '../support.ts';
import { CuttingProxy } from '../vfio-user/websocket/cutting-proxy.ts';

const TOKEN = '0123456789abcdef0123456789abcdef';

describe('viommu bridge', () => {
  const directory = temporaryDirectory();
  const served = join(directory.path, 'served');
  const bridged = join(directory.path, 'bridged');
  const tokenFile = join(directory.path, 'token');
  let server: RunningProgram;
  let onDemand: RunningProgram;
  let url: string;
  let onDemandUrl: string;

  beforeAll(async () => {
    mkdirSync(served);
    server = startProgram([
      'serve',
      '--dir',
      served,
      '--iommu',
      'none',
      '--device',
      'edu@01:00.0',
      '--listen',
      '0.0.0.0:0',
    ]);
    const other = join(directory.path, 'on-demand');
    onDemand = startProgram([
      'serve',
      '--dir',
      other,
      '--on-demand',
      '2',
      '--iommu',
      'none',
      '--device',
      'edu@01:00.0',
      '--listen',
      '0',
    ]);
    await Promise.all([server.says(/ready/), onDemand.says(/ready/)]);
    const address = readRemoteFile(served)!;
    url = address.url.replace('0.0.0.0', '127.0.0.1');
    writeFileSync(tokenFile, `${address.token}\n`);
    onDemandUrl = readRemoteFile(other)!.url;
  });

  afterAll(async () => {
    for (const one of [server, onDemand]) {
      one.child.kill('SIGINT');
      await one.ended;
    }
    directory.remove();
  });

  it('ends at once while the server does not answer', async () => {
    const silent = createServer(socket => socket.on('error', () => {}).resume()).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const connected = once(silent, 'connection') as Promise<[Socket]>;
    const address = `ws://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const bridge = startProgram(['bridge', '--dir', bridged, '--connect', address]);
    const [socket] = await connected;
    const gone = new Promise(resolve => socket.once('close', resolve));
    bridge.child.kill('SIGINT');
    expect(await bridge.ended).toMatchObject({ status: 130, stderr: '' });
    await gone;
    silent.close();
    await once(silent, 'close');
  });

  it('brings a machine here, leaves its description for qemu-args, and goes without a trace', async () => {
    const bridge = startProgram(['bridge', '--dir', bridged, '--connect', url, '--token-file', tokenFile]);
    await bridge.says(/ready: machine of ws:/);
    expect(JSON.parse(readFileSync(join(bridged, 'machine.json'), 'utf8'))).toMatchObject({
      endpoints: [{ id: 'edu0' }],
    });
    expect(existsSync(join(bridged, 'iommu.sock'))).toBe(false);
    const qemu = new FakeQemu(join(bridged, 'edu0.sock'));
    await qemu.goOn(3);
    expect(await qemu.stop()).toBeUndefined();
    await bridge.says(/client\.closed/);
    bridge.child.kill('SIGINT');
    const { status, stdout, stderr } = await bridge.ended;
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/\[edu0\] link\.opened/);
    expect(stdout).toMatch(new RegExp(`edu0: .* ${4096 * qemu.rounds} bytes of DMA out of and`));
    expect(existsSync(join(bridged, 'edu0.sock'))).toBe(false);
    expect(existsSync(join(bridged, 'machine.json'))).toBe(false);
  });

  it('leases a machine for as long as it runs, and speaks JSON', async () => {
    const bridge = startProgram(['bridge', '--dir', bridged, '--connect', onDemandUrl, '--lease', '--json']);
    await bridge.says(/"kind":"ready"/);
    expect(JSON.parse(bridge.stdout().split('\n')[0]!)).toMatchObject({
      machine: 'm1',
      sockets: { edu0: join(bridged, 'edu0.sock') },
    });
    const qemu = new FakeQemu(join(bridged, 'edu0.sock'));
    await qemu.goOn(1);
    await qemu.stop();
    bridge.child.kill('SIGTERM');
    const { status, stdout } = await bridge.ended;
    expect(status).toBe(0);
    const last = JSON.parse(stdout.trimEnd().split('\n').at(-1)!);
    expect(last).toMatchObject({ kind: 'ended', functions: { edu0: { clients: 1, dmaThroughClient: 0 } } });
    await onDemand.says(/machine\.released/);
  });

  it('gives a machine back that it gets after the signal', async () => {
    const other = join(directory.path, 'late');
    const arguments_ = ['--on-demand', '--iommu', 'none', '--device', 'edu@01:00.0', '--listen', '0'];
    const late = startProgram(['serve', '--dir', other, ...arguments_]);
    await late.says(/ready/);
    const address = readRemoteFile(other)!;
    const proxy = await CuttingProxy.start({ port: Number(new URL(address.url).port) });
    proxy.delay(200);
    const connect = `ws://127.0.0.1:${proxy.port}`;
    const bridge = startProgram(['bridge', '--dir', bridged, '--connect', connect, '--lease', '--grace', '20']);
    await late.says(/machine\.leased/);
    bridge.child.kill('SIGTERM');
    expect(await bridge.ended).toMatchObject({ status: 143, stdout: '', stderr: '' });
    await late.says(/machine\.released/);
    expect(late.stdout()).not.toMatch(/lease\.lost/);
    late.child.kill('SIGINT');
    await late.ended;
    await proxy.close();
  });

  it('ends where its leased machine does', async () => {
    const other = join(directory.path, 'short');
    const short = startProgram([
      'serve',
      '--dir',
      other,
      '--on-demand',
      '--iommu',
      'none',
      '--device',
      'edu@01:00.0',
      '--listen',
      '0',
    ]);
    await short.says(/ready/);
    const bridge = startProgram(['bridge', '--dir', bridged, '--connect', readRemoteFile(other)!.url, '--lease']);
    await bridge.says(/ready/);
    short.child.kill('SIGINT');
    const { status, stderr } = await bridge.ended;
    expect(status).toBe(1);
    expect(stderr).toMatch(/the machine 'm1' is gone/);
    expect(existsSync(join(bridged, 'edu0.sock'))).toBe(false);
    await short.ended;
  });

  it.each([
    ['no token', () => ['--connect', url], 1, /401.*remote\.json/s],
    [
      'a machine that is none',
      () => ['--connect', url, '--token-file', tokenFile, '--machine', 'x'],
      2,
      /no machine 'x', but machine/,
    ],
    ['a server without machines', () => ['--connect', onDemandUrl], 1, /--lease/],
    ['nobody there', () => ['--connect', 'ws://127.0.0.1:1'], 1, /cannot connect.*viommu serve --listen/s],
    ['no address', () => ['--connect', 'nonsense'], 1, /not an address/],
    ['both kinds of machine', () => ['--connect', url, '--lease', '--machine', 'x'], 2, /leave out --machine/],
    ['a file that is not there', () => ['--connect', url, '--token-file', '/nowhere'], 2, /cannot read \/nowhere/],
    ['an empty token', () => ['--connect', url, '--token-file', '/dev/null'], 2, /\/dev\/null is empty, or has blanks/],
    ['a grace that is none', () => ['--connect', url, '--grace', '100'], 2, /0 to 25/],
  ])('says what to do where there is %s', async (_, flags, expected, message) => {
    const { status, stderr } = await runProgram(['bridge', '--dir', bridged, ...flags()]);
    expect(stderr).toMatch(message);
    expect(status).toBe(expected);
    expect(existsSync(join(bridged, 'edu0.sock'))).toBe(false);
  });

  it.each([
    [
      'an option that it does not know',
      { iommu: 'none', endpoints: [], '\u001b': 1 },
      /does not know: .*\\u001b.*same version/,
    ],
    ['none', 7, /does not know/],
  ])('says so where the server describes a machine with %s', async (_, odd, message) => {
    const port = { description: odd, events: new EventEmitter() };
    const wrong = await RemoteServer.start({ machines: new Map([['odd', port as never]]), port: 0, token: TOKEN });
    const { status, stderr } = await runProgram(['bridge', '--dir', bridged, '--connect', wrong.url, '--token', TOKEN]);
    await wrong.close();
    expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringMatching(message) });
    expect(existsSync(join(bridged, 'machine.json'))).toBe(false);
  });

  it('explains itself', async () => {
    const { status, stdout } = await runProgram(['bridge', '--help']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/Examples:[\s\S]*x-msg-timeout/);
  });
});
