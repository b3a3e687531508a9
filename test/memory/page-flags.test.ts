import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CHUNK_FRAMES, MIXED, PageFlags } from '../../src/memory/page-flags.ts';

describe('PageFlags', () => {
  it('knows nothing at first', () => {
    const flags = new PageFlags();
    expect(flags.at(0)).toBe(0);
    expect(flags.at(0x7fffffff)).toBe(0);
    expect(flags.at(-1)).toBe(0);
    expect(flags.at(2 ** 31)).toBe(0);
  });

  it('keeps whole chunks as one value', () => {
    const flags = new PageFlags();
    flags.fill(CHUNK_FRAMES, 3 * CHUNK_FRAMES, 7);
    expect([...flags.chunks.subarray(0, 5)]).toEqual([0, 7, 7, 7, 0]);
    expect(flags.mixedChunks).toBe(0);
  });

  it('keeps a byte per page only where a chunk is mixed', () => {
    const flags = new PageFlags();
    flags.fill(10, 2 * CHUNK_FRAMES, 7);
    expect([...flags.chunks.subarray(0, 4)]).toEqual([MIXED, 7, MIXED, 0]);
    expect([9, 10, CHUNK_FRAMES, 2 * CHUNK_FRAMES + 9, 2 * CHUNK_FRAMES + 10].map(f => flags.at(f))).toEqual([
      0, 7, 7, 7, 0,
    ]);
  });

  it('becomes uniform again when the pages do', () => {
    const flags = new PageFlags();
    flags.fill(0, 100, 7);
    expect(flags.mixedChunks).toBe(1);
    flags.fill(100, CHUNK_FRAMES - 100, 7);
    expect(flags.mixedChunks).toBe(0);
    expect(flags.chunks[0]).toBe(7);
    flags.fill(5, 1, 3);
    flags.fill(0, CHUNK_FRAMES, 0);
    expect(flags.mixedChunks).toBe(0);
  });

  it('knows a chunk anew that was mixed before, whatever it has had since', () => {
    const flags = new PageFlags();
    flags.fill(7, 1, 5);
    flags.fill(7, 1, 0);
    expect([flags.mixedChunks, flags.chunks[0]]).toEqual([0, 0]);
    flags.fill(0, CHUNK_FRAMES, 7);
    flags.fill(511, 1, 3);
    expect([0, 7, 510, 511].map(frame => flags.at(frame))).toEqual([7, 7, 7, 3]);
    expect(flags.mixedChunks).toBe(1);
  });

  it('keeps bytes for no more chunks than one besides those that are mixed', () => {
    const flags = new PageFlags();
    for (let chunk = 0; chunk < 3; chunk++) {
      flags.fill(chunk * CHUNK_FRAMES, 1, 5);
      flags.fill(chunk * CHUNK_FRAMES, 1, 0);
    }
    flags.fill(CHUNK_FRAMES, 1, 9);
    expect(flags.mixedChunks).toBe(1);
    expect([0, CHUNK_FRAMES, CHUNK_FRAMES + 1, 2 * CHUNK_FRAMES].map(frame => flags.at(frame))).toEqual([0, 9, 0, 0]);
    flags.clear();
    flags.fill(2 * CHUNK_FRAMES + 1, 1, 5);
    expect([flags.mixedChunks, flags.at(2 * CHUNK_FRAMES), flags.at(2 * CHUNK_FRAMES + 1)]).toEqual([1, 0, 5]);
  });

  it('tells how far a run goes, up to the end of the chunk', () => {
    const flags = new PageFlags();
    flags.fill(10, 20, 7);
    expect(flags.run(0)).toBe(10);
    expect(flags.run(10)).toBe(20);
    expect(flags.run(15)).toBe(15);
    expect(flags.run(30)).toBe(CHUNK_FRAMES - 30);
    expect(flags.run(CHUNK_FRAMES + 1)).toBe(CHUNK_FRAMES - 1);
  });

  it('reaches the last frame there is', () => {
    const flags = new PageFlags();
    flags.fill(2 ** 31 - 1, 1, 7);
    expect(flags.at(2 ** 31 - 1)).toBe(7);
    expect(flags.at(2 ** 31 - 2)).toBe(0);
    expect(flags.at(2 ** 31)).toBe(0);
  });

  it('forgets everything', () => {
    const flags = new PageFlags();
    flags.fill(3, 2000, 7);
    flags.clear();
    expect(flags.mixedChunks).toBe(0);
    expect(flags.chunks.every(value => value === 0)).toBe(true);
  });

  it('is what a plain array of pages would be', () => {
    const frames = 4 * CHUNK_FRAMES;
    const fill = fc.record({
      frame: fc.nat(frames - 1),
      count: fc.integer({ min: 1, max: frames }),
      flags: fc.constantFrom(0, 5, 7, 9),
    });
    fc.assert(
      fc.property(fc.array(fill, { maxLength: 30 }), fills => {
        const flags = new PageFlags();
        const plain = new Uint8Array(frames);
        for (const { frame, count, flags: value } of fills) {
          const fitting = Math.min(count, frames - frame);
          flags.fill(frame, fitting, value);
          plain.fill(value, frame, frame + fitting);
        }
        for (let frame = 0; frame < frames; frame++) if (flags.at(frame) !== plain[frame]) return false;
        for (let chunk = 0; chunk < 4; chunk++) {
          const pages = plain.subarray(chunk * CHUNK_FRAMES, (chunk + 1) * CHUNK_FRAMES);
          const uniform = pages.every(page => page === pages[0]);
          if ((flags.chunks[chunk] === MIXED) === uniform) return false;
        }
        return true;
      }),
    );
  });

  it('forgets the pages of each chunk that a fill covers, and of no other', () => {
    const flags = new PageFlags();
    for (let chunk = 0; chunk < 10; chunk++) flags.fill(chunk * CHUNK_FRAMES + 5, 1, 3);
    expect(flags.mixedChunks).toBe(10);
    flags.fill(2 * CHUNK_FRAMES, 3 * CHUNK_FRAMES, 7);
    expect(flags.mixedChunks).toBe(7);
    expect([...flags.chunks.subarray(0, 6)]).toEqual([MIXED, MIXED, 7, 7, 7, MIXED]);
    expect(flags.at(5 * CHUNK_FRAMES + 5)).toBe(3);
  });
});
