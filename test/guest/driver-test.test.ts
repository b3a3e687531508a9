/** `viommu test` in real guests: modules built here and stock ones, bugs on demand, scripts that hang. */
import { createHash, randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { GuestAgent, GuestTimeout } from '../../images/guest/agent.ts';
import { copyIn } from '../../images/guest/copy-in.ts';
import { launchQemu } from '../../qemu/launch.ts';
import { provisionGuestPackages, provisionQemu } from '../../qemu/provision.ts';
import type { TestDocument } from '../../src/cli/driver-test/report.ts';
import { ModuleBuilder } from '../../src/cli/driver-test/source.ts';
import { stockGuest } from '../../src/cli/stock-guest.ts';
import { runProgram, startProgram } from '../support.ts';
import { READY_TIMEOUT_MS, temporaryDirectory } from './support.ts';

const folder = join(import.meta.dirname, 'driver-test');
const source = join(folder, 'module');
const count = join(folder, 'count.sh');

const scratch = temporaryDirectory();
const at = (name: string) => join(scratch.path, name);
/** Everything temporary of the programs, so that what they leave is seen. */
const temporary = at('t');

beforeAll(() => {
  mkdirSync(temporary);
  vi.stubEnv('TMPDIR', temporary);
});
afterEach(() => expect(readdirSync(temporary)).toEqual([]));
afterAll(() => {
  vi.unstubAllEnvs();
  scratch.remove();
});

function script(name: string, text: string): string {
  writeFileSync(at(name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  return at(name);
}

async function withBug(bug: number, args: string[] = [count, '--unload'], module = ['--module-source', source]) {
  const [run, ...more] = args;
  const all = [...module, '--module-params', `edu-fill:bug=${bug}`, '--run', run!, ...more];
  const { status, stdout, stderr } = await runProgram(['test', ...all, '--json']);
  expect(stdout, stderr).toMatch(/^\{/);
  return { status, stderr, document: JSON.parse(stdout) as TestDocument };
}

const outcomes = ({ modules, cases, unloads }: TestDocument) =>
  [...modules, ...cases, ...unloads].map(({ outcome }) => outcome);

describe('a driver built from its sources', () => {
  const built = at('edu_fill.ko');

  beforeAll(async () => {
    const { kernelRelease } = await provisionGuestPackages({ progress: () => {} });
    const [module] = await new ModuleBuilder(scratch.path).build(source, kernelRelease);
    writeFileSync(built, module!.bytes);
  });

  it('passes where it is right: loaded, run, unloaded, nothing found', async () => {
    const { status, document } = await withBug(0);
    expect(document.cases[0]!.output).toEqual(['2 transfers']);
    expect(outcomes(document)).toEqual(['passed', 'passed', 'passed']);
    expect(document).toMatchObject({ passed: true, status: 0, findings: [], bootProblems: [] });
    expect(status).toBe(0);
    expect(readdirSync(source).sort()).toEqual(['Kbuild', 'edu_fill.c']);
  });

  it('is found out where it unmaps too early, and its scripts are in the report', async () => {
    const report = at('junit.xml');
    const { status, document } = await withBug(1, [count, '--report', report]);
    expect(document).toMatchObject({ passed: true, status: 3 });
    expect(new Set(document.findings.map(({ detector }) => detector))).toEqual(new Set(['use-after-unmap']));
    expect(status).toBe(3);
    const xml = readFileSync(report, 'utf8');
    expect(xml).toMatch(/classname="viommu\.test" name="[^"]*count\.sh"[^>]*>\s*<system-out>2 transfers</);
    expect(xml).toMatch(/name="use-after-unmap">\s*<failure/);
  });

  it.each([
    [2, /^the kernel reported: WARNING: .* at edu_fill\.c:\d+ edu_fill_probe/],
    [3, /^the module could not be loaded: insmod: .*Invalid argument/],
    [4, /^the guest's kernel panicked$/],
    [5, /^the kernel ended insmod: the module crashed in its init function/],
  ])('fails with bug=%d as it should, and no script is run', async (bug, reason) => {
    const { status, document } = await withBug(bug, [count, '--unload'], ['--module', built]);
    expect(document.modules[0]!.reason).toMatch(reason);
    expect(outcomes(document)).toEqual(['failed', 'not-run']);
    expect(status).toBe(1);
    const log = document.modules[0]!.kernelLog.join('\n');
    if (bug === 4) expect(log).toContain('edu_fill was told to');
    if (bug === 5) expect(document.modules[0]!.kernelProblems[0]!.headline).toMatch(/^BUG: kernel NULL pointer/);
  });

  it('shows what the compiler says, by the names that the user knows', async () => {
    cpSync(source, at('broken'), { recursive: true });
    writeFileSync(at('broken/edu_fill.c'), 'int broken(void) { return nothing; }\n');
    const { status, stdout, stderr } = await runProgram(['test', '--module-source', at('broken')]);
    expect(status).toBe(1);
    expect(stderr).toContain(`${at('broken')}/edu_fill.c:1:27: error: `);
    expect(stdout).toBe('');
  });
});

describe('stock modules and scripts', () => {
  it('loads a module of the kernel with what it needs, and its parameters', async () => {
    const run = script('there.sh', 'ls -d /sys/module/mdio /sys/class/net/dummy2 /sys/class/net/dummy3');
    const outcome = await runProgram([
      ...[
        'test',
        '--module',
        'dummy',
        '--module',
        'e1000',
        '--module',
        'mdio',
        '--module-params',
        'dummy:numdummies=3',
      ],
      ...['--run', run],
    ]);
    expect(outcome.stdout).toMatch(/No such file or directory\n\/sys\/class\/net\/dummy2\n\/sys\/module\/mdio$/m);
    expect(outcome.stdout).toMatch(/^PASS {2}load mdio/m);
    expect(outcome.status).toBe(1);
  });

  it('gives programs their devices, files and arguments, and kills what hangs', async () => {
    writeFileSync(at('data'), randomBytes(1000));
    const digest = createHash('sha256')
      .update(readFileSync(at('data')))
      .digest('hex');
    const good = script(
      'good.sh',
      'echo "$0 $# $2"; sha256sum </tmp/in/data; sleep 1000 & dma-demo --case device-writes',
    );
    const hangs = script('hangs.sh', 'trap "" INT TERM; echo waiting; sleep 1000 & wait; sleep 1000');
    const after = script(
      'after.sh',
      `for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -x 'sleep 1000 '; done; exit 4`,
    );
    const runs = [good, hangs, after].flatMap(path => ['--run', path]);
    const { status, stdout } = await runProgram([
      ...['test', ...runs, '--file', `${at('data')}:/tmp/in/`, '--timeout', '5', '--json', '--', 'one', 'two  three'],
    ]);
    const { cases } = JSON.parse(stdout) as TestDocument;
    expect(cases.map(one => [one.outcome, one.status])).toEqual([
      ['passed', 0],
      ['timed-out', 137],
      ['failed', 4],
    ]);
    expect(cases[0]!.output.slice(0, 2)).toEqual(['/test/good.sh 2 two  three', `${digest}  -`]);
    expect(cases[0]!.output.join('\n')).toMatch(/PASS device-writes/);
    expect(cases[1]!.output).toEqual(['waiting']);
    expect(cases[2]!.output).toEqual([]);
    expect(status).toBe(1);
  });
});

describe('--watch', () => {
  it('runs again after each change, and ends with Ctrl-C with nothing left', async () => {
    cpSync(source, at('watched'), { recursive: true });
    const run = script('watched.sh', 'echo first; cat /sys/module/edu_fill/parameters/transfers');
    const watch = startProgram(['test', '--watch', '--module-source', at('watched'), '--run', run]);
    await watch.says(/^first\n2$[\s\S]*^PASSED/m);
    script('watched.sh', 'echo second; cat /sys/module/edu_fill/parameters/transfers');
    await watch.says(/^second\n2$[\s\S]*^PASSED/m);
    const text = readFileSync(join(source, 'edu_fill.c'), 'utf8');
    writeFileSync(at('watched/edu_fill.c'), text.replace('transfers++', 'transfers += 10'));
    await watch.says(/^second\n20$[\s\S]*^PASSED/m);
    watch.child.kill('SIGINT');
    const { status, stdout } = await watch.ended;
    expect(status).toBe(130);
    expect(stdout.match(/^PASSED /gm)).toHaveLength(3);
  });
});

describe('copyIn', () => {
  let end: () => Promise<unknown>;
  let agent: GuestAgent;

  beforeAll(async () => {
    const quiet = () => {};
    // It is no program's, and there as long as the tests.
    vi.unstubAllEnvs();
    const qemu = await launchQemu({
      installation: await provisionQemu({ progress: quiet }),
      machine: {
        topology: { iommuBus: 'pcie.0', iommuSlot: 1, rootPorts: [], endpoints: [] } as never,
        firmware: 'bios',
        accelerator: 'tcg',
        memory: 'shared',
        boot: await stockGuest('console=ttyS0 quiet'),
      },
      endpointSockets: {},
      agent: true,
    });
    end = () => qemu.quit();
    agent = await GuestAgent.connect(qemu.agentSocket!);
    await agent.ready(READY_TIMEOUT_MS);
  });
  afterAll(async () => {
    agent?.close();
    await end?.();
  });

  it('goes on where a command does not want its input, or is given up while it waits for some', async () => {
    const input = 'A'.repeat(100_000);
    expect((await agent.run('head -c 5', { input })).output).toEqual(['AAAAA']);
    expect((await agent.run('exit 3', { input })).status).toBe(3);
    expect((await agent.run('wc -c', { input })).output).toEqual(['100000']);
    await expect(agent.run('sleep 600', { input, timeoutMs: 1000 })).rejects.toThrow(GuestTimeout);
    expect((await agent.run('wc -c', { input })).output).toEqual(['100000']);
    // Once nothing more of it fits anywhere.
    await expect(agent.run('sleep 600', { input, quietMs: 3000 })).rejects.toThrow(GuestTimeout);
    expect((await agent.run('wc -c', { input })).output).toEqual(['100000']);
  });

  it('brings long lines of output whole while more of the input is asked for', async () => {
    const lines = Array.from({ length: 8 }, (_, i) => String(i).repeat(12_000));
    const input = Buffer.from(`${lines.join('\n')}\n`).toString('base64');
    expect(await agent.run('base64 -d', { input, timeoutMs: 60_000 })).toEqual({ status: 0, output: lines });
    const begun = agent.run('printf begun; cat >/dev/null; printf " and ended"', { input, timeoutMs: 60_000 });
    expect(await begun).toEqual({ status: 0, output: ['begun and ended'] });
  });

  it.each([0, 1, 2850, 40_000, 150_000])('brings %d random bytes into a real guest', async size => {
    const bytes = randomBytes(size);
    await copyIn(agent, bytes, `/data/a b/${size}`, 0o750);
    const { output } = await agent.run(`cd '/data/a b'; stat -c '%a %s' ${size}; sha256sum <${size}; ls | wc -l`);
    expect(output.slice(0, 2)).toEqual([`750 ${size}`, `${createHash('sha256').update(bytes).digest('hex')}  -`]);
  });
});
