/** Lets a listener hear a recording as it would have heard the machine: in the order of the file. */
import { EventClass, type EventKind, Kind, LONG_PAYLOAD_WORDS } from '../event-kinds.ts';
import type { EventListener } from '../events.ts';
import {
  FIRST_PAYLOAD_WORD,
  KIND_MASK,
  PAYLOAD_OFFSET,
  SLOT_WORDS_SHIFT,
  SLOTS_MASK,
  SLOTS_SHIFT,
  SOURCE_SHIFT,
  TIME_WORD,
} from '../record-layout.ts';
import type { RecordBlock, RecordingReader } from './reader.ts';
import { textValue } from './text-record.ts';

export interface Replayed {
  /** Told to the listener. */
  readonly events: number;
  readonly notes: number;
  /** Text records, or whole rests of blocks, that could not be understood. */
  readonly malformed: number;
  /** Nanoseconds: of the last record that was told; 0 where there was none. */
  readonly time: number;
}

/** What else a caller may want to hear. */
export interface ReplayOptions {
  /** The value of a `finding` record. */
  readonly finding?: (value: unknown, time: number) => void;
  /** Before each record that is told, with its time: what should have been decided by then can be. */
  readonly before?: (time: number) => void;
}

/** Feeds all records of classes that the listener wants, and all notes. */
export function replay(reader: RecordingReader, listener: EventListener, options: ReplayOptions = {}): Replayed {
  const player = new Player(reader, listener, options);
  const classes = listener.wants | EventClass.note | (options.finding ? EventClass.finding : 0);
  for (const block of reader.read({ classes })) player.play(block);
  return player;
}

class Player implements Replayed {
  events = 0;
  notes = 0;
  malformed = 0;
  time = 0;
  private readonly payload = new Int32Array(LONG_PAYLOAD_WORDS);
  /** `EventClass` bit of each kind that has payload words, by code. */
  private readonly classes = new Int32Array(KIND_MASK + 1);

  constructor(
    private readonly reader: RecordingReader,
    private readonly listener: EventListener,
    private readonly options: ReplayOptions,
  ) {
    for (const kind of reader.header.kinds as readonly EventKind[]) {
      if (!kind.text) this.classes[kind.code] = EventClass[kind.class] ?? 0;
    }
  }

  play({ words, slots }: RecordBlock): void {
    const times = new Float64Array(words.buffer, words.byteOffset, words.length >>> 1);
    for (let slot = 0; slot < slots; ) {
      const at = slot << SLOT_WORDS_SHIFT;
      const head = words[at]!;
      const count = (head >>> SLOTS_SHIFT) & SLOTS_MASK;
      if (count === 0 || slot + count > slots) {
        this.malformed++;
        return;
      }
      const kind = head & KIND_MASK;
      const time = times[(at + TIME_WORD) >>> 1]!;
      if ((this.classes[kind]! & this.listener.wants) !== 0)
        this.tell(kind, head >>> SOURCE_SHIFT, time, words, at, count);
      else if (kind === Kind.note) this.tellNote(time, textValue(words, slot, count));
      else if (kind === Kind.finding) this.options.finding?.(textValue(words, slot, count), time);
      slot += count;
    }
  }

  private tell(kind: number, source: number, time: number, words: Int32Array, at: number, count: number): void {
    const { payload } = this;
    const present = Math.min(LONG_PAYLOAD_WORDS, (count << SLOT_WORDS_SHIFT) - PAYLOAD_OFFSET);
    payload[0] = words[at + FIRST_PAYLOAD_WORD]!;
    for (let word = 1; word < present; word++) payload[word] = words[at + word + PAYLOAD_OFFSET]!;
    payload.fill(0, present);
    this.happens(time);
    this.listener.event(kind, this.reader.sources.get(source) ?? `source ${source}`, time, payload);
    this.events++;
  }

  private tellNote(time: number, value: unknown): void {
    const [kind, source, detail] = Array.isArray(value) ? value : [];
    if (typeof kind !== 'string' || typeof source !== 'string' || typeof detail !== 'object' || detail === null) {
      this.malformed++;
      return;
    }
    this.happens(time);
    this.listener.note(kind, source, time, detail);
    this.notes++;
  }

  private happens(time: number): void {
    this.time = time;
    this.options.before?.(time);
  }
}
