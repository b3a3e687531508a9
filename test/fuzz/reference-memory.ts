/** DMA_MAP and DMA_UNMAP: what must come of each, and which addresses are mapped since. */
import { DmaMap, DmaUnmap } from '../../src/vfio-user/spec.ts';
import { Errno, type Expectation, type MappedRange } from './expectation.ts';
import { empty, repeats } from './reference-checks.ts';
import type { DescriptorKind, FileDescription } from './steps.ts';

/** Regions of one client that the server reaches by reading and writing their file. One that must be reached so is refused beyond it. */
export const MOST_FILE_IO = 256;
const ADDRESS_LIMIT = 1n << 43n;
const PAGE_MASK = 4095n;

type Outcome = Omit<Expectation, 'id' | 'command' | 'silent'>;
/** Whether a region counts among those by file I/O: where the client leaves it to the server, it may. */
type ByFile = 'surely' | 'maybe' | 'no';
interface KnownRange extends MappedRange {
  readonly byFile: ByFile;
}

export class ReferenceMemory {
  readonly mapped = new Map<bigint, KnownRange>();
  /**
   * A region was taken or not, depending on how many the server reaches by file I/O of its own accord: from there on all that is known
   * is what cannot be, until everything is taken away.
   */
  isGuess = false;

  constructor(private readonly files: readonly Pick<FileDescription, 'bytes'>[]) {}

  map(payload: DataView, descriptors: readonly DescriptorKind[]): Outcome {
    if (payload.byteLength < DmaMap.bytes) return { errnos: [Errno.EINVAL] };
    const flags = payload.getUint32(DmaMap.flags, true);
    const offset = payload.getBigUint64(DmaMap.offset, true);
    const address = payload.getBigUint64(DmaMap.address, true);
    const size = payload.getBigUint64(DmaMap.size, true);
    const isBad =
      payload.getUint32(DmaMap.argsz, true) < DmaMap.bytes ||
      (flags & (DmaMap.readable | DmaMap.writable)) === 0 ||
      flags > 0xf ||
      (flags > 3 && descriptors.length === 0) ||
      descriptors.length > 1 ||
      size === 0n ||
      ((address | size) & PAGE_MASK) !== 0n ||
      address + size > ADDRESS_LIMIT ||
      offset + size > 1n << 64n ||
      (descriptors.length === 1 && !this.canBeMemory(descriptors[0]!, offset, size, flags));
    const overlaps = [...this.mapped.values()].some(
      one => address < one.address + one.size && one.address < address + size,
    );
    const byFile = byFileOf(descriptors[0], flags);
    const full = byFile === 'surely' && isFileIo(flags) ? this.isFull() : 'no';
    const others = full === 'no' ? [] : [Errno.ENOMEM];
    // Which of its faults a message is refused for is the server's choice.
    if (isBad) return { errnos: [Errno.EINVAL, ...others, ...(overlaps || this.isGuess ? [Errno.EEXIST] : [])] };
    if (this.isGuess) return { check: empty };
    if (overlaps) return { errnos: [Errno.EEXIST, ...others] };
    if (full === 'surely') return { errnos: [Errno.ENOMEM] };
    if (full === 'maybe') {
      this.isGuess = true;
      return { errnos: [0, Errno.ENOMEM], check: empty };
    }
    const [readable, writable] = [(flags & DmaMap.readable) !== 0, (flags & DmaMap.writable) !== 0];
    this.mapped.set(address, { address, size, readable, writable, byFile: this.counted(byFile, flags) });
    return { errnos: [0], check: empty };
  }

  unmap(payload: DataView): Outcome {
    if (payload.byteLength < DmaUnmap.bytes) return { errnos: [Errno.EINVAL] };
    const flags = payload.getUint32(DmaUnmap.flags, true);
    const address = payload.getBigUint64(DmaUnmap.address, true);
    const size = payload.getBigUint64(DmaUnmap.size, true);
    if (payload.getUint32(DmaUnmap.argsz, true) < DmaUnmap.bytes) return { errnos: [Errno.EINVAL] };
    if ((flags & DmaUnmap.getDirtyBitmap) !== 0) {
      return { errnos: (flags & ~DmaUnmap.getDirtyBitmap) === 0 ? [Errno.ENOTSUP] : [Errno.ENOTSUP, Errno.EINVAL] };
    }
    if ((flags & ~DmaUnmap.all) !== 0) return { errnos: [Errno.EINVAL] };
    const check = (reply: Uint8Array) => repeats(reply, payload, 4, DmaUnmap.bytes);
    if ((flags & DmaUnmap.all) !== 0) {
      if (address !== 0n || size !== 0n) return { errnos: [Errno.EINVAL] };
      const gone: MappedRange[] = this.isGuess ? [EVERYTHING] : [...this.mapped.values()];
      this.mapped.clear();
      this.isGuess = false;
      return { errnos: [0], check, gone };
    }
    const range = this.mapped.get(address);
    if (this.isGuess) {
      if (range?.size === size) this.mapped.delete(address);
      return { errnos: [0, Errno.ENOENT, Errno.EINVAL], check };
    }
    if (range === undefined) return { errnos: [Errno.ENOENT] };
    if (range.size !== size) return { errnos: [Errno.EINVAL] };
    this.mapped.delete(address);
    return { errnos: [0], check, gone: [range] };
  }

  /** Whether one more region that must be reached by file I/O is too many. */
  private isFull(): ByFile {
    if (this.isGuess) return 'maybe';
    const count = (...kinds: readonly ByFile[]) =>
      [...this.mapped.values()].filter(({ byFile }) => kinds.includes(byFile)).length;
    if (count('surely') >= MOST_FILE_IO) return 'surely';
    return count('surely', 'maybe') >= MOST_FILE_IO ? 'maybe' : 'no';
  }

  /** What the server may reach as it likes it reaches otherwise where there is no room. */
  private counted(byFile: ByFile, flags: number): ByFile {
    if (byFile === 'no' || isFileIo(flags)) return byFile;
    const full = this.isFull();
    return full === 'surely' ? 'no' : full === 'maybe' ? 'maybe' : byFile;
  }

  /** As mapped memory or, with file I/O alone, as a file that is read and written. */
  private canBeMemory(descriptor: DescriptorKind, offset: bigint, size: bigint, flags: number): boolean {
    const byFileIo = isFileIo(flags);
    if ((!byFileIo && (offset & PAGE_MASK) !== 0n) || offset + size > BigInt(Number.MAX_SAFE_INTEGER)) return false;
    const isWritable = (flags & DmaMap.writable) !== 0;
    switch (descriptor.is) {
      case 'read-only':
        if (byFileIo && isWritable) return false;
        return offset + size <= BigInt(this.files[descriptor.file]!.bytes);
      case 'file':
        return offset + size <= BigInt(this.files[descriptor.file]!.bytes);
      case 'null':
      case 'zero':
        return true;
      // It cannot be mapped, and this one not be written.
      case 'memory-of-process':
        return byFileIo && !isWritable;
      default:
        return false;
    }
  }
}

const EVERYTHING: MappedRange = { address: 0n, size: ADDRESS_LIMIT, readable: true, writable: true };

function isFileIo(flags: number): boolean {
  return (flags & (DmaMap.mmap | DmaMap.fileIo)) === DmaMap.fileIo;
}

/** Of a region that is taken: one that is not mapped, for which it is not safe or not possible, is reached by its file. */
function byFileOf(descriptor: DescriptorKind | undefined, flags: number): ByFile {
  if (descriptor === undefined) return 'no';
  if (isFileIo(flags) || (flags & DmaMap.readable) === 0) return 'surely';
  return descriptor.is === 'null' || descriptor.is === 'zero' ? 'surely' : 'maybe';
}
