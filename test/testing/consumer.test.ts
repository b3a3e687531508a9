/** A package of somebody else that has this one installed. */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../guest/support.ts';
import { repository } from '../support.ts';

const TIMEOUT_MS = 120_000;

const SCRIPT = `
import type { Finding } from 'viommu/findings';
import type { InjectionRule } from 'viommu/injection';
import { startMachine, type TestMachine } from 'viommu/testing';
import { TestGuest } from 'viommu/testing/guest';

const rule: InjectionRule = { kind: 'hold', device: 'edu0' };
const machine: TestMachine = await startMachine({ devices: ['edu@01:00.0'] });
const guest: TestGuest = machine.connectGuest();
const held = await machine.inject(rule);
await held.release();
guest.function('edu0').write64(0, 0x88, 0x5000n);
guest.function('edu0').write64(0, 0x80, 0x40000n);
guest.function('edu0').write64(0, 0x90, 8n);
guest.vtd();
guest.function('edu0').write64(0, 0x98, 3n);
const finding: Finding = await machine.waitForFinding('dma-while-detached');
console.log(finding.device, finding.iova);
guest.close();
await machine.stop();
`;

const WRONG = `
import { startMachine } from 'viommu/testing';
import { expect } from 'vitest';
import 'viommu/testing/vitest';
const machine = await startMachine();
// @ts-expect-error there is no such rule
await machine.inject({ kind: 'explode' });
// @ts-expect-error there is no such detector
await expect(machine).toHaveFinding('stale');
// @ts-expect-error an address is a bigint
await expect(machine).toHaveTranslated({ iova: 5 });
// @ts-expect-error it takes options
await expect(machine).toHaveNoFindings('none');
await expect(machine).not.toHaveFinding('stale-iotlb', { device: 'edu0' }, { timeoutMs: 5 });
`;

/** What npm puts beside it. */
const DEPENDENCIES = ['commander', 'koffi', 'msgpackr', 'ws'];

/** As npm installs a folder. */
function link(packages: string): void {
  symlinkSync(repository, join(packages, 'viommu'));
}

/** As npm installs a packed package. */
function copy(packages: string): void {
  const own = join(packages, 'viommu');
  mkdirSync(own);
  for (const name of ['package.json', 'dist']) cpSync(join(repository, name), join(own, name), { recursive: true });
  for (const name of DEPENDENCIES) symlinkSync(join(repository, 'node_modules', name), join(packages, name));
}

describe.each([
  ['linked', link],
  ['copied', copy],
])('a package that uses viommu/testing, %s', { timeout: TIMEOUT_MS }, (_way, install) => {
  const directory = temporaryDirectory();
  const { path } = directory;

  function run(program: string, ...args: string[]) {
    const script = join(repository, 'node_modules', program);
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { cwd: path, encoding: 'utf8' });
    return { status, output: stdout + stderr };
  }

  beforeAll(() => {
    const packages = join(path, 'node_modules');
    mkdirSync(join(packages, '@types'), { recursive: true });
    install(packages);
    for (const name of ['vitest', '@types/node'])
      symlinkSync(join(repository, 'node_modules', name), join(packages, name));
    const compilerOptions = {
      target: 'es2023',
      module: 'nodenext',
      types: ['node'],
      strict: true,
      skipLibCheck: false,
      outDir: 'out',
    };
    writeFileSync(join(path, 'package.json'), JSON.stringify({ name: 'a-driver', private: true, type: 'module' }));
    writeFileSync(join(path, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }));
    writeFileSync(join(path, 'script.ts'), SCRIPT);
    writeFileSync(join(path, 'wrong.ts'), WRONG);
    copyFileSync(join(repository, 'test', 'testing', 'example.test.ts'), join(path, 'example.test.ts'));
  });

  afterAll(() => directory.remove());

  it('compiles, and what is wrong does not', () => {
    const { status, output } = run('typescript/bin/tsc');
    expect(output).toBe('');
    expect(status).toBe(0);
    expect(readdirSync(join(path, 'out')).sort()).toEqual(['example.test.js', 'script.js', 'wrong.js']);
  });

  it('runs as a plain script', () => {
    expect(existsSync(join(path, 'out', 'script.js'))).toBe(true);
    const { status, stdout, stderr } = spawnSync(process.execPath, ['out/script.js'], { cwd: path, encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(stdout).toBe('edu0 20480n\n');
    expect(status).toBe(0);
  });

  it('runs the tests of the documentation', () => {
    const report = join(path, 'report.json');
    const { status, output } = run(
      'vitest/vitest.mjs',
      'run',
      'example.test.ts',
      '--reporter=json',
      `--outputFile=${report}`,
    );
    expect(output).not.toMatch(/error/i);
    expect(status).toBe(0);
    expect(JSON.parse(readFileSync(report, 'utf8'))).toMatchObject({ numPassedTests: 3, numFailedTests: 0 });
  });
});
