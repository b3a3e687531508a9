/**
 * Steps through a batch of slots, record by record, and allocates nothing on the way. Batches come from files, too: whatever is in them,
 * it stays within them and comes to an end.
 */
import { type Decoder, RecordShape, standardDecoder } from './record-fields.ts';
import {
  FIRST_PAYLOAD_WORD,
  KIND_MASK,
  PADDING_KIND,
  PAYLOAD_OFFSET,
  payloadWords,
  SLOT_WORDS_SHIFT,
  SLOTS_MASK,
  SLOTS_SHIFT,
  SOURCE_SHIFT,
  TIME_WORD,
} from './record-layout.ts';
import { asSourceName, textValue } from './recording/text-record.ts';

/** More than 100 days in nanoseconds: up to here a double counts them one by one. */
const MAX_TIME = Number.MAX_SAFE_INTEGER;
const NO_WORDS = new Int32Array(0);

/** Names of sources by their numbers, as records of the kind `source` tell them. */
export class SourceNames {
  private readonly names: string[] = [];

  learn(number: number, name: string): void {
    this.names[number] = name;
  }

  /** Empty for a number without a name. */
  name(number: number): string {
    return this.names[number] ?? '';
  }
}

export class RecordCursor {
  /** Code of the current record's kind. */
  kind = 0;
  /** Number of its source. */
  source = 0;
  /** The slot that it begins at, in its batch, and how many it has. */
  position = 0;
  slots = 0;
  /** Records passed over in all batches: of unknown kinds, with an impossible time, or with words that cannot be read. */
  skipped = 0;
  /** The batch ended at something that is no record. */
  damaged = false;
  private words: Int32Array = NO_WORDS;
  private end = 0;
  /** A record's time may lie at any word: a float64 in memory must not. */
  private readonly timeWords = new Int32Array(2);
  private readonly timeValue = new Float64Array(this.timeWords.buffer);

  /** `sources` is told of the names that come by. */
  constructor(
    readonly decoder: Decoder = standardDecoder,
    readonly sources: SourceNames = new SourceNames(),
  ) {}

  /** Begins a batch. `slots` beyond the words are not there. */
  load(words: Int32Array, slots: number = words.length >> SLOT_WORDS_SHIFT): void {
    this.words = words;
    this.end = Math.min(slots, words.length >> SLOT_WORDS_SHIFT);
    this.position = 0;
    this.slots = 0;
    this.damaged = false;
  }

  /** Goes to the next record; false: the batch is at its end, or `damaged`. */
  next(): boolean {
    while (this.step()) {
      switch (this.decoder.shapeOf(this.kind)) {
        case RecordShape.words:
          if (this.hasTime()) return true;
          break;
        case RecordShape.text:
          if (this.hasTime() && this.hasText()) return true;
          break;
        default:
          if (this.kind === PADDING_KIND) continue;
      }
      this.skipped++;
    }
    return false;
  }

  /** Nanoseconds since the start. */
  get time(): number {
    return this.timeValue[0]!;
  }

  get sourceName(): string {
    return this.sources.name(this.source);
  }

  /** Payload word, signed; 0 where the record has none of that number. */
  word(index: number): number {
    if (index < 0 || index >= payloadWords(this.slots)) return 0;
    const at = this.position << SLOT_WORDS_SHIFT;
    return this.words[at + (index === 0 ? FIRST_PAYLOAD_WORD : PAYLOAD_OFFSET + index)]!;
  }

  /** What a text record says; undefined for others, and where it cannot be read. Integers of 64 bits are bigint. */
  value(): unknown {
    if (this.decoder.shapeOf(this.kind) !== RecordShape.text) return undefined;
    return textValue(this.words, this.position, this.slots);
  }

  /** The words of the current record, in place. */
  slice(): Int32Array {
    return this.words.subarray(this.position << SLOT_WORDS_SHIFT, (this.position + this.slots) << SLOT_WORDS_SHIFT);
  }

  private step(): boolean {
    const position = this.position + this.slots;
    this.slots = 0;
    this.position = position;
    if (position >= this.end) return false;
    const header = this.words[position << SLOT_WORDS_SHIFT]!;
    const slots = (header >>> SLOTS_SHIFT) & SLOTS_MASK;
    if (slots === 0 || position + slots > this.end) {
      this.damaged = true;
      this.position = this.end;
      return false;
    }
    this.kind = header & KIND_MASK;
    this.source = header >>> SOURCE_SHIFT;
    this.slots = slots;
    return true;
  }

  private hasTime(): boolean {
    const at = (this.position << SLOT_WORDS_SHIFT) + TIME_WORD;
    this.timeWords[0] = this.words[at]!;
    this.timeWords[1] = this.words[at + 1]!;
    const time = this.timeValue[0]!;
    // Not for what is no number, either.
    return time >= 0 && time <= MAX_TIME;
  }

  /** Whether a text is where its length says. Names of sources are learnt on the way. */
  private hasText(): boolean {
    const bytes = this.words[(this.position << SLOT_WORDS_SHIFT) + FIRST_PAYLOAD_WORD]!;
    if (bytes <= 0 || bytes > (payloadWords(this.slots) - 1) * 4) return false;
    if (this.kind !== this.decoder.sourceKind) return true;
    const named = asSourceName(this.value());
    if (named) this.sources.learn(named.number, named.name);
    return named !== undefined;
  }
}
