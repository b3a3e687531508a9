/** The records of a machine, kept as they come, for tests to look through. */
import { Kind } from '../trace/event-kinds.ts';
import { RecordCursor, SourceNames } from '../trace/record-cursor.ts';
import { type Fields, fieldsOf, standardDecoder } from '../trace/record-fields.ts';

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
  private batches: Int32Array[] = [];
  private words = 0;
  private readonly sources = new SourceNames();
  private readonly waiting = new Set<() => void>();

  /** Takes a copy. */
  take(words: Int32Array): void {
    this.batches.push(words.slice());
    this.words += words.length;
    while (this.words > WORDS_KEPT && this.batches.length > 1) this.words -= this.batches.shift()!.length;
    const cursor = new RecordCursor(standardDecoder, this.sources);
    cursor.load(words);
    while (cursor.next()) {
      if (cursor.kind === Kind.dropped) this.lost += cursor.word(0);
    }
    for (const wake of [...this.waiting]) wake();
  }

  forget(): void {
    this.batches = [];
    this.words = 0;
  }

  /** In the order of time; of these kinds only, where any are named. */
  *all(...kinds: readonly string[]): Generator<DecodedRecord> {
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

  /** The first record since the start, or since `forget`, that the predicate takes; waits for it. */
  async first(takes: (record: DecodedRecord) => boolean, timeoutMs: number): Promise<DecodedRecord | undefined> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      for (const record of this.all()) if (takes(record)) return record;
      const left = end - performance.now();
      if (left <= 0) return undefined;
      await this.next(left);
    }
  }

  private next(timeoutMs: number): Promise<void> {
    return new Promise(resolve => {
      const done = () => {
        clearTimeout(timer);
        this.waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.waiting.add(done);
    });
  }
}
