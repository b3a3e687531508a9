/**
 * Where a machine's events come together, on the device thread: gives each its time, writes it into the ring if the reader wants its
 * class, and tells the listener if that does.
 */
import { EVENT_KINDS, EventClass, Kind, LONG_PAYLOAD_WORDS } from './event-kinds.ts';
import type { EventRingWriter } from './event-ring.ts';
import type { EventListener, Events } from './events.ts';
import {
  FIRST_PAYLOAD_WORD,
  LONG_SLOTS,
  MAX_SOURCES,
  recordHeader,
  SHORT_SLOTS,
  SLOT_WORDS,
  SLOTS_SHIFT,
  SOURCE_SHIFT,
  TEXT_WORD,
  TIME_WORD,
  textSlots,
} from './record-layout.ts';
import { encodeText } from './text-value.ts';
import type { Trace, TraceValue } from './trace.ts';

const SHORT_HEADER = SHORT_SLOTS << SLOTS_SHIFT;
const LONG_HEADER = LONG_SLOTS << SLOTS_SHIFT;

/** Class bits by code. */
const CLASS_OF = new Int32Array(256);
for (const kind of EVENT_KINDS) CLASS_OF[kind.code] = EventClass[kind.class];

type TextKind = Extract<(typeof EVENT_KINDS)[number], { readonly text: true }>;
export type TextKindName = TextKind['name'];

export interface TracerOptions {
  /** Where notes go in any case. */
  readonly forward: Trace;
  readonly ring?: EventRingWriter;
  readonly listener?: EventListener;
  /** Nanoseconds since the tracer's start, monotonic. */
  readonly now?: () => number;
  /** Whether `publish` is called after each round of a thread. Default false. */
  readonly rounds?: boolean;
}

export interface TracerCounts {
  /** Records written to the ring. */
  readonly recorded: number;
  /** Records for which the ring had no room. */
  readonly lost: number;
}

export class Tracer implements Trace, Events {
  mask = 0;
  readonly records: Events = this;
  /** Time 0 on the calendar: milliseconds since 1970. */
  readonly started = Date.now();
  /** Nanoseconds since the tracer's start, as in records. */
  readonly now: () => number;
  private readonly rounds: boolean;
  private readonly roundListeners: (() => void)[] = [];
  private readonly forward: Trace;
  private readonly ring: EventRingWriter | undefined;
  private currentListener: EventListener | undefined;
  /** What the reader wants; 0 without a ring. */
  private ringClasses = 0;
  private listenerClasses = 0;
  /** One value, when the last event happened: the ring's own, which knows by it when records are lost. */
  private readonly time: Float64Array;
  /** While the listener hears something: what it causes itself, it is not told. */
  private telling = false;
  /** By number. */
  private readonly names: string[] = [''];
  private readonly numbers = new Map<string, number>();
  /** Names whose numbers are below this have been written to the ring. */
  private announced = 1;
  /** Words that a short event does not have stay 0. */
  private readonly shortPayload = new Int32Array(LONG_PAYLOAD_WORDS);
  private readonly longPayload = new Int32Array(LONG_PAYLOAD_WORDS);

  constructor({ forward, ring, listener, now, rounds = false }: TracerOptions) {
    this.rounds = rounds;
    this.forward = forward;
    this.ring = ring;
    this.time = ring ? ring.time : new Float64Array(1);
    this.now = now ?? clockFromNow();
    this.listener = listener;
  }

  /** `EventClass` bits that the ring's reader wants. Has no effect without a ring. */
  get classes(): number {
    return this.ringClasses;
  }

  set classes(classes: number) {
    this.ringClasses = this.ring ? classes : 0;
    this.mask = this.ringClasses | this.listenerClasses;
  }

  /** Its `wants` is read when it is set. */
  get listener(): EventListener | undefined {
    return this.currentListener;
  }

  set listener(listener: EventListener | undefined) {
    this.currentListener = listener;
    this.listenerClasses = listener ? listener.wants : 0;
    this.mask = this.ringClasses | this.listenerClasses;
  }

  /** 0, which has no name, where there are `MAX_SOURCES` names already. */
  sourceId(name: string): number {
    const known = this.numbers.get(name);
    if (known !== undefined) return known;
    if (this.names.length > MAX_SOURCES) return 0;
    const number = this.names.length;
    this.names.push(name);
    this.numbers.set(name, number);
    this.announceNew();
    return number;
  }

  onRound(listener: () => void): boolean {
    if (this.rounds) this.roundListeners.push(listener);
    return this.rounds;
  }

  /** Writes all names of sources to the ring, as a new reader needs them. */
  announceSources(): void {
    this.announced = 1;
    this.announceNew();
  }

  emit(kind: number, source: number, p0: number, p1: number, p2: number, p3: number, p4: number): void {
    this.time[0] = this.now();
    this.emitAlso(kind, source, p0, p1, p2, p3, p4);
  }

  emitAlso(kind: number, source: number, p0: number, p1: number, p2: number, p3: number, p4: number): void {
    const bit = CLASS_OF[kind]!;
    if ((this.ringClasses & bit) !== 0) {
      const ring = this.ring!;
      const at = ring.reserveShort();
      if (at >= 0) {
        const { words } = ring;
        words[at] = kind | SHORT_HEADER | (source << SOURCE_SHIFT);
        words[at + 1] = p0;
        ring.doubles[(at + TIME_WORD) >> 1] = this.time[0]!;
        words[at + 4] = p1;
        words[at + 5] = p2;
        words[at + 6] = p3;
        words[at + 7] = p4;
      }
    }
    if ((this.listenerClasses & bit) !== 0) {
      const payload = this.shortPayload;
      payload[0] = p0;
      payload[1] = p1;
      payload[2] = p2;
      payload[3] = p3;
      payload[4] = p4;
      this.tell(kind, source, payload);
    }
  }

  emitLong(
    kind: number,
    source: number,
    p0: number,
    p1: number,
    p2: number,
    p3: number,
    p4: number,
    p5: number,
    p6: number,
    p7: number,
    p8: number,
    p9: number,
    p10: number,
    p11: number,
    p12: number,
  ): void {
    this.time[0] = this.now();
    const bit = CLASS_OF[kind]!;
    if ((this.mask & bit) === 0) return;
    const payload = this.longPayload;
    payload[0] = p0;
    payload[1] = p1;
    payload[2] = p2;
    payload[3] = p3;
    payload[4] = p4;
    payload[5] = p5;
    payload[6] = p6;
    payload[7] = p7;
    payload[8] = p8;
    payload[9] = p9;
    payload[10] = p10;
    payload[11] = p11;
    payload[12] = p12;
    if ((this.ringClasses & bit) !== 0) this.writeLong(kind, source, payload);
    if ((this.listenerClasses & bit) !== 0) this.tell(kind, source, payload);
  }

  note(kind: string, source: string, detail: Readonly<Record<string, TraceValue>>): void {
    this.forward.note(kind, source, detail);
    const listens = this.currentListener !== undefined && !this.telling;
    const records = (this.ringClasses & EventClass.note) !== 0;
    if (!listens && !records) return;
    this.time[0] = this.now();
    if (records) this.writeText(Kind.note, this.sourceId(source), [kind, source, detail]);
    if (listens) this.tellNote(kind, source, detail);
  }

  /** Records a value in words, of a kind with `text`; for findings. It goes to the ring only. */
  text(kind: TextKindName, source: string, value: unknown): void {
    const code = Kind[kind];
    if ((this.ringClasses & CLASS_OF[code]!) === 0) return;
    const number = this.sourceId(source);
    this.time[0] = this.now();
    this.writeText(code, number, value);
  }

  /** Tells the ring's reader of all that was written, and ends a round. To be called before the thread blocks. */
  publish(): void {
    for (const listener of this.roundListeners) listener();
    if (this.ring === undefined) return;
    if (this.announced < this.names.length) this.announceNew();
    this.ring.publish();
  }

  counts(): TracerCounts {
    return { recorded: this.ring?.records ?? 0, lost: this.ring?.lost ?? 0 };
  }

  /** Names for which the ring has no room stay for the next time. */
  private announceNew(): void {
    if (this.ringClasses === 0) return;
    this.time[0] = this.now();
    for (; this.announced < this.names.length; this.announced++) {
      const number = this.announced;
      if (!this.writeText(Kind.source, number, [number, this.names[number]])) return;
    }
  }

  private writeLong(kind: number, source: number, payload: Int32Array): void {
    const { words, doubles } = this.ring!;
    const at = this.ring!.reserve(LONG_SLOTS);
    if (at < 0) return;
    words[at] = kind | LONG_HEADER | (source << SOURCE_SHIFT);
    words[at + FIRST_PAYLOAD_WORD] = payload[0]!;
    doubles[(at + TIME_WORD) >> 1] = this.time[0]!;
    for (let word = 1, to = at + TEXT_WORD; word < LONG_PAYLOAD_WORDS; word++, to++) words[to] = payload[word]!;
  }

  private writeText(kind: number, source: number, value: unknown): boolean {
    const ring = this.ring!;
    const text = encodeText(value);
    const slots = textSlots(text.length);
    const at = ring.reserve(slots);
    if (at < 0) return false;
    const { words } = ring;
    words.fill(0, at + TEXT_WORD, at + slots * SLOT_WORDS);
    words[at] = recordHeader(kind, slots, source);
    words[at + FIRST_PAYLOAD_WORD] = text.length;
    ring.doubles[(at + TIME_WORD) >> 1] = this.time[0]!;
    ring.bytes.set(text, (at + TEXT_WORD) * 4);
    return true;
  }

  private tell(kind: number, source: number, payload: Int32Array): void {
    if (this.telling) return;
    this.telling = true;
    try {
      this.currentListener!.event(kind, this.names[source] ?? '', this.time[0]!, payload);
    } catch (error) {
      this.dismiss(error);
    } finally {
      this.telling = false;
    }
  }

  private tellNote(kind: string, source: string, detail: Readonly<Record<string, TraceValue>>): void {
    this.telling = true;
    try {
      this.currentListener!.note(kind, source, this.time[0]!, detail);
    } catch (error) {
      this.dismiss(error);
    } finally {
      this.telling = false;
    }
  }

  /** A listener's mistake must not become the device's: it is told, and the listener hears no more. */
  dismiss(error: unknown): void {
    this.listener = undefined;
    this.note('internal.error', 'trace', {
      what: 'a listener to events failed and hears no more',
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
  }
}

function clockFromNow(): () => number {
  // The global's own property is a getter, and each event has a time.
  const clock = performance;
  const start = clock.now();
  return () => (clock.now() - start) * 1e6;
}
