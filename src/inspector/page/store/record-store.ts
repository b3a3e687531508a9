/**
 * The records that the page keeps: their slots as they came, in chunks, and where each begins. Records are known by their number, which
 * grows by one with each and is never given again. When there are too many, the oldest chunk goes.
 */

import { Kind } from '../../../trace/event-kinds.ts';
import { RecordCursor } from '../../../trace/record-cursor.ts';
import { type Decoder, standardDecoder } from '../../../trace/record-fields.ts';
import {
  FIRST_PAYLOAD_WORD,
  PAYLOAD_OFFSET,
  recordHeader,
  SLOT_WORDS,
  SLOT_WORDS_SHIFT,
  TIME_WORD,
} from '../../../trace/record-layout.ts';

export const MAX_RECORDS = 1_000_000;
/** Slots of one chunk: small enough that a look through it takes about a millisecond. */
export const CHUNK_SLOTS = 8192;
/** Payload of a `dropped` record that this page itself puts where it did not listen, or not to everything; word 1: to which classes it did. */
export const NOT_RECORDED = -1;

export interface Chunk {
  readonly words: Int32Array;
  /** Slot that each record begins at. */
  readonly starts: Uint16Array;
  /** Number of its first record. */
  readonly first: number;
  count: number;
  /** Slots in use. */
  used: number;
  /** Of its first and last record, in nanoseconds. */
  firstTime: number;
  lastTime: number;
}

export type RecordListener = (cursor: RecordCursor) => void;

export class RecordStore {
  readonly chunks: Chunk[] = [];
  /** Numbers of the oldest record that is kept, and of the one that comes next. */
  first = 0;
  next = 0;
  /** What came but was no record. */
  damaged = 0;
  private incoming: RecordCursor;
  private single: RecordCursor;
  private readonly listeners = new Set<RecordListener>();
  private readonly gapSlot = new Int32Array(SLOT_WORDS);

  constructor(private readonly limit = MAX_RECORDS) {
    this.incoming = new RecordCursor(standardDecoder);
    this.single = new RecordCursor(standardDecoder, this.incoming.sources);
  }

  get decoder(): Decoder {
    return this.incoming.decoder;
  }

  /** For records that were written by another version; what is kept goes, because it cannot be read any more. */
  useDecoder(decoder: Decoder): void {
    this.clear();
    this.incoming = new RecordCursor(decoder);
    this.single = new RecordCursor(decoder, this.incoming.sources);
  }

  get count(): number {
    return this.next - this.first;
  }

  /** Names of the sources that came by. */
  get sources(): RecordCursor['sources'] {
    return this.incoming.sources;
  }

  get lastTime(): number {
    return this.chunks.at(-1)?.lastTime ?? 0;
  }

  /** Hears every record as it comes; the cursor is only good during the call. */
  listen(listener: RecordListener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** A batch of whole records. */
  append(words: Int32Array): void {
    const cursor = this.incoming;
    cursor.load(words);
    while (cursor.next()) this.keep(cursor);
    if (cursor.damaged) this.damaged++;
    while (this.chunks.length > 1 && this.count - this.chunks[0]!.count >= this.limit) {
      this.first += this.chunks.shift()!.count;
    }
  }

  /**
   * Marks that nothing is recorded from here on for a while, or that up to here only some classes were (`EventClass` bits). Does nothing
   * where there is no record yet, or such a mark already.
   */
  markGap(classes = 0): void {
    const last = this.at(this.next - 1);
    if (last === undefined || (last.kind === Kind.dropped && last.word(0) === NOT_RECORDED)) return;
    this.gapSlot.fill(0);
    this.gapSlot[0] = recordHeader(Kind.dropped, 1, 0);
    this.gapSlot[FIRST_PAYLOAD_WORD] = NOT_RECORDED;
    this.gapSlot[PAYLOAD_OFFSET + 1] = classes;
    new Float64Array(this.gapSlot.buffer)[TIME_WORD / 2] = this.lastTime;
    this.append(this.gapSlot);
  }

  clear(): void {
    this.chunks.length = 0;
    this.first = this.next;
  }

  chunkOf(number: number): Chunk | undefined {
    if (number < this.first || number >= this.next) return undefined;
    let low = 0;
    let high = this.chunks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.chunks[middle]!.first <= number) low = middle;
      else high = middle - 1;
    }
    return this.chunks[low];
  }

  /** A cursor at that record, good until the next call; undefined: it is not kept any more. */
  at(number: number): RecordCursor | undefined {
    const chunk = this.chunkOf(number);
    if (chunk === undefined) return undefined;
    const slot = chunk.starts[number - chunk.first]!;
    this.single.load(chunk.words.subarray(slot << SLOT_WORDS_SHIFT, chunk.used << SLOT_WORDS_SHIFT));
    return this.single.next() ? this.single : undefined;
  }

  /** Number of the first record that is not before a time in nanoseconds; `next` where all are. */
  atTime(time: number): number {
    const chunk = this.chunks.find(one => one.lastTime >= time);
    if (chunk === undefined) return this.next;
    let low = 0;
    let high = chunk.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.at(chunk.first + middle)?.time ?? 0) < time) low = middle + 1;
      else high = middle;
    }
    return chunk.first + low;
  }

  private keep(cursor: RecordCursor): void {
    const { slots, time } = cursor;
    let chunk = this.chunks.at(-1);
    if (chunk === undefined || chunk.used + slots > CHUNK_SLOTS) {
      chunk = newChunk(this.next);
      this.chunks.push(chunk);
    }
    chunk.words.set(cursor.slice(), chunk.used << SLOT_WORDS_SHIFT);
    chunk.starts[chunk.count++] = chunk.used;
    chunk.used += slots;
    if (chunk.count === 1) chunk.firstTime = time;
    chunk.lastTime = time;
    this.next++;
    for (const listener of this.listeners) listener(cursor);
  }
}

function newChunk(first: number): Chunk {
  return {
    words: new Int32Array(CHUNK_SLOTS * SLOT_WORDS),
    starts: new Uint16Array(CHUNK_SLOTS),
    first,
    count: 0,
    used: 0,
    firstTime: 0,
    lastTime: 0,
  };
}
