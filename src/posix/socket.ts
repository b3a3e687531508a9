/** Unix stream sockets: making, finding and accepting them. */
import { type BigIntStats, lstatSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { SystemError, systemErrorFrom } from './errors.ts';
import { FolderLock, withFolderLock } from './folder-lock.ts';
import {
  AF_UNIX,
  accept4,
  bindSocket,
  close,
  connect,
  EADDRINUSE,
  EAGAIN,
  ECONNABORTED,
  ECONNREFUSED,
  EINTR,
  errno,
  F_DUPFD_CLOEXEC,
  fchmod,
  fcntl,
  listen,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  socket,
  socketpair,
} from './libc.ts';

export { StreamSocket } from './stream-socket.ts';

/** sun_path holds 108 bytes with the terminating NUL (unix(7)). */
export const SOCKET_PATH_LIMIT = 107;
/** Milliseconds that another server of the same folder may take to start or to end, for one that starts. */
export const FOLDER_LOCK_PATIENCE = 2000;
/** The same for one that ends: others wait for its thread, and each of its sockets may take so long. */
export const CLOSE_LOCK_PATIENCE = 10;
/** Clients that wait to be accepted. */
export const LISTEN_BACKLOG = 64;
const SOCKET_MODE = 0o600;
const SOCKET_FLAGS = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;

/** A listening socket and the file that it made. */
export class UnixListener {
  readonly fd: number;
  private readonly device: bigint;
  private readonly inode: bigint;
  private isClosed = false;

  /**
   * Listens, non-blocking, at `path`, reachable by its owner only. A socket file that nobody answers on is replaced. Throws an Error
   * that names the path where something else is there, where a server answers on it, or where it is longer than
   * SOCKET_PATH_LIMIT bytes.
   */
  constructor(readonly path: string) {
    const address = socketAddress(path);
    this.fd = newSocket();
    try {
      // bind(2) takes the file's mode from the socket's own: there is no moment at which others could connect.
      if (fchmod(this.fd, SOCKET_MODE) < 0) throw new SystemError('fchmod', errno(), path);
      const file = listenAlone(this.fd, path, address);
      this.device = file.dev;
      this.inode = file.ino;
    } catch (error) {
      closeDescriptor(this.fd);
      throw error;
    }
  }

  /** Stops listening and removes the file, as `removeFile`. May be called again. */
  close(): SystemError | undefined {
    if (this.isClosed) return undefined;
    this.isClosed = true;
    closeDescriptor(this.fd);
    return this.removeFile();
  }

  /**
   * Removes the file where it is still the one that this socket made, and leaves that of a successor alone. Never throws: a server that
   * ends goes on ending. Returns why the file may still be there.
   */
  removeFile(): SystemError | undefined {
    // Without the lock too: a stale file does more harm than the moment between the look and the removal.
    return withFolderLock(dirname(this.path), CLOSE_LOCK_PATIENCE, () => {
      try {
        const file = statOf(this.path);
        if (file?.dev === this.device && file.ino === this.inode) unlinkSocket(this.path);
        return undefined;
      } catch (error) {
        if (error instanceof SystemError) return error;
        throw error;
      }
    });
  }
}

/** The descriptor of a `UnixListener` whose file the caller looks after. */
export function listenUnix(path: string): number {
  return new UnixListener(path).fd;
}

/** The next client, non-blocking, or -1 where none is waiting. */
export function acceptUnix(listener: number): number {
  for (;;) {
    const fd = accept4(listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) return fd;
    const error = errno();
    if (error === EAGAIN) return -1;
    // A client that was gone before we came says nothing about the next one.
    if (error !== EINTR && error !== ECONNABORTED) throw new SystemError('accept4', error);
  }
}

/**
 * A non-blocking connection to the server at `path`. Never waits: where the server's queue of waiting clients is full it
 * throws a SystemError with EAGAIN.
 */
export function connectUnix(path: string): number {
  const address = socketAddress(path);
  const fd = newSocket();
  const error = connectNow(fd, address);
  if (error === 0) return fd;
  closeDescriptor(fd);
  throw new SystemError('connect', error, path);
}

/** A second descriptor of the same open file, close-on-exec: each of the two is closed by itself. Throws a SystemError (EMFILE). */
export function duplicateDescriptor(fd: number): number {
  const copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw new SystemError('fcntl', errno(), `${fd}`);
  return copy;
}

/** Two connected stream sockets, close-on-exec and non-blocking. Throws a SystemError (EMFILE). */
export function socketPair(): readonly [number, number] {
  const pair = new Int32Array(2);
  if (socketpair(AF_UNIX, SOCKET_FLAGS, 0, pair) < 0) throw new SystemError('socketpair', errno());
  return [pair[0]!, pair[1]!];
}

/** Closes a descriptor that this process owns. Throws a SystemError (EBADF) where it is not open: somebody closed it twice. */
export function closeDescriptor(fd: number): void {
  if (close(fd) < 0) {
    const error = errno();
    // Linux has released the descriptor even when close(2) was interrupted.
    if (error !== EINTR) throw new SystemError('close', error, `${fd}`);
  }
}

function newSocket(): number {
  const fd = socket(AF_UNIX, SOCKET_FLAGS, 0);
  if (fd < 0) throw new SystemError('socket', errno());
  return fd;
}

function connectNow(fd: number, address: Uint8Array): number {
  for (;;) {
    if (connect(fd, address, address.length) === 0) return 0;
    const error = errno();
    if (error !== EINTR) return error;
  }
}

/** struct sockaddr_un: the family in the machine's byte order, then the path with a NUL. */
function socketAddress(path: string): Uint8Array {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length === 0) throw new Error('a socket needs a path');
  if (bytes.length > SOCKET_PATH_LIMIT) {
    throw new Error(`socket path of ${bytes.length} bytes, but at most ${SOCKET_PATH_LIMIT} are allowed: ${path}`);
  }
  if (bytes.includes(0)) throw new Error(`socket path holds a NUL: ${JSON.stringify(path)}`);
  const address = new Uint8Array(2 + bytes.length + 1);
  address[0] = AF_UNIX;
  address.set(bytes, 2);
  return address;
}

/** One server at a time: of two that find a stale file the second would remove the socket of the first. */
function listenAlone(fd: number, path: string, address: Uint8Array): BigIntStats {
  return withFolderLock(dirname(path), FOLDER_LOCK_PATIENCE, lock => {
    if (lock === FolderLock.taken) throw new Error(`${path}: another program holds the lock of its folder`);
    return bindAndListen(fd, path, address);
  });
}

function bindAndListen(fd: number, path: string, address: Uint8Array): BigIntStats {
  if (bindSocket(fd, address, address.length) < 0) {
    const error = errno();
    if (error !== EADDRINUSE) throw new SystemError('bind', error, path);
    removeStaleSocket(path, address);
    if (bindSocket(fd, address, address.length) < 0) throw new SystemError('bind', errno(), path);
  }
  const file = statOf(path);
  if (file === undefined) throw new Error(`cannot listen at ${path}: its file was removed`);
  if (listen(fd, LISTEN_BACKLOG) < 0) {
    const error = errno();
    unlinkSocket(path);
    throw new SystemError('listen', error, path);
  }
  return file;
}

function removeStaleSocket(path: string, address: Uint8Array): void {
  const file = statOf(path);
  if (file === undefined) return;
  if (!file.isSocket()) throw new Error(`cannot listen at ${path}: a file that is no socket is there`);
  const fd = newSocket();
  const error = connectNow(fd, address);
  closeDescriptor(fd);
  if (error === 0 || error === EAGAIN) throw new Error(`cannot listen at ${path}: another server answers there`);
  if (error !== ECONNREFUSED) throw new SystemError('connect', error, path);
  // Where there is no lock: not the socket of a server that was quicker.
  if (statOf(path)?.ino === file.ino) unlinkSocket(path);
}

/** Undefined where nothing is there. Throws a SystemError (EACCES). */
function statOf(path: string): BigIntStats | undefined {
  try {
    return lstatSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    throw new SystemError('lstat', systemErrorFrom('lstat', error).errno, path);
  }
}

function unlinkSocket(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!isMissing(error)) throw new SystemError('unlink', systemErrorFrom('unlink', error).errno, path);
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
