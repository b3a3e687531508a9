/** A lock on a folder, by which servers whose sockets lie there take turns: it lies on the folder itself, so no file is left behind. */
import { closeSync, constants, openSync } from 'node:fs';
import { systemErrorFrom } from './errors.ts';
import { EAGAIN, EINTR, errno, flock, LOCK_EX, LOCK_NB } from './libc.ts';

export const FolderLock = {
  held: 0,
  /** Another program has it, and kept it for as long as there was patience. */
  taken: 1,
  /** The folder cannot be locked by us, or not on this file system. */
  none: 2,
} as const;
export type FolderLock = (typeof FolderLock)[keyof typeof FolderLock];

/** Nobody changes it: to wait by. */
const never = new Int32Array(new SharedArrayBuffer(4));

/**
 * Does the work, with the lock for its time where it is to be had within `patience` milliseconds; the work is told how that went. Throws
 * only what the work throws.
 */
export function withFolderLock<Result>(folder: string, patience: number, work: (lock: FolderLock) => Result): Result {
  const descriptor = openFolder(folder);
  if (descriptor < 0) return work(FolderLock.none);
  try {
    return work(lock(descriptor, patience));
  } finally {
    // As it was opened: a worker of Node closes at its end what it believes to be open, whoever has the number by then.
    closeSync(descriptor);
  }
}

function lock(descriptor: number, patience: number): FolderLock {
  const end = performance.now() + patience;
  while (flock(descriptor, LOCK_EX | LOCK_NB) < 0) {
    const error = errno();
    // flock(2) on NFS wants a descriptor for writing (EBADF), which folders do not have; others have no locks at all (ENOSYS, ENOLCK).
    if (error !== EAGAIN && error !== EINTR) return FolderLock.none;
    if (performance.now() >= end) return FolderLock.taken;
    Atomics.wait(never, 0, 0, 1);
  }
  return FolderLock.held;
}

function openFolder(folder: string): number {
  try {
    return openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    // A folder that may be written to need not be readable (EACCES); one that is missing is the work's to find.
    systemErrorFrom('open', error);
    return -1;
  }
}
