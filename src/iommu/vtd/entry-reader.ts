/** Reads the 128-bit entries and descriptors of a VT-d unit from guest memory, as four 32-bit words. */
import { type GuestMemory, MemoryStatus } from '../../memory/guest-memory.ts';

/** How often an entry that changes while it is read is read again. */
const TORN_READ_RETRIES = 4;

export class EntryReader {
  w0 = 0;
  w1 = 0;
  w2 = 0;
  w3 = 0;

  constructor(private readonly memory: GuestMemory) {}

  /** Fills the words; false where the memory cannot be read. The offset is a multiple of 16. */
  read(frame: number, offset: number): boolean {
    const { memory } = this;
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
}
