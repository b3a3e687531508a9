import { describe, expect, it } from 'vitest';
import { COPY_LOOP_LIMIT, copyBytes } from '../../src/memory/copy.ts';

const source = Uint8Array.from({ length: 1000 }, (_, i) => (i * 37) & 0xff);
const lengths = [0, 1, 2, 3, 4, 5, 7, 8, 63, COPY_LOOP_LIMIT - 1, COPY_LOOP_LIMIT, COPY_LOOP_LIMIT + 1, 500];

describe('copyBytes', () => {
  it.each(lengths)('copies exactly %s bytes from and to any place', length => {
    const target = new Uint8Array(1000).fill(0xee);
    copyBytes(source, 13, target, 101, length);
    const expected = new Uint8Array(1000).fill(0xee);
    for (let i = 0; i < length; i++) expected[101 + i] = source[13 + i]!;
    expect(Buffer.compare(target, expected)).toBe(0);
  });
});
