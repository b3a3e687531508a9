/**
 * One connected stream socket whose messages may carry descriptors. The buffers and the structures that recvmsg(2) and
 * sendmsg(2) want lie in native memory and are prepared once, so that a call allocates nothing.
 *
 * How Linux treats descriptors on a stream (unix(7)): they travel with the first byte of their sendmsg; one recvmsg never
 * returns bytes of two sends that both carry descriptors, but joins sends without any as it likes.
 */
import { SystemError } from './errors.ts';
import {
  close,
  EAGAIN,
  EBADF,
  EINTR,
  errno,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  recvmsg,
  SCM_RIGHTS,
  SOL_SOCKET,
  sendBytes,
  sendmsg,
} from './libc.ts';
import { allocateNative, freeNative, type NativeBlock } from './native-memory.ts';

/** SCM_MAX_FD: the most that one sendmsg may carry. */
export const DESCRIPTORS_PER_SEND_LIMIT = 253;

const RECEIVE_FLAGS = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
const SEND_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL;

// struct msghdr on 64-bit Linux, by 32-bit word: iov pointer at 4, count at 6, control pointer at 8, its length at 10,
// flags at 12. struct iovec: base at 0, length at 2. struct cmsghdr: length at 0, level at 2, type at 3, data from 4.
const MSG_IOV = 4;
const MSG_IOV_COUNT = 6;
const MSG_CONTROL = 8;
const MSG_CONTROL_LENGTH = 10;
const MSG_FLAGS = 12;
const CONTROL_LEVEL = 2;
const CONTROL_TYPE = 3;
const CONTROL_DATA = 4;
const CONTROL_HEADER_BYTES = 16;

// Where they lie in the header block, in 32-bit words.
const RECEIVE_HEADER = 0;
const RECEIVE_VECTOR = 16;
const SEND_HEADER = 32;
const SEND_VECTOR = 48;
const RECEIVE_CONTROL = 64;
const SEND_CONTROL = 512;
const HEADER_BYTES = 4096;

const WORD_RANGE = 2 ** 32;

export class StreamSocket {
  readonly fd: number;
  /** What `receive` fills. After `close` these views may show another socket's bytes. */
  readonly input: Uint8Array;
  /** What `send` takes from. */
  readonly output: Uint8Array;
  private readonly maxDescriptors: number;
  private readonly header: NativeBlock;
  private readonly words: Int32Array;
  private readonly inputBlock: NativeBlock;
  private readonly outputBlock: NativeBlock;
  private received: number[] = [];
  private truncated = false;
  private closed = false;

  /**
   * Takes over `fd`. `inputBytes` and `outputBytes` up to 1 GiB; `maxDescriptors` (0 to 253) bounds what one `receive`
   * takes in and one `send` puts out: the kernel closes what comes beyond, and `descriptorsTruncated` tells.
   */
  constructor(fd: number, inputBytes: number, outputBytes: number, maxDescriptors: number) {
    if (!Number.isInteger(maxDescriptors) || maxDescriptors < 0 || maxDescriptors > DESCRIPTORS_PER_SEND_LIMIT) {
      throw new RangeError(`${maxDescriptors} descriptors a message: must be 0 to ${DESCRIPTORS_PER_SEND_LIMIT}`);
    }
    this.fd = fd;
    this.maxDescriptors = maxDescriptors;
    this.header = allocateNative(HEADER_BYTES);
    this.words = this.header.words;
    this.inputBlock = allocateNative(inputBytes);
    this.outputBlock = allocateNative(outputBytes);
    this.input = this.inputBlock.bytes.subarray(0, inputBytes);
    this.output = this.outputBlock.bytes.subarray(0, outputBytes);
    this.prepare(RECEIVE_HEADER, RECEIVE_VECTOR, RECEIVE_CONTROL);
    this.prepare(SEND_HEADER, SEND_VECTOR, SEND_CONTROL);
  }

  /** MSG_CTRUNC was seen once: descriptors were lost, because there were too many or this process may not open more. */
  get descriptorsTruncated(): boolean {
    return this.truncated;
  }

  /** How many descriptors wait to be taken. */
  get receivedDescriptors(): number {
    return this.received.length;
  }

  /**
   * Receives up to `length` bytes into `input` from `at` on, and the descriptors that came with them. Returns how many
   * bytes, 0 at the end of the stream, -1 where nothing is there yet. Throws a SystemError on anything else (ECONNRESET).
   */
  receive(at: number, length: number): number {
    this.check(at, length, this.input.length);
    const words = this.words;
    this.point(RECEIVE_VECTOR, this.inputBlock.address + at, length);
    // The kernel overwrites these two. An exact length, unpadded, keeps it from fitting in one descriptor more.
    words[RECEIVE_HEADER + MSG_CONTROL_LENGTH] =
      this.maxDescriptors === 0 ? 0 : CONTROL_HEADER_BYTES + 4 * this.maxDescriptors;
    words[RECEIVE_HEADER + MSG_FLAGS] = 0;
    for (;;) {
      const count = recvmsg(this.fd, this.header.address + 4 * RECEIVE_HEADER, RECEIVE_FLAGS);
      if (count >= 0) {
        if ((words[RECEIVE_HEADER + MSG_FLAGS]! & MSG_CTRUNC) !== 0) this.truncated = true;
        if (words[RECEIVE_HEADER + MSG_CONTROL_LENGTH]! > 0) this.collect();
        return count;
      }
      const error = errno();
      if (error === EAGAIN) return -1;
      if (error !== EINTR) throw new SystemError('recvmsg', error);
    }
  }

  /** The descriptors received since the last call, in order; they are the caller's to close. */
  takeDescriptors(): number[] {
    const taken = this.received;
    if (taken.length > 0) this.received = [];
    return taken.length > 0 ? taken : [];
  }

  /**
   * Sends `output[at, at + length)`. Returns how many bytes went out, which may be fewer, or -1 where none could. Once any
   * byte is out the descriptors are out too and must not be passed again with the rest; they stay open here and are the
   * caller's to close. Throws a SystemError (EPIPE where the peer is gone).
   */
  send(at: number, length: number, descriptors?: readonly number[]): number {
    this.check(at, length, this.output.length);
    const count = descriptors === undefined ? 0 : descriptors.length;
    if (count > this.maxDescriptors) throw new RangeError(`${count} descriptors: at most ${this.maxDescriptors}`);
    const address = this.outputBlock.address + at;
    for (;;) {
      // Where there are no descriptors send(2) does the same for less.
      const sent =
        descriptors === undefined || count === 0
          ? sendBytes(this.fd, address, length, SEND_FLAGS)
          : this.sendWith(descriptors, address, length);
      if (sent >= 0) return sent;
      const error = errno();
      if (error === EAGAIN) return -1;
      if (error !== EINTR) throw new SystemError(count === 0 ? 'send' : 'sendmsg', error);
    }
  }

  /** Closes the socket and every descriptor that nobody took. May be called again. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    close(this.fd);
    for (const fd of this.received) close(fd);
    this.received = [];
    freeNative(this.header);
    freeNative(this.inputBlock);
    freeNative(this.outputBlock);
  }

  /** Raw memory lies behind these numbers: a wrong one must not reach the kernel. */
  private check(at: number, length: number, limit: number): void {
    if (this.closed) throw new SystemError('StreamSocket', EBADF, 'after close');
    if ((at | 0) !== at || (length | 0) !== length || at < 0 || length < 1 || length > limit - at) {
      throw new RangeError(`[${at}, ${at} + ${length}) is not in a buffer of ${limit} bytes`);
    }
  }

  private sendWith(descriptors: readonly number[], address: number, length: number): number {
    const words = this.words;
    const count = descriptors.length;
    const controlBytes = CONTROL_HEADER_BYTES + 4 * count;
    this.point(SEND_VECTOR, address, length);
    words[SEND_HEADER + MSG_CONTROL_LENGTH] = controlBytes;
    words[SEND_CONTROL] = controlBytes;
    words[SEND_CONTROL + CONTROL_LEVEL] = SOL_SOCKET;
    words[SEND_CONTROL + CONTROL_TYPE] = SCM_RIGHTS;
    for (let i = 0; i < count; i++) words[SEND_CONTROL + CONTROL_DATA + i] = descriptors[i]!;
    return sendmsg(this.fd, this.header.address + 4 * SEND_HEADER, SEND_FLAGS);
  }

  private prepare(header: number, vector: number, control: number): void {
    const base = this.header.address;
    this.store(header + MSG_IOV, base + 4 * vector);
    this.words[header + MSG_IOV_COUNT] = 1;
    this.store(header + MSG_CONTROL, base + 4 * control);
  }

  private point(vector: number, address: number, length: number): void {
    this.store(vector, address);
    this.words[vector + 2] = length;
  }

  private store(word: number, address: number): void {
    this.words[word] = address;
    this.words[word + 1] = address / WORD_RANGE;
  }

  private collect(): void {
    const words = this.words;
    const end = words[RECEIVE_HEADER + MSG_CONTROL_LENGTH]!;
    let at = 0;
    while (end - at >= CONTROL_HEADER_BYTES) {
      const word = RECEIVE_CONTROL + (at >> 2);
      const length = words[word]!;
      if (length < CONTROL_HEADER_BYTES || length > end - at) break;
      if (words[word + CONTROL_LEVEL] === SOL_SOCKET && words[word + CONTROL_TYPE] === SCM_RIGHTS) {
        const count = (length - CONTROL_HEADER_BYTES) >> 2;
        for (let i = 0; i < count; i++) this.received.push(words[word + CONTROL_DATA + i]!);
      }
      at += (length + 7) & ~7;
    }
  }
}
