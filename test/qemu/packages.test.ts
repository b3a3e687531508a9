/** What is said, and what remains, when packages cannot be had; that they can is in provision.test.ts. */
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { PackagesUnavailable } from '../../qemu/apt.ts';
import { packageTree, treeSize } from '../../qemu/packages.ts';
import { run } from '../../qemu/run.ts';
import { temporaryDirectory } from './support.ts';

const root = temporaryDirectory();
let count = 0;

afterEach(() => {
  vi.unstubAllEnvs();
});

/** Asks for a package, with a cache of its own. Gives the error, and what is left of the tree. */
async function ask(): Promise<{ error: unknown; left: string[] }> {
  const cache = join(root, `cache${count++}`);
  const request = { suite: 'trixie', packages: ['busybox-static'], dependencies: false } as const;
  const tree = packageTree('tree', async () => [request], { cache, progress: () => {} });
  const error = await tree.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  return { error, left: readdirSync(join(cache, 'trees')) };
}

describe('packages', { timeout: 60_000 }, () => {
  it('need apt-get, and the error says what to do without', async () => {
    const programs = join(root, 'programs');
    mkdirSync(programs);
    const flock = (await run(['sh', '-c', 'command -v flock'])).stdout.trim();
    symlinkSync(flock, join(programs, 'flock'));
    vi.stubEnv('PATH', programs);
    const { error, left } = await ask();
    expect(error).toBeInstanceOf(PackagesUnavailable);
    expect(String(error)).toMatch(/no apt-get.*Install QEMU 10\.1 or newer .*--qemu/);
    expect(left).toEqual([]);
  });

  it('need a mirror that is there', async () => {
    vi.stubEnv('VIOMMU_DEBIAN_MIRROR', `file://${join(root, 'no-mirror')}`);
    const { error, left } = await ask();
    expect(error).toBeInstanceOf(PackagesUnavailable);
    expect(String(error)).toMatch(/package lists of Debian 13 cannot be read\. apt says: .*no-mirror/);
    expect(left).toEqual([]);
  });

  it('are never taken from a mirror that nobody has signed', async () => {
    const mirror = join(root, 'unsigned');
    for (const suite of ['trixie', 'trixie-backports']) {
      const lists = join(mirror, 'dists', suite, 'main/binary-amd64');
      mkdirSync(lists, { recursive: true });
      writeFileSync(join(lists, 'Packages'), '');
      writeFileSync(join(mirror, 'dists', suite, 'Release'), `Origin: Debian\nSuite: ${suite}\nCodename: ${suite}\n`);
    }
    vi.stubEnv('VIOMMU_DEBIAN_MIRROR', `file://${mirror}`);
    const { error, left } = await ask();
    expect(error).toBeInstanceOf(PackagesUnavailable);
    expect(String(error)).toMatch(
      /do not know who signs Debian 13: upgrade or install the package debian-archive-keyring/,
    );
    expect(left).toEqual([]);
  });
});

describe('treeSize', () => {
  it('adds up the files below a directory, links not counted', async () => {
    const directory = join(root, 'tree/sub');
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'a'), '12345');
    writeFileSync(join(root, 'tree/b'), '123');
    symlinkSync('b', join(root, 'tree/link'));
    expect(await treeSize(join(root, 'tree'))).toBe(8);
  });
});
