import { describe, expect, it } from 'vitest';
import { RecordTaps } from '../../src/machine/record-taps.ts';
import { EventClass, Kind } from '../../src/trace/event-kinds.ts';
import { allocateEventRing, EventRingReader, EventRingWriter } from '../../src/trace/event-ring.ts';
import { RecordCursor } from '../../src/trace/record-cursor.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import { Tracer } from '../../src/trace/tracer.ts';

/** A tracer and its taps, as on two threads, but in one: what one posts the other hears at once. */
function rig() {
  const ring = allocateEventRing();
  let taps: RecordTaps | undefined;
  const writer = new EventRingWriter(ring, () => taps?.wake());
  const tracer = new Tracer({ forward: new TraceLog(), ring: writer, now: () => 1 });
  const wanted: number[] = [];
  const errors: unknown[] = [];
  taps = new RecordTaps(
    new EventRingReader(ring),
    classes => {
      wanted.push(classes);
      tracer.classes = classes;
      tracer.announceSources();
      tracer.publish();
    },
    error => errors.push(error),
  );
  const emit = (kind: number, value = 0) => {
    tracer.emit(kind, tracer.sourceId('edu0'), value, 0, 0, 0, 0);
    tracer.publish();
  };
  return { taps, tracer, wanted, emit, errors };
}

/** Kinds of records, by name of their source. */
function keep() {
  const kinds: number[] = [];
  const cursor = new RecordCursor();
  const take = (words: Int32Array) => {
    cursor.load(words.slice());
    while (cursor.next()) kinds.push(cursor.kind);
  };
  return { kinds, take, cursor };
}

const { dma, fault } = EventClass;

describe('RecordTaps', () => {
  it('asks for the classes of all, and for none in the end', () => {
    const { taps, wanted } = rig();
    const first = taps.add(dma, () => {});
    const second = taps.add(fault | dma, () => {});
    first.stop();
    second.stop();
    taps.close();
    expect(wanted).toEqual([dma, dma | fault, dma | fault, 0]);
  });

  it('gives records to each', () => {
    const { taps, emit } = rig();
    const [first, second] = [keep(), keep()];
    taps.add(dma, first.take);
    taps.add(dma, second.take);
    emit(Kind['dma.read']);
    taps.close();
    for (const { kinds } of [first, second]) expect(kinds.filter(kind => kind === Kind['dma.read'])).toHaveLength(1);
  });

  it('has the sources named for each newcomer', () => {
    const { taps, tracer, emit } = rig();
    tracer.sourceId('edu0');
    taps.add(dma, () => {});
    emit(Kind['dma.read']);
    const late = keep();
    taps.add(dma, late.take);
    emit(Kind['dma.write']);
    taps.close();
    expect(late.kinds).toEqual(expect.arrayContaining([Kind.source, Kind['dma.write']]));
    expect(late.cursor.sources.name(tracer.sourceId('edu0'))).toBe('edu0');
  });

  it('gives nothing of classes that nobody wants', () => {
    const { taps, emit } = rig();
    const { kinds, take } = keep();
    taps.add(fault, take);
    emit(Kind['dma.read']);
    taps.close();
    expect(kinds).not.toContain(Kind['dma.read']);
  });

  it('gives nothing after it was stopped, and may be stopped twice', () => {
    const { taps, emit, wanted } = rig();
    const { kinds, take } = keep();
    taps.add(dma, () => {});
    const tap = taps.add(dma, take);
    tap.stop();
    tap.stop();
    kinds.length = 0;
    emit(Kind['dma.read']);
    taps.close();
    expect(kinds).toEqual([]);
    expect(wanted).toHaveLength(3);
  });

  it('may be stopped while records are given', () => {
    const { taps, emit } = rig();
    const others = keep();
    let calls = 0;
    const tap = taps.add(dma, () => {
      calls++;
      tap.stop();
    });
    taps.add(dma, others.take);
    emit(Kind['dma.read']);
    taps.drain();
    emit(Kind['dma.read']);
    taps.close();
    expect(calls).toBe(1);
    expect(others.kinds.filter(kind => kind === Kind['dma.read'])).toHaveLength(2);
  });

  it('gives nothing more to one that throws, tells why, and gives each record once to the others', () => {
    const { taps, emit, errors, wanted } = rig();
    const others = keep();
    const failure = new Error('too much for me');
    let calls = 0;
    taps.add(fault, () => {
      calls++;
      throw failure;
    });
    taps.add(dma, others.take);
    emit(Kind['dma.read']);
    taps.drain();
    emit(Kind['dma.write']);
    taps.close();
    expect(calls).toBe(1);
    expect(errors).toEqual([failure]);
    expect(wanted.at(-1)).toBe(dma);
    const { kinds } = others;
    expect(kinds.filter(kind => kind !== Kind.source)).toEqual([Kind['dma.read'], Kind['dma.write']]);
  });

  it('gives by itself what comes later', async () => {
    const { taps, emit } = rig();
    const { kinds, take } = keep();
    taps.add(dma, take);
    await expect.poll(() => taps.drain()).toBe(0);
    for (let round = 1; round <= 3; round++) {
      emit(Kind['dma.read']);
      await expect.poll(() => kinds.filter(kind => kind === Kind['dma.read'])).toHaveLength(round);
    }
    taps.close();
  });

  it('gives what is left when it is closed, and nothing after', () => {
    const { taps, emit, tracer } = rig();
    const { kinds, take } = keep();
    taps.add(dma, take);
    emit(Kind['dma.read']);
    taps.close();
    expect(kinds).toContain(Kind['dma.read']);
    kinds.length = 0;
    emit(Kind['dma.write']);
    taps.drain();
    expect(kinds).toEqual([]);
    expect(tracer.counts().lost).toBe(0);
  });
});
