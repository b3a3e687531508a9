/** Lists of a command's arguments, out of guest memory and into it: read once, in pieces of a bounded size. */
import { FRAME_BYTES, FRAME_SHIFT, MemoryStatus } from '../../../memory/guest-memory.ts';
import type { FunctionCore } from './core.ts';
import { FRAME_NUMBER_BYTES, VIRTUAL_ADDRESS_BYTES } from './layout.ts';
import { ADDRESS_BITS, LIST_PIECE_BYTES } from './limits.ts';
import { Entry } from './struct.ts';

const OFFSET_MASK = BigInt(FRAME_BYTES - 1);
const WORD_BYTES = 8n;
const ID_BYTES = 4n;

export class GuestLists {
  /** What the current job has done: elements read or written, and pages of ranges that are not lists. */
  elements = 0;
  private readonly piece = new Entry(LIST_PIECE_BYTES);

  constructor(private readonly core: FunctionCore) {}

  /**
   * Page-frame numbers of 64 bits. One that is no page frame is -1. undefined: the list is not aligned, or cannot be read, or the
   * rings were stopped meanwhile (as in the other reads).
   */
  frames(address: bigint, count: number): Int32Array | undefined {
    const frames = new Int32Array(count);
    const done = this.read(address, count, FRAME_NUMBER_BYTES, (words, first, elements) => {
      for (let i = 0; i < elements; i++) {
        const low = words[2 * i]!;
        frames[first + i] = words[2 * i + 1] === 0 && low >= 0 ? low : -1;
      }
    });
    return done ? frames : undefined;
  }

  addresses(address: bigint, count: number): readonly bigint[] | undefined {
    const addresses = new Array<bigint>(count).fill(0n);
    const done = this.read(address, count, VIRTUAL_ADDRESS_BYTES, (words, first, elements) => {
      for (let i = 0; i < elements; i++) {
        addresses[first + i] = (BigInt(words[2 * i + 1]! >>> 0) << 32n) | BigInt(words[2 * i]! >>> 0);
      }
    });
    return done ? addresses : undefined;
  }

  /** Structures, given as one stretch of bytes. */
  structures(address: bigint, count: number, bytes: number): Entry | undefined {
    const all = new Entry(count * bytes);
    const done = this.read(address, count, bytes, (words, first, elements) => {
      const from = (first * bytes) >>> 2;
      for (let i = 0; i < (elements * bytes) >>> 2; i++) all.words[from + i] = words[i]!;
    });
    return done ? all : undefined;
  }

  /** Ids of 32 bits. False: not aligned, or not writable. */
  writeIds(address: bigint, ids: readonly number[]): boolean {
    if (!inside(address, ids.length * Number(ID_BYTES), ID_BYTES)) return false;
    const entry = new Entry(ids.length * Number(ID_BYTES));
    for (let i = 0; i < ids.length; i++) entry.words[i] = ids[i]!;
    this.elements += ids.length;
    const { memory } = this.core;
    return memory.write(frameOf(address), offsetOf(address), entry.bytes, 0, entry.bytes.length) === MemoryStatus.ok;
  }

  private read(
    address: bigint,
    count: number,
    bytes: number,
    take: (words: Int32Array, first: number, elements: number) => void,
  ): boolean {
    if (!inside(address, count * bytes, WORD_BYTES)) return false;
    const { core, piece } = this;
    const { cycle } = core;
    const perPiece = Math.floor(LIST_PIECE_BYTES / bytes);
    for (let first = 0; first < count; first += perPiece) {
      const elements = Math.min(perPiece, count - first);
      const from = address + BigInt(first * bytes);
      const status = core.memory.read(frameOf(from), offsetOf(from), piece.bytes, 0, elements * bytes);
      if (status !== MemoryStatus.ok || cycle !== core.cycle) return false;
      take(piece.words, first, elements);
      this.elements += elements;
    }
    return true;
  }
}

function inside(address: bigint, bytes: number, alignment: bigint): boolean {
  return address % alignment === 0n && address + BigInt(bytes) <= 1n << BigInt(ADDRESS_BITS);
}

function frameOf(address: bigint): number {
  return Number(address >> BigInt(FRAME_SHIFT));
}

function offsetOf(address: bigint): number {
  return Number(address & OFFSET_MASK);
}
