/**
 * The price of recording an event, with a reader on a thread of its own that takes every record, beside what no recorder can do without:
 * reading the clock once and plain stores of the record's words. Compile the project and run the JavaScript.
 */
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { EVENT_KINDS, EventClass, Kind } from '../src/trace/event-kinds.ts';
import { allocateEventRing, EventRingWriter } from '../src/trace/event-ring.ts';
import type { Events } from '../src/trace/events.ts';
import { SLOT_WORDS } from '../src/trace/record-layout.ts';
import { silentTrace } from '../src/trace/trace.ts';
import { Tracer } from '../src/trace/tracer.ts';
import { type BenchResult, formatResult, result } from './result.ts';
import type { ConsumerData, ConsumerMessage } from './trace-consumer.ts';

const ROUNDS = 40;
const WARM_UP_ROUNDS = 8;
/** A quarter of the ring: none is lost, however late the reader gets a processor. */
const RECORDS = 1 << 14;
/** What is claimed for a record, clock and all: as a floor, it must be met whole. */
const CLAIMED_NS = 100;
/** And for one that nobody wants. */
const CLAIMED_OFF_NS = 3;
const EVERY_CLASS = EVENT_KINDS.reduce((mask, kind) => mask | EventClass[kind.class], 0);

function nanosecondsEach(count: number, work: () => void): number {
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / count;
}

/** What a room does for each event: nothing where nobody wants it. */
function emitAsked(events: Events, source: number, count: number): void {
  const kind = Kind['dma.read'];
  for (let n = 0; n < count; n++) {
    if ((events.mask & EventClass.dma) !== 0) events.emit(kind, source, 0x100, 0, n << 12, 4096, -1);
  }
}

function emitPairs(events: Events, source: number, count: number): void {
  const translation = Kind.translation;
  const kind = Kind['dma.read'];
  for (let n = 0; n < count; n++) {
    if ((events.mask & EventClass.translation) !== 0) events.emit(translation, source, 0x100, 0, n << 12, n, 7);
    if ((events.mask & EventClass.dma) !== 0) events.emitAlso(kind, source, 0x100, 0, n << 12, 4096, -1);
  }
}

/** As many records by hand, `each` of them for one look at the clock. */
function plainStores(words: Int32Array, doubles: Float64Array, count: number, each: number): void {
  const mask = words.length - 1;
  for (let n = 0, at = 0; n < count; n++) {
    const time = performance.now();
    for (let record = 0; record < each; record++) {
      words[at] = 0x104;
      words[at + 1] = 0x100;
      doubles[(at + 2) >> 1] = time;
      words[at + 4] = 0;
      words[at + 5] = n << 12;
      words[at + 6] = 4096;
      words[at + 7] = -1;
      at = (at + SLOT_WORDS) & mask;
    }
  }
}

export async function benchTrace(): Promise<BenchResult[]> {
  const ring = allocateEventRing();
  const consumer = new Worker(new URL('./trace-consumer.js', import.meta.url), {
    workerData: { ring } satisfies ConsumerData,
  });
  const say = (message: ConsumerMessage) => consumer.postMessage(message);
  const tracer = new Tracer({ forward: silentTrace, ring: new EventRingWriter(ring, () => say('wake')) });
  const ignored = new Tracer({ forward: silentTrace });
  tracer.classes = EVERY_CLASS;
  const source = tracer.sourceId('bench');
  const words = new Int32Array(new SharedArrayBuffer(2 << 20));
  const doubles = new Float64Array(words.buffer);
  let told = 1;

  /** Waits until the reader has everything, so that the next round begins with an empty ring. */
  const settle = async (records: number) => {
    tracer.publish();
    told += records;
    say('count');
    const [counted] = (await once(consumer, 'message')) as [number];
    if (counted !== told) throw new Error(`${counted} of ${told} records came through`);
  };

  const ours = { one: [] as number[], pair: [] as number[], off: [] as number[] };
  const floor = { one: [] as number[], pair: [] as number[] };
  try {
    await settle(0);
    for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
      const one = nanosecondsEach(RECORDS, () => emitAsked(tracer, source, RECORDS));
      await settle(RECORDS);
      const pair = nanosecondsEach(RECORDS / 2, () => emitPairs(tracer, source, RECORDS / 2));
      await settle(RECORDS);
      const off = nanosecondsEach(RECORDS, () => emitAsked(ignored, source, RECORDS));
      const plainOne = nanosecondsEach(RECORDS, () => plainStores(words, doubles, RECORDS, 1));
      const plainPair = nanosecondsEach(RECORDS / 2, () => plainStores(words, doubles, RECORDS / 2, 2));
      if (round < 0) continue;
      ours.one.push(one);
      ours.pair.push(pair);
      ours.off.push(off);
      floor.one.push(plainOne);
      floor.pair.push(plainPair);
    }
  } finally {
    await consumer.terminate();
  }
  return [
    result('event recorded, read by another thread', 'ns', ours.one, floor.one, 0.6),
    result('two events at one time', 'ns', ours.pair, floor.pair, 0.5),
    result('event recorded, beside what is claimed', 'ns', ours.one, [CLAIMED_NS], 1),
    result('event that nobody wants, beside the claim', 'ns', ours.off, [CLAIMED_OFF_NS], 1),
  ];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const one of await benchTrace()) console.log(formatResult(one));
}
