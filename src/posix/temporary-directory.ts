/**
 * Directories below the system's for temporary files that go with the process that made them, and at the latest with the next one: a
 * process that was killed removes nothing. A lock (flock(2)) on a file in it says that its process lives. The kernel lets it go however the
 * process ends, and it holds across containers, where process ids mean nothing. (A lock on the directory itself has another meaning: who
 * makes sockets there takes turns by it, folder-lock.ts.)
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmdirSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemErrorFrom } from './errors.ts';
import { EAGAIN, EINTR, errno, flock, LOCK_EX, LOCK_NB } from './libc.ts';

/** Ours, and none of anybody who knows nothing of the lock: the purpose, a dot, and what mkdtemp(3) makes of six X. */
const NAME = /^viommu\.[a-z]+\.[A-Za-z0-9]{6}$/;
const PURPOSE = /^[a-z]+$/;
/** Directories of dead processes that one start clears away; what is beyond is the next one's. */
export const MAX_SWEPT = 64;
/** Somebody who sweeps may find a directory before its maker has locked it, and take it for a dead one's. */
const ATTEMPTS = 10;
/** The file in it that is locked. */
const OWNER_FILE = '.owner';
const OPEN = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const MAKE = OPEN | constants.O_CREAT | constants.O_EXCL;
const PERMISSIONS = 0o777;
const OWNER_ONLY = 0o700;
const OWNER_FILE_MODE = 0o600;

export interface TemporaryDirectory {
  readonly path: string;
  /** With all that is in it. May be called again. */
  remove(): void;
}

const Lock = { held: 0, taken: 1, none: 2 } as const;
type Lock = (typeof Lock)[keyof typeof Lock];

let swept = false;

/**
 * Makes `viommu.<purpose>.XXXXXX`, which only its owner can enter. The first one that a thread makes clears away what dead processes
 * have left. Throws what node:fs throws where none can be made.
 * @param purpose small letters.
 * @param parent default: the system's directory for temporary files (TMPDIR).
 */
export function makeTemporaryDirectory(purpose: string, parent: string = tmpdir()): TemporaryDirectory {
  if (!PURPOSE.test(purpose)) throw new Error(`'${purpose}' is not made of small letters`);
  if (!swept) {
    swept = true;
    sweepTemporaryDirectories(parent);
  }
  for (let attempt = 1; ; attempt++) {
    const path = mkdtempSync(join(parent, `viommu.${purpose}.`));
    const descriptor = open(path, MAKE);
    if (descriptor < 0 && isOurs(path)) {
      // For lack of descriptors. Without a lock the next one that starts would take it away.
      rmSync(path, { recursive: true, force: true });
      throw new Error(`the temporary directory ${path} cannot be used`);
    }
    // Where there are no locks nobody sweeps, either.
    const lock = descriptor < 0 ? Lock.taken : tryLock(descriptor);
    if (lock !== Lock.taken && isStill(descriptor, path)) return locked(path, descriptor);
    if (descriptor >= 0) closeSync(descriptor);
    if (attempt === ATTEMPTS) throw new Error(`${path} was taken away ${ATTEMPTS} times while it was made`);
  }
}

/**
 * Removes what processes of this user that are dead have left in `parent`: only what `makeTemporaryDirectory` has made, and never what a
 * living process has. Returns the paths.
 */
export function sweepTemporaryDirectories(parent: string = tmpdir()): string[] {
  const removed: string[] = [];
  for (const name of listed(parent)) {
    if (removed.length === MAX_SWEPT) break;
    const path = join(parent, name);
    if (NAME.test(name) && isOurs(path) && removeIfDead(path)) removed.push(path);
  }
  return removed;
}

function locked(path: string, descriptor: number): TemporaryDirectory {
  let isThere = true;
  return {
    path,
    remove() {
      if (!isThere) return;
      isThere = false;
      try {
        removeWhole(path);
      } finally {
        closeSync(descriptor);
      }
    },
  };
}

function removeIfDead(path: string): boolean {
  const descriptor = open(path, OPEN);
  if (descriptor < 0) return removeEmpty(path);
  try {
    if (tryLock(descriptor) !== Lock.held || !isStill(descriptor, path)) return false;
    removeWhole(path);
    return true;
  } catch (error) {
    // Something in it is not this user's to remove: it stays, and nobody who starts a guest has any business with it.
    systemErrorFrom('rm', error);
    return false;
  } finally {
    closeSync(descriptor);
  }
}

/** The owner's file goes last: of what is left where this comes to no end, the next one that starts still knows whose it is. */
function removeWhole(path: string): void {
  for (const name of listed(path)) {
    if (name !== OWNER_FILE) rmSync(join(path, name), { recursive: true, force: true });
  }
  rmSync(path, { recursive: true, force: true });
}

/** Its maker was killed at once; one that lives makes another. */
function removeEmpty(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    systemErrorFrom('rmdir', error);
    return false;
  }
}

/** A directory of this user that nobody else may look into: not a link to one. */
function isOurs(path: string): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isDirectory() === true && found.uid === process.getuid?.() && (found.mode & PERMISSIONS) === OWNER_ONLY;
}

/** What was opened is what has the name: not removed meanwhile, nor another one. */
function isStill(descriptor: number, path: string): boolean {
  const found = lstatSync(join(path, OWNER_FILE), { throwIfNoEntry: false });
  const opened = fstatSync(descriptor);
  return found !== undefined && found.ino === opened.ino && found.dev === opened.dev;
}

function tryLock(descriptor: number): Lock {
  while (flock(descriptor, LOCK_EX | LOCK_NB) < 0) {
    const error = errno();
    if (error === EAGAIN) return Lock.taken;
    // Not every file system has locks (ENOSYS, ENOLCK).
    if (error !== EINTR) return Lock.none;
  }
  return Lock.held;
}

/** Its owner's file; -1: there is none, or none that we may open. */
function open(path: string, flags: number): number {
  try {
    return openSync(join(path, OWNER_FILE), flags, OWNER_FILE_MODE);
  } catch (error) {
    systemErrorFrom('open', error);
    return -1;
  }
}

/** Of a directory that may only be written to, nothing. */
function listed(parent: string): string[] {
  try {
    return readdirSync(parent);
  } catch (error) {
    systemErrorFrom('readdir', error);
    return [];
  }
}
