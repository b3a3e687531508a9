/** `viommu serve` with the flags of the debugger, and a driver behind it that is wrong. */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { TestGuest } from '../../src/testing/guest.ts';
import { attachMachine } from '../../src/testing/machine.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { type Outcome, type RunningProgram, runProgram, startProgram } from '../support.ts';

const IOVA = 0x10000n;
const NEVER_MAPPED = 0x55000n;
const TIMEOUT_MS = 30_000;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Served {
  readonly directory: string;
  readonly program: RunningProgram;
  readonly guest: TestGuest;
  /** A path in the directory. */
  file(name: string): string;
  /** The device writes 8 bytes there. */
  write(iova: bigint): void;
  /** The device's page goes, and nobody says so, and it is used. */
  useStale(): Promise<void>;
  interrupt(): Promise<Outcome>;
}

async function serve(...flags: string[]): Promise<Served> {
  const { path: directory, remove } = temporaryDirectory();
  cleanups.push(remove);
  const file = (name: string) => join(directory, name);
  const words = flags.map(flag => flag.replace('DIR', directory));
  mkdirSync(file('gone'));
  const program = startProgram(['serve', '--dir', directory, '--device', 'edu@01:00.0', ...words]);
  cleanups.push(async () => {
    program.child.kill('SIGKILL');
    await program.ended;
  });
  await program.says(/^ready/m);
  const guest = new TestGuest({ iommu: file('iommu.sock'), edu0: file('edu0.sock') });
  cleanups.push(() => guest.close());
  const write = (iova: bigint) => {
    const edu = guest.function('edu0');
    edu.write64(0, 0x80, 0x40000n);
    edu.write64(0, 0x88, iova);
    edu.write64(0, 0x90, 8n);
    edu.write64(0, 0x98, 3n);
  };
  const isIdle = () => (guest.function('edu0').read32(0, 0x98) & 1) === 0;
  const useStale = async () => {
    const vtd = guest.vtd();
    const domain = vtd.createDomain();
    vtd.map(domain, IOVA, guest.memory.allocate());
    await vtd.attach('01:00.0', domain);
    write(IOVA);
    await guest.until(isIdle);
    vtd.clear(domain, IOVA);
    write(IOVA);
  };
  const interrupt = async () => {
    program.child.kill('SIGINT');
    return await program.ended;
  };
  return { directory, program, guest, file, write, useStale, interrupt };
}

/** The device uses an address that nothing was ever mapped at. */
async function neverMapped(...flags: string[]): Promise<{ outcome: Outcome; file: Served['file'] }> {
  const { guest, write, interrupt, file } = await serve(...flags);
  const vtd = guest.vtd();
  await vtd.attach('01:00.0', vtd.createDomain());
  write(NEVER_MAPPED);
  await guest.until(() => (guest.function('edu0').read32(0, 0x98) & 1) === 0);
  return { outcome: await interrupt(), file };
}

describe('viommu serve', { timeout: TIMEOUT_MS }, () => {
  it('tells findings as they come, and in full at the end', async () => {
    const { outcome } = await neverMapped();
    const [first] = outcome.stderr.split('\n').filter(line => line.startsWith('F1 '));
    expect(first).toMatch(/^F1 never-mapped: edu0 .*0x55000/);
    expect(outcome.stderr.split('\n\n').slice(1).join('\n')).toMatch(/never-mapped/);
    expect(outcome.status).toBe(0);
  });

  it.each([
    ['warning', 3],
    ['note', 3],
    ['never-mapped', 3],
    ['stale-iotlb', 0],
    ['never', 0],
  ])('--fail-on %s ends with %d', async (what, status) => {
    expect((await neverMapped('--fail-on', what)).outcome.status).toBe(status);
  });

  it('ends well where nothing is found', async () => {
    const { interrupt } = await serve('--fail-on', 'note');
    expect((await interrupt()).status).toBe(0);
  });

  it('does not look for what it is told not to', async () => {
    const { outcome } = await neverMapped('--sanitize', '-never-mapped', '--fail-on', 'note');
    expect(outcome.stderr).not.toContain('F1');
    expect(outcome.status).toBe(0);
  });

  it('is ended by a finding that is to stop it, with status 3', async () => {
    const { useStale, program, file } = await serve(
      ...['--sanitize', 'stale-iotlb=stop', '--report', 'DIR/findings.json'],
    );
    await useStale();
    const { status, stderr } = await program.ended;
    expect(stderr).toMatch(/^F1 stale-iotlb: /m);
    expect(status).toBe(3);
    const report = JSON.parse(readFileSync(file('findings.json'), 'utf8'));
    expect(report.findings).toMatchObject([{ id: 'F1', detector: 'stale-iotlb', severity: 'stop' }]);
  });

  it('writes reports in all formats', async () => {
    const names = ['findings.json', 'findings.sarif', 'findings.xml', 'findings.txt'];
    const { file } = await neverMapped(...names.flatMap(name => ['--report', `DIR/${name}`]));
    const [json, sarif, xml, text] = names.map(name => readFileSync(file(name), 'utf8'));
    const report = JSON.parse(json!);
    expect(report.findings).toMatchObject([{ detector: 'never-mapped', device: 'edu0' }]);
    const results = JSON.parse(sarif!).runs[0].results;
    expect(results).toMatchObject([{ ruleId: 'never-mapped' }]);
    expect(xml).toMatch(/<testsuite[^>]*failures="1"[\s\S]*never-mapped[\s\S]*0x55000/);
    expect(text).toMatch(/never-mapped[\s\S]*0x55000/);
  });

  it('writes reports where nothing was found, too', async () => {
    const { interrupt, file } = await serve('--report', 'DIR/none.xml', '--report', 'DIR/none.json');
    await interrupt();
    expect(JSON.parse(readFileSync(file('none.json'), 'utf8')).findings).toEqual([]);
    expect(readFileSync(file('none.xml'), 'utf8')).toMatch(/failures="0"/);
  });

  it.each(['--report=DIR/nowhere/findings.json', '--report=DIR/taken.json'])(
    'says at once that a report cannot be written: %s',
    async flag => {
      const { path, remove } = temporaryDirectory();
      cleanups.push(remove);
      mkdirSync(join(path, 'taken.json'));
      const program = startProgram(['serve', '--dir', path, flag.replace('DIR', path)]);
      cleanups.push(() => program.child.kill('SIGKILL'));
      const { status, stderr, stdout } = await program.ended;
      expect(stderr).toMatch(/cannot write the report .*(nowhere.findings|taken)\.json/);
      expect(stdout).not.toMatch(/ready/);
      expect(status).toBe(1);
    },
  );

  it.each([
    ['warning', 3],
    ['never', 1],
  ])(
    'tells its findings, and writes what can be written, where a report cannot be (--fail-on %s)',
    async (what, status) => {
      const { guest, write, interrupt, file, directory } = await serve(
        ...['--report', 'DIR/gone/a.json', '--report', 'DIR/b.json', '--fail-on', what],
      );
      const vtd = guest.vtd();
      await vtd.attach('01:00.0', vtd.createDomain());
      write(NEVER_MAPPED);
      await guest.until(() => (guest.function('edu0').read32(0, 0x98) & 1) === 0);
      rmSync(join(directory, 'gone'), { recursive: true });
      const outcome = await interrupt();
      expect(outcome.stderr).toMatch(/^F1 never-mapped/m);
      expect(outcome.stderr).toMatch(/cannot write the report .*gone\/a\.json/);
      expect(JSON.parse(readFileSync(file('b.json'), 'utf8')).findings).toMatchObject([{ detector: 'never-mapped' }]);
      expect(outcome.status).toBe(status);
    },
  );

  it('says at once that a recording cannot be written to', async () => {
    const { path, remove } = temporaryDirectory();
    cleanups.push(remove);
    const program = startProgram(['serve', '--dir', path, '--record', '/dev/full']);
    cleanups.push(() => program.child.kill('SIGKILL'));
    const { status, stderr } = await program.ended;
    expect(stderr).toMatch(/cannot write \/dev\/full: .*ENOSPC/);
    expect(status).toBe(1);
  });

  it('does not take --fail-on where nothing is looked for', async () => {
    const { path, remove } = temporaryDirectory();
    cleanups.push(remove);
    const { status, stderr } = await runProgram(['serve', '--dir', path, '--sanitize', 'off', '--fail-on', 'warning']);
    expect(stderr).toMatch(/--fail-on needs something to be looked for/);
    expect(status).toBe(2);
  });

  it('tells who is attached what stopped it', async () => {
    const { guest, write, directory, program } = await serve('--listen', '0', '--sanitize', 'never-mapped=stop');
    const machine = await attachMachine({ directory });
    cleanups.push(() => machine.stop());
    const vtd = guest.vtd();
    await vtd.attach('01:00.0', vtd.createDomain());
    write(NEVER_MAPPED);
    expect(await machine.waitForFinding('never-mapped')).toMatchObject({ id: 'F1', severity: 'stop' });
    expect((await program.ended).status).toBe(3);
    expect(await machine.findings()).toMatchObject([{ id: 'F1' }]);
  });

  it('says at once that a recording cannot be written', async () => {
    const { path, remove } = temporaryDirectory();
    cleanups.push(remove);
    const program = startProgram(['serve', '--dir', path, '--record', join(path, 'nowhere', 'a')]);
    cleanups.push(() => program.child.kill('SIGKILL'));
    const { status, stderr } = await program.ended;
    expect(stderr).toMatch(/nowhere/);
    expect(status).toBe(1);
  });

  it('records what trace and explain read', async () => {
    const { outcome, file } = await neverMapped('--record', 'DIR/run.viommu');
    const path = file('run.viommu');
    expect(outcome.stderr).toMatch(/run\.viommu: \d+ records/);
    const trace = await runProgram(['trace', path, '--class', 'fault', '--json']);
    expect(trace.stderr).toBe('');
    const kinds = trace.stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line).kind);
    expect(kinds).toEqual(expect.arrayContaining(['fault', 'dma.failed']));
    const explained = await runProgram(['explain', path, 'F1']);
    expect(explained.stdout).toMatch(/never-mapped[\s\S]*0x55000/);
    expect(explained.status).toBe(0);
  });

  it('records the classes that are asked for', async () => {
    const { file } = await neverMapped('--record', 'DIR/run.viommu', '--record-classes', 'attach');
    const { stdout } = await runProgram(['trace', file('run.viommu'), '--json']);
    const kinds = new Set(
      stdout
        .trim()
        .split('\n')
        .map(line => JSON.parse(line).kind),
    );
    expect([...kinds]).toContain('attach');
    for (const kind of ['fault', 'dma.failed', 'register.write']) expect(kinds).not.toContain(kind);
  });

  it('has faults made on purpose by who is attached', async () => {
    const { directory, guest, write } = await serve('--listen', '0');
    const machine = await attachMachine({ directory });
    cleanups.push(() => machine.stop());
    const vtd = guest.vtd();
    await vtd.attach('01:00.0', vtd.createDomain());
    const refused = await machine.inject({ kind: 'refuse', device: 'edu0' });
    write(NEVER_MAPPED);
    await refused.applied();
    await machine.settle();
    expect(await machine.findings()).toEqual([]);
  });
});
