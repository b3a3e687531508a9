/** Puts records together as a machine's tracer does, into one batch. */

import type { EventKindName } from '../../../src/trace/event-kinds.ts';
import { Kind } from '../../../src/trace/event-kinds.ts';
import { payloadWords, recordHeader, SLOT_WORDS, textSlots } from '../../../src/trace/record-layout.ts';
import { encodeText } from '../../../src/trace/text-value.ts';

export class RecordWriter {
  private words = new Int32Array(8 * 1024);
  private times = new Float64Array(this.words.buffer);
  private used = 0;

  add(kind: EventKindName, source: number, time: number, ...payload: readonly number[]): void {
    const slots = payload.length > payloadWords(1) ? 2 : 1;
    const at = this.begin(kind, source, time, slots);
    this.words[at + 1] = payload[0] ?? 0;
    for (let n = 1; n < payload.length; n++) this.words[at + 3 + n] = payload[n]!;
  }

  text(kind: EventKindName, source: number, time: number, value: unknown): void {
    const bytes = encodeText(value);
    const at = this.begin(kind, source, time, textSlots(bytes.length));
    this.words[at + 1] = bytes.length;
    new Uint8Array(this.words.buffer).set(bytes, at * 4 + 16);
  }

  /** What was added since the last call. */
  take(): Int32Array {
    const batch = this.words.slice(0, this.used);
    this.words.fill(0, 0, this.used);
    this.used = 0;
    return batch;
  }

  private begin(kind: EventKindName, source: number, time: number, slots: number): number {
    const at = this.used;
    this.used += slots * SLOT_WORDS;
    if (this.used > this.words.length) {
      const larger = new Int32Array(Math.max(this.used, this.words.length * 2));
      larger.set(this.words);
      this.words = larger;
      this.times = new Float64Array(larger.buffer);
    }
    this.words[at] = recordHeader(Kind[kind], slots, source);
    this.times[(at >> 1) + 1] = time;
    return at;
  }
}
