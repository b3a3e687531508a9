import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { UsageError } from '../../src/cli/errors.ts';
import { parseFailOn } from '../../src/cli/sanitize-options.ts';
import { filesFor, machinesAllowed } from '../../src/cli/serve-on-demand.ts';
import { RemoteMachine } from '../../src/inspector/remote-client.ts';
import { readRemoteFile } from '../../src/inspector/remote-file.ts';
import { RecordingReader } from '../../src/trace/recording/reader.ts';
import { parsePolicy } from '../../src/trace/sanitizer/policy.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { selfSigned } from '../inspector/certificate.ts';
import { type RunningProgram, runProgram, startProgram } from '../support.ts';

/** A busy machine may take its time to start and end threads. */
const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 20_000 });

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function directory(): string {
  const { path, remove } = temporaryDirectory();
  cleanups.push(remove);
  return path;
}

interface Ready {
  readonly server: RunningProgram;
  readonly remote: string;
  readonly remotes?: readonly string[];
  readonly page?: string;
}

async function start(...args: string[]): Promise<Ready> {
  const server = startProgram([...args, '--json']);
  cleanups.push(async () => {
    server.child.kill('SIGKILL');
    await server.ended;
  });
  await server.says(/\n/);
  return { server, ...JSON.parse(server.stdout().split('\n')[0]!) };
}

async function end({ server }: Ready) {
  server.child.kill('SIGTERM');
  return await server.ended;
}

async function lease(url: string, options: Parameters<typeof RemoteMachine.lease>[1] = {}) {
  const leased = await RemoteMachine.lease(url, options);
  cleanups.push(() => leased.machine.close());
  return leased;
}

describe('viommu serve --on-demand', () => {
  it('makes machines at DIR/server.sock, tells of them by name, and leaves nothing', async () => {
    const dir = directory();
    const ready = await start('serve', '--dir', dir, '--on-demand', '2', '--device', 'edu@03:00.0,id=nic');
    expect(ready.remote).toBe(`ws+unix:${dir}/server.sock:/`);
    expect(statSync(join(dir, 'server.sock')).mode & 0o777).toBe(0o600);
    const { url } = readRemoteFile(dir)!;
    const one = await lease(url);
    expect(one.sockets).toEqual({ iommu: 'm1/iommu.sock', nic: 'm1/nic.sock' });
    expect(JSON.parse(readFileSync(join(dir, 'm1', 'machine.json'), 'utf8'))).toEqual(one.description);
    const two = await lease(url, { sanitize: 'off' });
    expect((await two.machine.findings()).state).toBe('off');
    await expect(lease(url)).rejects.toMatchObject({ code: 'limit' });
    await one.release();
    expect(existsSync(join(dir, 'm1'))).toBe(false);
    expect(await end(ready)).toMatchObject({ status: 0 });
    const told = ready.server.stdout().trim().split('\n').slice(1);
    expect(told.map(line => JSON.parse(line)).map(({ machine, kind }) => `${machine} ${kind}`)).toEqual([
      'm1 machine.leased',
      'm2 machine.leased',
      'm1 machine.released',
      'm2 machine.released',
    ]);
    expect(readdirSync(dir)).toEqual([]);
  });

  it('tells its clients at once when it is killed, and the next one clears away what is left', async () => {
    const dir = directory();
    const ready = await start('serve', '--dir', dir, '--on-demand');
    const leased = await lease(ready.remote);
    ready.server.child.kill('SIGKILL');
    expect((await leased.ended).reason).toMatch(/the connection is closed/);
    expect(await leased.release()).toBeUndefined();
    await ready.server.ended;
    expect(existsSync(join(dir, 'm1', 'iommu.sock'))).toBe(true);
    const next = await start('serve', '--dir', dir, '--on-demand');
    expect(existsSync(join(dir, 'm1'))).toBe(false);
    await lease(next.remote);
    expect(await end(next)).toMatchObject({ status: 0, stderr: '' });
    expect(readdirSync(dir)).toEqual([]);
  });

  it('refuses a directory that another server has', async () => {
    const dir = directory();
    const ready = await start('serve', '--dir', dir, '--on-demand', '--listen', '0');
    await lease(ready.remote);
    const second = await runProgram(['serve', '--dir', dir, '--on-demand', '--listen', '0']);
    expect(second).toMatchObject({ status: 1, stderr: expect.stringMatching(/another server answers at .*m1/) });
    expect(readRemoteFile(dir)?.url).toBe(ready.remote);
  });

  it('listens at several places, by TLS and with the token of the environment', async () => {
    const dir = directory();
    const { cert, key } = selfSigned();
    writeFileSync(join(dir, 'cert.pem'), cert);
    writeFileSync(join(dir, 'key.pem'), key);
    const tls = ['--tls-cert', join(dir, 'cert.pem'), '--tls-key', join(dir, 'key.pem')];
    process.env.VIOMMU_TOKEN = 'token-of-the-environment';
    let ready: Ready;
    try {
      ready = await start('serve', '--dir', dir, '--on-demand', '--listen', '0', '--listen', 'unix', ...tls);
    } finally {
      delete process.env.VIOMMU_TOKEN;
    }
    const [file, address] = ready.remotes!;
    expect([ready.remote, file]).toEqual([file, `ws+unix:${dir}/server.sock:/`]);
    expect(address).toMatch(/^wss:\/\/127\.0\.0\.1:\d+$/);
    expect(readRemoteFile(dir)).toEqual({ url: file, others: [{ url: address, token: 'token-of-the-environment' }] });
    await lease(file!);
    await lease(address!, { ca: cert, token: 'token-of-the-environment' });
    await expect(lease(address!, { ca: cert, token: 'another' })).rejects.toThrow(/401/);
    writeFileSync(join(dir, 'token'), 'token-of-the-environment\n');
    const how = ['--connect', address!, '--ca', join(dir, 'cert.pem')];
    const probe = ['domain', 'create', '--machine', 'm1', ...how];
    expect(await runProgram(probe)).toMatchObject({ status: 1, stderr: expect.stringMatching(/401/) });
    const withToken = await runProgram([...probe, '--token-file', join(dir, 'token')]);
    expect(withToken.stderr).toMatch(/the machine has no dma-iommu/);
  });

  it('records and reports for each machine in files of its own', async () => {
    const dir = directory();
    const files = directory();
    const flags = ['--record', join(files, 'run.viommu'), '--report', join(files, 'findings.json')];
    const ready = await start('serve', '--dir', dir, '--on-demand', ...flags);
    const one = await lease(ready.remote);
    await lease(ready.remote);
    await one.release();
    expect(readdirSync(files).sort()).toEqual(['findings-m1.json', 'run-m1.viommu', 'run-m2.viommu']);
    expect(await end(ready)).toMatchObject({ status: 0 });
    expect(readdirSync(files)).toHaveLength(4);
    const reader = RecordingReader.open(join(files, 'run-m2.viommu'));
    expect(reader.header.machine).toEqual(one.description);
    expect(reader.complete).toBe(true);
    reader.close();
  });

  it('is shown by viommu inspect, as its machines come and go, until it ends', async () => {
    const dir = directory();
    const ready = await start('serve', '--dir', dir, '--on-demand');
    const leased = await lease(ready.remote);
    const inspector = await start('inspect', '--dir', dir, '--listen', '127.0.0.1:0');
    const looking = await RemoteMachine.connect(inspector.remote);
    cleanups.push(() => looking.close());
    const seen: (readonly string[])[] = [];
    expect(await looking.watchMachines(names => seen.push(names))).toEqual(['m1']);
    expect((await looking.at('m1').inspect()).functions.map(({ name }) => name)).toEqual(['iommu', 'edu0', 'edu1']);
    await lease(ready.remote);
    await leased.release();
    await eventually(() => seen).toEqual([['m1', 'm2'], ['m2']]);
    expect((await fetch(inspector.page!)).status).toBe(200);
    expect((await fetch(new URL('/healthz', inspector.page!))).status).toBe(200);
    await end(ready);
    expect(await inspector.server.ended).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/the server that was looked at is gone/),
    });
  });

  it.each([
    [['--on-demand', '0'], /from 1 to 64/],
    [['--on-demand', '65'], /from 1 to 64/],
    [['--on-demand', 'many'], /from 1 to 64/],
    [['--on-demand', '--listen', 'x'], /is not \[HOST:\]PORT/],
    [['--on-demand', '--tls-cert', '/nowhere'], /belong together/],
    [['--on-demand', '--tls-cert', '/nowhere', '--tls-key', '/nowhere'], /cannot read \/nowhere/],
    [['--tls-cert', '/nowhere', '--tls-key', '/nowhere'], /needs --listen/],
  ])('%j is refused', async (args, message) => {
    const dir = directory();
    const { status, stderr } = await runProgram(['serve', '--dir', dir, ...args]);
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
    expect(readdirSync(dir)).toEqual([]);
  });

  it('does not take what is not its own for a leftover', async () => {
    const dir = directory();
    mkdirSync(join(dir, 'm1'));
    writeFileSync(join(dir, 'm1', 'thesis.txt'), 'mine');
    expect(await runProgram(['serve', '--dir', dir, '--on-demand'])).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/thesis\.txt is in the way/),
    });
    expect(existsSync(join(dir, 'm1', 'thesis.txt'))).toBe(true);
  });
});

describe('viommu serve with a machine of its own', () => {
  it('may listen at unix sockets, too, and is well', async () => {
    const dir = directory();
    const ready = await start('serve', '--dir', dir, '--listen', 'unix', '--listen', '0');
    const [file, address] = ready.remotes!;
    const machine = await RemoteMachine.connect(file!);
    expect(await machine.machines()).toEqual(['machine']);
    await expect(machine.request('lease')).rejects.toMatchObject({ code: 'failed' });
    await machine.close();
    const health = await fetch(`${address!.replace('ws', 'http')}/healthz`);
    expect([health.status, await health.json()]).toEqual([200, { status: 'ok', machines: 1 }]);
    expect(await end(ready)).toMatchObject({ status: 0 });
    expect(readdirSync(dir)).toEqual([]);
  });
});

describe('the flags of --on-demand', () => {
  it.each([
    [true, 16],
    ['1', 1],
    ['64', 64],
  ] as const)('%o allows %i machines', (flag, machines) => {
    expect(machinesAllowed(flag)).toBe(machines);
  });

  it.each(['', '-1', '1.5', '1e9', '65', 'x'])('%o is no number of machines', flag => {
    expect(() => machinesAllowed(flag)).toThrow(UsageError);
  });

  it('make a name for each machine of each file', () => {
    const flags = { sanitize: parsePolicy('on'), failOn: parseFailOn('never'), recordClasses: -1 };
    expect(filesFor('m1', flags)).toEqual(flags);
    const report = [
      { path: '/a.b/c', format: 'json' as const },
      { path: 'd.xml', format: 'junit' as const },
    ];
    expect(filesFor('m2', { ...flags, record: 'x/run.viommu', report })).toMatchObject({
      record: 'x/run-m2.viommu',
      report: [{ path: '/a.b/c-m2' }, { path: 'd-m2.xml', format: 'junit' }],
    });
  });
});
