/** Writes a recording while records come. */
import { type FileHandle, open } from 'node:fs/promises';
import { Kind } from '../event-kinds.ts';
import {
  FIRST_PAYLOAD_WORD,
  KIND_MASK,
  PADDING_KIND,
  recordHeader,
  SHORT_SLOTS,
  SLOT_BYTES,
  SLOT_WORDS,
  SLOT_WORDS_SHIFT,
  SLOTS_MASK,
  SLOTS_SHIFT,
  TIME_WORD,
} from '../record-layout.ts';
import { encodeBlockHead } from './block.ts';
import { BlockBuilder, KindAccounts } from './block-builder.ts';
import {
  BLOCK_DATA_BYTES,
  type BlockEntry,
  MAX_NEW_SOURCES,
  MAX_SOURCE_CHARACTERS,
  type RecordingHeader,
} from './format.ts';
import { encodeHeader } from './header.ts';
import { encodeIndex, encodeTrailer } from './index-table.ts';
import { asSourceName, textValue } from './text-record.ts';

/** Bytes under way to the disk at once; records that come beyond that are dropped and counted. */
export const MAX_PENDING_BYTES = 64 * 1024 * 1024;
/** Records are in the file after so long at the latest, for those who read it meanwhile and for when this process is killed. */
const FLUSH_MILLISECONDS = 1000;
const ALL_CLASSES = -1;
/** The largest number that a `dropped` record can hold. */
const MAX_DROPPED_AT_ONCE = 0x7fffffff;

export interface WriterOptions {
  /** Data of one block, a multiple of 32, at least the longest record (8160). */
  readonly blockBytes?: number;
  readonly maxPendingBytes?: number;
  /** `EventClass` bits: records of other classes are left out, names of sources and gaps never. Default: all. */
  readonly classes?: number;
  /** Told once, as soon as something cannot be written; nothing more is written then. */
  readonly onError?: (error: Error) => void;
}

export interface RecordingSummary {
  /** In the file; those that say how many were dropped are counted too. */
  readonly records: number;
  /** Lost: on the way here, and because the disk was too slow. */
  readonly dropped: number;
  readonly bytes: number;
  /** Records that were not understood; what came with them in the same batch behind them is lost. */
  readonly malformed: number;
}

export class RecordingWriter {
  private block: BlockBuilder;
  private readonly spare: BlockBuilder[] = [];
  private readonly accounts: KindAccounts;
  private readonly entries: BlockEntry[] = [];
  private readonly sources = new Map<number, string>();
  private newSources = new Map<number, string>();
  private readonly blockBytes: number;
  private readonly maxPendingBytes: number;
  private readonly classes: number;
  private readonly onError: ((error: Error) => void) | undefined;
  private position = 0;
  private pending = 0;
  private written: Promise<void> = Promise.resolve();
  private failure: Error | undefined;
  /** Dropped since the last record that was taken. */
  private gap = 0;
  private lastTime = 0;
  private closed = false;
  private readonly flushing: NodeJS.Timeout;
  private recordCount = 0;
  /** By the records that came, and by this side's account. */
  private recordedLost = 0;
  private ownLost = 0;
  private malformedCount = 0;
  /** A `dropped` record to be. */
  private readonly gapRecord = new Int32Array(SLOT_WORDS);
  private readonly gapTime = new Float64Array(this.gapRecord.buffer);

  /** Makes the file, or empties it. Rejects where that is not possible. */
  static async create(path: string, header: RecordingHeader, options: WriterOptions = {}): Promise<RecordingWriter> {
    const bytes = encodeHeader(header);
    const file = await open(path, 'w');
    const writer = new RecordingWriter(file, header, options);
    writer.write([bytes]);
    return writer;
  }

  private constructor(
    private readonly file: FileHandle,
    header: RecordingHeader,
    {
      blockBytes = BLOCK_DATA_BYTES,
      maxPendingBytes = MAX_PENDING_BYTES,
      classes = ALL_CLASSES,
      onError,
    }: WriterOptions,
  ) {
    this.onError = onError;
    this.accounts = new KindAccounts(header.kinds);
    this.blockBytes = blockBytes;
    this.maxPendingBytes = maxPendingBytes;
    this.classes = classes;
    this.block = new BlockBuilder(blockBytes, this.accounts);
    // It keeps no process from ending.
    this.flushing = setInterval(() => this.flush(), FLUSH_MILLISECONDS).unref();
  }

  get summary(): RecordingSummary {
    return {
      records: this.recordCount,
      dropped: this.recordedLost + this.ownLost,
      bytes: this.position + this.block.slots * SLOT_BYTES,
      malformed: this.malformedCount,
    };
  }

  /** Why nothing is written any more. */
  get error(): Error | undefined {
    return this.failure;
  }

  /**
   * Takes a batch of slots as they come from the ring: whole records. The words are copied. Records are dropped, and counted, while
   * the disk is too far behind.
   */
  append(words: Int32Array, slots = words.length / SLOT_WORDS): void {
    if (this.closed) throw new Error('the recording is closed');
    const end = Math.floor(Math.min(slots, words.length / SLOT_WORDS));
    for (let slot = 0; slot < end; ) {
      const head = words[slot << SLOT_WORDS_SHIFT]!;
      const count = (head >>> SLOTS_SHIFT) & SLOTS_MASK;
      if (count === 0 || slot + count > end) {
        this.malformedCount++;
        return;
      }
      if ((head & KIND_MASK) !== PADDING_KIND) this.take(words, slot, count, head);
      slot += count;
    }
  }

  /** So many records, at least, were lost before they came here, and no `dropped` record will say so. */
  lost(records: number): void {
    this.gap += records;
    this.ownLost += records;
  }

  /** Writes what there is, so that a reader of the file sees it; blocks become shorter by that. */
  flush(): void {
    if (this.block.slots > 0) this.finishBlock();
  }

  /** Resolves when everything so far is in the file. Rejects where writing failed. */
  async settled(): Promise<void> {
    await this.written;
    if (this.failure) throw this.failure;
  }

  /** Writes the rest, index and trailer. Rejects where any of the writing failed; the file is closed in any case. */
  async close(): Promise<RecordingSummary> {
    if (this.closed) throw new Error('the recording is closed');
    this.closed = true;
    clearInterval(this.flushing);
    this.tellGap();
    this.flush();
    const summary = this.summary;
    const index = encodeIndex({
      blocks: this.entries,
      records: summary.records,
      dropped: summary.dropped,
      sources: this.sources,
    });
    if (index) this.write([index, encodeTrailer(this.position)]);
    try {
      await this.settled();
    } finally {
      await this.file.close();
    }
    return { ...summary, bytes: this.position };
  }

  private take(words: Int32Array, slot: number, count: number, head: number): void {
    const kind = head & KIND_MASK;
    if (kind === Kind.source) this.learn(words, slot, count);
    if (kind === Kind.dropped) this.recordedLost += words[(slot << SLOT_WORDS_SHIFT) + FIRST_PAYLOAD_WORD]! >>> 0;
    else if (kind !== Kind.source && (this.accounts.classes[kind]! & this.classes) === 0) return;
    if (this.pending >= this.maxPendingBytes || this.failure) {
      this.gap++;
      this.ownLost++;
      return;
    }
    if (this.gap > 0) this.tellGap();
    this.store(words, slot, count);
    this.lastTime = this.block.lastTime;
  }

  private store(words: Int32Array, slot: number, count: number): void {
    if (this.block.room < count || this.newSources.size >= MAX_NEW_SOURCES) this.finishBlock();
    this.block.add(words, slot, count);
    this.recordCount++;
  }

  /** A `dropped` record in the place of those that were lost. */
  private tellGap(): void {
    if (this.gap === 0) return;
    this.gapRecord.fill(0);
    this.gapRecord[0] = recordHeader(Kind.dropped, SHORT_SLOTS, 0);
    this.gapRecord[FIRST_PAYLOAD_WORD] = Math.min(this.gap, MAX_DROPPED_AT_ONCE);
    this.gapTime[TIME_WORD >> 1] = this.lastTime;
    this.gap = 0;
    this.store(this.gapRecord, 0, 1);
  }

  private learn(words: Int32Array, slot: number, count: number): void {
    const source = asSourceName(textValue(words, slot, count));
    if (source === undefined) {
      this.malformedCount++;
      return;
    }
    const name = source.name.slice(0, MAX_SOURCE_CHARACTERS);
    if (this.sources.get(source.number) === name) return;
    this.sources.set(source.number, name);
    this.newSources.set(source.number, name);
  }

  private finishBlock(): void {
    const { block } = this;
    const data = block.data();
    const head = block.head(this.entries.length, this.newSources);
    const bytes = encodeBlockHead(head, data.byteLength);
    this.entries.push({
      offset: this.position,
      bytes: bytes.length + data.byteLength,
      first: head.first,
      last: head.last,
      records: head.records,
      classes: head.classes,
      domains: block.domains,
    });
    this.newSources = new Map();
    this.block = this.spare.pop() ?? new BlockBuilder(this.blockBytes, this.accounts);
    this.write([bytes, new Uint8Array(data.buffer, 0, data.byteLength)], () => {
      block.clear();
      this.spare.push(block);
    });
  }

  /** Queues bytes for the end of the file. */
  private write(parts: Uint8Array[], done?: () => void): void {
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const at = this.position;
    this.position += bytes;
    this.pending += bytes;
    this.written = this.written.then(async () => {
      try {
        if (!this.failure) await this.writeAll(Buffer.concat(parts), at);
      } catch (error) {
        this.failure = error as Error;
        this.onError?.(this.failure);
      }
      this.pending -= bytes;
      done?.();
    });
  }

  private async writeAll(bytes: Uint8Array, at: number): Promise<void> {
    for (let written = 0; written < bytes.length; ) {
      const { bytesWritten } = await this.file.write(bytes, written, bytes.length - written, at + written);
      written += bytesWritten;
    }
  }
}
