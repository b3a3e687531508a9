/**
 * Memory that system calls are given addresses of: anonymous mappings with one view each. A mapping is never unmapped,
 * because a view that outlives it would crash the process; it goes back to a pool, keyed by its size, and is handed out
 * again. Untouched pages cost nothing, and a freed block gives its pages back to the system.
 */
import { SystemError } from './errors.ts';
import {
  errno,
  MADV_DONTNEED,
  MAP_32BIT,
  MAP_ANONYMOUS,
  MAP_NORESERVE,
  MAP_PRIVATE,
  madvise,
  mmap,
  PROT_READ,
  PROT_WRITE,
  viewOf,
} from './libc.ts';

export const NATIVE_PAGE_BYTES = 4096;
/** A view of more than 4 GiB aborts Node 20; nobody needs even this much. */
export const NATIVE_BLOCK_LIMIT = 1 << 30;

const PROTECTION = PROT_READ | PROT_WRITE;
const FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

export class NativeBlock {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  /** Not for callers: whether somebody holds it. */
  lent = true;

  constructor(length: number) {
    // An address below 2^31 is a small integer: to pass it to a system call allocates nothing. There is 1 GiB of them.
    let address = mmap(0, length, PROTECTION, FLAGS | MAP_32BIT, -1, 0);
    if (address < 0) address = mmap(0, length, PROTECTION, FLAGS, -1, 0);
    if (address < 0) throw new SystemError('mmap', errno(), `of ${length} bytes`);
    const buffer = viewOf(address, length);
    this.address = address;
    this.bytes = new Uint8Array(buffer);
    this.words = new Int32Array(buffer);
  }
}

const pool = new Map<number, NativeBlock[]>();

/** At least `bytes` of zeroed memory, page-aligned. */
export function allocateNative(bytes: number): NativeBlock {
  if (!Number.isInteger(bytes) || bytes < 1 || bytes > NATIVE_BLOCK_LIMIT) {
    throw new RangeError(`native memory of ${bytes} bytes: must be 1 to ${NATIVE_BLOCK_LIMIT}`);
  }
  const length = Math.ceil(bytes / NATIVE_PAGE_BYTES) * NATIVE_PAGE_BYTES;
  const block = pool.get(length)?.pop();
  if (block === undefined) return new NativeBlock(length);
  block.lent = true;
  return block;
}

/** Gives the block back; whoever still holds its views sees the next holder's bytes. */
export function freeNative(block: NativeBlock): void {
  if (!block.lent) throw new Error('native memory freed twice');
  // Drops the pages: the next holder starts with zeros, and idle blocks hold no memory.
  if (madvise(block.address, block.bytes.length, MADV_DONTNEED) < 0) throw new SystemError('madvise', errno());
  block.lent = false;
  const blocks = pool.get(block.bytes.length);
  if (blocks === undefined) pool.set(block.bytes.length, [block]);
  else blocks.push(block);
}
