/** Guests whose machine is in another process, and guests without a terminal: through the program, as its users have them. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Outcome, type RunningProgram, runProgram, startProgram } from '../support.ts';
import { CuttingProxy } from '../vfio-user/websocket/cutting-proxy.ts';
import { temporaryDirectory } from './support.ts';

const CASES = ['device-writes', 'use-after-unmap'];
const CASE_FLAGS = CASES.flatMap(name => ['--case', name]);
const PUSHED_BYTES = 5000;

let directory: ReturnType<typeof temporaryDirectory>;
let server: string;
let serving: RunningProgram;
/** Everything temporary of the programs, so that what they leave is seen. */
let temporary: string;
const before = process.env.TMPDIR;

beforeAll(async () => {
  directory = temporaryDirectory();
  server = join(directory.path, 's');
  temporary = join(directory.path, 't');
  mkdirSync(temporary);
  process.env.TMPDIR = temporary;
  await startServer();
});
afterEach(() => expect(readdirSync(temporary)).toEqual([]));
afterAll(async () => {
  if (before === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = before;
  serving?.child.kill('SIGTERM');
  await serving?.ended;
  directory?.remove();
});

async function startServer(): Promise<void> {
  serving = startProgram(['serve', '--dir', server, '--on-demand', '--listen', 'unix', '--listen', '127.0.0.1:0']);
  await serving.says(/^ready/m);
}

function leased(): string[] {
  return readdirSync(server).filter(name => /^m\d+$/.test(name));
}

interface Report {
  readonly passed: boolean;
  readonly rounds: readonly { readonly cases: readonly { readonly name: string; readonly outcome: string }[] }[];
  readonly findings: readonly { readonly detector: string }[];
  readonly statistics: { readonly functions: Readonly<Record<string, { readonly memory: Record<string, number> }>> };
}

function reportOf(outcome: Outcome): Report {
  if (outcome.stdout === '') throw new Error(outcome.stderr);
  return JSON.parse(outcome.stdout);
}

function expectGood(outcome: Outcome): Report {
  const report = reportOf(outcome);
  const cases = report.rounds.flatMap(round => round.cases.map(({ name, outcome: how }) => `${how} ${name}`));
  expect(cases).toEqual(CASES.map(name => `PASS ${name}`));
  expect(report.findings.map(({ detector }) => detector)).toEqual(['use-after-unmap']);
  expect({ status: outcome.status, passed: report.passed }).toEqual({ status: 0, passed: true });
  return report;
}

describe('demo --server', () => {
  it('DIR gives the same verdicts, with the machine in the server and the memory shared with it', async () => {
    const report = expectGood(await runProgram(['demo', '--json', ...CASE_FLAGS, '--server', server]));
    expect(report.statistics.functions.edu0!.memory.directBytesWritten).toBeGreaterThan(0);
    expect(serving.stdout()).toMatch(/machine\.released/);
    expect(leased()).toEqual([]);
  });

  it('URL gives the same verdicts through a bridge, where nothing is shared', async () => {
    const [, url = ''] = /(ws:\/\/127[^\s]+)/.exec(serving.stdout()) ?? [];
    const report = expectGood(await runProgram(['demo', '--json', ...CASE_FLAGS, '--server', url]));
    expect(report.statistics.functions.edu0!.memory.directBytesWritten).toBe(0);
    expect(report.statistics.functions.edu0!.memory.messageBytes).toBeGreaterThan(0);
    expect(leased()).toEqual([]);
  });

  it('URL goes on when the connections of the API and of all devices are cut, several times in a run', async () => {
    const [, port] = /ws:\/\/127[^\s:]+:(\d+)/.exec(serving.stdout()) ?? [];
    const proxy = await CuttingProxy.start({ port: Number(port) });
    const printed = serving.stdout().length;
    const saidByServer = (kind: string) => serving.stdout().slice(printed).split(kind).length - 1;
    const demo = startProgram(['demo', '--server', `ws://127.0.0.1:${proxy.port}`]);
    try {
      for (const [index, name] of ['device-reads', 'scattered', 'two-domains', 'msi'].entries()) {
        await demo.says(new RegExp(`PASS {2}${name}`));
        proxy.refuse();
        proxy.cut();
        await expect.poll(() => saidByServer('lease.lost'), { timeout: 20_000 }).toBe(index + 1);
        proxy.allow();
        await expect.poll(() => saidByServer('lease.resumed'), { timeout: 20_000 }).toBe(index + 1);
        await expect.poll(() => saidByServer('link.resumed') / (index + 1), { timeout: 20_000 }).toBeGreaterThan(1);
      }
      const { status, stdout, stderr } = await demo.ended;
      expect(stdout + stderr).not.toMatch(/FAIL/);
      expect(stdout).toMatch(/PASS {2}findings/);
      expect(status).toBe(0);
    } finally {
      demo.child.kill('SIGTERM');
      await demo.ended;
      await proxy.close();
    }
    expect(leased()).toEqual([]);
  });

  it('ends, and says why, when the server is killed in the middle', async () => {
    const demo = startProgram(['demo', '--server', server]);
    await demo.says(/PASS {2}device-reads/);
    serving.child.kill('SIGKILL');
    const { status, stderr, stdout } = await demo.ended;
    expect(status).toBe(1);
    expect(stderr).toContain(`the machine is gone, and with it the guest's devices: the server ${server}`);
    expect(stderr).toContain(`viommu serve --dir ${server} --on-demand`);
    expect(stdout).not.toMatch(/cases passed/);
    await serving.ended;
    await startServer();
  });
});

describe('boot --headless', () => {
  it('runs commands for whoever sees its directory, over a reboot, and leaves nothing when it is ended', async () => {
    const guestDirectory = join(directory.path, 'g');
    const guest = (...words: string[]) => runProgram(['guest', words[0]!, '--dir', guestDirectory, ...words.slice(1)]);
    const script = join(directory.path, 'hello.sh');
    writeFileSync(script, '#!/bin/sh\necho "hello $1"\nexit 7\n', { mode: 0o755 });
    const nobody = await guest('exec', '--', 'true');
    expect(nobody.status).toBe(255);
    expect(nobody.stderr).toMatch(/no guest runs in .*: start 'viommu boot --headless/);

    let machine: string | undefined;
    const boot = startProgram([
      ...['boot', '--headless', '--guest-dir', guestDirectory, '--server', server],
      ...['--copy', script, '--copy', `${script}:/bin/hello`],
    ]);
    try {
      expect(await guest('wait')).toMatchObject({ status: 0, stderr: '' });
      await boot.says(/Linux version/);
      [machine] = leased();
      expect(JSON.parse(readFileSync(join(guestDirectory, 'guest.json'), 'utf8'))).toEqual({
        pid: boot.pid,
        ready: true,
        machine,
      });

      expect(await guest('exec', '--', '/root/hello.sh', 'a  b')).toMatchObject({ status: 7, stdout: 'hello a  b\n' });
      expect(await guest('exec', '--', 'hello x | wc -l')).toMatchObject({ status: 0, stdout: '1\n' });
      const both = await Promise.all(['one', 'two'].map(word => guest('exec', '--', `echo ${word}; echo ${word}`)));
      expect(both.map(({ stdout }) => stdout)).toEqual(['one\none\n', 'two\ntwo\n']);
      const slow = await guest('exec', '--timeout', '1', '--', 'echo begun; sleep 100');
      expect(slow).toMatchObject({ status: 124, stdout: 'begun\n' });
      expect((await guest('exec', '--', 'dma-demo', '--case', 'device-writes')).stdout).toMatch(/PASS device-writes/);
      expect((await guest('log')).stdout).toMatch(/DMAR: dmar0/);

      const file = join(directory.path, 'random');
      writeFileSync(file, randomBytes(PUSHED_BYTES));
      expect(await guest('push', file, '/tmp/deep/random')).toMatchObject({ status: 0 });
      expect((await guest('exec', '--', 'wc -c </tmp/deep/random')).stdout.trim()).toBe(String(PUSHED_BYTES));
      const refused = await guest('load', file);
      expect(refused.status).toBe(1);
      expect(refused.stderr).toMatch(/insmod.*The guest kernel said last/s);

      expect(await guest('exec', '--', 'reboot')).toMatchObject({
        status: 255,
        stderr: expect.stringMatching(/restarted/),
      });
      expect(await guest('wait')).toMatchObject({ status: 0 });
      expect((await guest('exec', '--', 'ls /tmp')).stdout).toBe('');
    } finally {
      boot.child.kill('SIGTERM');
      await boot.ended;
    }
    expect((await boot.ended).status).toBe(143);
    expect(readdirSync(guestDirectory)).toEqual([]);
    await serving.says(new RegExp(`^${machine} .*machine\\.released`, 'm'));
    expect(leased()).toEqual([]);
  });
});
