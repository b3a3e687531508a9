/** The reading thread of the trace benchmark: takes what comes, and tells how many records it was when asked. */
import { parentPort, workerData } from 'node:worker_threads';
import { EventRingReader } from '../src/trace/event-ring.ts';
import { RecordCursor } from '../src/trace/record-cursor.ts';

export interface ConsumerData {
  readonly ring: SharedArrayBuffer;
}
/** `wake`: there are records; `count`: take what there is and answer with the number of records so far. */
export type ConsumerMessage = 'wake' | 'count';

/** As a machine's reader does: it goes to sleep only where nothing came for so long, so that a busy writer need not wake it. */
const LOOK_AGAIN_MS = 5;

const reader = new EventRingReader((workerData as ConsumerData).ring);
const cursor = new RecordCursor();
let records = 0;
let timer: NodeJS.Timeout | undefined;

function take(words: Int32Array, slots: number): void {
  cursor.load(words, slots);
  while (cursor.next()) records++;
}

function look(): void {
  if (timer !== undefined || reader.drain(take) === 0) return;
  timer = setTimeout(() => {
    timer = undefined;
    look();
  }, LOOK_AGAIN_MS);
}

parentPort!.on('message', (message: ConsumerMessage) => {
  look();
  if (message !== 'count') return;
  while (reader.drain(take) > 0);
  parentPort!.postMessage(records);
});
