import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { Kind } from '../../src/trace/event-kinds.ts';
import { allocateEventRing, EventRingReader, EventRingWriter, MIN_RING_SLOTS } from '../../src/trace/event-ring.ts';

// A worker runs compiled code.
const RING_MODULE = new URL('../../dist/src/trace/event-ring.js', import.meta.url).href;
const DROPPED = Kind.dropped;

/** Takes records one by one, counts them, and really sleeps between them: by a wait that only the writer's wake ends. */
const CONSUMER = `
const { workerData, parentPort } = require('node:worker_threads');
import(workerData.module).then(({ EventRingReader }) => {
  const reader = new EventRingReader(workerData.ring);
  const shared = new Int32Array(workerData.shared);
  let sleeps = 0;
  while (Atomics.load(shared, 0) < workerData.records) {
    const before = Atomics.load(shared, 1);
    const slots = reader.drain((words, count) => {
      Atomics.add(shared, 0, count);
      Atomics.notify(shared, 0);
    });
    if (slots > 0) continue;
    sleeps++;
    Atomics.wait(shared, 1, before);
  }
  parentPort.postMessage(sleeps);
});`;

/** Writes records of changing sizes, each with its number in every payload word, and now and then publishes as if it were to block. */
const PRODUCER = `
const { workerData, parentPort } = require('node:worker_threads');
import(workerData.module).then(({ EventRingWriter }) => {
  const writer = new EventRingWriter(workerData.ring, () => parentPort.postMessage('wake'));
  let state = workerData.seed;
  for (let n = 1; n <= workerData.records; n++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const slots = (state & 127) === 0 ? 1 + ((state >>> 8) % 255) : 1 + ((state >>> 8) & 1);
    writer.time[0] = n;
    const at = writer.reserve(slots);
    if (at >= 0) {
      writer.words.fill(n, at, at + slots * 8);
      writer.words[at] = 4 | (slots << 8);
    }
    if ((state & 0x3f00) === 0) writer.publish();
  }
  writer.publish();
  parentPort.postMessage({ lost: writer.lost });
});`;

const workers: Worker[] = [];

function start(code: string, data: object): Worker {
  const worker = new Worker(code, { eval: true, workerData: { module: RING_MODULE, ...data } });
  workers.push(worker);
  return worker;
}

afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.terminate();
});

describe('the event ring between two threads', () => {
  it('never leaves a reader asleep beside a record', async () => {
    const records = 20_000;
    const ring = allocateEventRing(MIN_RING_SLOTS);
    const shared = new Int32Array(new SharedArrayBuffer(8));
    const writer = new EventRingWriter(ring, () => {
      Atomics.add(shared, 1, 1);
      Atomics.notify(shared, 1);
    });
    const done = once(start(CONSUMER, { ring, shared: shared.buffer, records }), 'message');
    for (let n = 0; n < records; n++) {
      const at = writer.reserve(1);
      writer.words[at] = 0x104;
      writer.publish();
      // A wake-up that is lost is never made good: no other record follows before this one has been taken. The look comes before the
      // wait, so that the next record is written while the reader is still on its way to sleep.
      for (let look = 0; look < 1000 && Atomics.load(shared, 0) === n; look++);
      // The reader's notification of the record before may come only now.
      while (Atomics.load(shared, 0) === n) Atomics.wait(shared, 0, n);
      for (let wait = n % 64; wait > 0; wait--) Atomics.load(shared, 1);
    }
    const [sleeps] = (await done) as [number];
    expect(sleeps).toBeGreaterThan(0);
    expect(writer.lost).toBe(0);
  }, 60_000);

  it.each([1, 2, 3])(
    'brings every record over whole and in order, or says how many are missing there (seed %d)',
    async seed => {
      const records = 200_000;
      const ring = allocateEventRing(1 << 12);
      const reader = new EventRingReader(ring);
      let expected = 1;
      let seen = 0;
      let missing = 0;
      let wrong = 0;
      const take = (words: Int32Array) => {
        for (let at = 0; at < words.length; ) {
          const slots = (words[at]! >>> 8) & 0xff;
          const mark = words[at + 1]!;
          if ((words[at]! & 0xff) === DROPPED) {
            expected += mark;
            missing += mark;
          } else {
            if (mark !== expected++) wrong++;
            for (let word = 1; word < slots * 8; word++) if (words[at + word] !== mark) wrong++;
            seen++;
          }
          at += slots * 8;
        }
      };
      const producer = start(PRODUCER, { ring, records, seed: seed * 0x9e3779b1 });
      const lost = await new Promise<number>((resolve, reject) => {
        producer.on('error', reject);
        producer.on('message', (message: 'wake' | { lost: number }) => {
          while (reader.drain(take, 1000) > 0);
          if (message !== 'wake') resolve(message.lost);
        });
        while (reader.drain(take) > 0);
      });
      expect(wrong).toBe(0);
      // Those at the very end are told by no record: nothing came after them.
      expect(seen).toBe(records - lost);
      expect(missing).toBeLessThanOrEqual(lost);
      expect(reader.lost).toBe(lost);
    },
    60_000,
  );
});
