/** The example project, as a project of somebody else: a copy of it elsewhere, with this package packed and unpacked as npm does. */
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../qemu/run.ts';
import { repository } from '../support.ts';
import { containerEngine, type TestImages, testImages } from './engine.ts';

const engine = await containerEngine();
const reason = 'skipped' in engine ? `, skipped: ${engine.skipped}` : '';

/** What npm would fetch. */
const PACKAGES = ['commander', 'koffi', 'msgpackr', 'testcontainers', 'vitest', 'ws'];

describe.skipIf(reason !== '')(`the example project${reason}`, () => {
  let directory: string;
  let project: string;
  let images: TestImages;
  let running: ChildProcess | undefined;

  beforeAll(async () => {
    images = await testImages();
    directory = mkdtempSync(join(tmpdir(), 'viommu-example-'));
    project = join(directory, 'driver-test');
    const mine = /\/(node_modules|build|artefacts)$/;
    cpSync(join(repository, 'examples', 'driver-test'), project, { recursive: true, filter: path => !mine.test(path) });
    const packages = join(project, 'node_modules');
    mkdirSync(packages);
    await install(packages);
    for (const name of PACKAGES) symlinkSync(join(repository, 'node_modules', name), join(packages, name));
  });

  afterAll(() => {
    // Where a test ran out of time.
    if (running?.exitCode === null) running.kill();
    if (directory !== undefined) rmSync(directory, { recursive: true });
  });

  async function install(packages: string): Promise<void> {
    const packed = await run([
      'npm',
      'pack',
      repository,
      '--offline',
      '--ignore-scripts',
      '--pack-destination',
      directory,
    ]);
    expect(packed.stderr).not.toMatch(/npm error/i);
    const archive = join(directory, packed.stdout.trim().split('\n').at(-1)!);
    const unpacked = await run(['tar', '-xzf', archive, '-C', packages]);
    expect(unpacked).toMatchObject({ status: 0 });
    cpSync(join(packages, 'package'), join(packages, 'viommu'), { recursive: true });
  }

  async function runTests(bug: 0 | 1): Promise<{ readonly status: number | null; readonly output: string }> {
    const vitest = join(repository, 'node_modules', 'vitest', 'vitest.mjs');
    const child = spawn(process.execPath, [vitest, 'run'], {
      cwd: project,
      env: {
        ...process.env,
        BUG: String(bug),
        DOCKER_HOST: 'host' in engine ? engine.host : '',
        NO_COLOR: '1',
        TESTCONTAINERS_RYUK_DISABLED: 'true',
        VIOMMU_SERVER_IMAGE: images.server,
        VIOMMU_QEMU_IMAGE: images.qemu,
        VIOMMU_DEBIAN_BASE: images.debianBase,
        VIOMMU_BUILD_NETWORK: 'host',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running = child;
    const closed = new Promise<number | null>(resolve => child.once('close', resolve));
    const [out, error, status] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
    return { status, output: out + error };
  }

  it('passes with a driver that is right', async () => {
    const { status, output } = await runTests(0);
    expect(output).toMatch(/Tests +1 passed/);
    expect(status).toBe(0);
    expect(existsSync(join(project, 'artefacts'))).toBe(false);
  });

  it('fails with a driver that is wrong, and says why', async () => {
    const { status, output } = await runTests(1);
    expect(status).toBe(1);
    expect(output).toContain('expected no findings, and there are 2');
    expect(output).toMatch(
      /F1 warning use-after-unmap: edu0 \(01:00\.0\) tried to read 2048 bytes at 0x[0-9a-f]+800, which was unmapped/,
    );
    expect(output).toContain('Stop the device, or wait until it is done with the buffer');
    expect(output).toContain("Artefacts of 'gives back what was written'");
  });

  it('keeps artefacts that explain it', async () => {
    const artefacts = join(project, 'artefacts');
    const kept = (name: string) => readFileSync(join(artefacts, name), 'utf8');
    expect(kept('findings.txt')).toContain('F1 use-after-unmap');
    expect(JSON.parse(kept('findings.json'))).toMatchObject({ counts: { byDetector: { 'use-after-unmap': 2 } } });
    expect(kept('kernel.log')).toContain('edu_dma: loading out-of-tree module');
    const viommu = join(project, 'node_modules', 'viommu', 'dist', 'src', 'cli', 'main.js');
    const { status, stdout } = await run([process.execPath, viommu, 'explain', join(artefacts, 'run.viommu'), 'F1']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/What led there:.*invalidation of 0x[0-9a-f]+.*was refused/s);
  });
});
