import { truncateSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BLOCK_MARK, RecordingError, TRAILER_BYTES } from '../../../src/trace/recording/format.ts';
import { RecordingReader } from '../../../src/trace/recording/reader.ts';
import { damaged, event, named, open, wordsOf, write } from './support.ts';

const SLOTS = 256;
const SMALL = { blockBytes: SLOTS * 32 };
const BLOCKS = 4;

/** Four full blocks; the records' times count from 0. */
async function four() {
  const reads = Array.from({ length: SLOTS * BLOCKS - 1 }, (_, time) =>
    event('dma.read', 1, time, 0x100, 0, 0x1000, 64, -1),
  );
  return (await write([named(1, 'edu0'), ...reads], SMALL)).path;
}

const firsts = (reader: RecordingReader) => [...reader.read()].map(block => block.entry.first);
const FIRSTS = [0, SLOTS - 1, 2 * SLOTS - 1, 3 * SLOTS - 1];

describe('a recording that was cut off', () => {
  it('is read without its index', async () => {
    const path = await four();
    const whole = wordsOf(open(path));
    const cut = damaged(path, bytes => bytes.subarray(0, bytes.length - 1));
    const reader = open(cut);
    expect(reader.complete).toBe(false);
    expect(reader.damage).toEqual([]);
    expect(wordsOf(reader)).toEqual(whole);
    expect(reader.records).toBe(SLOTS * BLOCKS);
    expect(reader.dropped).toBeUndefined();
    expect(reader.sources.get(1)).toBe('edu0');
  });

  it('is read up to its last whole block', async () => {
    const path = await four();
    const last = open(path).blocks[3]!;
    const reader = open(damaged(path, bytes => bytes.subarray(0, last.offset + last.bytes - 1)));
    expect(firsts(reader)).toEqual(FIRSTS.slice(0, 3));
    expect(reader.damage).toEqual([{ offset: last.offset, message: 'the block is cut off' }]);
  });

  it('is read where only its header is left', async () => {
    const path = await four();
    const { offset } = open(path).blocks[0]!;
    truncateSync(path, offset);
    expect(open(path)).toMatchObject({ complete: false, records: 0, damage: [] });
  });

  it('within the header cannot be read', async () => {
    const path = await four();
    truncateSync(path, 100);
    expect(() => RecordingReader.open(path)).toThrow(/is not a recording of viommu: it is cut off/);
  });

  it('at any place gives whole blocks or a RecordingError', async () => {
    const path = await four();
    const { blocks, bytes: size } = open(path);
    await fc.assert(
      fc.property(fc.nat(size), length => {
        const file = damaged(path, bytes => bytes.subarray(0, length));
        if (length < blocks[0]!.offset) {
          expect(() => RecordingReader.open(file)).toThrow(RecordingError);
          return;
        }
        const whole = blocks.filter(block => block.offset + block.bytes <= length);
        expect(firsts(open(file))).toEqual(FIRSTS.slice(0, whole.length));
      }),
      { numRuns: 60 },
    );
  });
});

describe('a recording that is damaged', () => {
  it('tells which block has wrong data, and gives the others', async () => {
    const path = await four();
    const { offset, bytes } = open(path).blocks[1]!;
    const reader = open(
      damaged(path, file => {
        file[offset + bytes - 10]! ^= 0x10;
        return file;
      }),
    );
    expect(firsts(reader)).toEqual([FIRSTS[0], FIRSTS[2], FIRSTS[3]]);
    expect(reader.damage).toEqual([{ offset, message: 'the checksum of the block is wrong: its data is damaged' }]);
  });

  it('tells it once, however often it is read', async () => {
    const path = await four();
    const { offset } = open(path).blocks[1]!;
    const reader = open(damaged(path, file => file.fill(0, offset, offset + 40)));
    firsts(reader);
    expect(firsts(reader)).toHaveLength(3);
    expect(reader.damage).toHaveLength(1);
    expect(reader.damage[0]).toMatchObject({ offset, message: expect.stringContaining('not a block') });
  });

  it('and without an index is read on from the next block', async () => {
    const path = await four();
    const { offset } = open(path).blocks[1]!;
    const reader = open(
      damaged(path, file => file.fill(0, offset, offset + 40).subarray(0, file.length - TRAILER_BYTES)),
    );
    expect(reader.complete).toBe(false);
    expect(firsts(reader)).toEqual([FIRSTS[0], FIRSTS[2], FIRSTS[3]]);
    expect(reader.damage.map(one => one.offset)).toEqual([offset]);
  });

  it('is read without an index that names impossible places', async () => {
    const path = await four();
    const reader = open(
      damaged(path, file => {
        file.writeBigUInt64LE(5n, file.length - 8);
        return file;
      }),
    );
    expect(firsts(reader)).toEqual(FIRSTS);
    expect(reader.complete).toBe(false);
    expect(reader.damage[0]!.message).toMatch(/the trailer names a place/);
  });

  it('is not searched for blocks in its records', async () => {
    const mark = new Int32Array(16);
    mark.set(event('dma.read', 1, 1));
    mark.set(event('dma.read', 1, 2), 8);
    new Uint8Array(mark.buffer).set(BLOCK_MARK, 20);
    const path = (await write([mark])).path;
    const { offset } = open(path).blocks[0]!;
    const reader = open(
      damaged(path, file => {
        file[offset] = 0xc1;
        return file.subarray(0, file.length - 1);
      }),
    );
    expect(firsts(reader)).toEqual([]);
    expect(reader.damage.map(one => one.offset)).toContain(offset);
  });

  it('never costs more than a RecordingError, wherever a byte is wrong', async () => {
    const path = await four();
    const { bytes: size } = open(path);
    await fc.assert(
      fc.property(fc.nat(size - 1), fc.nat(255), (at, value) => {
        const file = damaged(path, bytes => {
          bytes[at] = value;
          return bytes;
        });
        try {
          expect(firsts(open(file)).length).toBeLessThanOrEqual(BLOCKS);
        } catch (error) {
          expect(error).toBeInstanceOf(RecordingError);
        }
      }),
      { numRuns: 150 },
    );
  });

  it('is told from another file', async () => {
    const path = damaged(await four(), () => Buffer.from('{"format":"viommu-recording"}'));
    expect(() => RecordingReader.open(path)).toThrow(/is not a recording of viommu/);
  });
});
