/** One block of a recording as bytes. */
import { MAX_SOURCES, SLOT_BYTES } from '../record-layout.ts';
import { BLOCK_KEYS, MAX_BLOCK_DATA_BYTES, MAX_SOURCE_CHARACTERS, RecordingError } from './format.ts';
import {
  binaryAt,
  decode,
  encode,
  endOfValue,
  MessagePackCut,
  MessagePackError,
  type MessagePackView,
  mapAt,
} from './messagepack.ts';

const DATA_KEY = 'data';
const BINARY_32 = 0xc6;
/** Room for what later versions add. */
const MAX_ENTRIES = 64;

/** What stands in a block before its data. */
export interface BlockHead {
  /** Its number in the file, from 0. */
  readonly block: number;
  /** Nanoseconds. */
  readonly first: number;
  readonly last: number;
  readonly records: number;
  /** `EventClass` bits. */
  readonly classes: number;
  /** Names that records use from this block on, by number. */
  readonly sources: ReadonlyMap<number, string>;
  /** Of the data, see `checksum`. */
  readonly checksum: number;
}

/** Where a block's data is, from the start of the block. */
export interface PlacedHead extends BlockHead {
  readonly dataAt: number;
  readonly dataBytes: number;
}

/** The bytes that go before so many bytes of data. */
export function encodeBlockHead(head: BlockHead, dataBytes: number): Buffer {
  const parts: Uint8Array[] = [Uint8Array.of(0x80 | BLOCK_KEYS.length)];
  for (const key of BLOCK_KEYS) {
    parts.push(encode(key));
    if (key !== DATA_KEY) parts.push(encode(head[key]));
  }
  const start = Buffer.alloc(5);
  start.writeUInt8(BINARY_32, 0);
  start.writeUInt32BE(dataBytes, 1);
  return Buffer.concat([...parts, start]);
}

/**
 * Reads what comes before the data. `more`: the bytes end within it, and the file may go on. Throws a `RecordingError` where they
 * are no block.
 */
export function decodeBlockHead(source: MessagePackView): PlacedHead | 'more' {
  try {
    return decodeHead(source);
  } catch (error) {
    if (error instanceof MessagePackCut) return 'more';
    if (error instanceof MessagePackError) throw new RecordingError(`not a block: ${error.message}`);
    throw error;
  }
}

function decodeHead(source: MessagePackView): PlacedHead {
  const { entries, start } = mapAt(source, 0);
  if (entries > MAX_ENTRIES) throw new RecordingError(`not a block: it has ${entries} entries`);
  const head = new Map<unknown, unknown>();
  let at = start;
  for (let entry = 0; entry < entries; entry++) {
    const keyEnd = endOfValue(source, at);
    const key = decode(source.bytes.subarray(at, keyEnd));
    if (key === DATA_KEY) {
      if (entry !== entries - 1) throw new RecordingError("not a block: 'data' is not its last entry");
      return { ...checkHead(head), ...placeData(source, keyEnd) };
    }
    at = endOfValue(source, keyEnd);
    head.set(key, decode(source.bytes.subarray(keyEnd, at)));
  }
  throw new RecordingError("not a block: it has no 'data'");
}

function placeData(source: MessagePackView, at: number): Pick<PlacedHead, 'dataAt' | 'dataBytes'> {
  const { start, bytes } = binaryAt(source, at);
  if (bytes > MAX_BLOCK_DATA_BYTES) {
    throw new RecordingError(`its data is said to be ${bytes} bytes, more than ${MAX_BLOCK_DATA_BYTES}`);
  }
  if (bytes % SLOT_BYTES !== 0) throw new RecordingError(`its data is not made of slots of ${SLOT_BYTES} bytes`);
  return { dataAt: start, dataBytes: bytes };
}

function checkHead(head: ReadonlyMap<unknown, unknown>): BlockHead {
  const number = (name: string): number => numberOf(head.get(name), `its '${name}'`);
  return {
    block: number('block'),
    first: number('first'),
    last: number('last'),
    records: number('records'),
    classes: number('classes'),
    sources: sourcesOf(head.get('sources')),
    checksum: number('checksum'),
  };
}

/** A finite number; other writers' 64-bit integers come as bigint. */
export function numberOf(value: unknown, what: string): number {
  const number = typeof value === 'bigint' ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isFinite(number)) throw new RecordingError(`${what} is not a number`);
  return number;
}

/** Names by number, as they come from MessagePack. Throws a `RecordingError`. */
export function sourcesOf(value: unknown): Map<number, string> {
  if (typeof value !== 'object' || value === null) throw new RecordingError("its 'sources' is not a map");
  const sources = new Map<number, string>();
  for (const [key, name] of Object.entries(value)) {
    const number = Number(key);
    if (!Number.isInteger(number) || number < 0 || number > MAX_SOURCES || typeof name !== 'string') {
      throw new RecordingError(`its 'sources' has '${key.slice(0, 20)}', which is not a number with a name`);
    }
    sources.set(number, name.slice(0, MAX_SOURCE_CHARACTERS));
  }
  return sources;
}
