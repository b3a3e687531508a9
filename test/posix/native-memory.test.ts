import { describe, expect, it } from 'vitest';
import { allocateNative, freeNative, NATIVE_BLOCK_LIMIT } from '../../src/posix/native-memory.ts';
import { addressSpace } from './support.ts';

describe('native memory', () => {
  it('is zero, page-aligned and at least as long as asked for', () => {
    const block = allocateNative(5000);
    expect(block.bytes.length).toBe(8192);
    expect(block.address % 4096).toBe(0);
    expect(block.bytes.every(byte => byte === 0)).toBe(true);
    freeNative(block);
  });

  it('is handed out again after it was freed, zeroed', () => {
    const first = allocateNative(12288);
    first.bytes.fill(7);
    freeNative(first);
    const second = allocateNative(12000);
    expect(second.address).toBe(first.address);
    expect(second.bytes.every(byte => byte === 0)).toBe(true);
    freeNative(second);
  });

  it('does not grow over many rounds', () => {
    freeNative(allocateNative(64 << 20));
    const before = addressSpace();
    for (let i = 0; i < 50; i++) freeNative(allocateNative(64 << 20));
    expect(addressSpace() - before).toBeLessThan(1 << 30);
  });

  it('has a small address, so that to pass it allocates nothing, as long as there are any', () => {
    const small = allocateNative(4096);
    if (process.arch === 'x64') expect(small.address).toBeLessThan(2 ** 31);
    const large = [1, 2, 3].map(() => allocateNative(600 << 20));
    for (const block of large) {
      block.bytes[block.bytes.length - 1] = 7;
      expect(block.bytes[block.bytes.length - 1]).toBe(7);
    }
    expect(large.some(block => block.address >= 2 ** 31)).toBe(true);
    for (const block of [small, ...large]) freeNative(block);
  });

  it('is not freed twice', () => {
    const block = allocateNative(4096);
    freeNative(block);
    expect(() => freeNative(block)).toThrow(/twice/);
  });

  it.each([0, -1, 1.5, Number.NaN, NATIVE_BLOCK_LIMIT + 1])('refuses %s bytes', bytes => {
    expect(() => allocateNative(bytes)).toThrow(RangeError);
  });
});
