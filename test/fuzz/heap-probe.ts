/**
 * Loaded into every thread of the process under test before its own code: says what is alive in the thread's heap once garbage has been
 * collected. Resident memory says less, because V8 keeps for itself what it once had. A device thread never comes to its event loop, but
 * it sends answers: that is when it measures.
 */
import v8 from 'node:v8';
import { getEnvironmentData, isMainThread, parentPort, setEnvironmentData, threadId } from 'node:worker_threads';

/** Bytes, all of it alive. */
export interface LiveMemory {
  /** Objects of the program. */
  readonly heap: number;
  /** What they hold outside of the heap, contents of array buffers among it; windows of reserved address space count in full. */
  readonly external: number;
  readonly arrayBuffers: number;
  /** V8's own. */
  readonly malloced: number;
}

const KEY = 'viommu: live memory';
const THREADS = 16;
/** A measurement's number, then what it gave. */
const FIELDS = 5;
/** The first slot: the number of the measurement that is asked for. */
const WANTED = 0;

/** Only with --expose-gc. */
const collect = (globalThis as { gc?: () => void }).gc;

/** For the main thread, before any other begins. */
export function prepareMeasuring(): void {
  setEnvironmentData(KEY, new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT * FIELDS * (THREADS + 1)));
}

/**
 * Of the whole process, thread by thread. `ask` makes every other thread send something. Throws an Error where fewer than `threads`
 * have measured, the main thread among them.
 */
export async function measureLive(threads: number, ask: () => Promise<unknown>): Promise<LiveMemory[]> {
  const slots = shared()!;
  const wanted = ++slots[WANTED]!;
  await ask();
  measure(slots);
  const all: LiveMemory[] = [];
  for (let thread = 0; thread < THREADS; thread++) {
    const [number, heap = 0, external = 0, arrayBuffers = 0, malloced = 0] = slots.subarray(slotOf(thread));
    if (number === wanted) all.push({ heap, external, arrayBuffers, malloced });
  }
  if (all.length !== threads) throw new Error(`${all.length} threads have measured their heaps, not ${threads}`);
  return all;
}

function measure(slots: Float64Array): void {
  const wanted = slots[WANTED]!;
  const slot = slotOf(threadId);
  if (threadId >= THREADS || slots[slot] === wanted || collect === undefined) return;
  collect();
  const { used_heap_size, malloced_memory } = v8.getHeapStatistics();
  const { external, arrayBuffers } = process.memoryUsage();
  slots.set([wanted, used_heap_size, external, arrayBuffers, malloced_memory], slot);
}

function slotOf(thread: number): number {
  return FIELDS * (thread + 1);
}

function shared(): Float64Array | undefined {
  const buffer = getEnvironmentData(KEY);
  return buffer instanceof SharedArrayBuffer ? new Float64Array(buffer) : undefined;
}

if (!isMainThread && parentPort !== null) {
  const port = parentPort;
  const slots = shared();
  const post = port.postMessage.bind(port);
  if (slots !== undefined) {
    port.postMessage = (message, transfer) => {
      measure(slots);
      post(message, transfer as never);
    };
  }
}
