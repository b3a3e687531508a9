/**
 * epoll(7), level-triggered. What is watched is told to the kernel once and not at every wait, so that a wait costs the same
 * however many descriptors there are.
 */
import { SystemError } from './errors.ts';
import {
  close,
  EBADF,
  EINTR,
  ENOENT,
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  epollCreate,
  epollCtl,
  epollWait,
  errno,
} from './libc.ts';
import { allocateNative, freeNative, type NativeBlock } from './native-memory.ts';

/** Events that one wait brings; what is ready beyond them the next wait brings first. */
export const EVENTS_PER_WAIT = 64;

// struct epoll_event by 32-bit word: events at 0, then 64 bits of the caller's own. It is packed on x86-64 and nowhere else.
const PACKED = process.arch === 'x64';
const EVENT_WORDS = PACKED ? 3 : 4;
const DATA = PACKED ? 1 : 2;
/** Behind the array of events: the one that epoll_ctl(2) is given. */
const CONTROL = EVENTS_PER_WAIT * EVENT_WORDS;
const BLOCK_BYTES = 4096;

export class Epoll {
  readonly fd: number;
  private readonly block: NativeBlock;
  private readonly words: Int32Array;
  private readonly address: number;

  /** Throws a SystemError (EMFILE, ENFILE). */
  constructor() {
    this.fd = epollCreate(EPOLL_CLOEXEC);
    if (this.fd < 0) throw new SystemError('epoll_create1', errno());
    this.block = allocateNative(BLOCK_BYTES);
    this.words = this.block.words;
    this.address = this.block.address;
  }

  /**
   * False where the descriptor is not open. `tag` comes back with each of its events. Throws a SystemError where it cannot be
   * watched: EPERM for a file that is always ready, EEXIST where it is watched already, ENOSPC and ENOMEM.
   */
  add(fd: number, interest: number, tag: number): boolean {
    return this.control(EPOLL_CTL_ADD, fd, interest, tag);
  }

  /** False where the descriptor was closed while it was watched. */
  modify(fd: number, interest: number, tag: number): boolean {
    return this.control(EPOLL_CTL_MOD, fd, interest, tag);
  }

  /** To be called while the descriptor is open. A file that is open elsewhere too would go on reporting, and can't be removed. */
  remove(fd: number): boolean {
    return this.control(EPOLL_CTL_DEL, fd, 0, 0);
  }

  /** How many events are there, after at most so many milliseconds (-1: any number); 0 also where a signal came. */
  wait(timeoutMs: number): number {
    const count = epollWait(this.fd, this.address, EVENTS_PER_WAIT, timeoutMs);
    if (count >= 0) return count;
    const error = errno();
    if (error === EINTR) return 0;
    throw new SystemError('epoll_wait', error);
  }

  /** What is ready, of the event with this index; until the next wait. */
  events(index: number): number {
    return this.words[index * EVENT_WORDS]!;
  }

  descriptor(index: number): number {
    return this.words[index * EVENT_WORDS + DATA]!;
  }

  tag(index: number): number {
    return this.words[index * EVENT_WORDS + DATA + 1]!;
  }

  /** Writes an event that came another way behind those of the last wait; `index` below EVENTS_PER_WAIT. */
  put(index: number, events: number, fd: number, tag: number): void {
    const { words } = this;
    const at = index * EVENT_WORDS;
    words[at] = events;
    words[at + DATA] = fd;
    words[at + DATA + 1] = tag;
  }

  close(): void {
    close(this.fd);
    freeNative(this.block);
  }

  private control(operation: number, fd: number, interest: number, tag: number): boolean {
    const { words } = this;
    words[CONTROL] = interest;
    words[CONTROL + DATA] = fd;
    words[CONTROL + DATA + 1] = tag;
    if (epollCtl(this.fd, operation, fd, this.address + 4 * CONTROL) === 0) return true;
    const error = errno();
    if (error === EBADF || (error === ENOENT && operation !== EPOLL_CTL_ADD)) return false;
    throw new SystemError('epoll_ctl', error, `of descriptor ${fd}`);
  }
}

/** Whether the other side of a stream is closed, read or unread. */
export function hasHungUp(fd: number): boolean {
  const epoll = new Epoll();
  try {
    // The kernel reports a hang-up whatever is asked for.
    return epoll.add(fd, 0, 0) && epoll.wait(0) > 0;
  } finally {
    epoll.close();
  }
}
