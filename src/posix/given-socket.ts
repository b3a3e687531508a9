/** A unix stream socket that this process did not make: it was started with it, as a descriptor. */
import { SystemError } from './errors.ts';
import {
  AF_UNIX,
  EBADF,
  ENOTCONN,
  ENOTSOCK,
  errno,
  F_GETFL,
  F_SETFL,
  fcntl,
  getpeername,
  getsockopt,
  O_NONBLOCK,
  SO_ACCEPTCONN,
  SO_DOMAIN,
  SO_TYPE,
  SOCK_STREAM,
  SOL_SOCKET,
} from './libc.ts';
import { closeDescriptor } from './socket.ts';

/** struct sockaddr_un at its longest. */
const ADDRESS_BYTES = 110;
const WORD_BYTES = 4;

export interface GivenSocket {
  readonly fd: number;
  /** Clients can be accepted on it, or it is the one client's. */
  readonly isListening: boolean;
}

/**
 * Looks at what came as descriptor `fd`, and makes it non-blocking: for everybody who has the same open socket. Throws an Error that says what
 * is wrong where it is not a unix stream socket that listens or is connected.
 */
export function givenSocket(fd: number): GivenSocket {
  if (socketOption(fd, SO_DOMAIN) !== AF_UNIX) throw new Error(`descriptor ${fd} is no unix socket`);
  if (socketOption(fd, SO_TYPE) !== SOCK_STREAM) throw new Error(`descriptor ${fd} is no stream socket (SOCK_STREAM)`);
  const isListening = socketOption(fd, SO_ACCEPTCONN) !== 0;
  if (!isListening) checkConnected(fd);
  const flags = fcntl(fd, F_GETFL, 0);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) throw new SystemError('fcntl', errno(), `${fd}`);
  return { fd, isListening };
}

/** A listening socket whose file, if it has one, is somebody else's to remove. */
export class GivenListener {
  private isClosed = false;

  constructor(readonly fd: number) {}

  /** May be called again. */
  close(): undefined {
    if (this.isClosed) return;
    this.isClosed = true;
    closeDescriptor(this.fd);
  }
}

function socketOption(fd: number, option: number): number {
  const value = new Int32Array(1);
  if (getsockopt(fd, SOL_SOCKET, option, value, Int32Array.of(WORD_BYTES)) === 0) return value[0]!;
  const error = errno();
  if (error === EBADF) throw new Error(`descriptor ${fd} is not open`);
  if (error === ENOTSOCK) throw new Error(`descriptor ${fd} is no socket`);
  throw new SystemError('getsockopt', error, `${fd}`);
}

function checkConnected(fd: number): void {
  if (getpeername(fd, new Uint8Array(ADDRESS_BYTES), Int32Array.of(ADDRESS_BYTES)) === 0) return;
  const error = errno();
  if (error === ENOTCONN) throw new Error(`the socket with descriptor ${fd} neither listens nor is connected`);
  throw new SystemError('getpeername', error, `${fd}`);
}
