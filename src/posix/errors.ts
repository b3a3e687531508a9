import { getSystemErrorName } from 'node:util';

/** A system call that failed in a way that its caller has to know about. */
export class SystemError extends Error {
  override readonly name = 'SystemError';
  /** The system call, e.g. `recvmsg`. */
  readonly call: string;
  /** The Linux error number, positive. */
  readonly errno: number;
  /** Its name, e.g. `EPIPE`. */
  readonly code: string;

  constructor(call: string, errno: number, about = '') {
    const code = errorName(errno);
    super(`${call}${about === '' ? '' : ` ${about}`}: ${code}`);
    this.call = call;
    this.errno = errno;
    this.code = code;
  }
}

function errorName(errno: number): string {
  return errno > 0 ? getSystemErrorName(-errno) : `errno ${errno}`;
}

/** What a call into `node:fs` threw, as a SystemError; anything that is not a system error is thrown on as it is. */
export function systemErrorFrom(call: string, error: unknown): SystemError {
  if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') {
    return new SystemError(call, Math.abs(error.errno));
  }
  throw error;
}
