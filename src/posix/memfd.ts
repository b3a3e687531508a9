/** Files in memory, and files as guest memory: their size, their seals, and access at a position. */
import { fstatSync, ftruncateSync, readSync, writeSync } from 'node:fs';
import { SystemError, systemErrorFrom } from './errors.ts';
import {
  close,
  errno,
  F_ADD_SEALS,
  F_GET_SEALS,
  F_SEAL_GROW,
  F_SEAL_SHRINK,
  fcntl,
  lseek,
  MFD_ALLOW_SEALING,
  MFD_CLOEXEC,
  memfdCreate,
  SEEK_CUR,
} from './libc.ts';

export interface MemfdOptions {
  /** Seal it against shrinking and growing at once; false by default. */
  readonly seal?: boolean;
  /** Whether seals can be added later; true by default. */
  readonly sealable?: boolean;
}

/** A new file in memory of `bytes` zeros. */
export function createMemfd(name: string, bytes: number, options: MemfdOptions = {}): number {
  const { seal = false, sealable = true } = options;
  const fd = memfdCreate(name, MFD_CLOEXEC | (seal || sealable ? MFD_ALLOW_SEALING : 0));
  if (fd < 0) throw new SystemError('memfd_create', errno(), name);
  try {
    ftruncateSync(fd, bytes);
    if (seal && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) throw new SystemError('fcntl', errno(), name);
  } catch (error) {
    close(fd);
    throw error;
  }
  return fd;
}

/** In bytes; zero for anything without a size of its own. */
export function fileSize(fd: number): bigint {
  try {
    return fstatSync(fd, { bigint: true }).size;
  } catch (error) {
    throw systemErrorFrom('fstat', error);
  }
}

export function isRegularFile(fd: number): boolean {
  try {
    return fstatSync(fd).isFile();
  } catch (error) {
    throw systemErrorFrom('fstat', error);
  }
}

/**
 * Whether it is a device, as those are that memory lies behind. An eventfd, a pidfd, an epoll instance and their like are neither that
 * nor regular files, though they may have a position.
 */
export function isDevice(fd: number): boolean {
  try {
    const stat = fstatSync(fd);
    return stat.isCharacterDevice() || stat.isBlockDevice();
  } catch (error) {
    throw systemErrorFrom('fstat', error);
  }
}

/** Whether positioned reads make sense: false for pipes, sockets and terminals. */
export function isSeekable(fd: number): boolean {
  return Number(lseek(fd, 0, SEEK_CUR)) >= 0;
}

/**
 * True where nobody can make the file shorter any more (F_SEAL_SHRINK), adding the seal if need be. False where the file
 * knows no seals or does not allow another: mapped, such a file can turn an access into SIGBUS at any time.
 */
export function sealAgainstShrink(fd: number): boolean {
  const seals = fcntl(fd, F_GET_SEALS, 0);
  if (seals < 0) return false;
  if ((seals & F_SEAL_SHRINK) !== 0) return true;
  return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) === 0;
}

/** pread(2) into `buffer[at, at + length)`; fewer bytes than asked for at the end of the file. Throws a SystemError. */
export function readAt(fd: number, buffer: Uint8Array, at: number, length: number, position: bigint | number): number {
  try {
    return readSync(fd, buffer, at, length, filePosition(position));
  } catch (error) {
    throw systemErrorFrom('pread', error);
  }
}

/** pwrite(2) of `buffer[at, at + length)`. Throws a SystemError. */
export function writeAt(fd: number, buffer: Uint8Array, at: number, length: number, position: bigint | number): number {
  try {
    return writeSync(fd, buffer, at, length, filePosition(position));
  } catch (error) {
    throw systemErrorFrom('pwrite', error);
  }
}

/** A number, because writeSync takes a bigint for "no position" and would write wherever the file stands. */
function filePosition(position: bigint | number): number {
  const number = Number(position);
  if (!Number.isSafeInteger(number) || number < 0) throw new RangeError(`file position ${position}`);
  return number;
}
