import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { buildExternalPortsSsdt } from '../../qemu/acpi/ssdt.ts';
import type { MachineConfiguration } from '../../qemu/command-line.ts';
import {
  LaunchError,
  type LaunchOptions,
  launchQemu,
  type RunningQemu,
  supportsExitWithParent,
} from '../../qemu/launch.ts';
import type { QemuInstallation } from '../../qemu/provision.ts';
import { describeTopology } from '../../qemu/topology.ts';
import { repository } from '../support.ts';
import { GUEST_TIMEOUT_MS, PROVISION_TIMEOUT_MS, realQemu, temporaryDirectory } from './support.ts';

const directory = temporaryDirectory();
let installation: QemuInstallation;
const started: RunningQemu[] = [];

beforeAll(async () => {
  installation = await realQemu();
}, PROVISION_TIMEOUT_MS);

afterEach(async () => {
  for (const qemu of started.splice(0)) await qemu.quit();
});

const machine: MachineConfiguration = {
  topology: describeTopology('root-bus', []),
  firmware: 'bios',
  accelerator: 'tcg',
  processors: 1,
  memoryMegabytes: 64,
  memory: 'message',
  boot: { kind: 'firmware' },
};

async function launch(change: Partial<LaunchOptions> = {}): Promise<RunningQemu> {
  const qemu = await launchQemu({ installation, machine, endpointSockets: {}, ...change });
  started.push(qemu);
  return qemu;
}

/** A process that has ended but was not yet collected by whoever inherited it (state Z, proc(5)) is not alive. */
function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z';
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}

/** The directory of a run: where its QMP socket is. */
function runDirectory(argv: readonly string[]): string {
  return argv[argv.indexOf('-qmp') + 1]!.replace(/^unix:/, '').replace(/\/qmp\.sock$/, '');
}

describe('a launched QEMU', { timeout: GUEST_TIMEOUT_MS }, () => {
  it('answers on QMP, runs, and leaves nothing behind when it quits', async () => {
    const qemu = await launch();
    expect(`${qemu.qmp.version.major}.${qemu.qmp.version.minor}`).toBe(
      installation.version.split('.').slice(0, 2).join('.'),
    );
    expect(await qemu.qmp.execute('query-status')).toMatchObject({ running: true, status: 'running' });
    expect(isAlive(qemu.pid)).toBe(true);
    expect(existsSync(runDirectory(qemu.argv))).toBe(true);
    const exit = await qemu.quit();
    expect(exit).toMatchObject({ code: 0, signal: null });
    expect(isAlive(qemu.pid)).toBe(false);
    expect(existsSync(runDirectory(qemu.argv))).toBe(false);
    expect(await qemu.quit()).toBe(exit);
  });

  it('passes on what the firmware says', async () => {
    let log = '';
    const said = new Promise<void>(resolve => {
      void launch({
        onFirmwareLog: chunk => {
          log += chunk;
          if (log.includes('No bootable device')) resolve();
        },
      });
    });
    await said;
    expect(log).toMatch(/SeaBIOS \(version/);
  });

  it('starts UEFI firmware with variables of its own', async () => {
    const qemu = await launch({ machine: { ...machine, firmware: 'uefi', memoryMegabytes: 128 } });
    const blocks = (await qemu.qmp.execute('query-block')) as { inserted?: { file: string; ro: boolean } }[];
    const files = blocks.flatMap(block => (block.inserted ? [[block.inserted.file, block.inserted.ro]] : []));
    expect(files).toEqual([
      [installation.ovmf!.code, true],
      [join(runDirectory(qemu.argv), 'vars.fd'), false],
    ]);
  });

  it('offers the second serial port as a socket', async () => {
    const qemu = await launch({ agent: true });
    const socket = createConnection(qemu.agentSocket!);
    await once(socket, 'connect');
    socket.destroy();
  });

  it('takes whole ACPI tables', async () => {
    const qemu = await launch({ acpiTables: [buildExternalPortsSsdt([])] });
    expect(await qemu.qmp.execute('query-status')).toMatchObject({ running: true });
    expect(qemu.stderr()).toBe('');
  });

  it('resolves exit when it is killed from outside', async () => {
    const qemu = await launch();
    process.kill(qemu.pid, 'SIGKILL');
    expect(await qemu.exit).toMatchObject({ code: null, signal: 'SIGKILL' });
    expect(existsSync(runDirectory(qemu.argv))).toBe(false);
    await expect(qemu.qmp.execute('query-status')).rejects.toThrow(/closed/);
    expect(await qemu.quit()).toMatchObject({ signal: 'SIGKILL' });
  });

  it('is ended although it does not answer', async () => {
    const qemu = await launch({ quitStepMs: 300 });
    // A stopped process hears neither QMP nor SIGTERM.
    process.kill(qemu.pid, 'SIGSTOP');
    expect(await qemu.quit()).toMatchObject({ signal: 'SIGKILL' });
    expect(isAlive(qemu.pid)).toBe(false);
  });
});

describe('a QEMU that does not come up', { timeout: GUEST_TIMEOUT_MS }, () => {
  afterEach(() => vi.unstubAllEnvs());

  it('says why, with its own words', async () => {
    const bad = launch({ machine: { ...machine, extra: ['-device', 'no-such-device'] } });
    const error = await bad.catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(LaunchError);
    expect(String(error)).toMatch(/ended while it started \(status 1\).*\n.*'no-such-device' is not a valid device/);
    expect(existsSync(runDirectory((error as LaunchError).argv))).toBe(false);
  });

  it('is no program', async () => {
    const missing = { ...installation, argv: [join(directory, 'nothing')] };
    await expect(launch({ installation: missing })).rejects.toThrow(/QEMU cannot be started: .*ENOENT/);
  });

  it('is given up after the time it has, and killed', async () => {
    const mute = { ...installation, argv: ['/bin/sh', '-c', 'echo $$ >&2; exec sleep 600', 'sh'] };
    let pid = 0;
    const onStderr = (text: string) => {
      pid = Number.parseInt(text, 10);
    };
    await expect(launch({ installation: mute, startTimeoutMs: 300, onStderr })).rejects.toThrow(
      /did not answer within 0\.3 s/,
    );
    expect(pid).toBeGreaterThan(1);
    expect(isAlive(pid)).toBe(false);
  });

  it('is not started with a socket whose path is too long', async () => {
    // Other tests have QEMUs of their own among the system's temporary files.
    const temporary = join(directory, 'temporary');
    mkdirSync(temporary);
    vi.stubEnv('TMPDIR', temporary);
    await expect(launch({ iommuSocket: `/${'x'.repeat(120)}` })).rejects.toThrow(/at most 107 bytes/);
    expect(readdirSync(temporary)).toEqual([]);
  });

  it('is not asked for two things on one output', async () => {
    await expect(launch({ onConsole: () => {}, onFirmwareLog: () => {} })).rejects.toThrow(/not for both/);
  });
});

describe('the end of the process that launched QEMU', { timeout: GUEST_TIMEOUT_MS }, () => {
  afterEach(() => vi.unstubAllEnvs());

  const launcher = join(directory, 'launcher.mjs');

  beforeAll(() => {
    const compiled = join(repository, 'dist/qemu/launch.js');
    const program = [
      `import { launchQemu } from ${JSON.stringify(compiled)};`,
      'const qemu = await launchQemu(JSON.parse(process.env.LAUNCH_OPTIONS));',
      'console.log(JSON.stringify({ pid: qemu.pid, argv: qemu.argv }));',
      "if (process.env.ENDING === 'exit') process.exit(0);",
      "if (process.env.ENDING === 'throw') setTimeout(() => { throw new Error('on purpose'); });",
    ];
    writeFileSync(launcher, program.join('\n'));
  });

  /** Runs the launch in a process of its own, which then ends as asked. */
  async function launchElsewhere(
    ending: string,
    version = installation.version,
  ): Promise<{ pid: number; argv: string[]; how: string }> {
    const child = spawn(process.execPath, [launcher], {
      stdio: ['ignore', 'pipe', ending === 'throw' ? 'ignore' : 'inherit'],
      env: {
        ...process.env,
        ENDING: ending,
        LAUNCH_OPTIONS: JSON.stringify({ installation: { ...installation, version }, machine, endpointSockets: {} }),
      },
    });
    const exit = once(child, 'exit');
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const { argv, pid } = JSON.parse(line.toString()) as { pid: number; argv: string[] };
    if (ending.startsWith('SIG')) child.kill(ending as NodeJS.Signals);
    const [code, signal] = (await exit) as [number | null, string | null];
    return { pid, argv, how: signal ?? String(code) };
  }

  it.each([
    ['exit', '0'],
    ['throw', '1'],
    ['SIGINT', 'SIGINT'],
    ['SIGTERM', 'SIGTERM'],
    ['SIGHUP', 'SIGHUP'],
  ])('by %s ends QEMU and removes its files', async (ending, how) => {
    const launched = await launchElsewhere(ending);
    expect(launched.how).toBe(how);
    // The kernel may still be at work on the end of the process.
    await expect.poll(() => isAlive(launched.pid), { timeout: 10_000 }).toBe(false);
    expect(existsSync(runDirectory(launched.argv))).toBe(false);
  });

  it.each([
    ['that can see to that itself', undefined],
    ['that is too old to see to that itself', '10.1.9'],
  ])('by SIGKILL ends a QEMU %s, and the next one removes its files', async (_, version) => {
    expect(supportsExitWithParent(version ?? installation.version)).toBe(version === undefined);
    // Whoever starts a QEMU or a machine beside this test clears away what is left among the system's temporary files.
    const temporary = join(directory, `temporary-${version ?? 'present'}`);
    mkdirSync(temporary);
    vi.stubEnv('TMPDIR', temporary);
    const launched = await launchElsewhere('SIGKILL', version);
    await expect.poll(() => isAlive(launched.pid), { timeout: 10_000 }).toBe(false);
    const left = runDirectory(launched.argv);
    expect(existsSync(left)).toBe(true);
    await launchElsewhere('exit');
    expect(readdirSync(temporary)).toEqual([]);
  });
});

describe('supportsExitWithParent', () => {
  it('is so from 10.2 on', () => {
    expect(['10.1.9', '10.2.0', '11.0.0'].map(supportsExitWithParent)).toEqual([false, true, true]);
  });
});
