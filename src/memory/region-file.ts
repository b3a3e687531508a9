/** Files behind DMA regions: what a region may have for one, and reading and writing it at a position. */
import { SystemError } from '../posix/errors.ts';
import { appendsAlways, probeFileAt, readFileAt, writeFileAt } from '../posix/file-io.ts';
import { fileStatus, isSealedAgainstShrink, isSeekable, sealAgainstShrink } from '../posix/memfd.ts';
import type { AnnouncedRegion } from '../vfio-user/device-model.ts';
import { FRAME_BYTES } from './guest-memory.ts';

/** Looks at one region's file at a time: first whether it will do at all, then whether it may be mapped. */
export class FileCheck {
  private isRegular = false;
  private isSealed = false;

  /** Why this region, which has a descriptor, cannot be taken (EINVAL); undefined where it can. */
  problem(region: AnnouncedRegion): string | undefined {
    const { size, offset, descriptor, access } = region;
    const byFileIo = access === 'fileIo';
    if (offset < 0 || (!byFileIo && (offset & (FRAME_BYTES - 1)) !== 0)) return 'file offset not at a page';
    // A position is a number.
    if (offset + size > Number.MAX_SAFE_INTEGER) return 'file offset too large';
    // Before its size is looked at: what is true of a sealed file stays true.
    this.isSealed = !byFileIo && isSealedAgainstShrink(descriptor);
    const { isRegular, isDevice, bytes } = fileStatus(descriptor);
    this.isRegular = isRegular;
    if (isRegular) {
      // Files without a size of their own, as those in /proc, end nowhere.
      const endsNowhere = byFileIo && bytes === 0;
      if (bytes < offset + size && !endsNowhere) return 'reaches beyond the file';
    } else if (!isDevice || !isSeekable(descriptor)) {
      return 'a descriptor that cannot be memory';
    }
    return byFileIo ? fileIoProblem(region) : undefined;
  }

  /** Of the region that `problem` had nothing against: whether its file holds all of it and will for good. Adds the seal if need be. */
  cannotShrink({ descriptor, offset, size }: AnnouncedRegion): boolean {
    if (!this.isRegular) return false;
    if (this.isSealed) return true;
    // It may have become shorter since it was looked at.
    return sealAgainstShrink(descriptor) && fileStatus(descriptor).bytes >= offset + size;
  }
}

function fileIoProblem({ descriptor, readable, writable }: AnnouncedRegion): string | undefined {
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
