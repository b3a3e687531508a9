/** eventfd(2): a counter behind a descriptor, by which one side wakes another. */
import { readlinkSync } from 'node:fs';
import { SystemError, systemErrorFrom } from './errors.ts';
import {
  EAGAIN,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EINTR,
  EOPNOTSUPP,
  errno,
  eventfd,
  poll,
  preadv2,
  RWF_NOWAIT,
  readBytes,
  writeBytes,
} from './libc.ts';
import { allocateNative } from './native-memory.ts';

const COUNTER_BYTES = 8;
const POLLIN = 1;
const POLLOUT = 4;
// One block a thread: the constant one, the counter read, a struct pollfd, and a struct iovec that points at the counter.
const scratch = allocateNative(4096);
const ONE = scratch.address;
const COUNTER = scratch.address + 8;
const POLL = scratch.address + 16;
const VECTOR = scratch.address + 24;
scratch.words[0] = 1;
scratch.words[6] = COUNTER;
scratch.words[7] = COUNTER / 2 ** 32;
scratch.words[8] = COUNTER_BYTES;

/** A new counter at zero, non-blocking. */
export function createEventFd(): number {
  const fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) throw new SystemError('eventfd', errno());
  return fd;
}

/** Whether a descriptor that somebody else sent is an eventfd, and so something that `signalEventFd` may write to. */
export function isEventFd(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
  } catch (error) {
    throw systemErrorFrom('readlink', error);
  }
}

/**
 * Adds one. A counter that is full stays as it is: its reader has a wake-up coming anyway. Does not wait where the descriptor came from a
 * client that left it blocking and filled it; one that fills it between the two calls here, a microsecond, stops this thread until it
 * reads. Throws a SystemError (EBADF, EINVAL).
 *
 * Nothing closes that gap without a call more or harm to others: RWF_NOWAIT is refused for writes to an eventfd (EOPNOTSUPP, Linux 6.18),
 * and O_NONBLOCK belongs to the open file, which the client has too. Setting it would break clients that wait in read(2) (libvfio-user's
 * sample does), and one that means ill takes it away again.
 */
export function signalEventFd(fd: number): void {
  if (!isReady(fd, POLLOUT)) return;
  for (;;) {
    if (writeBytes(fd, ONE, COUNTER_BYTES) >= 0) return;
    const error = errno();
    if (error === EAGAIN) return;
    if (error !== EINTR) throw new SystemError('write', error, 'to an eventfd');
  }
}

/**
 * Reads the counter and sets it to zero; 0 where it is zero. Never waits, also where the descriptor came from a client that
 * left it blocking and reads it itself. Throws a SystemError (EBADF, EINVAL).
 */
export function drainEventFd(fd: number): number {
  for (;;) {
    if (preadv2(fd, VECTOR, 1, -1, RWF_NOWAIT) >= 0) return counter();
    const error = errno();
    if (error === EAGAIN) return 0;
    if (error === EOPNOTSUPP) return drainOnOldLinux(fd);
    if (error !== EINTR) throw new SystemError('preadv2', error, 'from an eventfd');
  }
}

/** Before Linux 5.8 an eventfd knows no RWF_NOWAIT: a client that reads a blocking one between the two calls stops us. */
function drainOnOldLinux(fd: number): number {
  for (;;) {
    if (!isReady(fd, POLLIN)) return 0;
    if (readBytes(fd, COUNTER, COUNTER_BYTES) >= 0) return counter();
    const error = errno();
    if (error === EAGAIN) return 0;
    if (error !== EINTR) throw new SystemError('read', error, 'from an eventfd');
  }
}

function counter(): number {
  return (scratch.words[2]! >>> 0) + (scratch.words[3]! >>> 0) * 2 ** 32;
}

/** Whether a read or a write would go on at once, or fail. */
function isReady(fd: number, events: number): boolean {
  scratch.words[4] = fd;
  scratch.words[5] = events;
  for (;;) {
    const ready = poll(POLL, 1, 0);
    if (ready >= 0) return ready > 0;
    const error = errno();
    if (error !== EINTR) throw new SystemError('poll', error);
  }
}
