/** Files behind DMA regions: what a region may have for one, and reading and writing it at a position. */
import { SystemError } from '../posix/errors.ts';
import { appendsAlways, probeFileAt, readFileAt, writeFileAt } from '../posix/file-io.ts';
import { fileSize, isDevice, isRegularFile, isSeekable } from '../posix/memfd.ts';
import type { DmaRegion } from '../vfio-user/device-model.ts';
import { FRAME_BYTES } from './guest-memory.ts';

const PAGE_MASK = BigInt(FRAME_BYTES - 1);

/** Why this region, which has a descriptor, cannot be taken (EINVAL); undefined where it can. */
export function fileProblem(region: DmaRegion): string | undefined {
  const { size, offset, descriptor, access } = region;
  const byFileIo = access === 'fileIo';
  if (offset < 0n || (!byFileIo && (offset & PAGE_MASK) !== 0n)) return 'file offset not at a page';
  // A position is a number.
  if (offset + size > BigInt(Number.MAX_SAFE_INTEGER)) return 'file offset too large';
  if (isRegularFile(descriptor)) {
    const bytes = fileSize(descriptor);
    // Files without a size of their own, as those in /proc, end nowhere.
    const endsNowhere = byFileIo && bytes === 0n;
    if (bytes < offset + size && !endsNowhere) return 'reaches beyond the file';
  } else if (!isDevice(descriptor) || !isSeekable(descriptor)) {
    return 'a descriptor that cannot be memory';
  }
  return byFileIo ? fileIoProblem(region) : undefined;
}

function fileIoProblem({ descriptor, readable, writable }: DmaRegion): string | undefined {
  const errno = (readable && probeFileAt(descriptor, false)) || (writable && probeFileAt(descriptor, true)) || 0;
  if (errno !== 0) return new SystemError('file I/O', errno).message;
  return writable && appendsAlways(descriptor) ? 'a descriptor that only appends' : undefined;
}

/** Moves all of `buffer[at, at + length)`; returns what went wrong, or nothing: an empty string. */
export function moveInFile(
  writing: boolean,
  descriptor: number,
  position: number,
  buffer: Uint8Array,
  at: number,
  length: number,
): string {
  for (let done = 0; done < length; ) {
    const count = writing
      ? writeFileAt(descriptor, buffer, at + done, length - done, position + done)
      : readFileAt(descriptor, buffer, at + done, length - done, position + done);
    if (count === 0) return 'the file ends before the region';
    if (count < 0) return new SystemError(writing ? 'pwrite' : 'pread', -count).message;
    done += count;
  }
  return '';
}
