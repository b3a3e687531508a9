import { describe, expect, it } from 'vitest';
import { EventClass, Kind } from '../../../src/trace/event-kinds.ts';
import { newHeader } from '../../../src/trace/recording/format.ts';
import { RecordingWriter } from '../../../src/trace/recording/writer.ts';
import { event, join32, MACHINE, named, note, open, record, scratch, wordsOf, write } from './support.ts';

const SLOTS = 256;
const SMALL = { blockBytes: SLOTS * 32 };
const read = (time: number) => event('dma.read', 1, time, 0x100, 0, 0x1000, 64, -1);
const batch = (count: number, from = 0) => join32(...Array.from({ length: count }, (_, index) => read(from + index)));

describe('a recording writer', () => {
  it('drops and counts what comes while the disk is too far behind, and says so in the place where it is missing', async () => {
    const path = scratch();
    const writer = await RecordingWriter.create(path, newHeader(MACHINE), { ...SMALL, maxPendingBytes: SLOTS * 32 });
    await writer.settled();
    // The second block cannot be taken before the first one is written, which no synchronous code lets happen.
    writer.append(batch(SLOTS * 2));
    writer.append(batch(100, 1000));
    await writer.settled();
    writer.append(batch(3, 2000));
    const summary = await writer.close();
    const reader = open(path);
    const words = wordsOf(reader);
    const kinds = Array.from({ length: words.length / 8 }, (_, slot) => words[slot * 8]! & 0xff);
    const at = kinds.indexOf(Kind.dropped);
    expect(words[at * 8 + 1]).toBe(summary.dropped);
    expect(kinds.filter(kind => kind === Kind.dropped)).toHaveLength(1);
    expect(kinds.length - 1 + summary.dropped).toBe(SLOTS * 2 + 103);
    expect(kinds.slice(at + 1)).toHaveLength(3);
    expect(reader.dropped).toBe(summary.dropped);
    expect(summary.dropped).toBeGreaterThan(100);
  });

  it('says at the end how many were dropped last', async () => {
    const path = scratch();
    const writer = await RecordingWriter.create(path, newHeader(MACHINE), { ...SMALL, maxPendingBytes: 1 });
    writer.append(batch(5));
    const { dropped, records } = await writer.close();
    expect({ dropped, records }).toEqual({ dropped: 5, records: 1 });
    const words = wordsOf(open(path));
    expect([words[0]! & 0xff, words[1]]).toEqual([Kind.dropped, 5]);
  });

  it('still learns names while it drops', async () => {
    const path = scratch();
    const writer = await RecordingWriter.create(path, newHeader(MACHINE), { ...SMALL, maxPendingBytes: 1 });
    writer.append(named(1, 'edu0'));
    await writer.settled();
    writer.append(read(1));
    await writer.close();
    expect(open(path).sources.get(1)).toBe('edu0');
  });

  it('adds what it is told to be lost to what records say', async () => {
    const path = scratch();
    const writer = await RecordingWriter.create(path, newHeader(MACHINE));
    writer.append(event('dropped', 0, 1, 10));
    writer.lost(7);
    writer.append(read(5));
    expect((await writer.close()).dropped).toBe(17);
    expect(wordsOf(open(path))).toEqual(join32(event('dropped', 0, 1, 10), event('dropped', 0, 1, 7), read(5)));
  });

  it('keeps names and gaps, and of the rest only the classes that it is to keep', async () => {
    const kept = [named(1, 'edu0'), event('dropped', 0, 1, 3), event('attach', 1, 2, 0x100, 7, 0, -1)];
    const { path, summary } = await write([...kept, read(3), note(1, 4, 'a', 'b', {})], { classes: EventClass.attach });
    expect(wordsOf(open(path))).toEqual(join32(...kept));
    expect(summary).toMatchObject({ records: 3, dropped: 3 });
  });

  it('writes what there is when asked to, so that a file that is still written can be read', async () => {
    const path = scratch();
    const writer = await RecordingWriter.create(path, newHeader(MACHINE));
    writer.append(batch(10));
    writer.flush();
    await writer.settled();
    const reader = open(path);
    expect(reader).toMatchObject({ complete: false, records: 10 });
    expect(wordsOf(reader)).toEqual(batch(10));
    writer.append(batch(5, 100));
    await writer.close();
    expect(wordsOf(open(path))).toEqual(join32(batch(10), batch(5, 100)));
  });

  it('copies what it is given', async () => {
    const path = scratch();
    const writer = await RecordingWriter.create(path, newHeader(MACHINE));
    const words = batch(3);
    writer.append(words);
    words.fill(0);
    await writer.close();
    expect(wordsOf(open(path))).toEqual(batch(3));
  });

  it('takes words that are shared with another thread', async () => {
    const path = scratch();
    const writer = await RecordingWriter.create(path, newHeader(MACHINE));
    const source = join32(named(1, 'edu0'), batch(3));
    const shared = new Int32Array(new SharedArrayBuffer(source.byteLength));
    shared.set(source);
    writer.append(shared);
    await writer.close();
    expect(wordsOf(open(path))).toEqual(source);
    expect(open(path).sources.get(1)).toBe('edu0');
  });

  it.each([
    ['of no slots', record(Kind.attach, 0, 1).fill(Kind.attach, 0, 1)],
    ['that goes on behind the batch', record(Kind.attach, 0, 1).fill(Kind.attach | (2 << 8), 0, 1)],
  ])('leaves out the rest of a batch behind a record %s', async (_, bad) => {
    const { path, summary } = await write([join32(batch(2), bad), batch(1, 5)]);
    expect(summary).toMatchObject({ records: 3, malformed: 1 });
    expect(wordsOf(open(path))).toEqual(join32(batch(2), batch(1, 5)));
  });

  it('counts names that are none', async () => {
    const { summary } = await write([record(Kind.source, 1, 1, [-5]), record(Kind.source, 1, 1, [4, 0xc1])]);
    expect(summary.malformed).toBe(2);
  });

  it('rejects where the file cannot be made', async () => {
    await expect(RecordingWriter.create('/nowhere/a', newHeader(MACHINE))).rejects.toThrow(/ENOENT/);
  });

  it('tells at the end that the disk was full', async () => {
    const writer = await RecordingWriter.create('/dev/full', newHeader(MACHINE));
    writer.append(batch(3));
    await expect(writer.close()).rejects.toThrow(/ENOSPC/);
    expect(writer.error).toBeDefined();
  });

  it('takes nothing more when it is closed', async () => {
    const writer = await RecordingWriter.create(scratch(), newHeader(MACHINE));
    await writer.close();
    expect(() => writer.append(batch(1))).toThrow(/closed/);
    await expect(writer.close()).rejects.toThrow(/closed/);
  });
});
