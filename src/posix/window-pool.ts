/**
 * Windows: a gibibyte of reserved address space each, with one view for good. Files are mapped into a window in place, and
 * taken out again by laying anonymous memory over them, so that a view never dangles: what is not mapped reads as zero.
 *
 * Making a view of this size costs one or two milliseconds, because V8 counts it as memory and collects garbage; nothing
 * follows later. So released windows are kept for the thread and handed out again, never unmapped.
 */
import { SystemError } from './errors.ts';
import {
  EINVAL,
  ENOMEM,
  errno,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  PROT_READ,
  PROT_WRITE,
  viewOf,
} from './libc.ts';

export const WINDOW_BYTES = 1 << 30;
/** Windows one pool lends at a time: a tebibyte of guest-physical space in use. */
export const WINDOW_LIMIT = 1024;
/**
 * Files mapped in one pool's windows at a time. Linux allows a process 65530 mappings (vm.max_map_count); beyond that not
 * even laying memory over an old one would work, so stay well below.
 */
export const FILE_MAPPING_LIMIT = 8192;

const PAGE_MASK = 4095;
const EMPTY = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

/** Released windows of this thread. */
const idle: MappedWindow[] = [];

export class MappedWindow {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  readonly #address: number;
  #pool: WindowPool | undefined;
  #mappings = new Map<number, number>();

  /** Made by WindowPool only. */
  constructor() {
    const address = mmap(0, WINDOW_BYTES, PROT_READ | PROT_WRITE, EMPTY, -1, 0);
    if (address < 0) throw new SystemError('mmap', errno(), 'of a window');
    const buffer = viewOf(address, WINDOW_BYTES);
    this.#address = address;
    this.bytes = new Uint8Array(buffer);
    this.words = new Int32Array(buffer);
  }

  /**
   * Maps `length` bytes of a file, from `fileOffset` (below 2^53), shared, at this place of the window; all page-aligned. Throws a
   * SystemError; the window is then unchanged. The descriptor may be closed afterwards.
   */
  mapFile(offsetInWindow: number, length: number, fd: number, fileOffset: number, writable: boolean): void {
    this.#check(offsetInWindow, length);
    if (this.#pool === undefined) throw new Error('a released window was used');
    if (this.#pool.fileMappings >= FILE_MAPPING_LIMIT) {
      throw new SystemError('mmap', ENOMEM, `beyond ${FILE_MAPPING_LIMIT} file mappings`);
    }
    if (!Number.isSafeInteger(fileOffset)) throw new RangeError(`file offset ${fileOffset}`);
    // The low half of a number: its sign and what lies above do not matter.
    if ((fileOffset & PAGE_MASK) !== 0) throw new SystemError('mmap', EINVAL, 'at an unaligned file offset');
    const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    this.#overlay(offsetInWindow, length, protection, MAP_SHARED, fd, fileOffset);
    if (!this.#mappings.has(offsetInWindow)) this.#pool.fileMappings++;
    this.#mappings.set(offsetInWindow, length);
  }

  /** Takes out what `mapFile` put at this place; it reads as zero from here on. */
  clear(offsetInWindow: number, length: number): void {
    this.#check(offsetInWindow, length);
    if (this.#pool === undefined) throw new Error('a released window was used');
    this.#overlay(offsetInWindow, length, PROT_READ | PROT_WRITE, EMPTY, -1, 0);
    if (this.#mappings.get(offsetInWindow) === length) {
      this.#mappings.delete(offsetInWindow);
      this.#pool.fileMappings--;
    }
  }

  /** Not for others: WindowPool lends it. */
  lend(pool: WindowPool): void {
    this.#pool = pool;
  }

  /** Not for others: WindowPool takes it back. */
  retire(pool: WindowPool): void {
    if (this.#pool !== pool) throw new Error('a window was released twice, or to a pool that did not lend it');
    this.#overlay(0, WINDOW_BYTES, PROT_READ | PROT_WRITE, EMPTY, -1, 0);
    pool.fileMappings -= this.#mappings.size;
    this.#mappings.clear();
    this.#pool = undefined;
  }

  #overlay(at: number, length: number, protection: number, flags: number, fd: number, fileOffset: number): void {
    if (mmap(this.#address + at, length, protection, flags | MAP_FIXED, fd, fileOffset) < 0) {
      throw new SystemError('mmap', errno(), `of ${length} bytes into a window`);
    }
  }

  #check(at: number, length: number): void {
    const valid = Number.isInteger(at) && Number.isInteger(length) && at >= 0 && length > 0;
    if (!valid || length > WINDOW_BYTES - at || ((at | length) & PAGE_MASK) !== 0) {
      throw new RangeError(`[${at}, ${at} + ${length}) is not a run of pages in a window`);
    }
  }
}

export class WindowPool {
  /** Files mapped now; kept by the windows. */
  fileMappings = 0;
  #lent = 0;

  /** Windows lent and not yet released. */
  get lent(): number {
    return this.#lent;
  }

  /** A window that reads as zero all over. Throws a SystemError (ENOMEM) beyond WINDOW_LIMIT or without address space. */
  acquire(): MappedWindow {
    if (this.#lent >= WINDOW_LIMIT) throw new SystemError('mmap', ENOMEM, `beyond ${WINDOW_LIMIT} windows`);
    const window = idle.pop() ?? new MappedWindow();
    window.lend(this);
    this.#lent++;
    return window;
  }

  /** Everything mapped in it goes; its views stay valid, and belong to whoever acquires it next. */
  release(window: MappedWindow): void {
    window.retire(this);
    this.#lent--;
    idle.push(window);
  }
}
