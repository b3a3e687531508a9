import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Kind } from '../../src/trace/event-kinds.ts';
import {
  allocateEventRing,
  EventRingReader,
  EventRingWriter,
  MIN_RING_SLOTS,
  PUBLISH_EVERY,
} from '../../src/trace/event-ring.ts';
import { SLOT_WORDS } from '../../src/trace/record-layout.ts';

const SLOTS = MIN_RING_SLOTS;
const KIND = Kind['dma.read'];

function make() {
  const ring = allocateEventRing(SLOTS);
  let wakes = 0;
  const writer = new EventRingWriter(ring, () => wakes++);
  const reader = new EventRingReader(ring);
  return { ring, writer, reader, wakes: () => wakes };
}

/** Writes a record whose every payload word is `mark`. */
function write(writer: EventRingWriter, mark: number, slots = 1): boolean {
  writer.time[0] = mark;
  const at = writer.reserve(slots);
  if (at < 0) return false;
  writer.words.fill(mark, at, at + slots * SLOT_WORDS);
  writer.words[at] = KIND | (slots << 8);
  return true;
}

interface Read {
  readonly kind: number;
  readonly slots: number;
  readonly mark: number;
}

/** All records that are handed out, each checked for being whole. */
function drain(reader: EventRingReader, maxSlots?: number): Read[] {
  const records: Read[] = [];
  reader.drain((words, slots) => {
    expect(words.length).toBe(slots * SLOT_WORDS);
    for (let at = 0; at < words.length; ) {
      const header = words[at]!;
      const length = (header >>> 8) & 0xff;
      expect(length).toBeGreaterThan(0);
      const mark = words[at + 1]!;
      const isWhole = words.subarray(at + 1, at + length * SLOT_WORDS).every(word => word === mark);
      if ((header & 0xff) === KIND) expect(isWhole).toBe(true);
      records.push({ kind: header & 0xff, slots: length, mark });
      at += length * SLOT_WORDS;
      expect(at).toBeLessThanOrEqual(words.length);
    }
  }, maxSlots);
  return records;
}

const marks = (records: readonly Read[]) => records.map(({ mark }) => mark);

describe('allocateEventRing', () => {
  it.each([0, 511, 513, 1000, 256, 1 << 25, 1.5, Number.NaN, -512])('refuses %d slots', slots => {
    expect(() => allocateEventRing(slots)).toThrow(/power of two of slots, from 512 to 16777216/);
  });

  it('makes one of 2 MiB and a little where nothing is said', () => {
    const { byteLength } = allocateEventRing();
    expect(byteLength).toBeGreaterThan(2 << 20);
    expect(byteLength).toBeLessThan((2 << 20) + 4096);
  });
});

describe('the event ring', () => {
  it('hands out what was published, once', () => {
    const { writer, reader } = make();
    write(writer, 7);
    write(writer, 8, 2);
    writer.publish();
    expect(drain(reader)).toEqual([
      { kind: KIND, slots: 1, mark: 7 },
      { kind: KIND, slots: 2, mark: 8 },
    ]);
    expect(drain(reader)).toEqual([]);
  });

  it('hands out nothing that was not published', () => {
    const { writer, reader } = make();
    write(writer, 7);
    expect(drain(reader)).toEqual([]);
  });

  it('publishes by itself after so many records, and never the one that is being written', () => {
    const { writer, reader } = make();
    for (let n = 0; n < PUBLISH_EVERY; n++) write(writer, n);
    expect(drain(reader)).toEqual([]);
    writer.reserve(1);
    expect(drain(reader).length).toBe(PUBLISH_EVERY);
  });

  it('counts the slots it hands out', () => {
    const { writer, reader } = make();
    write(writer, 1, 3);
    write(writer, 2);
    writer.publish();
    expect(reader.drain(() => {})).toBe(4);
    expect(reader.drain(() => {})).toBe(0);
  });

  it('never gives a record in two pieces: one that would wrap begins at the start', () => {
    const { writer, reader } = make();
    for (let n = 0; n < SLOTS - 1; n++) write(writer, n);
    writer.publish();
    drain(reader);
    write(writer, 1000, 2);
    write(writer, 1001);
    writer.publish();
    expect(drain(reader)).toEqual([
      { kind: KIND, slots: 2, mark: 1000 },
      { kind: KIND, slots: 1, mark: 1001 },
    ]);
  });

  it('goes round when the last record ends exactly where the ring ends', () => {
    const { writer, reader } = make();
    for (let lap = 0; lap < 3; lap++) {
      for (let n = 0; n < SLOTS / 2; n++) write(writer, n, 2);
      writer.publish();
      expect(drain(reader).length).toBe(SLOTS / 2);
    }
  });

  it('does not take the padding of an earlier lap for padding', () => {
    const { writer, reader } = make();
    for (let n = 0; n < SLOTS - 1; n++) write(writer, n);
    writer.publish();
    drain(reader);
    write(writer, 1, 2);
    writer.publish();
    drain(reader);
    for (let n = 0; n < SLOTS; n++) write(writer, n);
    writer.publish();
    expect(marks(drain(reader))).toEqual(Array.from({ length: SLOTS }, (_, n) => n));
  });

  it('takes as many slots as the limit allows, in whole records', () => {
    const { writer, reader } = make();
    for (let n = 0; n < 4; n++) write(writer, n, 3);
    writer.publish();
    expect(marks(drain(reader, 8))).toEqual([0, 1]);
    expect(marks(drain(reader, 6))).toEqual([2, 3]);
  });

  it('takes one record at least, however long it is', () => {
    const { writer, reader } = make();
    write(writer, 1, 200);
    write(writer, 2);
    writer.publish();
    expect(marks(drain(reader, 4))).toEqual([1]);
    expect(marks(drain(reader, 4))).toEqual([2]);
  });

  it('gives a piece again whose taking failed', () => {
    const { writer, reader } = make();
    write(writer, 5);
    writer.publish();
    expect(() =>
      reader.drain(() => {
        throw new Error('disk full');
      }),
    ).toThrow('disk full');
    expect(marks(drain(reader))).toEqual([5]);
  });

  it('goes on where positions wrap at 2^31 and 2^32', () => {
    for (const start of [0x7fffff00 | 0, -256]) {
      const ring = allocateEventRing(SLOTS);
      const header = new Int32Array(ring);
      header[0] = start;
      header[16] = start;
      const writer = new EventRingWriter(ring, () => {});
      const reader = new EventRingReader(ring);
      const seen: number[] = [];
      for (let n = 0; n < 600; n++) {
        expect(write(writer, n)).toBe(true);
        if (n % 100 === 99) {
          writer.publish();
          seen.push(...marks(drain(reader)));
        }
      }
      expect(seen).toEqual(Array.from({ length: 600 }, (_, n) => n));
    }
  });

  it('forgets what is there for a reader that begins', () => {
    const { writer, reader } = make();
    for (let n = 0; n < SLOTS - 1; n++) write(writer, n);
    writer.publish();
    drain(reader);
    write(writer, 1, 2);
    writer.publish();
    reader.skip();
    expect(drain(reader)).toEqual([]);
    for (let n = 0; n < SLOTS; n++) expect(write(writer, n)).toBe(true);
    writer.publish();
    expect(drain(reader).length).toBe(SLOTS);
  });
});

describe('a full event ring', () => {
  it('loses records and counts them', () => {
    const { writer, reader } = make();
    for (let n = 0; n < SLOTS; n++) expect(write(writer, n)).toBe(true);
    expect(write(writer, -1)).toBe(false);
    expect(write(writer, -1, 2)).toBe(false);
    expect(writer.lost).toBe(2);
    expect(reader.lost).toBe(2);
    expect(marks(drain(reader))).toEqual(Array.from({ length: SLOTS }, (_, n) => n));
  });

  it('says at that place how many were lost, as soon as there is room', () => {
    const { writer, reader } = make();
    for (let n = 0; n < SLOTS; n++) write(writer, n);
    for (let n = 0; n < 3; n++) write(writer, -1);
    drain(reader);
    write(writer, 77);
    writer.publish();
    expect(drain(reader)).toEqual([
      { kind: Kind.dropped, slots: 1, mark: 3 },
      { kind: KIND, slots: 1, mark: 77 },
    ]);
  });

  it('says of each hole by itself', () => {
    const { writer, reader } = make();
    for (const lost of [2, 5]) {
      while (write(writer, 1));
      for (let n = 1; n < lost; n++) write(writer, 1);
      drain(reader);
      write(writer, 2);
      writer.publish();
      expect(drain(reader)[0]).toEqual({ kind: Kind.dropped, slots: 1, mark: lost });
    }
    expect(writer.lost).toBe(7);
  });

  it('keeps what it has to say where there is room for no more than that', () => {
    const { writer, reader } = make();
    for (let n = 0; n < SLOTS; n++) write(writer, n);
    write(writer, -1);
    drain(reader, 1);
    expect(write(writer, -2)).toBe(false);
    drain(reader);
    write(writer, 9);
    writer.publish();
    const seen = drain(reader);
    expect(seen.map(({ kind }) => kind)).toEqual([Kind.dropped, KIND]);
    expect(writer.lost).toBe(2);
  });

  it('shows a sleeping reader all there is, so that it can make room', () => {
    const { writer, reader, wakes } = make();
    drain(reader);
    for (let n = 0; n < SLOTS; n++) write(writer, n);
    write(writer, -1);
    expect(wakes()).toBe(1);
    expect(drain(reader).length).toBe(SLOTS);
  });

  it('has room for the longest record wherever the writer stands', () => {
    const { writer, reader } = make();
    for (let n = 0; n < 50; n++) {
      expect(write(writer, n, 255)).toBe(true);
      writer.publish();
      expect(drain(reader)).toEqual([{ kind: KIND, slots: 255, mark: n }]);
      expect(write(writer, n)).toBe(true);
      writer.publish();
      drain(reader);
    }
  });
});

describe('waking the reader of an event ring', () => {
  it('is done once, when it found nothing and something comes', () => {
    const { writer, reader, wakes } = make();
    drain(reader);
    for (let n = 0; n < 3; n++) {
      write(writer, n);
      writer.publish();
    }
    expect(wakes()).toBe(1);
  });

  it('is not done while it has not been asleep', () => {
    const { writer, wakes } = make();
    write(writer, 1);
    writer.publish();
    expect(wakes()).toBe(0);
  });

  it('is not done where there is nothing new', () => {
    const { writer, reader, wakes } = make();
    drain(reader);
    writer.publish();
    expect(wakes()).toBe(0);
  });

  it('is not done for a reader that took something and will come again', () => {
    const { writer, reader, wakes } = make();
    write(writer, 1);
    writer.publish();
    expect(drain(reader).length).toBe(1);
    write(writer, 2);
    writer.publish();
    expect(wakes()).toBe(0);
  });

  it('is done again after it has slept again', () => {
    const { writer, reader, wakes } = make();
    for (let n = 1; n <= 3; n++) {
      while (drain(reader).length > 0);
      write(writer, n);
      writer.publish();
      expect(wakes()).toBe(n);
    }
  });
});

/** Runs `work`, and `other` in the middle of it: right before its atomic operation number `at`. Returns how many `work` has. */
function interrupted(at: number, work: () => void, other: () => void): number {
  const originals = { load: Atomics.load, store: Atomics.store, exchange: Atomics.exchange };
  let count = 0;
  let isOther = false;
  const spy = (name: keyof typeof originals) => {
    const original = originals[name] as (...operands: unknown[]) => number;
    return (...operands: unknown[]): number => {
      // What `other` does counts for nothing, and is not interrupted.
      if (!isOther && count++ === at) {
        isOther = true;
        other();
        isOther = false;
      }
      return original(...operands);
    };
  };
  Object.assign(Atomics, { load: spy('load'), store: spy('store'), exchange: spy('exchange') });
  try {
    work();
  } finally {
    Object.assign(Atomics, originals);
  }
  return count;
}

describe('a reader that goes to sleep while the writer publishes', () => {
  /** All that can happen: the reader took it, or will be woken. */
  const isSafe = (taken: number, wakes: number) => taken > 0 || wakes > 0;

  it('is woken or sees the record, wherever in its going to sleep that happens', () => {
    let points = 0;
    for (let at = 0; at === 0 || at < points; at++) {
      const { writer, reader, wakes } = make();
      write(writer, 1);
      let taken = 0;
      points = interrupted(
        at,
        () => {
          taken = reader.drain(() => {});
        },
        () => writer.publish(),
      );
      // Where the point is behind the reader's last step, it happens now.
      writer.publish();
      expect(isSafe(taken, wakes())).toBe(true);
    }
    expect(points).toBeGreaterThanOrEqual(3);
  });

  it('is woken or sees the record, wherever in the publishing that happens', () => {
    let points = 0;
    for (let at = 0; at === 0 || at < points; at++) {
      const { writer, reader, wakes } = make();
      write(writer, 1);
      let taken = 0;
      points = interrupted(
        at,
        () => writer.publish(),
        () => {
          taken = reader.drain(() => {});
        },
      );
      expect(isSafe(taken, wakes())).toBe(true);
    }
    expect(points).toBeGreaterThanOrEqual(2);
  });
});

describe('any sequence of records', () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ type: fc.constant('write' as const), slots: fc.integer({ min: 1, max: 3 }) }) },
    {
      weight: 1,
      arbitrary: fc.record({ type: fc.constant('write' as const), slots: fc.integer({ min: 100, max: 255 }) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ type: fc.constant('drain' as const), limit: fc.integer({ min: 1, max: 600 }) }),
    },
    { weight: 1, arbitrary: fc.record({ type: fc.constant('publish' as const) }) },
  );

  it('comes out as it went in, with a hole told where records were lost', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 300 }), steps => {
        const { writer, reader } = make();
        /** What a reader must see: marks of records, and -n for n lost ones. */
        const expected: number[] = [];
        const seen: number[] = [];
        let pending = 0;
        let mark = 0;
        const take = (limit?: number) => {
          for (const read of drain(reader, limit)) seen.push(read.kind === Kind.dropped ? -read.mark : read.mark);
        };
        const put = (slots: number) => {
          mark++;
          if (!write(writer, mark, slots)) {
            pending++;
            return;
          }
          if (pending > 0) expected.push(-pending);
          pending = 0;
          expected.push(mark);
        };
        for (const one of steps) {
          if (one.type === 'write') put(one.slots);
          else if (one.type === 'publish') writer.publish();
          else take(one.limit);
        }
        writer.publish();
        for (let n = 0; n < 4; n++) take();
        put(1);
        writer.publish();
        take();
        // A hole may be told in parts, where there was room for the telling but not for the next record.
        expect(joinHoles(seen)).toEqual(expected);
      }),
      { numRuns: 200 },
    );
  });

  function joinHoles(marks: readonly number[]): number[] {
    const joined: number[] = [];
    for (const mark of marks) {
      const last = joined.at(-1);
      if (mark < 0 && last !== undefined && last < 0) joined[joined.length - 1] = last + mark;
      else joined.push(mark);
    }
    return joined;
  }
});
