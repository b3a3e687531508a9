/** The records of a machine, kept as they come, for tests to look through. */
import { Kind } from '../trace/event-kinds.ts';
import { RecordCursor, SourceNames } from '../trace/record-cursor.ts';
import { type Fields, fieldsOf, standardDecoder } from '../trace/record-fields.ts';
import type { Arrivals } from './arrivals.ts';

/** 64 MiB of records; older ones are forgotten. */
const WORDS_KEPT = 1 << 24;

export interface DecodedRecord {
  /** e.g. `dma.write`. */
  readonly kind: string;
  /** e.g. `edu0`. */
  readonly source: string;
  /** Nanoseconds since the machine started. */
  readonly time: number;
  /** By name; what each kind has, `event-kinds.ts` says. */
  readonly fields: Fields;
}

export class RecordLog {
  /** Records that came while there was no room for them in the ring. */
  lost = 0;
  /** Batches that did not reach a remote reader in time. */
  lostBatches = 0;
  /** Nanoseconds: of the latest record. */
  lastTime = 0;
  private batches: Int32Array[] = [];
  private words = 0;
  private readonly sources = new SourceNames();

  constructor(private readonly arrivals: Arrivals) {}

  /** Takes a copy. `lostBatches`: so many were lost so far. */
  take(words: Int32Array, lostBatches = 0): void {
    this.batches.push(words.slice());
    this.words += words.length;
    while (this.words > WORDS_KEPT && this.batches.length > 1) this.words -= this.batches.shift()!.length;
    this.lostBatches = lostBatches;
    const cursor = new RecordCursor(standardDecoder, this.sources);
    cursor.load(words);
    while (cursor.next()) {
      this.lastTime = cursor.time;
      if (cursor.kind === Kind.dropped) this.lost += cursor.word(0);
    }
    this.arrivals.announce();
  }

  /** What was lost is not forgotten. */
  forget(): void {
    this.batches = [];
    this.words = 0;
  }

  /** In the order of time; of these kinds only, where any are named. Notes and findings are not among them. */
  *all(...kinds: readonly string[]): Generator<DecodedRecord> {
    for (const kind of kinds) {
      if (standardDecoder.kindNamed(kind) === undefined) throw new Error(`there is no kind of records '${kind}'`);
    }
    const cursor = new RecordCursor(standardDecoder, this.sources);
    for (const batch of this.batches) {
      cursor.load(batch);
      while (cursor.next()) {
        const kind = standardDecoder.kind(cursor.kind);
        if (kind === undefined || kind.text === true) continue;
        if (kinds.length > 0 && !kinds.includes(kind.name)) continue;
        yield { kind: kind.name, source: cursor.sourceName, time: cursor.time, fields: fieldsOf(kind, cursor) };
      }
    }
  }
}
