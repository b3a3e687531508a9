/**
 * pread(2) and pwrite(2) on files that stand for memory, such as `/proc/PID/mem`: no exceptions, because a guest can bring about as
 * many failures as it likes, and no allocation.
 */
import { EINTR, errno, F_GETFL, fcntl, O_APPEND, preadBytes, pwriteBytes } from './libc.ts';
import { allocateNative, type NativeBlock } from './native-memory.ts';

/** Bytes that one call moves. */
export const FILE_IO_BYTES = 65536;
/** Below this a loop is faster than `set` with a view of its own. */
const LOOP_COPY_BYTES = 96;

/** Of this thread; made when it is first needed. */
let bounce: NativeBlock | undefined;

/**
 * Reads the file at `position` into `buffer[at, at + length)`: the number of bytes, which may be less than `length` (zero: the file
 * ends here), or a negative errno. `position` is below 2^53.
 */
export function readFileAt(fd: number, buffer: Uint8Array, at: number, length: number, position: number): number {
  bounce ??= allocateNative(FILE_IO_BYTES);
  const { bytes, address } = bounce;
  const count = retried(preadBytes, fd, address, Math.min(length, FILE_IO_BYTES), position);
  if (count > LOOP_COPY_BYTES) buffer.set(bytes.subarray(0, count), at);
  else for (let i = 0; i < count; i++) buffer[at + i] = bytes[i]!;
  return count;
}

/** Writes `buffer[at, at + length)` at `position`; returns as `readFileAt` does. */
export function writeFileAt(fd: number, buffer: Uint8Array, at: number, length: number, position: number): number {
  bounce ??= allocateNative(FILE_IO_BYTES);
  const { bytes, address } = bounce;
  const count = Math.min(length, FILE_IO_BYTES);
  if (count > LOOP_COPY_BYTES) bytes.set(buffer.subarray(at, at + count));
  else for (let i = 0; i < count; i++) bytes[i] = buffer[at + i]!;
  return retried(pwriteBytes, fd, address, count, position);
}

/**
 * Whether the descriptor can be read (written) at a position at all: zero, or the errno that the kernel has for it. ESPIPE for pipes
 * and sockets, EBADF where it was opened for the other direction only. Nothing is moved.
 */
export function probeFileAt(fd: number, writing: boolean): number {
  bounce ??= allocateNative(FILE_IO_BYTES);
  const result = retried(writing ? pwriteBytes : preadBytes, fd, bounce.address, 0, 0);
  return result < 0 ? -result : 0;
}

/** Linux lets every write to such a descriptor go to the file's end, whatever its position (pwrite(2), "BUGS"). */
export function appendsAlways(fd: number): boolean {
  const flags = fcntl(fd, F_GETFL, 0);
  return flags >= 0 && (flags & O_APPEND) !== 0;
}

function retried(call: typeof preadBytes, fd: number, address: number, length: number, position: number): number {
  for (;;) {
    const count = call(fd, address, length, position);
    if (count >= 0) return count;
    const failure = errno();
    if (failure !== EINTR) return -failure;
  }
}
