/** The rules of vfio-user's section "Backend Program Conventions", and those of vhost-user that it is based on, at a real process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { closeDescriptor, connectUnix, listenUnix, socketPair } from '../../src/posix/socket.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { FakeQemu } from '../bridge/fake-qemu.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { type Outcome, program, runProgram } from '../support.ts';

const BACKEND = join(dirname(program), 'backend-main.js');
/** edu's identification, at the start of its BAR 0. */
const IDENTIFICATION = Uint8Array.of(0xed, 0, 0, 1);
const CONFIG = 7;
/** Where configuration space says where the first capability is. */
const CAPABILITIES = 0x34;
const PCI_EXPRESS = 0x10;
/** The first that stdio does not take: where a test passes a descriptor on. */
const GIVEN = 3;

interface Backend {
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
  /** Resolves when standard error matches; rejects when the program ends first. */
  logs(pattern: RegExp): Promise<void>;
}

interface StartOptions {
  readonly given?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

let directory: ReturnType<typeof temporaryDirectory>;
let socket: string;
let loop: EventLoop;
const running = new Set<ChildProcess>();

beforeEach(() => {
  directory = temporaryDirectory();
  socket = join(directory.path, 'edu.sock');
  loop = new EventLoop(error => {
    throw error;
  });
});
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  running.clear();
  loop.close();
  directory.remove();
});

function start(args: readonly string[], { given, env, cwd }: StartOptions = {}): Backend {
  const child = spawn(process.execPath, [BACKEND, ...args], {
    stdio: ['ignore', 'pipe', 'pipe', ...(given === undefined ? [] : [given])],
    ...(env === undefined ? {} : { env }),
    ...(cwd === undefined ? {} : { cwd }),
  });
  running.add(child);
  let stdout = '';
  let stderr = '';
  const looks = new Set<() => void>();
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    for (const look of looks) look();
  });
  const ended = new Promise<Outcome>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', status => {
      running.delete(child);
      resolve({ status, stdout, stderr });
    });
  });
  const logs = (pattern: RegExp) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (pattern.test(stderr)) resolve();
      };
      looks.add(look);
      look();
      ended.then(({ status }) => reject(new Error(`it ended with ${status}: ${stderr}`)), reject);
    });
  return { child, ended, logs };
}

/** To its end. */
async function run(...args: string[]): Promise<Outcome> {
  return await start(args).ended;
}

/** The device answers there as edu does; the connection stays. */
function use(where: string | number): VfioUserClient {
  const client = new VfioUserClient(loop, where);
  client.negotiate();
  expect(client.regionRead(0, 0, 4)).toEqual(IDENTIFICATION);
  return client;
}

/** The ids in its list of PCI capabilities. */
function capabilitiesOf(client: VfioUserClient): number[] {
  const ids: number[] = [];
  for (let at = client.regionRead(CONFIG, CAPABILITIES, 1)[0]!; at !== 0; ) {
    const [id, next] = client.regionRead(CONFIG, at, 2);
    ids.push(id!);
    at = next!;
  }
  return ids;
}

describe('a backend program', () => {
  it('stays in the foreground: the process that was started serves, in the session of its parent', async () => {
    const backend = start([`--socket-path=${socket}`]);
    await backend.logs(/^ready/);
    const client = use(socket);
    const fieldsOf = (pid: number) => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    const [, parent, , session] = fieldsOf(backend.child.pid!);
    expect([Number(parent), session]).toEqual([process.pid, fieldsOf(process.pid)[3]]);
    client.close();
    backend.child.kill('SIGTERM');
    expect((await backend.ended).status).toBe(0);
  });

  it('needs no environment, no home, and no directory of its own', async () => {
    const [mine, theirs] = socketPair();
    const env = { TMPDIR: '/nonexistent', HOME: '/nonexistent' };
    const backend = start([`--fd=${GIVEN}`], { given: theirs, env, cwd: '/' });
    closeDescriptor(theirs);
    await backend.logs(/^ready/);
    use(mine).close();
    expect(await backend.ended).toMatchObject({ status: 0, stdout: '' });
  });

  it('writes its log to standard error, redirected to a file or closed', async () => {
    const [out, log] = [join(directory.path, 'out'), join(directory.path, 'log')];
    const [outFd, logFd] = [openSync(out, 'w'), openSync(log, 'w')];
    const child = spawn(process.execPath, [BACKEND, `--socket-path=${socket}`], { stdio: ['ignore', outFd, logFd] });
    running.add(child);
    for (const fd of [outFd, logFd]) closeSync(fd);
    await expect.poll(() => readFileSync(log, 'utf8')).toBe(`ready: edu at ${socket}\n`);
    child.kill('SIGTERM');
    await expect.poll(() => child.exitCode).toBe(0);
    expect(readFileSync(out, 'utf8')).toBe('');
  });

  it('goes on when nobody reads its log any more', async () => {
    const backend = start([`--socket-path=${socket}`, '--verbose']);
    await backend.logs(/^ready/);
    backend.child.stderr!.destroy();
    backend.child.stdout!.destroy();
    for (let i = 0; i < 3; i++) use(socket).close();
    backend.child.kill('SIGTERM');
    expect((await backend.ended).status).toBe(0);
  });

  it.each(['SIGTERM', 'SIGINT'] as const)('ends with status 0 on %s, and takes its socket with it', async signal => {
    const backend = start([`--socket-path=${socket}`]);
    await backend.logs(/^ready/);
    backend.child.kill(signal);
    expect(await backend.ended).toMatchObject({ status: 0, stdout: '', stderr: `ready: edu at ${socket}\n` });
    expect(existsSync(socket)).toBe(false);
  });

  it('does so while a guest does DMA', async () => {
    const backend = start([`--socket-path=${socket}`]);
    await backend.logs(/^ready/);
    const qemu = new FakeQemu(socket);
    await qemu.goOn(3);
    backend.child.kill('SIGTERM');
    expect((await backend.ended).status).toBe(0);
    expect(await qemu.ended).toBeDefined();
    expect(existsSync(socket)).toBe(false);
  });
});

describe('--socket-path', () => {
  it('makes the socket, for its owner only, and serves one client after the other', async () => {
    const backend = start([`--socket-path=${socket}`]);
    await backend.logs(/^ready/);
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    for (let i = 0; i < 2; i++) {
      const client = use(socket);
      client.close();
    }
    const qemu = new FakeQemu(socket);
    await qemu.goOn(2);
    expect(await qemu.stop()).toBeUndefined();
    backend.child.kill('SIGTERM');
    expect((await backend.ended).status).toBe(0);
  });

  it('may be relative', async () => {
    const backend = start(['--socket-path', 'edu.sock'], { cwd: directory.path });
    await backend.logs(/^ready/);
    use(socket).close();
    backend.child.kill('SIGTERM');
    await backend.ended;
    expect(existsSync(socket)).toBe(false);
  });

  it('takes the place of a socket on which nobody answers', async () => {
    closeDescriptor(listenUnix(socket));
    const backend = start([`--socket-path=${socket}`]);
    await backend.logs(/^ready/);
    use(socket).close();
    backend.child.kill('SIGTERM');
    expect((await backend.ended).status).toBe(0);
  });

  it('is refused where another server answers, which is left alone', async () => {
    const listener = listenUnix(socket);
    const { status, stdout, stderr } = await run(`--socket-path=${socket}`);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/another server answers there/);
    closeDescriptor(connectUnix(socket));
    closeDescriptor(listener);
  });

  it('is refused where a file or no directory is', async () => {
    writeFileSync(socket, 'mine');
    expect(await run(`--socket-path=${socket}`)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/no socket/),
    });
    expect(readFileSync(socket, 'utf8')).toBe('mine');
    const nowhere = join(directory.path, 'none', 'edu.sock');
    const { status, stderr } = await run(`--socket-path=${nowhere}`);
    expect(status).toBe(1);
    expect(stderr).toMatch(/there is no directory .*none: make it first\n/);
  });
});

describe('--fd', () => {
  it('takes a socket that listens: serves one client after the other, and leaves its file to its maker', async () => {
    const listener = listenUnix(socket);
    const early = new VfioUserClient(loop, socket);
    const backend = start([`--fd=${GIVEN}`], { given: listener });
    closeDescriptor(listener);
    await backend.logs(/^ready: edu on descriptor 3\n/);
    early.negotiate();
    early.close();
    use(socket).close();
    const qemu = new FakeQemu(socket);
    await qemu.goOn(2);
    expect(await qemu.stop()).toBeUndefined();
    backend.child.kill('SIGTERM');
    expect((await backend.ended).status).toBe(0);
    expect(existsSync(socket)).toBe(true);
    expect(() => connectUnix(socket)).toThrow(/ECONNREFUSED/);
  });

  it('takes a socket that is connected, and ends with status 0 when its client has gone', async () => {
    const [mine, theirs] = socketPair();
    const backend = start([`--fd=${GIVEN}`], { given: theirs });
    closeDescriptor(theirs);
    await backend.logs(/client\.connected/);
    use(mine).close();
    const { status, stdout, stderr } = await backend.ended;
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
    expect(stderr).toMatch(/client\.closed reason="end of stream"/);
  });

  it('ends the connection on SIGTERM, with status 0', async () => {
    const [mine, theirs] = socketPair();
    const backend = start([`--fd=${GIVEN}`], { given: theirs });
    closeDescriptor(theirs);
    await backend.logs(/^ready/);
    const client = use(mine);
    backend.child.kill('SIGTERM');
    expect((await backend.ended).status).toBe(0);
    while (client.endReason === undefined) loop.runOnce(10);
    expect(client.endReason).toBe('end of stream');
  });

  it('ends with status 1 when the one client breaks the protocol, and says how', async () => {
    const [mine, theirs] = socketPair();
    const backend = start([`--fd=${GIVEN}`], { given: theirs });
    closeDescriptor(theirs);
    await backend.logs(/^ready/);
    const client = new VfioUserClient(loop, mine);
    expect(() => client.negotiate('no JSON')).toThrow();
    const { status, stderr } = await backend.ended;
    expect(status).toBe(1);
    expect(stderr).toMatch(/\nviommu: the connection was ended, because of what the client sent: handshake failed\n/);
  });

  it('is refused where it is no unix stream socket', async () => {
    const file = openSync(join(directory.path, 'file'), 'w');
    const backend = start([`--fd=${GIVEN}`], { given: file });
    closeSync(file);
    expect(await backend.ended).toMatchObject({ status: 1, stdout: '', stderr: expect.stringMatching(/is no socket/) });
    expect(await run('--fd=99')).toMatchObject({ status: 1, stderr: expect.stringMatching(/99 is not open/) });
  });
});

describe('a wrong command line', () => {
  it.each([
    [[], /--socket-path=PATH or --fd=FDNUM/],
    [['--socket-path=/tmp/x', '--fd=3'], /--socket-path or --fd, not both/],
    [['--socket-path='], /needs a path/],
    [[`--socket-path=/tmp/${'x'.repeat(120)}`], /at most 107 bytes/],
    [['--fd=one'], /no file descriptor/],
    [['--fd=1'], /standard input, output and error/],
    [['--socket-path=/tmp/x', '--device', 'edu@01:00.0'], /leave out the address/],
    [['--socket-path=/tmp/x', '--device', 'disk'], /the kinds are edu/],
    [['--socket-path=/tmp/x', '--device', 'edu,dmaMask=3'], /dmaMask/],
    [['--socket-path=/tmp/x', '--bogus'], /bogus/],
    [['--socket-path=/tmp/x', '--binary', '/bin/sh'], /--print-description/],
    [['--print-description', '--binary', 'viommu'], /no absolute path/],
  ])('%j ends with status 2, and says why on standard error', async (args, message) => {
    const { status, stdout, stderr } = await run(...args);
    expect(stderr).toMatch(message);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  });
});

describe('--device', () => {
  it('is an edu device with PCI Express where nothing is said', async () => {
    const backend = start([`--socket-path=${socket}`]);
    await backend.logs(/^ready/);
    const client = use(socket);
    expect(capabilitiesOf(client)).toContain(PCI_EXPRESS);
    client.close();
    backend.child.kill('SIGTERM');
    expect((await backend.ended).status).toBe(0);
  });

  it('says with which options', async () => {
    const backend = start([`--socket-path=${socket}`, '--device', 'edu,express=false', '--json']);
    await backend.logs(/^\{"kind":"ready","device":"edu","path":".*edu\.sock"\}\n/);
    const client = use(socket);
    expect(capabilitiesOf(client)).not.toContain(PCI_EXPRESS);
    client.close();
    backend.child.kill('SIGTERM');
    const { stderr } = await backend.ended;
    for (const line of stderr.trimEnd().split('\n')) expect(JSON.parse(line)).toHaveProperty('kind');
  });
});

describe('--print-capabilities', () => {
  it('prints JSON on standard output, and takes no notice of anything else', async () => {
    const asked = await run('--print-capabilities');
    expect(asked).toMatchObject({ status: 0, stderr: '' });
    const { type, features } = JSON.parse(asked.stdout);
    expect(type).toBe('edu');
    expect(await run('--bogus', 'word', '--fd=x', '--limit', 'none', '--print-capabilities', '--fd')).toEqual(asked);
    expect(await runProgram(['backend', '--socket-path=/nonexistent/x', '--print-capabilities'])).toEqual(asked);
    const { stdout: help } = await run('--help');
    expect(features).toContain('device');
    for (const feature of features) expect(help).toMatch(new RegExp(`--${feature} <`));
  });
});

describe('the file that describes it', () => {
  it('names a program that can be started as the conventions say', async () => {
    const { status, stdout } = await run('--print-description');
    expect(status).toBe(0);
    const { description, type, binary, tags } = JSON.parse(stdout);
    expect({ type, tags }).toEqual({ type: 'edu', tags: [expect.stringMatching(/^viommu \d/)] });
    expect(description).toMatch(/viommu edu/);
    const child = spawn(binary, [`--socket-path=${socket}`], { stdio: 'ignore' });
    running.add(child);
    await expect.poll(() => existsSync(socket)).toBe(true);
    use(socket).close();
    child.kill('SIGTERM');
    await expect.poll(() => child.exitCode).toBe(0);
  });

  it('names another program where that is asked for, which must be one', async () => {
    const wrapper = join(directory.path, 'viommu-backend');
    writeFileSync(wrapper, '#!/bin/sh\n');
    const args = ['backend', '--print-description', '--binary', wrapper];
    expect(await runProgram(args)).toMatchObject({ status: 1, stderr: expect.stringMatching(/cannot be run/) });
    chmodSync(wrapper, 0o755);
    expect(JSON.parse((await runProgram(args)).stdout).binary).toBe(wrapper);
    const folder = join(directory.path, 'folder');
    mkdirSync(folder);
    const { status, stderr } = await run('--print-description', '--binary', folder);
    expect(status).toBe(1);
    expect(stderr).toMatch(/is no program/);
  });
});

describe('viommu backend', () => {
  it('is the same, with help and examples', async () => {
    const { status, stdout } = await runProgram(['backend', '--help']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/Examples:[\s\S]*--socket-path=[\s\S]*vfio-user-pci[\s\S]*--fd=/);
    expect((await run('--version')).stdout).toBe((await runProgram(['--version'])).stdout);
  });
});
