import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  compileFilter,
  type EventFilter,
  FilterError,
  parseAddressRange,
  parseClasses,
  parseDuration,
} from '../../src/trace/event-filter.ts';
import { EventClass, type Kind } from '../../src/trace/event-kinds.ts';
import { RecordCursor } from '../../src/trace/record-cursor.ts';
import { fieldsOf, standardDecoder } from '../../src/trace/record-fields.ts';
import { batchOf, type SampleRecord, slotsOf, textSlotsOf } from './records.ts';

const SOURCES: readonly string[] = ['', 'edu0', 'iommu', 'edu1'];
const NAMES = batchOf(...SOURCES.slice(1).map((name, index) => textSlotsOf('source', [index + 1, name])));

/** The cursor at a record. */
function at(words: Int32Array): RecordCursor {
  const cursor = new RecordCursor();
  cursor.load(NAMES);
  while (cursor.next());
  cursor.load(words);
  expect(cursor.next()).toBe(true);
  return cursor;
}

const passes = (filter: EventFilter, record: SampleRecord | Int32Array): boolean =>
  compileFilter(filter, standardDecoder)(at(record instanceof Int32Array ? record : slotsOf(record)));

const dma = (high: number, low: number, length: number, requesterId = 0x100): SampleRecord => ({
  kind: 'dma.read',
  source: 1,
  payload: [requesterId, high, low, length, -1],
});
const range = (first: bigint, last: bigint): EventFilter => ({ iova: { first, last } });

describe('a filter', () => {
  it('passes everything where it asks for nothing', () => {
    expect(passes({}, dma(0, 0x1000, 64))).toBe(true);
    expect(passes({}, textSlotsOf('note', ['a', 'b', {}]))).toBe(true);
  });

  it('goes by class', () => {
    expect(passes({ classes: EventClass.dma }, dma(0, 0, 1))).toBe(true);
    expect(passes({ classes: EventClass.fault | EventClass.note }, dma(0, 0, 1))).toBe(false);
  });

  it('goes by kind', () => {
    expect(passes({ kinds: ['dma.read', 'fault'] }, dma(0, 0, 1))).toBe(true);
    expect(passes({ kinds: ['dma.write'] }, dma(0, 0, 1))).toBe(false);
  });

  it('says which kinds there are where it is asked for another', () => {
    expect(() => compileFilter({ kinds: ['dma'] }, standardDecoder)).toThrow(FilterError);
    expect(() => compileFilter({ kinds: ['dma'] }, standardDecoder)).toThrow(/'dma': there are .*dma\.read/);
  });

  it('goes by the name of the source', () => {
    expect(passes({ sources: ['edu0'] }, dma(0, 0, 1))).toBe(true);
    expect(passes({ sources: ['edu1'] }, dma(0, 0, 1))).toBe(false);
  });

  it('goes by requester id, in whichever field it is', () => {
    expect(passes({ requesterIds: [0x100] }, dma(0, 0, 1))).toBe(true);
    expect(passes({ requesterIds: [0x108] }, dma(0, 0, 1))).toBe(false);
    expect(passes({ requesterIds: [0x108] }, { kind: 'context.present', payload: [0x100, 0x108] })).toBe(true);
    expect(passes({ requesterIds: [0x100] }, { kind: 'reset' })).toBe(false);
  });

  it('takes source and requester id as two names of one device', () => {
    const device = { sources: ['edu1'], requesterIds: [0x100] };
    expect(passes(device, dma(0, 0, 1, 0x100))).toBe(true);
    expect(passes(device, { ...dma(0, 0, 1, 0x108), source: 3 })).toBe(true);
    expect(passes(device, { ...dma(0, 0, 1, 0x108), source: 2 })).toBe(false);
  });

  it('goes by domain, and counts what is of all domains to each', () => {
    expect(passes({ domains: [7] }, { kind: 'attach', payload: [0x100, 7] })).toBe(true);
    expect(passes({ domains: [7] }, { kind: 'attach', payload: [0x100, 8] })).toBe(false);
    expect(passes({ domains: [7] }, { kind: 'invalidation', payload: [-1] })).toBe(true);
    expect(passes({ domains: [0xfffffffe] }, { kind: 'attach', payload: [0x100, -2] })).toBe(true);
    expect(passes({ domains: [7] }, dma(0, 0, 1))).toBe(false);
  });

  it('goes by time, both ends inclusive', () => {
    const record: SampleRecord = { kind: 'reset', time: 100 };
    expect(passes({ since: 100, until: 100 }, record)).toBe(true);
    expect(passes({ since: 101 }, record)).toBe(false);
    expect(passes({ until: 99.5 }, record)).toBe(false);
  });

  it('wants all of what it asks for', () => {
    expect(passes({ classes: EventClass.dma, sources: ['edu0'], ...range(0n, 99n) }, dma(0, 0, 1))).toBe(true);
    expect(passes({ classes: EventClass.dma, sources: ['edu0'], ...range(1n, 99n) }, dma(0, 0, 1))).toBe(false);
  });

  it('shows holes whatever is asked for, except other kinds and times', () => {
    const hole: SampleRecord = { kind: 'dropped', time: 100, source: 0, payload: [3] };
    const narrow: EventFilter = { classes: EventClass.dma, sources: ['x'], domains: [1], ...range(0n, 1n) };
    expect(passes(narrow, hole)).toBe(true);
    expect(passes({ since: 101 }, hole)).toBe(false);
    expect(passes({ kinds: ['fault'] }, hole)).toBe(false);
  });

  it('goes by source for texts, and finds no address in them', () => {
    const note = textSlotsOf('note', ['a', 'edu0', { iova: 0n }]);
    expect(passes({ sources: ['edu0'] }, note)).toBe(true);
    expect(passes(range(0n, 0n), note)).toBe(false);
  });
});

describe('a filter for addresses', () => {
  it('finds a transfer by its first and by its last byte, and not beside it', () => {
    const transfer = dma(0, 0x1ff0, 0x20);
    expect(passes(range(0x1ff0n, 0x1ff0n), transfer)).toBe(true);
    expect(passes(range(0x200fn, 0x200fn), transfer)).toBe(true);
    expect(passes(range(0x1fefn, 0x1fefn), transfer)).toBe(false);
    expect(passes(range(0x2010n, 0x2010n), transfer)).toBe(false);
  });

  it('finds a transfer around the range, and one across 4 GiB', () => {
    expect(passes(range(0x1800n, 0x1801n), dma(0, 0x1000, 0x1000))).toBe(true);
    const across = dma(1, -0x10, 0x20);
    expect(passes(range(0x2_0000_0000n, 0x2_0000_0000n), across)).toBe(true);
    expect(passes(range(0x2_0000_0010n, 0x2_0000_0010n), across)).toBe(false);
  });

  it('ends at the end of the address space', () => {
    const last = (1n << 64n) - 1n;
    expect(passes(range(last, last), dma(-1, -1, 0x1000))).toBe(true);
    expect(passes(range(0n, 0n), dma(-1, -1, 0x1000))).toBe(false);
  });

  it('takes a transfer of no bytes for one of its address', () => {
    expect(passes(range(0x1000n, 0x1000n), dma(0, 0x1000, 0))).toBe(true);
  });

  it('finds mappings by their pages, more of them than 4 GiB, too', () => {
    const mapping: SampleRecord = { kind: 'mapping.added', payload: [7, 0, 0x1000, 0x10, 0x200000, 3] };
    expect(passes(range(0x2_0000_0fffn, 0x2_0000_0fffn), mapping)).toBe(true);
    expect(passes(range(0x2_0000_1000n, 0x2_0000_1000n), mapping)).toBe(false);
  });

  it('takes a fault for the page that it is in', () => {
    const fault: SampleRecord = { kind: 'fault', payload: [0x100, 0, 0x1234, 6, 7, -1, 0, 0, 0, 0, 0, 0] };
    expect(passes(range(0x1fffn, 0x1fffn), fault)).toBe(true);
    expect(passes(range(0x1000n, 0x1000n), fault)).toBe(true);
    expect(passes(range(0x2000n, 0x2fffn), fault)).toBe(false);
  });

  it.each([
    [12, 0x1000n, 0x1fffn],
    [21, 0n, 0x1f_ffffn],
    [30, 0n, 0x3fff_ffffn],
    [39, 0n, 0x7f_ffff_ffffn],
  ])('takes a translation for the page of 2^%d bytes that it is in', (shift, first, last) => {
    const translation: SampleRecord = { kind: 'translation', payload: [0x100 | (shift << 22), 0, 0x1234, 0, 7] };
    expect(passes(range(first, first), translation)).toBe(true);
    expect(passes(range(last, last), translation)).toBe(true);
    expect(passes(range(last + 1n, last + 1n), translation)).toBe(false);
  });

  it('takes an invalidation of everything, or of a domain, for one of every address', () => {
    const invalidation = (scope: number): SampleRecord => ({
      kind: 'invalidation',
      payload: [7, 0, 0, 1, scope << 4],
    });
    expect([0, 1, 2, 3].map(scope => passes(range(0x9000n, 0x9000n), invalidation(scope)))).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });

  it('does not find what has no IOVA', () => {
    expect(passes(range(0n, (1n << 64n) - 1n), { kind: 'attach', payload: [0x100, 7] })).toBe(false);
  });
});

describe('any filter', () => {
  const word = fc.oneof(
    fc.constantFrom(0, 1, 2, 7, -1, 4096, 0x100, 0x108),
    fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  );
  const kind = fc.constantFrom(
    'dma.read',
    'dma.failed',
    'mapping.added',
    'fault',
    'attach',
    'reset',
    'dropped',
    'translation',
    'stale',
    'invalidation',
  );
  const record = fc.record({
    kind: kind as fc.Arbitrary<keyof typeof Kind>,
    source: fc.nat({ max: 4 }),
    time: fc.nat({ max: 100 }),
    payload: fc.array(word, { minLength: 13, maxLength: 13 }),
  });
  const address = fc.oneof(fc.bigInt({ min: 0n, max: 0x5000n }), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }));
  const some = <T>(values: readonly T[]) => fc.uniqueArray(fc.constantFrom(...values), { maxLength: 3 });
  const filter = fc.record(
    {
      classes: fc.nat({ max: 0x7ff }),
      kinds: fc.uniqueArray(kind, { maxLength: 5 }),
      sources: some(SOURCES),
      requesterIds: some([0, 1, 0x100, 0x108]),
      domains: some([0, 1, 2, 7, 4096]),
      iova: fc.tuple(address, address).map(([a, b]) => (a < b ? { first: a, last: b } : { first: b, last: a })),
      since: fc.nat({ max: 100 }),
      until: fc.nat({ max: 100 }),
    },
    { requiredKeys: [] },
  );

  /** By field values, sets of everything and wide integers. */
  function reference(filter: EventFilter, { kind: name, source = 0, time = 0, payload = [] }: SampleRecord): boolean {
    const kind = standardDecoder.kindNamed(String(name))!;
    const fields = fieldsOf(kind, Int32Array.from(payload));
    const isHole = kind.name === 'dropped';
    const ofType = (type: string) => kind.fields.filter(one => one.type === type).map(one => fields[one.name]!);
    if (filter.classes !== undefined && !isHole && (EventClass[kind.class] & filter.classes) === 0) return false;
    if (filter.kinds && !filter.kinds.includes(kind.name)) return false;
    if (time < (filter.since ?? 0) || time > (filter.until ?? Number.POSITIVE_INFINITY)) return false;
    if (isHole) return true;
    if (filter.sources || filter.requesterIds) {
      const bySource = filter.sources?.includes(SOURCES[source] ?? '') ?? false;
      const byRequester = ofType('requesterId').some(id => filter.requesterIds?.includes(id as number));
      if (!bySource && !byRequester) return false;
    }
    if (filter.domains && !ofType('domain').some(one => one === 'all' || filter.domains!.includes(one as number)))
      return false;
    if (!filter.iova) return true;
    const { iova, pages, length, shift, scope } = fields;
    if (typeof iova !== 'bigint') return false;
    if (scope === 'all' || scope === 'domain') return true;
    let bytes =
      pages !== undefined
        ? BigInt(pages as number) * 4096n
        : length !== undefined
          ? BigInt(length as number)
          : undefined;
    let first = iova;
    if (bytes === undefined) {
      bytes = 1n << BigInt(Math.max(12, (shift as number | undefined) ?? 12));
      first -= first % bytes;
    }
    if (bytes === 0n) bytes = 1n;
    return first <= filter.iova.last && first + bytes - 1n >= filter.iova.first;
  }

  it('passes what a slow reference passes', () => {
    let passed = 0;
    fc.assert(
      fc.property(
        filter as fc.Arbitrary<EventFilter>,
        fc.array(record, { minLength: 1, maxLength: 10 }),
        (one, records) => {
          for (const record of records) {
            const expected = reference(one, record);
            expect(passes(one, record)).toBe(expected);
            if (expected) passed++;
          }
        },
      ),
      { numRuns: 1500 },
    );
    expect(passed).toBeGreaterThan(0);
  });
});

describe('parseClasses', () => {
  it('takes names with commas, and all', () => {
    expect(parseClasses('dma')).toBe(EventClass.dma);
    expect(parseClasses('dma, fault')).toBe(EventClass.dma | EventClass.fault);
    expect(parseClasses('all')).toBe(0x7ff);
  });

  it.each(['', 'dna', 'dma,,fault', 'constructor', 'DMA'])('refuses %j and says what there is', text => {
    expect(() => parseClasses(text)).toThrow(FilterError);
    expect(() => parseClasses(text)).toThrow(/write all, or some of register, translation, dma/);
  });
});

describe('parseAddressRange', () => {
  it.each([
    ['0x1000-0x1fff', 0x1000n, 0x1fffn],
    ['0x1000+0x1000', 0x1000n, 0x1fffn],
    ['0x1000', 0x1000n, 0x1000n],
    ['4096 + 1', 4096n, 4096n],
    ['0-0xffffffffffffffff', 0n, (1n << 64n) - 1n],
    ['0xffffffffffffffff+1', (1n << 64n) - 1n, (1n << 64n) - 1n],
    ['0XFF', 255n, 255n],
  ])('takes %s', (text, first, last) => {
    expect(parseAddressRange(text)).toEqual({ first, last });
  });

  it.each([
    ['', /is not a range of addresses: write/],
    ['1000h', /is not a range/],
    ['0x', /is not a range/],
    ['-5', /is not a range/],
    ['1-2-3', /is not a range/],
    ['0x2000-0x1fff', /is empty/],
    ['0x2000+0', /is empty/],
    ['0x10000000000000000', /beyond 64 bits/],
    ['0xffffffffffffffff+2', /beyond 64 bits/],
  ])('refuses %j', (text, message) => {
    expect(() => parseAddressRange(text)).toThrow(FilterError);
    expect(() => parseAddressRange(text)).toThrow(message);
  });
});

describe('parseDuration', () => {
  it.each([
    ['1.5s', 1.5e9],
    ['20ms', 20e6],
    ['3us', 3e3],
    ['10 ns', 10],
    ['2min', 120e9],
    ['.5s', 5e8],
    ['0s', 0],
  ])('takes %s', (text, nanoseconds) => {
    expect(parseDuration(text)).toBe(nanoseconds);
  });

  it.each(['', '5', 's', '-1s', '1h', '1e3s', '1.s'])('refuses %j and says how to write it', text => {
    expect(() => parseDuration(text)).toThrow(FilterError);
    expect(() => parseDuration(text)).toThrow(/write a number with ns, us, ms, s or min/);
  });
});
