import { describe, expect, it } from 'vitest';
import { EntryReader } from '../../../src/iommu/vtd/entry-reader.ts';
import type { MemoryBatch, MemoryStatus } from '../../../src/memory/guest-memory.ts';
import { LocalMemory } from '../../../src/memory/local-memory.ts';

const FRAME = 3;
const OFFSET = 0x40;
const LOW = 0x1122_3344_8556_6778n;
const HIGH = 0x99aa_bbcc_0dde_eff0n;
const WORDS = [0x85566778 | 0, 0x11223344, 0x0ddeeff0, 0x99aabbcc | 0];

/** Memory that no window shows, where each access is a message. */
class DistantMemory extends LocalMemory {
  readonly accesses: string[] = [];
  readonly batch = {} as MemoryBatch;
  /** Called after each access. */
  afterwards: (accesses: number) => void = () => {};
  private readonly near = new LocalMemory(64 * 1024);

  constructor() {
    super(4096);
    this.windows.length = 0;
  }

  override read(frame: number, offset: number, target: Uint8Array, at: number, length: number): MemoryStatus {
    return this.count(`read ${length}`, this.near.read(frame, offset, target, at, length));
  }

  override load64(frame: number, offset: number): MemoryStatus {
    const status = this.near.load64(frame, offset);
    this.low = this.near.low;
    this.high = this.near.high;
    return this.count('load64', status);
  }

  put(low: bigint, high: bigint): void {
    this.near.write64(FRAME, OFFSET, low);
    this.near.write64(FRAME, OFFSET + 8, high);
  }

  private count(access: string, status: MemoryStatus): MemoryStatus {
    this.accesses.push(access);
    this.afterwards(this.accesses.length);
    return status;
  }
}

const wordsOf = ({ w0, w1, w2, w3 }: EntryReader) => [w0, w1, w2, w3];

describe('an entry', () => {
  it('is read word by word where a window shows it', () => {
    const memory = new LocalMemory(64 * 1024);
    memory.write64(FRAME, OFFSET, LOW);
    memory.write64(FRAME, OFFSET + 8, HIGH);
    const reader = new EntryReader(memory);
    expect(reader.read(FRAME, OFFSET)).toBe(true);
    expect(wordsOf(reader)).toEqual(WORDS);
  });

  it('takes one message where none does', () => {
    const memory = new DistantMemory();
    memory.put(LOW, HIGH);
    const reader = new EntryReader(memory);
    expect(reader.read(FRAME, OFFSET)).toBe(true);
    expect(wordsOf(reader)).toEqual(WORDS);
    expect(memory.accesses).toEqual(['read 16']);
  });

  it('takes two to be known as whole', () => {
    const memory = new DistantMemory();
    memory.put(LOW, HIGH);
    const reader = new EntryReader(memory);
    expect(reader.readWhole(FRAME, OFFSET)).toBe(true);
    expect(wordsOf(reader)).toEqual(WORDS);
    expect(memory.accesses).toEqual(['read 16', 'load64']);
  });

  it('is read again where it changed in between', () => {
    const memory = new DistantMemory();
    memory.put(1n, 2n);
    memory.afterwards = accesses => {
      if (accesses === 1) memory.put(LOW, HIGH);
    };
    const reader = new EntryReader(memory);
    expect(reader.readWhole(FRAME, OFFSET)).toBe(true);
    expect(wordsOf(reader)).toEqual(WORDS);
    expect(memory.accesses).toEqual(['read 16', 'load64', 'read 16', 'load64']);
  });

  it.each(['read', 'readWhole'] as const)('%s tells where there is no memory', how => {
    expect(new EntryReader(new DistantMemory())[how](0x7fff_0000, 0)).toBe(false);
    expect(new EntryReader(new LocalMemory(4096))[how](0x7fff_0000, 0)).toBe(false);
  });
});
