import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EVENT_KINDS, EventClass, Kind } from '../../../src/trace/event-kinds.ts';
import { checkKindTable } from '../../../src/trace/kind-table.ts';
import { RecordingError } from '../../../src/trace/recording/format.ts';
import { RecordingReader } from '../../../src/trace/recording/reader.ts';
import { event, join32, MACHINE, named, note, open, record, scratch, text, wordsOf, write } from './support.ts';

const SMALL = { blockBytes: 8192 };

/** A read of one page by the device with this source number. */
const read = (source: number, time: number) => event('dma.read', source, time, 0x100, 0, 0x1000, 4096, -1);

describe('a recording', () => {
  it('gives back what was written, in one block', async () => {
    const words = join32(named(1, 'edu0'), read(1, 100), read(1, 200));
    const { path, summary } = await write([words]);
    const reader = open(path);
    expect(wordsOf(reader)).toEqual(words);
    expect(reader.records).toBe(3);
    expect(reader.complete).toBe(true);
    expect(reader.damage).toEqual([]);
    expect(summary).toMatchObject({ records: 3, dropped: 0, malformed: 0, bytes: reader.bytes });
  });

  it('knows its machine, its kinds and when it began', async () => {
    const { header } = open((await write([])).path);
    expect(header.machine).toEqual(MACHINE);
    expect(header.kinds).toEqual(checkKindTable(EVENT_KINDS));
    expect(header.started).toBe('1970-01-01T00:00:00.000Z');
    expect(header.classes).toEqual(EventClass);
  });

  it('may have no records at all', async () => {
    const reader = open((await write([])).path);
    expect([...reader.read()]).toEqual([]);
    expect(reader).toMatchObject({ records: 0, complete: true });
  });

  it('names its sources', async () => {
    const { path } = await write([named(1, 'edu0'), named(2, 'iommu'), named(1, 'edu0')]);
    expect(open(path).sources).toEqual(
      new Map([
        [1, 'edu0'],
        [2, 'iommu'],
      ]),
    );
  });

  it('names a source also where its block is not read', async () => {
    const fill = Array.from({ length: 300 }, (_, time) => read(1, time));
    const late = event('fault', 2, 1000, 0x100, 0, 0x1000, 5, 1, -1);
    const reader = open((await write([named(1, 'edu0'), named(2, 'iommu'), ...fill, late], SMALL)).path);
    expect([...reader.read({ classes: EventClass.fault })]).toHaveLength(1);
    expect(reader.sources.get(2)).toBe('iommu');
  });

  it('keeps a record in one block', async () => {
    const long = event('fault', 1, 5, 0x100, 0, 0x1000, 5, 1, -1, 2, 3, 4, 5, 6, 48);
    // 255 slots, then one of two in a block of 256.
    const { path } = await write([...Array.from({ length: 255 }, (_, time) => read(1, time)), long], SMALL);
    const blocks = [...open(path).read()].map(({ slots, entry }) => [slots, entry.records]);
    expect(blocks).toEqual([
      [255, 255],
      [2, 1],
    ]);
  });

  it('keeps the words of text records', async () => {
    const words = note(1, 5, 'register.unknown', 'edu0', { offset: 12, address: 0x1234567890abcdefn });
    const { path } = await write([words]);
    expect(wordsOf(open(path))).toEqual(words);
  });

  it('leaves padding out', async () => {
    const { path, summary } = await write([join32(read(1, 1), record(0, 0, 0), read(1, 2))]);
    expect(summary.records).toBe(2);
    expect(wordsOf(open(path))).toEqual(join32(read(1, 1), read(1, 2)));
  });

  it('is any sequence of records, whatever the blocks and the batches', async () => {
    const payload = fc.array(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), { maxLength: 13 });
    const kind = fc.constantFrom(...EVENT_KINDS.filter(one => one.name !== 'source' && one.name !== 'dropped'));
    const one = fc
      .tuple(kind, fc.nat(0xffff), fc.double({ min: 0, max: 1e15, noNaN: true }), payload)
      .map(([{ code }, source, time, words]) => record(code, source, time, words));
    const batches = fc.array(
      fc.array(one, { maxLength: 80 }).map(parts => join32(...parts)),
      { maxLength: 12 },
    );
    await fc.assert(
      fc.asyncProperty(batches, async list => {
        const { path, summary } = await write(list, SMALL);
        const reader = open(path);
        expect(wordsOf(reader)).toEqual(join32(...list));
        expect(summary.dropped).toBe(0);
        expect(reader.damage).toEqual([]);
      }),
      { numRuns: 15 },
    );
  });
});

describe('the blocks of a recording', () => {
  /** Three blocks: reads, faults in domain 7, reads again. */
  const three = async () => {
    const reads = (from: number) => Array.from({ length: 256 }, (_, index) => read(1, from + index));
    const faults = Array.from({ length: 128 }, (_, index) =>
      event('fault', 1, 1000 + index, 0x100, 0, 0x1000, 5, 7, -1, 1, 0, 0, 0, 0, 48),
    );
    return open((await write([...reads(0), ...faults, ...reads(2000)], SMALL)).path);
  };

  it('are known by their times and classes', async () => {
    const { blocks } = await three();
    expect(
      blocks.map(({ first, last, records, classes, domains }) => [first, last, records, classes, domains]),
    ).toEqual([
      [0, 255, 256, EventClass.dma, []],
      [1000, 1127, 128, EventClass.fault, [7]],
      [2000, 2255, 256, EventClass.dma, []],
    ]);
  });

  it.each([
    ['everything', {}, [0, 1000, 2000]],
    ['a class', { classes: EventClass.fault | EventClass.mapping }, [1000]],
    ['a class that nothing has', { classes: EventClass.mapping }, []],
    ['from a time on', { since: 256 }, [1000, 2000]],
    ['from the last moment of a block on', { since: 255 }, [0, 1000, 2000]],
    ['up to a time', { until: 1000 }, [0, 1000]],
    ['a time between blocks', { since: 300, until: 900 }, []],
    ['a domain', { domain: 7 }, [1000]],
    ['another domain', { domain: 8 }, []],
  ])('are left out where the filter wants none of them: %s', async (_, filter, firsts) => {
    expect([...(await three()).read(filter)].map(block => block.entry.first)).toEqual(firsts);
  });

  it('are not left out where an event is about all domains', async () => {
    const all = event('invalidation', 1, 1, -1, 0, 0, 0, 0);
    const reader = open((await write([all])).path);
    expect([...reader.read({ domain: 5 })]).toHaveLength(1);
  });

  it('tell no domains where they have too many', async () => {
    const many = Array.from({ length: 40 }, (_, domain) => event('detach', 1, 1, 0x100, domain, -1));
    const reader = open((await write(many)).path);
    expect(reader.blocks[0]!.domains).toBeUndefined();
    expect([...reader.read({ domain: 1000 })]).toHaveLength(1);
  });

  it('can be read twice', async () => {
    const reader = await three();
    expect(wordsOf(reader)).toEqual(wordsOf(reader));
  });
});

describe('what is no recording', () => {
  it('cannot be opened: no such file', () => {
    expect(() => RecordingReader.open(scratch())).toThrow(RecordingError);
    expect(() => RecordingReader.open(scratch())).toThrow(/ENOENT/);
  });

  it('cannot be opened: a directory', () => {
    expect(() => RecordingReader.open('/tmp')).toThrow(RecordingError);
  });
});

describe('a text record', () => {
  it('that says how many were dropped counts in the summary', async () => {
    const { path, summary } = await write([event('dropped', 0, 5, 12), text(Kind.note, 1, 6, ['a', 'b', {}])]);
    expect(summary.dropped).toBe(12);
    expect(open(path).dropped).toBe(12);
  });
});
