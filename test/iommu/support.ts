/** Guest memory for the tests of this room: small, with holes, with memory that no window shows, and with a hook. */
import { FRAME_BYTES, type GuestMemory, MemoryStatus, type MemoryWindow } from '../../src/memory/guest-memory.ts';

export interface FakeMemoryOptions {
  /** Frames that no region covers. */
  readonly holes?: readonly number[];
  /** No windows: everything is reached through `load64`, `read` and `write`. */
  readonly messagesOnly?: boolean;
}

export class FakeMemory implements GuestMemory {
  readonly bytes: Uint8Array;
  readonly windows: (MemoryWindow | undefined)[];
  generation = 0;
  low = 0;
  high = 0;
  /** Frames given to `load64`, in order. */
  readonly loads: number[] = [];
  /** `[frame, offset, length]` of every copy, in order. */
  readonly copies: [frame: number, offset: number, length: number][] = [];
  /** Runs inside every `load64`, `read` and `write`: what happens while memory is waited for. */
  during: () => void = () => {};
  /** Runs before every `compareExchange32`: what another processor does meanwhile. */
  beforeExchange: () => void = () => {};
  /** Frames that refuse `compareExchange32`. */
  readonly readOnly = new Set<number>();
  /** `[frame, offset, stored]` of every `compareExchange32`, in order. */
  readonly exchanges: [frame: number, offset: number, stored: boolean][] = [];

  private readonly view: DataView;
  private readonly holes: ReadonlySet<number>;

  constructor(bytes: number, options: FakeMemoryOptions = {}) {
    const buffer = new ArrayBuffer(bytes);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.holes = new Set(options.holes);
    this.windows = options.messagesOnly ? [] : [{ bytes: this.bytes, words: new Int32Array(buffer) }];
  }

  /** Writes nothing into a hole: windows show zero there. */
  write64(frame: number, offset: number, value: bigint): void {
    if (this.holes.has(frame)) return;
    this.view.setBigUint64(frame * FRAME_BYTES + offset, value, true);
  }

  /** The 64-bit word at a byte address; undefined where there is no memory. */
  word(address: bigint): bigint | undefined {
    const frame = Number(address >> 12n);
    if (!this.present(frame, Number(address & 0xfffn), 8)) return undefined;
    return this.view.getBigUint64(Number(address), true);
  }

  load64(frame: number, offset: number): MemoryStatus {
    this.during();
    this.loads.push(frame);
    if (!this.present(frame, offset, 8)) return MemoryStatus.unmapped;
    this.low = this.view.getInt32(frame * FRAME_BYTES + offset, true);
    this.high = this.view.getInt32(frame * FRAME_BYTES + offset + 4, true);
    return MemoryStatus.ok;
  }

  read(frame: number, offset: number, target: Uint8Array, at: number, length: number): MemoryStatus {
    this.during();
    this.copies.push([frame, offset, length]);
    if (!this.present(frame, offset, length)) return MemoryStatus.unmapped;
    const from = frame * FRAME_BYTES + offset;
    target.set(this.bytes.subarray(from, from + length), at);
    return MemoryStatus.ok;
  }

  write(frame: number, offset: number, source: Uint8Array, at: number, length: number): MemoryStatus {
    this.during();
    this.copies.push([frame, offset, length]);
    if (!this.present(frame, offset, length)) return MemoryStatus.unmapped;
    this.bytes.set(source.subarray(at, at + length), frame * FRAME_BYTES + offset);
    return MemoryStatus.ok;
  }

  store32(frame: number, offset: number, value: number): MemoryStatus {
    if (!this.present(frame, offset, 4)) return MemoryStatus.unmapped;
    this.view.setInt32(frame * FRAME_BYTES + offset, value, true);
    return MemoryStatus.ok;
  }

  compareExchange32(frame: number, offset: number, expected: number, value: number): MemoryStatus {
    if (!this.present(frame, offset, 4)) return MemoryStatus.unmapped;
    if (this.readOnly.has(frame)) return MemoryStatus.denied;
    this.beforeExchange();
    this.low = this.view.getInt32(frame * FRAME_BYTES + offset, true);
    if (this.low === expected) this.view.setInt32(frame * FRAME_BYTES + offset, value, true);
    this.exchanges.push([frame, offset, this.low === expected]);
    return MemoryStatus.ok;
  }

  private present(frame: number, offset: number, length: number): boolean {
    const first = frame * FRAME_BYTES + offset;
    if (first + length > this.bytes.length) return false;
    for (let f = frame; f * FRAME_BYTES < first + length; f++) if (this.holes.has(f)) return false;
    return true;
  }
}

export const R = 1n;
export const W = 2n;
export const RW = 3n;
export const PS = 1n << 7n;
export const SNP = 1n << 11n;
export const TM = 1n << 62n;

export const MiB2 = 1n << 21n;
export const GiB1 = 1n << 30n;

/** The two int32 words of an address. */
export function words(address: bigint): [high: number, low: number] {
  return [Number(BigInt.asIntN(32, address >> 32n)), Number(BigInt.asIntN(32, address))];
}

/** Builds tables as a driver does: allocates them upwards from a frame, links them, writes the leaf. */
export class TableBuilder {
  readonly memory: FakeMemory;
  readonly root: number;
  readonly levels: number;
  private next: number;

  constructor(memory: FakeMemory, levels: number, root = 1) {
    this.memory = memory;
    this.levels = levels;
    this.root = root;
    this.next = root + 1;
  }

  /** Writes `entry` where the walk for `iova` arrives at `level`, creating the tables above it with `tableFlags`. */
  set(iova: bigint, level: number, entry: bigint, tableFlags: bigint = RW): void {
    this.memory.write64(this.table(iova, level, tableFlags), TableBuilder.offset(iova, level), entry);
  }

  /** The frame of the table of that level for the address. */
  table(iova: bigint, level: number, tableFlags: bigint = RW): number {
    let frame = this.root;
    for (let at = this.levels; at > level; at--) {
      const offset = TableBuilder.offset(iova, at);
      let entry = this.memory.word(BigInt(frame * FRAME_BYTES + offset))!;
      if (entry === 0n) {
        entry = (BigInt(this.next++) << 12n) | tableFlags;
        this.memory.write64(frame, offset, entry);
      }
      frame = Number((entry >> 12n) & 0xffffffffffn);
    }
    return frame;
  }

  static offset(iova: bigint, level: number): number {
    return Number((iova >> BigInt(12 + 9 * (level - 1))) & 511n) * 8;
  }
}
