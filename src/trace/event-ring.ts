/**
 * A ring of records in shared memory: one thread writes, one reads, and neither ever waits for the other. A full ring loses records and
 * says where and how many.
 *
 * Positions are counts of slots since the start. They wrap at 2^32, and only their differences are used. The head (how far the writer
 * has come) belongs to the writer, the tail (how far the reader has come) to the reader.
 */
import { Kind } from './event-kinds.ts';
import {
  FIRST_PAYLOAD_WORD,
  MAX_RECORD_SLOTS,
  recordHeader,
  SHORT_SLOTS,
  SLOT_BYTES,
  SLOT_WORDS,
  SLOT_WORDS_SHIFT,
  SLOTS_MASK,
  SLOTS_SHIFT,
  TIME_WORD,
} from './record-layout.ts';

/** 2 MiB. */
export const DEFAULT_RING_SLOTS = 1 << 16;
/** The least: the longest record fits wherever in an empty ring the writer stands. */
export const MIN_RING_SLOTS = 512;
/** 512 MiB. */
export const MAX_RING_SLOTS = 1 << 24;
/** The head is told to the reader once in so many records, because an atomic store costs as much as the rest of a record. */
export const PUBLISH_EVERY = 256;

/** Int32 words in front of the slots; what different threads write lies in different cache lines. */
const HEAD = 0;
const LOST = 1;
/** Slots at the end of the ring that nothing is in: set by the writer as it wraps, cleared by the reader as it passes them. */
const PADDING = 2;
const TAIL = 16;
const SLEEPING = 32;
const HEADER_WORDS = 48;

/** `slots` is a power of two, from `MIN_RING_SLOTS` to `MAX_RING_SLOTS`; otherwise it throws a RangeError. */
export function allocateEventRing(slots: number = DEFAULT_RING_SLOTS): SharedArrayBuffer {
  if (!Number.isInteger(slots) || slots < MIN_RING_SLOTS || slots > MAX_RING_SLOTS || (slots & (slots - 1)) !== 0) {
    throw new RangeError(
      `a ring has a power of two of slots, from ${MIN_RING_SLOTS} to ${MAX_RING_SLOTS}, not ${slots}`,
    );
  }
  return new SharedArrayBuffer(HEADER_WORDS * 4 + slots * SLOT_BYTES);
}

function slotsOf(ring: SharedArrayBuffer): number {
  return (ring.byteLength - HEADER_WORDS * 4) / SLOT_BYTES;
}

/** The writing side. */
export class EventRingWriter {
  /** The slots as words, as float64 values (the time of a record: half the index) and as bytes. */
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  readonly bytes: Uint8Array;
  /** One value: when the event happens that `reserve` is called for. An argument would be a boxed number, made for each record. */
  readonly time = new Float64Array(1);
  /** Records lost so far. */
  lost = 0;
  private readonly header: Int32Array;
  private readonly capacity: number;
  private head: number;
  /** Slots that were free when the tail was last looked at, less those taken since. */
  private room = 0;
  /** Records up to the head that was told, and since. */
  private published = 0;
  private unpublished = 0;
  /** Records lost since the last one that was placed. */
  private lostHere = 0;
  /** Short records that can be placed without a look at anything else. `room` and `unpublished` count them as placed already. */
  private quick = 0;

  /** `wake` is called where the reader has gone to sleep and there is something for it. */
  constructor(
    ring: SharedArrayBuffer,
    private readonly wake: () => void,
  ) {
    this.capacity = slotsOf(ring);
    this.header = new Int32Array(ring, 0, HEADER_WORDS);
    this.words = new Int32Array(ring, HEADER_WORDS * 4);
    this.doubles = new Float64Array(ring, HEADER_WORDS * 4);
    this.bytes = new Uint8Array(ring, HEADER_WORDS * 4);
    this.head = Atomics.load(this.header, HEAD);
    this.lost = Atomics.load(this.header, LOST) >>> 0;
  }

  /**
   * Room for a record of so many slots: the index of its first word, or -1 where the ring is full and the record is lost. The slots hold
   * what was in them before; the caller fills them before it calls anything else here.
   */
  reserve(slots: number): number {
    this.endQuick();
    return this.reserveSlots(slots);
  }

  /** The same for a record of one slot, which most have. */
  reserveShort(): number {
    if (this.quick === 0) return this.reserveFirst();
    this.quick--;
    const at = (this.head & (this.capacity - 1)) << SLOT_WORDS_SHIFT;
    this.head = (this.head + 1) | 0;
    return at;
  }

  /** Places one short record, and sees how many more can follow it quickly. */
  private reserveFirst(): number {
    const at = this.reserveSlots(SHORT_SLOTS);
    if (at >= 0) {
      this.quick = Math.max(0, Math.min(this.room, PUBLISH_EVERY - this.unpublished));
      this.room -= this.quick;
      this.unpublished += this.quick;
    }
    return at;
  }

  /** Counts the quick ones that did not come as not placed. */
  private endQuick(): void {
    this.room += this.quick;
    this.unpublished -= this.quick;
    this.quick = 0;
  }

  private reserveSlots(slots: number): number {
    if (this.unpublished >= PUBLISH_EVERY) this.publish();
    if (this.lostHere !== 0 && !this.tellLost()) return this.lose();
    const at = this.place(slots);
    return at < 0 ? this.lose() : at;
  }

  /** Tells the reader of all that was written so far, and wakes it if it sleeps. Cheap where there is nothing new. */
  publish(): void {
    this.endQuick();
    if (this.unpublished === 0) return;
    this.published += this.unpublished;
    this.unpublished = 0;
    // The head first, then the look at the flag; the reader sets the flag first and then looks at the head. All four are sequentially
    // consistent, so that one of the two sees what the other did.
    Atomics.store(this.header, HEAD, this.head);
    if (Atomics.load(this.header, SLEEPING) !== 0 && Atomics.exchange(this.header, SLEEPING, 0) !== 0) this.wake();
  }

  /** Records placed so far, those that tell of lost ones among them. */
  get records(): number {
    return this.published + this.unpublished - this.quick;
  }

  private place(slots: number): number {
    const index = this.head & (this.capacity - 1);
    // A record lies in one piece: where it would go over the end of the ring, it begins at the ring's start.
    const padding = index + slots > this.capacity ? this.capacity - index : 0;
    const needed = padding + slots;
    if (needed > this.room) {
      this.room = this.capacity - ((this.head - Atomics.load(this.header, TAIL)) | 0);
      if (needed > this.room) return -1;
    }
    this.room -= needed;
    this.head = (this.head + needed) | 0;
    this.unpublished++;
    if (padding === 0) return index << SLOT_WORDS_SHIFT;
    this.header[PADDING] = padding;
    return 0;
  }

  private tellLost(): boolean {
    const at = this.place(SHORT_SLOTS);
    if (at < 0) return false;
    this.words.fill(0, at, at + SLOT_WORDS);
    this.words[at] = recordHeader(Kind.dropped, SHORT_SLOTS, 0);
    this.words[at + FIRST_PAYLOAD_WORD] = this.lostHere;
    this.doubles[(at + TIME_WORD) >> 1] = this.time[0]!;
    this.lostHere = 0;
    return true;
  }

  private lose(): number {
    this.lost++;
    this.lostHere++;
    Atomics.store(this.header, LOST, this.lost | 0);
    // A reader that sleeps beside a full ring would never make room.
    this.publish();
    return -1;
  }
}

/** The reading side. It begins with a `drain`: a reader that was never told that there is nothing is not woken. */
export class EventRingReader {
  private readonly header: Int32Array;
  private readonly words: Int32Array;
  private readonly capacity: number;
  private tail: number;

  constructor(ring: SharedArrayBuffer) {
    this.capacity = slotsOf(ring);
    this.header = new Int32Array(ring, 0, HEADER_WORDS);
    this.words = new Int32Array(ring, HEADER_WORDS * 4);
    this.tail = Atomics.load(this.header, TAIL);
  }

  /** Records lost so far, modulo 2^32. */
  get lost(): number {
    return Atomics.load(this.header, LOST) >>> 0;
  }

  /**
   * Hands out what is there, at most `maxSlots` slots of it (but one record at least), in one or two pieces of whole records. The words
   * are the ring's own and valid until `take` returns; what `take` throws ends the draining, and its piece comes again.
   * Returns the number of slots that were taken. 0: there was nothing, and the writer will call `wake` when there is something.
   */
  drain(take: (words: Int32Array, slots: number) => void, maxSlots: number = this.capacity): number {
    let taken = 0;
    let available = this.available();
    if (available === 0) {
      Atomics.store(this.header, SLEEPING, 1);
      available = this.available();
      if (available === 0) return 0;
      Atomics.store(this.header, SLEEPING, 0);
    }
    do {
      const slots = this.takePiece(take, available, maxSlots - taken, taken === 0);
      if (slots === 0) break;
      taken += slots;
      available = this.available();
    } while (available > 0 && taken < maxSlots);
    return taken;
  }

  /** Forgets all that is there. For a reader that begins: what was written for another is none of its business. */
  skip(): void {
    const head = Atomics.load(this.header, HEAD);
    const index = this.tail & (this.capacity - 1);
    if (index + ((head - this.tail) | 0) >= this.capacity) this.header[PADDING] = 0;
    this.tail = head;
    Atomics.store(this.header, TAIL, head);
  }

  private available(): number {
    return (Atomics.load(this.header, HEAD) - this.tail) | 0;
  }

  /** Takes what lies in one piece; returns its slots, 0 where not even the first record is within the limit. */
  private takePiece(
    take: (words: Int32Array, slots: number) => void,
    available: number,
    limit: number,
    atLeastOne: boolean,
  ): number {
    const index = this.tail & (this.capacity - 1);
    const reachesEnd = index + available >= this.capacity;
    const padding = reachesEnd ? this.header[PADDING]! : 0;
    const whole = reachesEnd ? this.capacity - index - padding : available;
    const slots = whole <= limit ? whole : this.wholeRecords(index, whole, limit, atLeastOne);
    if (slots > 0) {
      const first = index << SLOT_WORDS_SHIFT;
      take(this.words.subarray(first, first + (slots << SLOT_WORDS_SHIFT)), slots);
    }
    const passesEnd = reachesEnd && slots === whole;
    // The writer sets it again only after it has seen the tail beyond.
    if (passesEnd) this.header[PADDING] = 0;
    this.tail = (this.tail + slots + (passesEnd ? padding : 0)) | 0;
    Atomics.store(this.header, TAIL, this.tail);
    // A piece that was padding only has no slots, but the next piece is behind it.
    return slots === 0 && passesEnd ? this.takePiece(take, this.available(), limit, atLeastOne) : slots;
  }

  private wholeRecords(index: number, whole: number, limit: number, atLeastOne: boolean): number {
    let slots = 0;
    while (slots < whole) {
      // The writer always says so; without it this would not end.
      const length =
        (this.words[(index + slots) << SLOT_WORDS_SHIFT]! >>> SLOTS_SHIFT) & SLOTS_MASK || MAX_RECORD_SLOTS;
      if (slots + length > limit && !(atLeastOne && slots === 0)) break;
      slots += length;
    }
    return Math.min(slots, whole);
  }
}
