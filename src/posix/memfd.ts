/** Files in memory, and files as guest memory: their size, their seals, and access at a position. */
import { ftruncateSync, readSync, writeSync } from 'node:fs';
import { SystemError, systemErrorFrom } from './errors.ts';
import {
  AT_EMPTY_PATH,
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
  S_IFBLK,
  S_IFCHR,
  S_IFMT,
  S_IFREG,
  SEEK_CUR,
  STATX_SIZE,
  STATX_TYPE,
  statx,
} from './libc.ts';
import { allocateNative, type NativeBlock } from './native-memory.ts';

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

export interface FileStatus {
  readonly isRegular: boolean;
  /**
   * A device, as those are that memory lies behind. An eventfd, a pidfd, an epoll instance and their like are neither that nor regular
   * files, though they may have a position.
   */
  readonly isDevice: boolean;
  /** Zero for anything without a size of its own; from 2^53 on the nearest number. */
  readonly bytes: number;
}

// struct statx, alike on all architectures, by 32-bit word: the mode is the lower half of one, the size two of them.
const STATX_MODE = 7;
const STATX_SIZE_LOW = 10;
/** Behind the structure's 256 bytes: an empty path, for the descriptor itself. */
const EMPTY_PATH = 256;
const STATX_BLOCK_BYTES = 4096;
const WORD_RANGE = 0x100000000;

/** Of this thread; made when it is first needed. */
let statxBlock: NativeBlock | undefined;

/** What the descriptor is, of three kinds or none. Throws a SystemError (EBADF). */
export function fileStatus(fd: number): FileStatus {
  statxBlock ??= allocateNative(STATX_BLOCK_BYTES);
  const { address, words } = statxBlock;
  // Several times as fast as node:fs, which makes dates and bigints of everything.
  if (statx(fd, address + EMPTY_PATH, AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, address) < 0) {
    throw new SystemError('statx', errno(), `${fd}`);
  }
  const type = words[STATX_MODE]! & S_IFMT;
  return {
    isRegular: type === S_IFREG,
    isDevice: type === S_IFCHR || type === S_IFBLK,
    bytes: words[STATX_SIZE_LOW + 1]! * WORD_RANGE + (words[STATX_SIZE_LOW]! >>> 0),
  };
}

/** Whether positioned reads make sense: false for pipes, sockets and terminals. */
export function isSeekable(fd: number): boolean {
  return Number(lseek(fd, 0, SEEK_CUR)) >= 0;
}

/** Whether the file has the seal against being made shorter (F_SEAL_SHRINK). False where it knows no seals. */
export function isSealedAgainstShrink(fd: number): boolean {
  const seals = fcntl(fd, F_GET_SEALS, 0);
  return seals >= 0 && (seals & F_SEAL_SHRINK) !== 0;
}

/**
 * True where nobody can make the file shorter any more (F_SEAL_SHRINK), adding the seal if need be. False where the file
 * knows no seals or does not allow another: mapped, such a file can turn an access into SIGBUS at any time. How long it is must be
 * asked after this.
 */
export function sealAgainstShrink(fd: number): boolean {
  return isSealedAgainstShrink(fd) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) === 0;
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
