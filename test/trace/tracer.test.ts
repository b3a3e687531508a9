import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EventClass, Kind } from '../../src/trace/event-kinds.ts';
import { allocateEventRing, EventRingReader, EventRingWriter, MIN_RING_SLOTS } from '../../src/trace/event-ring.ts';
import type { EventListener } from '../../src/trace/events.ts';
import { RecordCursor } from '../../src/trace/record-cursor.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import { Tracer } from '../../src/trace/tracer.ts';

const ALL = Object.values(EventClass).reduce((mask, bit) => mask | bit, 0);
const RID = 0x0100;

interface Seen {
  readonly kind: number;
  readonly source: string;
  readonly time: number;
  readonly words: readonly number[];
  readonly value?: unknown;
}

/** A tracer with a ring, and a clock that goes on by one at each look. */
function make(classes = ALL, slots = MIN_RING_SLOTS) {
  const forward = new TraceLog();
  const ring = allocateEventRing(slots);
  let clock = 100;
  const tracer = new Tracer({ forward, ring: new EventRingWriter(ring, () => {}), now: () => clock++ });
  const reader = new EventRingReader(ring);
  const cursor = new RecordCursor();
  tracer.classes = classes;
  const read = (): Seen[] => {
    tracer.publish();
    const seen: Seen[] = [];
    reader.drain(words => {
      cursor.load(words);
      while (cursor.next()) {
        const { kind, sourceName: source, time } = cursor;
        const count = cursor.slots === 1 ? 5 : 13;
        const value = cursor.value();
        const payload = Array.from({ length: count }, (_, word) => cursor.word(word));
        seen.push({
          kind,
          source,
          time,
          words: value === undefined ? payload : [],
          ...(value === undefined ? {} : { value }),
        });
      }
      expect(cursor.damaged).toBe(false);
      expect(cursor.skipped).toBe(0);
    });
    return seen;
  };
  /** Without the names of sources. */
  const readEvents = () => read().filter(({ kind }) => kind !== Kind.source);
  return { tracer, forward, read, readEvents, looks: () => clock - 100 };
}

class Hearing implements EventListener {
  readonly heard: Seen[] = [];
  readonly notes: unknown[] = [];

  constructor(
    readonly wants: number,
    private readonly act: () => void = () => {},
  ) {}

  event(kind: number, source: string, time: number, payload: Int32Array): void {
    this.heard.push({ kind, source, time, words: [...payload] });
    this.act();
  }

  note(kind: string, source: string, time: number, detail: object): void {
    this.notes.push([kind, source, time, detail]);
    this.act();
  }
}

describe("the tracer's mask", () => {
  it('is empty where nobody wants anything', () => {
    expect(make(0).tracer.mask).toBe(0);
  });

  it('has what the reader wants and what the listener wants', () => {
    const { tracer } = make(EventClass.dma);
    tracer.listener = new Hearing(EventClass.fault);
    expect(tracer.mask).toBe(EventClass.dma | EventClass.fault);
  });

  it('follows both as they change', () => {
    const { tracer } = make(EventClass.dma);
    tracer.listener = new Hearing(EventClass.fault);
    tracer.classes = EventClass.register;
    expect(tracer.mask).toBe(EventClass.register | EventClass.fault);
    tracer.listener = undefined;
    expect(tracer.mask).toBe(EventClass.register);
    tracer.classes = 0;
    expect(tracer.mask).toBe(0);
  });

  it('has nothing of a reader where there is no ring', () => {
    const tracer = new Tracer({ forward: new TraceLog() });
    tracer.classes = ALL;
    expect(tracer.mask).toBe(0);
    expect(tracer.classes).toBe(0);
  });
});

describe('events in the ring', () => {
  it('have kind, source, time and payload', () => {
    const { tracer, readEvents } = make();
    const edu = tracer.sourceId('edu0');
    const before = tracer.now();
    tracer.emit(Kind['dma.read'], edu, RID, 1, -4096, 64, -1);
    expect(readEvents()).toEqual([
      { kind: Kind['dma.read'], source: 'edu0', time: before + 1, words: [RID, 1, -4096, 64, -1] },
    ]);
  });

  it('have thirteen words where they are long', () => {
    const { tracer, readEvents } = make();
    tracer.emitLong(Kind.fault, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, -13);
    expect(readEvents()[0]!.words).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, -13]);
  });

  it('share one look at the clock where they happen at once', () => {
    const { tracer, readEvents, looks } = make();
    const before = looks();
    tracer.emit(Kind.translation, 0, 1, 0, 0, 0, 0);
    tracer.emitAlso(Kind['dma.read'], 0, 1, 0, 0, 0, 0);
    expect(looks()).toBe(before + 1);
    const [first, second] = readEvents();
    expect(second!.time).toBe(first!.time);
    expect(second!.kind).toBe(Kind['dma.read']);
  });

  it('are those of the wanted classes only', () => {
    const { tracer, readEvents } = make(EventClass.fault);
    tracer.emit(Kind['dma.read'], 0, 1, 2, 3, 4, 5);
    tracer.emit(Kind['dma.failed'], 0, 1, 2, 3, 4, 5);
    tracer.emitLong(Kind['mapping.changed'], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13);
    expect(readEvents().map(({ kind }) => kind)).toEqual([Kind['dma.failed']]);
  });

  it('are none where there is no ring', () => {
    const tracer = new Tracer({ forward: new TraceLog(), now: () => 1 });
    const listener = new Hearing(EventClass.dma);
    tracer.listener = listener;
    tracer.emit(Kind['dma.read'], tracer.sourceId('edu0'), 1, 2, 3, 4, 5);
    tracer.publish();
    expect(listener.heard.length).toBe(1);
    expect(tracer.counts()).toEqual({ recorded: 0, lost: 0 });
  });

  it('are counted, and those that are lost, too', () => {
    const { tracer, read } = make();
    for (let n = 0; n < MIN_RING_SLOTS + 3; n++) tracer.emit(Kind['dma.read'], 0, 1, 2, 3, 4, 5);
    expect(tracer.counts()).toEqual({ recorded: MIN_RING_SLOTS, lost: 3 });
    read();
    tracer.emit(Kind['dma.write'], 0, 1, 2, 3, 4, 5);
    const [dropped, after] = read();
    expect([dropped!.kind, dropped!.words[0]]).toEqual([Kind.dropped, 3]);
    expect(dropped!.time).toBe(after!.time);
  });

  it('come out as they went in, whatever their words', () => {
    const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
    const event = fc.record({
      words: fc.array(word, { minLength: 5, maxLength: 13 }),
      source: fc.constantFrom('a', 'b', 'iommu'),
    });
    fc.assert(
      fc.property(fc.array(event, { maxLength: 120 }), events => {
        const { tracer, readEvents } = make(ALL, 4096);
        const expected = events.map(({ words, source }) => {
          const number = tracer.sourceId(source);
          const [
            p0 = 0,
            p1 = 0,
            p2 = 0,
            p3 = 0,
            p4 = 0,
            p5 = 0,
            p6 = 0,
            p7 = 0,
            p8 = 0,
            p9 = 0,
            p10 = 0,
            p11 = 0,
            p12 = 0,
          ] = words;
          if (words.length === 5) tracer.emit(Kind.translation, number, p0, p1, p2, p3, p4);
          else tracer.emitLong(Kind.fault, number, p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11, p12);
          const padded = words.length === 5 ? words : [...words, ...new Array<number>(13 - words.length).fill(0)];
          return { source, words: padded };
        });
        expect(readEvents().map(({ source, words }) => ({ source, words }))).toEqual(expected);
      }),
      { numRuns: 100 },
    );
  });
});

describe('sources', () => {
  it('have the same number for the same name, from 1 on', () => {
    const { tracer } = make();
    expect(tracer.sourceId('edu0')).toBe(1);
    expect(tracer.sourceId('iommu')).toBe(2);
    expect(tracer.sourceId('edu0')).toBe(1);
  });

  it('are told when their name is first used', () => {
    const { tracer, read } = make();
    tracer.sourceId('edu0');
    tracer.sourceId('edu0');
    expect(read().map(({ value }) => value)).toEqual([[1, 'edu0']]);
  });

  it('are not told to nobody, and all told to a reader that begins', () => {
    const { tracer, read } = make(0);
    tracer.sourceId('edu0');
    tracer.sourceId('iommu');
    expect(read()).toEqual([]);
    tracer.classes = EventClass.dma;
    tracer.announceSources();
    expect(read().map(({ value }) => value)).toEqual([
      [1, 'edu0'],
      [2, 'iommu'],
    ]);
    tracer.announceSources();
    expect(read().length).toBe(2);
  });

  it('are told later where the ring was full', () => {
    const { tracer, read } = make();
    for (let n = 0; n < MIN_RING_SLOTS; n++) tracer.emit(Kind['dma.read'], 0, 1, 2, 3, 4, 5);
    tracer.sourceId('late');
    expect(read().some(({ kind }) => kind === Kind.source)).toBe(false);
    expect(read().find(({ kind }) => kind === Kind.source)?.value).toEqual([1, 'late']);
  });

  it('are no more than fit into a record', () => {
    const { tracer } = make(0);
    for (let n = 1; n <= 65_535; n++) tracer.sourceId(`s${n}`);
    expect(tracer.sourceId('s65535')).toBe(65_535);
    expect(tracer.sourceId('one more')).toBe(0);
  });
});

describe('notes', () => {
  it('go on to where they always went, whoever else wants them', () => {
    for (const classes of [0, ALL]) {
      const { tracer, forward } = make(classes);
      tracer.note('vtd.enabled', 'iommu', { on: true });
      expect(forward.events).toEqual([{ kind: 'vtd.enabled', source: 'iommu', detail: { on: true } }]);
    }
  });

  it('are records in words', () => {
    const { tracer, readEvents } = make();
    tracer.note('fault.recorded', 'iommu', { iova: 0x1000n, reason: 5, write: true, text: 'Grüße' });
    expect(readEvents()).toEqual([
      {
        kind: Kind.note,
        source: 'iommu',
        time: expect.any(Number) as number,
        words: [],
        value: ['fault.recorded', 'iommu', { iova: 0x1000n, reason: 5, write: true, text: 'Grüße' }],
      },
    ]);
  });

  it('are no records where nobody wants their class', () => {
    const { tracer, read } = make(ALL & ~EventClass.note);
    tracer.note('a', 'b', {});
    expect(read()).toEqual([]);
  });

  it('are heard by every listener', () => {
    const { tracer } = make(0);
    const listener = new Hearing(0);
    tracer.listener = listener;
    tracer.note('a', 'b', { c: 1 });
    expect(listener.notes).toEqual([['a', 'b', 100, { c: 1 }]]);
  });

  it('are cut and say so where they are too long for a record', () => {
    const { tracer, readEvents } = make();
    tracer.note('long', 'b', { text: 'x'.repeat(20_000), number: 7n });
    const [kind, source, detail] = readEvents()[0]!.value as [string, string, Record<string, unknown>];
    expect([kind, source, detail.number]).toEqual(['long', 'b', 7n]);
    expect(detail.text).toMatch(/^x{512}\.\.\.$/);
    expect(detail.cut).toMatch(/^shortened from 200\d\d bytes$/);
  });
});

describe('findings', () => {
  it('are records in words', () => {
    const { tracer, readEvents } = make();
    const finding = { id: 'F1', evidence: [{ time: 1.5, kind: 'fault' }], iova: 1n << 63n };
    tracer.text('finding', 'sanitizer', finding);
    expect(readEvents()).toMatchObject([{ kind: Kind.finding, source: 'sanitizer', value: finding }]);
  });

  it('are no records where nobody wants them', () => {
    const { tracer, read } = make(ALL & ~EventClass.finding);
    tracer.text('finding', 'sanitizer', {});
    expect(read()).toEqual([]);
  });
});

describe('a listener', () => {
  it('hears what it wants, with the payload of that event and nothing of another', () => {
    const { tracer } = make(0);
    const listener = new Hearing(EventClass.mapping | EventClass.fault);
    tracer.listener = listener;
    const iommu = tracer.sourceId('iommu');
    tracer.emitLong(Kind.fault, iommu, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13);
    tracer.emit(Kind['dma.failed'], iommu, 1, 2, 3, 4, 5);
    tracer.emit(Kind['dma.read'], iommu, 9, 9, 9, 9, 9);
    expect(listener.heard).toEqual([
      { kind: Kind.fault, source: 'iommu', time: 100, words: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13] },
      { kind: Kind['dma.failed'], source: 'iommu', time: 101, words: [1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0] },
    ]);
  });

  it('hears the time that the record has', () => {
    const { tracer, readEvents } = make();
    const listener = new Hearing(EventClass.fault);
    tracer.listener = listener;
    tracer.emit(Kind['dma.failed'], 0, 1, 2, 3, 4, 5);
    expect(listener.heard[0]!.time).toBe(readEvents()[0]!.time);
  });

  it('that fails is told of once, and heard of no more, and the event is recorded all the same', () => {
    const { tracer, forward, readEvents } = make();
    const listener = new Hearing(EventClass.fault, () => {
      throw new Error('a bug of mine');
    });
    tracer.listener = listener;
    tracer.emit(Kind['dma.failed'], 0, 1, 2, 3, 4, 5);
    tracer.emit(Kind['dma.failed'], 0, 1, 2, 3, 4, 5);
    tracer.note('x', 'y', {});
    expect(listener.heard.length).toBe(1);
    expect(listener.notes.length).toBe(0);
    expect(forward.kinds()).toEqual(['internal.error', 'x']);
    expect(forward.events[0]!.detail.error).toContain('a bug of mine');
    expect(tracer.listener).toBeUndefined();
    expect(readEvents().filter(({ kind }) => kind === Kind['dma.failed']).length).toBe(2);
  });

  it('that fails at a note is treated the same', () => {
    const { tracer, forward } = make(0);
    tracer.listener = new Hearing(0, () => {
      throw 'no Error';
    });
    tracer.note('x', 'y', {});
    expect(forward.kinds()).toEqual(['x', 'internal.error']);
    expect(tracer.mask).toBe(0);
  });

  it('is not told what it causes itself, but the ring and the log are', () => {
    const { tracer, forward, readEvents } = make();
    const listener = new Hearing(EventClass.fault, () => {
      tracer.note('caused', 'sanitizer', {});
      tracer.emit(Kind['dma.failed'], 0, 9, 9, 9, 9, 9);
    });
    tracer.listener = listener;
    tracer.emit(Kind['dma.failed'], 0, 1, 2, 3, 4, 5);
    expect(listener.heard.length).toBe(1);
    expect(listener.notes.length).toBe(0);
    expect(forward.kinds()).toEqual(['caused']);
    expect(readEvents().map(({ kind }) => kind)).toEqual([Kind['dma.failed'], Kind.note, Kind['dma.failed']]);
  });
});

describe("the tracer's own clock", () => {
  it('begins at 0 and never goes back', () => {
    const { now } = new Tracer({ forward: new TraceLog() });
    const first = now();
    expect(first).toBeGreaterThanOrEqual(0);
    expect(now()).toBeGreaterThanOrEqual(first);
  });
});
