import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FolderLock, withFolderLock } from '../../src/posix/folder-lock.ts';
import { flock, LOCK_EX, LOCK_NB } from '../../src/posix/libc.ts';
import { MAX_SWEPT, makeTemporaryDirectory, sweepTemporaryDirectories } from '../../src/posix/temporary-directory.ts';
import { repository } from '../support.ts';
import { openDescriptors } from './support.ts';

let parent: string;
let before: number;

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'temporary-test-'));
  before = openDescriptors();
});
afterEach(() => {
  expect(openDescriptors()).toBe(before);
  rmSync(parent, { recursive: true });
});

/** What a process that was killed leaves. */
function left(name = 'viommu.qemu.aB3dE9'): string {
  const path = join(parent, name);
  mkdirSync(path, { mode: 0o700 });
  writeFileSync(join(path, '.owner'), '');
  writeFileSync(join(path, 'qmp.sock'), '');
  return path;
}

describe('a temporary directory', () => {
  it('is for its owner alone, and named for what it is', () => {
    const made = makeTemporaryDirectory('qemu', parent);
    expect(made.path).toMatch(/\/viommu\.qemu\.[A-Za-z0-9]{6}$/);
    expect(statSync(made.path).mode & 0o777).toBe(0o700);
    made.remove();
  });

  it('goes with all that is in it, and may go again', () => {
    const made = makeTemporaryDirectory('run', parent);
    mkdirSync(join(made.path, 'folder'));
    writeFileSync(join(made.path, 'folder', 'file'), 'x');
    made.remove();
    made.remove();
    expect(readdirSync(parent)).toEqual([]);
  });

  it('is not swept while it is in use', () => {
    const made = makeTemporaryDirectory('run', parent);
    expect(sweepTemporaryDirectories(parent)).toEqual([]);
    expect(existsSync(made.path)).toBe(true);
    made.remove();
  });

  it('leaves the lock on the directory itself to those who make sockets there', () => {
    const made = makeTemporaryDirectory('run', parent);
    expect(withFolderLock(made.path, 0, lock => lock)).toBe(FolderLock.held);
    made.remove();
  });

  it('which cannot be removed whole is left for the next one, with its owner', () => {
    const made = makeTemporaryDirectory('run', parent);
    // Longer than any path that the system takes, which mkdir(1) and rm(1) go down step by step.
    execFileSync('mkdir', ['-p', new Array(20).fill('x'.repeat(250)).join('/')], { cwd: made.path });
    writeFileSync(join(made.path, 'file'), '');
    expect(() => made.remove()).toThrow(/ENAMETOOLONG/);
    expect(readdirSync(made.path)).toContain('.owner');
    expect(sweepTemporaryDirectories(parent)).toEqual([]);
    expect(readdirSync(made.path)).toContain('.owner');
    execFileSync('rm', ['-r', join(made.path, 'x'.repeat(250))]);
    expect(sweepTemporaryDirectories(parent)).toEqual([made.path]);
  });

  it('may be gone already when it is removed', () => {
    const made = makeTemporaryDirectory('run', parent);
    rmSync(made.path, { recursive: true });
    made.remove();
    expect(readdirSync(parent)).toEqual([]);
  });

  it('has a purpose of small letters', () => {
    for (const purpose of ['', 'A', 'a-b', '../x']) {
      expect(() => makeTemporaryDirectory(purpose, parent)).toThrow(/small letters/);
    }
    expect(readdirSync(parent)).toEqual([]);
  });
});

describe('what dead processes have left', () => {
  it('is removed with all that is in it', () => {
    const path = left();
    expect(sweepTemporaryDirectories(parent)).toEqual([path]);
    expect(readdirSync(parent)).toEqual([]);
  });

  it('stays where it has a lock, and goes when that goes', () => {
    const path = left();
    const holder = openSync(join(path, '.owner'), 'r');
    expect(flock(holder, LOCK_EX | LOCK_NB)).toBe(0);
    expect(sweepTemporaryDirectories(parent)).toEqual([]);
    expect(readdirSync(path)).toEqual(['.owner', 'qmp.sock']);
    closeSync(holder);
    expect(sweepTemporaryDirectories(parent)).toEqual([path]);
  });

  it.each([
    'viommu-qemu-aB3dE9',
    'viommu-aB3dE9',
    'viommu.qemu.aB3dE9x',
    'viommu.qemu.aB3dE',
    'viommu.QEMU.aB3dE9',
    'xviommu.qemu.aB3dE9',
    'viommu..aB3dE9',
    'other',
  ])('is nothing by the name of %s', name => {
    const path = left(name);
    expect(sweepTemporaryDirectories(parent)).toEqual([]);
    expect(readdirSync(path)).toEqual(['.owner', 'qmp.sock']);
  });

  it('is no file, and no link, whatever it leads to', () => {
    const elsewhere = left('elsewhere');
    writeFileSync(join(parent, 'viommu.qemu.file00'), '');
    symlinkSync(elsewhere, join(parent, 'viommu.qemu.link00'));
    expect(sweepTemporaryDirectories(parent)).toEqual([]);
    expect(readdirSync(parent).sort()).toEqual(['elsewhere', 'viommu.qemu.file00', 'viommu.qemu.link00']);
    expect(readdirSync(elsewhere)).toEqual(['.owner', 'qmp.sock']);
  });

  it('is nothing that others may enter: mkdtemp(3) makes no such thing', () => {
    chmodSync(left(), 0o755);
    expect(sweepTemporaryDirectories(parent)).toEqual([]);
  });

  it('does not lead out of the directory through links in it', () => {
    const elsewhere = left('elsewhere');
    symlinkSync(elsewhere, join(left(), 'link'));
    expect(sweepTemporaryDirectories(parent)).toHaveLength(1);
    expect(readdirSync(elsewhere)).toEqual(['.owner', 'qmp.sock']);
  });

  it('is none of what has no owner, but where it is empty', () => {
    const strange = left();
    rmSync(join(strange, '.owner'));
    const empty = join(parent, 'viommu.run.empty0');
    mkdirSync(empty, { mode: 0o700 });
    expect(sweepTemporaryDirectories(parent)).toEqual([empty]);
    expect(readdirSync(strange)).toEqual(['qmp.sock']);
  });

  it('has an owner that is a file of its own, and no link to one', () => {
    const path = left();
    rmSync(join(path, '.owner'));
    symlinkSync(join(path, 'qmp.sock'), join(path, '.owner'));
    expect(sweepTemporaryDirectories(parent)).toEqual([]);
  });

  it('goes in bounded steps', () => {
    for (let i = 0; i < MAX_SWEPT + 3; i++) left(`viommu.run.${String(i).padStart(6, '0')}`);
    expect(sweepTemporaryDirectories(parent)).toHaveLength(MAX_SWEPT);
    expect(sweepTemporaryDirectories(parent)).toHaveLength(3);
  });

  it('is nothing where there is no such place', () => {
    expect(sweepTemporaryDirectories(join(parent, 'nowhere'))).toEqual([]);
  });

  it('is known by the death of its process, not before', async () => {
    const module = join(repository, 'dist/src/posix/temporary-directory.js');
    const script = `import { makeTemporaryDirectory } from ${JSON.stringify(module)};
      console.log(makeTemporaryDirectory('run', process.argv[1]).path);
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, parent], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exit = once(child, 'exit');
    const [path] = (await once(createInterface(child.stdout), 'line')) as [string];
    expect(sweepTemporaryDirectories(parent)).toEqual([]);
    expect(existsSync(path)).toBe(true);
    child.kill('SIGKILL');
    await exit;
    expect(sweepTemporaryDirectories(parent)).toEqual([path]);
    child.stdout.destroy();
  });
});
