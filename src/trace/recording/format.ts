/**
 * A recording is a stream of MessagePack values, one after the other: a header, blocks of records, an index and a trailer. A file
 * whose writer was killed ends with its last whole block, and is read by going from block to block. `docs/recordings.md` tells it
 * for those who read files with programs of their own.
 *
 * 1. The header, a map: `RecordingHeader` with `format` and `version`.
 * 2. Blocks, each a map whose keys are `BLOCK_KEYS` in this order; `data` is binary: slots of 32 bytes as in record-layout.ts.
 * 3. The index, a map: `blocks` (a list of `INDEX_COLUMNS` for each block), `records`, `dropped`, `sources`.
 * 4. The trailer, 16 bytes of binary: `TRAILER_MARK`, then where the index begins, 64 bits, little-endian.
 */
import { EVENT_KINDS, EventClass, type EventKind } from '../event-kinds.ts';

export const FORMAT_NAME = 'viommu-recording';
/** Higher for what older readers would misread; what they can leave aside gets a new key. */
export const FORMAT_VERSION = 1;

/** A block's keys in the order in which they are written. `block` comes first: it is what a damaged file is searched for. */
export const BLOCK_KEYS = ['block', 'first', 'last', 'records', 'classes', 'sources', 'checksum', 'data'] as const;
/** What every block begins with: a map of eight entries, and the first key. */
export const BLOCK_MARK = Uint8Array.of(0x80 | BLOCK_KEYS.length, 0xa5, ...Buffer.from('block'));
/** One block's row in the index; `domains` is null where there are too many. */
export const INDEX_COLUMNS = ['offset', 'bytes', 'first', 'last', 'records', 'classes', 'domains'] as const;

/** A binary value of 16 bytes in MessagePack. */
export const TRAILER_PREFIX = Uint8Array.of(0xc4, 0x10);
export const TRAILER_MARK = Uint8Array.of(...Buffer.from('viommu.1'));
export const TRAILER_BYTES = TRAILER_PREFIX.length + TRAILER_MARK.length + 8;

/** What the writer fills a block with. */
export const BLOCK_DATA_BYTES = 1024 * 1024;
/** What a reader takes: a damaged length must not cost memory. */
export const MAX_BLOCK_DATA_BYTES = 16 * 1024 * 1024;
/** Of the header, and of what comes before a block's data. */
export const MAX_HEAD_BYTES = 4 * 1024 * 1024;
/** A file with a longer index is written without it. */
export const MAX_INDEX_BYTES = 64 * 1024 * 1024;
/** A block is ended early when it brings more new names than this. */
export const MAX_NEW_SOURCES = 4096;
/** A source's name is cut here. */
export const MAX_SOURCE_CHARACTERS = 255;
/** A block with more domains is never left out by a filter for domains. */
export const MAX_BLOCK_DOMAINS = 32;
/** Damaged places that are told one by one; the others are counted. */
export const MAX_DAMAGE = 100;

export interface RecordingHeader {
  /** When the recording began, as an ISO date. The records' times are of a monotonic clock of their own. */
  readonly started: string;
  /** The machine's description as it was given to the server. */
  readonly machine: unknown;
  readonly kinds: readonly EventKind[];
  /** Bits of the class masks. */
  readonly classes: Readonly<Record<string, number>>;
  /** Facts about where it was recorded, for people. */
  readonly host: Readonly<Record<string, string | number | boolean>>;
}

export interface BlockEntry {
  /** From the start of the file. */
  readonly offset: number;
  /** Of the whole block. */
  readonly bytes: number;
  /** Times of the earliest and the latest record, nanoseconds. */
  readonly first: number;
  readonly last: number;
  readonly records: number;
  /** `EventClass` bits. */
  readonly classes: number;
  /** The domains that its records name, -1 (all) among them; undefined: not told. */
  readonly domains: readonly number[] | undefined;
}

/** A place that could not be read. */
export interface Damage {
  readonly offset: number;
  readonly message: string;
}

/** The file cannot be read, or not written; the message says which and why. */
export class RecordingError extends Error {
  override readonly name = 'RecordingError';
}

/** A header for a recording that begins now. */
export function newHeader(machine: unknown, host: RecordingHeader['host'] = {}, now = new Date()): RecordingHeader {
  return { started: now.toISOString(), machine, kinds: EVENT_KINDS, classes: EventClass, host };
}

/**
 * The checksum of a block's data: FNV-1a over its 32-bit words (not bytes), little-endian.
 * Source: Fowler, Noll, Vo: 32-bit offset basis 2166136261, prime 16777619.
 */
export function checksum(words: Int32Array): number {
  let hash = 0x811c9dc5 | 0;
  for (let index = 0; index < words.length; index++) hash = Math.imul(hash ^ words[index]!, 0x01000193);
  return hash >>> 0;
}
