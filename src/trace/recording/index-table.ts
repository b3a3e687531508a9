/** The index at the end of a recording, and the trailer that says where it begins. */
import { numberOf, sourcesOf } from './block.ts';
import {
  type BlockEntry,
  INDEX_COLUMNS,
  MAX_INDEX_BYTES,
  RecordingError,
  TRAILER_BYTES,
  TRAILER_MARK,
  TRAILER_PREFIX,
} from './format.ts';
import { decode, encode, MessagePackError } from './messagepack.ts';

export interface RecordingIndex {
  readonly blocks: readonly BlockEntry[];
  readonly records: number;
  /** Records that were lost on the way into the file. */
  readonly dropped: number;
  readonly sources: ReadonlyMap<number, string>;
}

/** undefined: longer than `MAX_INDEX_BYTES`. */
export function encodeIndex({ blocks, records, dropped, sources }: RecordingIndex): Buffer | undefined {
  const rows = blocks.map(block => INDEX_COLUMNS.map(column => block[column] ?? null));
  const bytes = encode({ index: INDEX_COLUMNS, blocks: rows, records, dropped, sources });
  return bytes.length > MAX_INDEX_BYTES ? undefined : bytes;
}

/** Throws a `RecordingError`. `end`: where the blocks end at the latest. */
export function decodeIndex(bytes: Uint8Array, end: number): RecordingIndex {
  let value: unknown;
  try {
    value = decode(bytes);
  } catch (error) {
    if (error instanceof MessagePackError) throw new RecordingError(`the index cannot be read: ${error.message}`);
    throw error;
  }
  if (typeof value !== 'object' || value === null) throw new RecordingError('the index is not a map');
  const index = value as Record<string, unknown>;
  if (!Array.isArray(index.blocks)) throw new RecordingError("the index has no 'blocks'");
  let after = 0;
  const blocks = index.blocks.map(row => {
    const entry = checkRow(row);
    if (entry.offset < after || entry.bytes <= 0 || entry.offset + entry.bytes > end) {
      throw new RecordingError('the index names blocks at places where none can be');
    }
    after = entry.offset + entry.bytes;
    return entry;
  });
  return {
    blocks,
    records: numberOf(index.records, "the index's 'records'"),
    dropped: numberOf(index.dropped, "the index's 'dropped'"),
    sources: sourcesOf(index.sources),
  };
}

function checkRow(row: unknown): BlockEntry {
  if (!Array.isArray(row) || row.length < INDEX_COLUMNS.length) throw new RecordingError('the index has a short row');
  const [offset, bytes, first, last, records, classes] = row
    .slice(0, INDEX_COLUMNS.length - 1)
    .map((value, column) => numberOf(value, `the index's '${INDEX_COLUMNS[column]}'`)) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const list: unknown = row[INDEX_COLUMNS.length - 1];
  const isList = Array.isArray(list) && list.every(domain => typeof domain === 'number');
  return { offset, bytes, first, last, records, classes, domains: isList ? list : undefined };
}

export function encodeTrailer(indexAt: number): Buffer {
  const bytes = Buffer.alloc(TRAILER_BYTES);
  bytes.set(TRAILER_PREFIX, 0);
  bytes.set(TRAILER_MARK, TRAILER_PREFIX.length);
  bytes.writeBigUInt64LE(BigInt(indexAt), TRAILER_PREFIX.length + TRAILER_MARK.length);
  return bytes;
}

/** Where the index begins; undefined: these bytes are no trailer. */
export function decodeTrailer(bytes: Uint8Array): number | undefined {
  if (bytes.length !== TRAILER_BYTES) return undefined;
  const expected = [...TRAILER_PREFIX, ...TRAILER_MARK];
  if (expected.some((byte, at) => bytes[at] !== byte)) return undefined;
  const indexAt = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).readBigUInt64LE(expected.length);
  return indexAt > BigInt(Number.MAX_SAFE_INTEGER) ? undefined : Number(indexAt);
}
