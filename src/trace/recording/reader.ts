/** Reads a recording, block by block. Files are not trusted: what is damaged is told, and the rest is read. */

import { RecordCursor, SourceNames } from '../record-cursor.ts';
import { Decoder } from '../record-fields.ts';
import { SLOT_BYTES } from '../record-layout.ts';
import { FileWindow } from './file-window.ts';
import {
  type BlockEntry,
  checksum,
  type Damage,
  MAX_DAMAGE,
  MAX_HEAD_BYTES,
  MAX_INDEX_BYTES,
  RecordingError,
  type RecordingHeader,
  TRAILER_BYTES,
} from './format.ts';
import { checkHeader } from './header.ts';
import { decodeIndex, decodeTrailer, type RecordingIndex } from './index-table.ts';
import { decode, endOfValue, MessagePackError, viewOf } from './messagepack.ts';
import { readBlockHead, type Scanned, scanBlocks, scanMore } from './scan.ts';

/** Which blocks are wanted; those that hold nothing of it are not read. */
export interface BlockFilter {
  /** `EventClass` bits. */
  readonly classes?: number;
  /** Nanoseconds, inclusive. */
  readonly since?: number;
  readonly until?: number;
  readonly domain?: number;
}

export interface RecordBlock {
  readonly entry: BlockEntry;
  /** Whole slots; they are those of the next block after the next step. */
  readonly words: Int32Array;
  readonly slots: number;
}

export class RecordingReader {
  readonly header: RecordingHeader;
  readonly blocks: readonly BlockEntry[];
  /** Names by number. */
  readonly sources: ReadonlyMap<number, string>;
  /** false: the file was not ended properly, or its end is damaged. */
  readonly complete: boolean;
  /** In all blocks. */
  readonly records: number;
  /** Lost on the way into the file; undefined: the file does not say. */
  readonly dropped: number | undefined;
  /** Size of the file. */
  readonly bytes: number;
  private readonly found: Damage[] = [];
  private readonly file: FileWindow;
  private readonly scanned: Scanned | undefined;
  private buffer = new ArrayBuffer(0);

  /** Throws a `RecordingError` where the file is no recording. */
  static open(path: string): RecordingReader {
    const file = new FileWindow(path);
    try {
      return new RecordingReader(file);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  private constructor(file: FileWindow) {
    this.file = file;
    this.bytes = file.size;
    const { header, end } = readHeader(file);
    this.header = header;
    const index = this.readIndex(end);
    this.complete = index !== undefined;
    if (index) {
      ({ blocks: this.blocks, sources: this.sources, dropped: this.dropped, records: this.records } = index);
      return;
    }
    const scanned = scanBlocks(file, end);
    const { blocks, sources, damage } = scanned;
    this.found.push(...damage);
    this.scanned = scanned;
    this.blocks = blocks;
    this.sources = sources;
    this.dropped = undefined;
    this.records = blocks.reduce((sum, block) => sum + block.records, 0);
  }

  /** What could not be read, as far as it was come across. */
  get damage(): readonly Damage[] {
    return this.found;
  }

  /** The blocks that may hold what is wanted, in the order of the file. */
  *read(filter: BlockFilter = {}): Generator<RecordBlock, void, void> {
    for (const entry of this.blocks) {
      if (!mayHold(entry, filter)) continue;
      const words = this.load(entry);
      if (words) yield { entry, words, slots: words.byteLength / SLOT_BYTES };
    }
  }

  /** Of a file that is not complete: the blocks that were written since. Returns true where it is complete now. */
  *readMore(): Generator<RecordBlock, boolean, void> {
    if (!this.scanned) return true;
    const known = this.blocks.length;
    const isComplete = scanMore(this.file, this.scanned);
    for (const entry of this.blocks.slice(known)) {
      const words = this.load(entry);
      if (words) yield { entry, words, slots: words.byteLength / SLOT_BYTES };
    }
    return isComplete;
  }

  /** A cursor for the blocks: with the kinds and the names of this file. */
  cursor(): RecordCursor {
    const names = new SourceNames();
    for (const [number, name] of this.sources) names.learn(number, name);
    return new RecordCursor(new Decoder(this.header.kinds), names);
  }

  close(): void {
    this.file.close();
  }

  private load(entry: BlockEntry): Int32Array | undefined {
    try {
      const head = readBlockHead(this.file, entry.offset);
      if (head.dataAt + head.dataBytes !== entry.bytes)
        throw new RecordingError('the block has another length than the index says');
      if (this.buffer.byteLength < head.dataBytes) this.buffer = new ArrayBuffer(head.dataBytes);
      const count = this.file.read(new Uint8Array(this.buffer, 0, head.dataBytes), entry.offset + head.dataAt);
      if (count < head.dataBytes) throw new RecordingError('the block is cut off');
      const words = new Int32Array(this.buffer, 0, head.dataBytes >>> 2);
      if (checksum(words) !== head.checksum)
        throw new RecordingError('the checksum of the block is wrong: its data is damaged');
      return words;
    } catch (error) {
      if (!(error instanceof RecordingError)) throw error;
      this.tell(entry.offset, error.message);
      return undefined;
    }
  }

  private readIndex(start: number): RecordingIndex | undefined {
    const trailerAt = this.bytes - TRAILER_BYTES;
    const indexAt = trailerAt < start ? undefined : decodeTrailer(this.file.bytes(trailerAt, TRAILER_BYTES));
    if (indexAt === undefined) return undefined;
    try {
      const length = trailerAt - indexAt;
      if (indexAt < start || length <= 0 || length > MAX_INDEX_BYTES)
        throw new RecordingError('the trailer names a place where no index can be');
      return decodeIndex(this.file.bytes(indexAt, length), indexAt);
    } catch (error) {
      if (!(error instanceof RecordingError)) throw error;
      this.tell(trailerAt, error.message);
      return undefined;
    }
  }

  private tell(offset: number, message: string): void {
    const isKnown = this.found.some(damage => damage.offset === offset && damage.message === message);
    if (!isKnown && this.found.length < MAX_DAMAGE) this.found.push({ offset, message });
  }
}

function mayHold(entry: BlockEntry, { classes, since, until, domain }: BlockFilter): boolean {
  if (classes !== undefined && (entry.classes & classes) === 0) return false;
  if (since !== undefined && entry.last < since) return false;
  if (until !== undefined && entry.first > until) return false;
  const { domains } = entry;
  return domain === undefined || domains === undefined || domains.includes(domain) || domains.includes(ALL_DOMAINS);
}

/** What an invalidation of all domains names. */
const ALL_DOMAINS = -1;

function readHeader(file: FileWindow): { header: RecordingHeader; end: number } {
  const bytes = file.bytes(0, MAX_HEAD_BYTES);
  try {
    const end = endOfValue(viewOf(bytes), 0);
    return { header: checkHeader(decode(bytes.subarray(0, end))), end };
  } catch (error) {
    if (error instanceof MessagePackError)
      throw new RecordingError(`${file.path} is not a recording of viommu: ${error.message}`);
    if (error instanceof RecordingError) throw new RecordingError(`${file.path}: ${error.message}`);
    throw error;
  }
}
