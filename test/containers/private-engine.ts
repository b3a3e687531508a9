/**
 * An engine of the tests' own, for machines where none runs: started as root, with its images in the user's cache so that
 * layers are used again, and without anything left behind. It keeps its hands off the machine's packet filter and routes:
 * containers talk to each other over bridges, and to us through published ports; nothing else is needed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cacheDirectory } from '../../qemu/cache.ts';
import { endWithProcess } from '../../qemu/children.ts';
import { CommandMissing, run } from '../../qemu/run.ts';
import { Docker } from './docker.ts';
import { BRIDGE, makeNetwork, removeNetwork } from './engine-network.ts';

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 60_000;
const POLL_MS = 50;
const LOG_LINES = 5;

export interface PrivateEngine {
  readonly docker: Docker;
  /** Ends it with every container, network and volume in it, and gives back what it took of the machine. */
  stop(): Promise<void>;
}

/** Why there can be no such engine here, or undefined. */
export async function whyNoPrivateEngine(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'no engine answers, and only root could start one';
  for (const command of [
    ['dockerd', '--version'],
    ['ip', '-Version'],
  ]) {
    try {
      await run(command);
    } catch (error) {
      if (error instanceof CommandMissing) return `no engine answers, and there is no ${error.command} to start one`;
      throw error;
    }
  }
  return undefined;
}

/** One at a time: the caller holds a lock. Throws with the engine's own words where it does not start. */
export async function startPrivateEngine(): Promise<PrivateEngine> {
  const home = join(cacheDirectory(), 'engine');
  await mkdir(home, { recursive: true });
  const pidFile = join(home, 'pid');
  await endLeftover(pidFile);
  // Short, because it holds unix sockets.
  const runtime = await mkdtemp(join(tmpdir(), 'viommu-engine-'));
  try {
    await makeNetwork();
    return await startIn(home, pidFile, runtime);
  } catch (error) {
    removeNetwork();
    await removeRuntime(runtime);
    throw error;
  }
}

/** Leaves the network and `runtime` to the caller where it throws. */
async function startIn(home: string, pidFile: string, runtime: string): Promise<PrivateEngine> {
  const socket = join(runtime, 'docker.sock');
  const logFile = join(runtime, 'log');
  const log = openSync(logFile, 'w');
  const daemon = spawn(
    'dockerd',
    [
      ...['--data-root', join(home, 'data')],
      ...['--exec-root', join(runtime, 'exec')],
      ...['--pidfile', pidFile],
      ...['--host', `unix://${socket}`],
      ...['--bridge', BRIDGE],
      ...['--iptables=false', '--ip6tables=false', '--ip-forward=false', '--ip-masq=false'],
    ],
    // A group of its own: Ctrl-C is for us, who then end it in order.
    { stdio: ['ignore', log, log], detached: true },
  );
  closeSync(log);
  const ended = new Promise<void>(resolve => {
    daemon.once('error', () => resolve());
    daemon.once('exit', () => resolve());
  });
  const release = endWithProcess({
    endNow: () => {
      daemon.kill('SIGTERM');
      removeNetwork();
    },
    askToEnd() {},
  });
  const docker = new Docker(`unix://${socket}`);
  const stop = async () => {
    await removeEverything(docker);
    await end(daemon, ended);
    release();
    removeNetwork();
    await removeRuntime(runtime);
  };
  try {
    await untilReady(docker, ended, logFile);
    // What a run that was killed has left.
    await removeEverything(docker);
  } catch (error) {
    await end(daemon, ended);
    release();
    throw error;
  }
  return { docker, stop };
}

async function untilReady(docker: Docker, ended: Promise<void>, logFile: string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  let over = false;
  void ended.then(() => {
    over = true;
  });
  for (;;) {
    if ((await docker.try('version')).status === 0) return;
    if (over || Date.now() > deadline) {
      const said = readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-LOG_LINES).join('\n');
      throw new Error(`dockerd ${over ? 'ended' : 'is not ready'}:\n${said}`);
    }
    await pause();
  }
}

/** Images stay, unless nothing names them any more. */
async function removeEverything(docker: Docker): Promise<void> {
  const containers = (await docker.run('ps', '--all', '--quiet')).split('\n').filter(id => id !== '');
  if (containers.length > 0) await docker.run('rm', '--force', '--volumes', ...containers);
  await docker.run('network', 'prune', '--force');
  const volumes = (await docker.run('volume', 'ls', '--quiet')).split('\n').filter(name => name !== '');
  if (volumes.length > 0) await docker.run('volume', 'rm', ...volumes);
  await docker.run('image', 'prune', '--force');
}

async function end(daemon: ChildProcess, ended: Promise<void>): Promise<void> {
  if (daemon.exitCode === null && daemon.signalCode === null) daemon.kill('SIGTERM');
  const timer = setTimeout(() => daemon.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await ended;
  clearTimeout(timer);
}

/** A run that was killed leaves its engine running, with ours to be in its place. */
async function endLeftover(pidFile: string): Promise<void> {
  let pid: number;
  try {
    pid = Number((await readFile(pidFile, 'utf8')).trim());
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if (!(await isEngine(pid, pidFile))) return;
  process.kill(pid, 'SIGTERM');
  const deadline = Date.now() + STOP_TIMEOUT_MS;
  while (await isEngine(pid, pidFile)) {
    if (Date.now() > deadline) throw new Error(`The engine of an earlier run, process ${pid}, does not end`);
    await pause();
  }
}

/** Numbers of processes are used again. */
async function isEngine(pid: number, pidFile: string): Promise<boolean> {
  try {
    return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0').includes(pidFile);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return false;
    throw error;
  }
}

/** The engine leaves its own network namespace mounted there. */
async function removeRuntime(runtime: string): Promise<void> {
  const places = (await readFile('/proc/self/mounts', 'utf8'))
    .split('\n')
    .map(line => line.split(' ')[1] ?? '')
    .filter(place => place.startsWith(`${runtime}/`));
  for (const place of places.reverse()) await must(['umount', place]);
  await rm(runtime, { recursive: true, force: true });
}

async function must(argv: readonly string[]): Promise<void> {
  const { status, stderr } = await run(argv);
  if (status !== 0) throw new Error(`${argv.join(' ')} ends with ${status}: ${stderr.trim()}`);
}

function pause(): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, POLL_MS));
}
