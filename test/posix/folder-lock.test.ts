/** Folders that cannot be locked, and those that others have locked. The system calls that fail on other file systems are replaced. */
import { closeSync, existsSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LOCK_EX, LOCK_NB } from '../../src/posix/libc.ts';
import { openDescriptors } from './support.ts';

const faults = vi.hoisted(() => ({ flock: 0, locks: 0, open: '', lstat: '', unlink: '' }));

vi.mock('../../src/posix/libc.ts', async original => {
  const libc = await original<typeof import('../../src/posix/libc.ts')>();
  return {
    ...libc,
    flock: (fd: number, operation: number) => {
      faults.locks++;
      return faults.flock === 0 ? libc.flock(fd, operation) : -1;
    },
    errno: () => (faults.flock === 0 ? libc.errno() : faults.flock),
  };
});

vi.mock('node:fs', async original => {
  const fs = await original<typeof import('node:fs')>();
  const failing =
    <Call extends (...parameters: never[]) => unknown>(name: 'open' | 'lstat' | 'unlink', call: Call) =>
    (...parameters: Parameters<Call>) => {
      if (faults[name] === '') return call(...parameters);
      throw Object.assign(new Error(faults[name]), { code: faults[name], errno: -13 });
    };
  return {
    ...fs,
    openSync: failing('open', fs.openSync),
    lstatSync: failing('lstat', fs.lstatSync),
    unlinkSync: failing('unlink', fs.unlinkSync),
  };
});

const { flock } = await vi.importActual<typeof import('../../src/posix/libc.ts')>('../../src/posix/libc.ts');
const { FolderLock, withFolderLock } = await import('../../src/posix/folder-lock.ts');
const { CLOSE_LOCK_PATIENCE, UnixListener, closeDescriptor, connectUnix } = await import('../../src/posix/socket.ts');

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'folder-lock-'));
  path = join(folder, 's');
});

afterEach(() => {
  Object.assign(faults, { flock: 0, locks: 0, open: '', lstat: '', unlink: '' });
  rmSync(folder, { recursive: true });
});

function lockedByAnother(work: () => void): void {
  const holder = openSync(folder, 'r');
  try {
    expect(flock(holder, LOCK_EX | LOCK_NB)).toBe(0);
    work();
  } finally {
    closeSync(holder);
  }
}

describe('withFolderLock', () => {
  it('has the lock while the work is done, and not after it', () => {
    const holder = openSync(folder, 'r');
    withFolderLock(folder, 0, lock => {
      expect(lock).toBe(FolderLock.held);
      expect(flock(holder, LOCK_EX | LOCK_NB)).toBe(-1);
    });
    expect(flock(holder, LOCK_EX | LOCK_NB)).toBe(0);
    closeSync(holder);
  });

  it('does the work without it where another program keeps it', () => {
    lockedByAnother(() => expect(withFolderLock(folder, 0, lock => lock)).toBe(FolderLock.taken));
  });

  it('without patience tries once', () => {
    lockedByAnother(() => withFolderLock(folder, 0, () => {}));
    expect(faults.locks).toBe(1);
  });

  it.each([
    ['EBADF', 9],
    ['ENOSYS', 38],
    ['ENOLCK', 37],
    ['EOPNOTSUPP', 95],
  ])('does the work at once where flock answers %s', (_name, errno) => {
    faults.flock = errno;
    expect(withFolderLock(folder, 10_000, lock => lock)).toBe(FolderLock.none);
    expect(faults.locks).toBe(1);
  });

  it('does the work where the folder cannot be opened', () => {
    faults.open = 'EACCES';
    expect(withFolderLock(folder, 10_000, lock => lock)).toBe(FolderLock.none);
  });

  it('lets go of the lock and its descriptor when the work throws', () => {
    const before = openDescriptors();
    const work = () => {
      throw new Error('no');
    };
    expect(() => withFolderLock(folder, 0, work)).toThrow('no');
    expect(openDescriptors()).toBe(before);
  });
});

describe('a listener', () => {
  it.each([
    ['a file system without flock', { flock: 9 }],
    ['a folder that cannot be read', { open: 'EACCES' }],
  ])('starts and ends in %s', (_name, fault) => {
    Object.assign(faults, fault);
    const listener = new UnixListener(path);
    Object.assign(faults, { flock: 0 });
    closeDescriptor(connectUnix(path));
    Object.assign(faults, fault);
    expect(listener.close()).toBeUndefined();
    expect(existsSync(path)).toBe(false);
  });

  it('removes its file also while another program keeps the folder locked, after a few tries at most', () => {
    const listener = new UnixListener(path);
    faults.locks = 0;
    lockedByAnother(() => expect(listener.close()).toBeUndefined());
    expect(existsSync(path)).toBe(false);
    // Each try waits a millisecond at least.
    expect(faults.locks).toBeLessThanOrEqual(CLOSE_LOCK_PATIENCE + 2);
  });

  it('leaves the file of a successor alone while another program keeps the folder locked', () => {
    const first = new UnixListener(path);
    rmSync(path);
    const second = new UnixListener(path);
    lockedByAnother(() => expect(first.close()).toBeUndefined());
    closeDescriptor(connectUnix(path));
    second.close();
  });

  it.each(['lstat', 'unlink'] as const)('says why its file is left where %s fails, and closes all the same', call => {
    const before = openDescriptors();
    const listener = new UnixListener(path);
    faults[call] = 'EACCES';
    expect(listener.close()?.message).toBe(`${call} ${path}: EACCES`);
    faults[call] = '';
    expect(openDescriptors()).toBe(before);
    expect(existsSync(path)).toBe(true);
  });

  it('names the path where it may not look at what is there', () => {
    faults.lstat = 'EACCES';
    expect(() => new UnixListener(path)).toThrow(`lstat ${path}: EACCES`);
  });
});
