import { describe, expect, it } from 'vitest';
import { MemoryStatus } from '../../src/memory/guest-memory.ts';
import { LocalMemory } from '../../src/memory/local-memory.ts';
import { PageFlag } from '../../src/memory/page-flags.ts';
import { WindowedMemory } from '../../src/memory/windowed-memory.ts';

function setup() {
  const memory = new LocalMemory(4 * 4096);
  memory.write64(2, 8, 0x1_0000_0007n);
  const word = () => {
    memory.load64(2, 8);
    return [memory.low, memory.high];
  };
  return { memory, word };
}

/** One page that is reached by other means than a window. */
class ElsewhereMemory extends WindowedMemory {
  readonly bytes = new Uint8Array(4096);

  constructor() {
    super();
    this.flags.fill(0, 1, PageFlag.readable | PageFlag.writable | PageFlag.remote);
  }

  protected override transferElsewhere(
    writing: boolean,
    flags: number,
    _frame: number,
    offset: number,
    buffer: Uint8Array,
    at: number,
    length: number,
  ): MemoryStatus {
    if (flags === 0) return MemoryStatus.unmapped;
    if (writing) this.bytes.set(buffer.subarray(at, at + length), offset);
    else buffer.set(this.bytes.subarray(offset, offset + length), at);
    this.moved = length;
    return MemoryStatus.ok;
  }
}

describe('compareExchange32', () => {
  it('stores where the word is as expected, and only that word', () => {
    const { memory, word } = setup();
    expect(memory.compareExchange32(2, 8, 7, -9)).toBe(MemoryStatus.ok);
    expect(memory.low).toBe(7);
    expect(word()).toEqual([-9, 1]);
  });

  it('stores nothing where it is not, and tells what it is', () => {
    const { memory, word } = setup();
    expect(memory.compareExchange32(2, 8, 8, -9)).toBe(MemoryStatus.ok);
    expect(memory.low).toBe(7);
    expect(word()).toEqual([7, 1]);
  });

  it('does not write where devices may not', () => {
    const { memory, word } = setup();
    memory.protect(2, 1, { readable: true, writable: false });
    expect(memory.compareExchange32(2, 8, 7, -9)).toBe(MemoryStatus.denied);
    expect(word()).toEqual([7, 1]);
  });

  it('does not reach beyond memory', () => {
    expect(setup().memory.compareExchange32(4, 0, 0, 1)).toBe(MemoryStatus.unmapped);
  });

  it('works where memory is not in a window', () => {
    const memory = new ElsewhereMemory();
    memory.bytes.set([7, 0, 0, 0], 8);
    expect(memory.compareExchange32(0, 8, 6, 5)).toBe(MemoryStatus.ok);
    expect([memory.low, memory.bytes[8]]).toEqual([7, 7]);
    expect(memory.compareExchange32(0, 8, 7, 5)).toBe(MemoryStatus.ok);
    expect([memory.low, memory.bytes[8]]).toEqual([7, 5]);
    expect(memory.compareExchange32(1, 8, 7, 5)).toBe(MemoryStatus.unmapped);
  });
});
