/** Reads the 128-bit entries and descriptors of a VT-d unit from guest memory, as four 32-bit words. */
import { type GuestMemory, MemoryStatus, WINDOW_FRAME_MASK, WINDOW_FRAME_SHIFT } from '../../memory/guest-memory.ts';

/** How often an entry that changes while it is read is read again. */
const TORN_READ_RETRIES = 4;
const ENTRY_BYTES = 16;

export class EntryReader {
  w0 = 0;
  w1 = 0;
  w2 = 0;
  w3 = 0;

  private readonly bytes = new Uint8Array(ENTRY_BYTES);
  private readonly words = new DataView(this.bytes.buffer);

  constructor(private readonly memory: GuestMemory) {}

  /** Fills the words; false where the memory cannot be read. The offset is a multiple of 16. */
  read(frame: number, offset: number): boolean {
    const { memory } = this;
    if (memory.batch !== undefined && this.isHidden(frame, offset)) return this.readAtOnce(frame, offset);
    if (memory.load64(frame, offset) !== MemoryStatus.ok) return false;
    this.w0 = memory.low;
    this.w1 = memory.high;
    if (memory.load64(frame, offset + 8) !== MemoryStatus.ok) return false;
    this.w2 = memory.low;
    this.w3 = memory.high;
    return true;
  }

  /**
   * As `read`, for entries that software may replace at any time: hardware reads 128 bits at once (9), so two halves that never
   * stood there together must not be taken for an entry.
   */
  readWhole(frame: number, offset: number): boolean {
    const { memory } = this;
    for (let attempt = 0; attempt < TORN_READ_RETRIES; attempt++) {
      if (!this.read(frame, offset) || memory.load64(frame, offset) !== MemoryStatus.ok) return false;
      if (memory.low === this.w0 && memory.high === this.w1) return true;
    }
    return this.read(frame, offset);
  }

  /** No window shows anything there: memory that is reached by messages, where each access may cost a round trip of a network. */
  private isHidden(frame: number, offset: number): boolean {
    const window = this.memory.windows[frame >>> WINDOW_FRAME_SHIFT]?.words;
    if (window === undefined) return true;
    const at = ((frame & WINDOW_FRAME_MASK) << 10) + (offset >> 2);
    return (window[at]! | window[at + 1]!) === 0;
  }

  private readAtOnce(frame: number, offset: number): boolean {
    const { memory, bytes, words } = this;
    if (memory.read(frame, offset, bytes, 0, ENTRY_BYTES) !== MemoryStatus.ok) return false;
    this.w0 = words.getInt32(0, true);
    this.w1 = words.getInt32(4, true);
    this.w2 = words.getInt32(8, true);
    this.w3 = words.getInt32(12, true);
    return true;
  }
}
