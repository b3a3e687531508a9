import { describe, expect, it } from 'vitest';
import { MemoryStatus } from '../../src/memory/guest-memory.ts';
import { LocalMemory } from '../../src/memory/local-memory.ts';

const PAGE = 4096;

function filled(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + 7) & 0xff);
}

describe('LocalMemory', () => {
  it.each([1, 8, 4096, 10_000, 3 << 20])('reads back %s bytes that were written, across pages', length => {
    const memory = new LocalMemory(8 << 20);
    const source = filled(length + 20);
    const target = new Uint8Array(length + 20);
    expect(memory.write(300, 4090, source, 5, length)).toBe(MemoryStatus.ok);
    expect(memory.read(300, 4090, target, 9, length)).toBe(MemoryStatus.ok);
    // Buffer.compare, because toEqual on millions of bytes takes half a minute.
    expect(Buffer.compare(target.subarray(9, 9 + length), source.subarray(5, 5 + length))).toBe(0);
    expect(target.subarray(0, 9).every(byte => byte === 0)).toBe(true);
    expect(target.subarray(9 + length).every(byte => byte === 0)).toBe(true);
  });

  it('ends where it was said to end', () => {
    const memory = new LocalMemory(3 * PAGE);
    const buffer = new Uint8Array(PAGE + 1);
    expect(memory.read(2, 0, buffer, 0, PAGE)).toBe(MemoryStatus.ok);
    expect(memory.read(2, 0, buffer, 0, PAGE + 1)).toBe(MemoryStatus.unmapped);
    expect(memory.write(3, 0, buffer, 0, 1)).toBe(MemoryStatus.unmapped);
    expect(memory.load64(3, 0)).toBe(MemoryStatus.unmapped);
    expect(memory.store32(0x7fffffff, 0, 1)).toBe(MemoryStatus.unmapped);
  });

  it('does the pages before the one that fails', () => {
    const memory = new LocalMemory(2 * PAGE);
    expect(memory.write(1, PAGE - 2, Uint8Array.of(1, 2, 3, 4), 0, 4)).toBe(MemoryStatus.unmapped);
    expect([...memory.windows[0]!.bytes.subarray(2 * PAGE - 2)]).toEqual([1, 2]);
  });

  it('takes an offset beyond the page', () => {
    const memory = new LocalMemory(3 * PAGE);
    memory.write(0, 2 * PAGE + 5, Uint8Array.of(9), 0, 1);
    const target = new Uint8Array(1);
    memory.read(2, 5, target, 0, 1);
    expect(target[0]).toBe(9);
  });

  it('spans windows', () => {
    const memory = new LocalMemory(2 ** 30 + PAGE);
    expect(memory.windows).toHaveLength(2);
    expect(memory.windows[1]!.bytes.length).toBe(PAGE);
    const source = filled(100);
    expect(memory.write(0x3ffff, 4046, source, 0, 100)).toBe(MemoryStatus.ok);
    const target = new Uint8Array(100);
    expect(memory.read(0x3ffff, 4046, target, 0, 100)).toBe(MemoryStatus.ok);
    expect(target).toEqual(source);
    expect(memory.windows[1]!.bytes[49]).toBe(source[99]);
  });

  it('loads 64-bit words as two signed halves', () => {
    const memory = new LocalMemory(PAGE);
    memory.write64(0, 8, 0xffff_fffe_8000_0001n);
    expect(memory.load64(0, 8)).toBe(MemoryStatus.ok);
    expect([memory.low, memory.high]).toEqual([-0x7fffffff, -2]);
  });

  it('loads the last word of a page and a word that is not aligned', () => {
    const memory = new LocalMemory(2 * PAGE);
    memory.write64(0, 4088, 0x0102030405060708n);
    memory.write64(1, 0, 0x1112131415161718n);
    memory.load64(0, 4088);
    expect([memory.low, memory.high]).toEqual([0x05060708, 0x01020304]);
    expect(memory.load64(0, 4092)).toBe(MemoryStatus.ok);
    expect([memory.low, memory.high]).toEqual([0x01020304, 0x15161718]);
  });

  it('keeps the last result when a load fails', () => {
    const memory = new LocalMemory(PAGE);
    memory.write64(0, 0, 5n);
    memory.load64(0, 0);
    expect(memory.load64(1, 0)).toBe(MemoryStatus.unmapped);
    expect([memory.low, memory.high]).toEqual([5, 0]);
  });

  it('stores 32-bit words, little-endian, of either signedness', () => {
    const memory = new LocalMemory(PAGE);
    memory.store32(0, 4, 0x01020304);
    memory.store32(0, 8, 0xfffffffe);
    expect([...memory.windows[0]!.bytes.subarray(4, 12)]).toEqual([4, 3, 2, 1, 0xfe, 0xff, 0xff, 0xff]);
  });

  it('stores a 32-bit word that is not aligned', () => {
    const memory = new LocalMemory(PAGE);
    expect(memory.store32(0, 6, 0x01020304)).toBe(MemoryStatus.ok);
    expect([...memory.windows[0]!.bytes.subarray(5, 11)]).toEqual([0, 4, 3, 2, 1, 0]);
  });

  it('denies what a page does not allow', () => {
    const memory = new LocalMemory(4 * PAGE);
    const buffer = new Uint8Array(8);
    memory.protect(1, 1, { readable: true, writable: false });
    memory.protect(2, 1, { readable: false, writable: true });
    expect(memory.read(1, 0, buffer, 0, 8)).toBe(MemoryStatus.ok);
    expect(memory.write(1, 0, buffer, 0, 8)).toBe(MemoryStatus.denied);
    expect(memory.store32(1, 0, 1)).toBe(MemoryStatus.denied);
    expect(memory.read(2, 0, buffer, 0, 8)).toBe(MemoryStatus.denied);
    expect(memory.load64(2, 0)).toBe(MemoryStatus.denied);
    expect(memory.write(2, 0, buffer, 0, 8)).toBe(MemoryStatus.ok);
    expect(memory.write(0, 4092, buffer, 0, 8)).toBe(MemoryStatus.denied);
  });

  it('denies what a whole chunk does not allow', () => {
    const memory = new LocalMemory(4 << 20);
    const buffer = new Uint8Array(8);
    memory.protect(512, 512, { readable: true, writable: false });
    expect(memory.read(600, 0, buffer, 0, 8)).toBe(MemoryStatus.ok);
    expect(memory.write(600, 0, buffer, 0, 8)).toBe(MemoryStatus.denied);
    memory.protect(512, 512, { readable: false, writable: true });
    expect(memory.read(600, 0, buffer, 0, 8)).toBe(MemoryStatus.denied);
    expect(memory.load64(600, 0)).toBe(MemoryStatus.denied);
    expect(memory.write(600, 0, buffer, 0, 8)).toBe(MemoryStatus.ok);
  });

  it('grows its generation with every change of protection', () => {
    const memory = new LocalMemory(PAGE);
    const before = memory.generation;
    memory.protect(0, 1, { readable: true, writable: false });
    expect(memory.generation).toBeGreaterThan(before);
  });

  it.each([0, 1, 4095, -4096, Number.NaN])('cannot be made of %s bytes', bytes => {
    expect(() => new LocalMemory(bytes)).toThrow(RangeError);
  });

  it('refuses a buffer that is too short, rather than leave bytes out', () => {
    const memory = new LocalMemory(PAGE);
    const buffer = new Uint8Array(8);
    expect(() => memory.read(0, 0, buffer, 1, 8)).toThrow(RangeError);
    expect(() => memory.write(0, 0, buffer, 0, 9)).toThrow(RangeError);
    expect(() => memory.write(0, 0, buffer, -1, 4)).toThrow(RangeError);
  });

  it('refuses to set up what it does not have', () => {
    const memory = new LocalMemory(PAGE);
    expect(() => memory.write64(1, 0, 0n)).toThrow(RangeError);
    expect(() => memory.write64(0, 4, 0n)).toThrow(RangeError);
    expect(() => memory.protect(0, 2, { readable: true, writable: true })).toThrow(RangeError);
  });
});
