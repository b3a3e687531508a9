/**
 * MessagePack values of files that are not trusted: where one ends is found out, and that it is of plain types, before it is
 * decoded. https://github.com/msgpack/msgpack/blob/master/spec.md
 */
import { Packr } from 'msgpackr';

const MAX_NESTING = 32;

/** Bytes behind the first byte, by first byte from 0xc0 to 0xd3, for values of a fixed size; -1: not one of them. */
const FIXED_SIZES: readonly number[] = [0, -1, 0, 0, -1, -1, -1, -1, -1, -1, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8];

const packr = new Packr({ useRecords: false, mapsAsObjects: true, int64AsType: 'bigint', copyBuffers: true });

/** The bytes are not MessagePack, or of a type that recordings do not have. */
export class MessagePackError extends Error {
  override readonly name = 'MessagePackError';
}

/** The value goes on behind the bytes that are there. */
export class MessagePackCut extends MessagePackError {}

/** Where things are among the bytes. */
export interface MessagePackView {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

export function viewOf(bytes: Uint8Array): MessagePackView {
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) };
}

/** Where the value that begins at `at` ends. Throws a `MessagePackError`; decodes nothing. */
export function endOfValue(source: MessagePackView, at: number): number {
  /** How many values are still to come, at each level. */
  const left = [1];
  let position = at;
  while (left.length > 0) {
    if (left[left.length - 1] === 0) {
      left.pop();
      continue;
    }
    left[left.length - 1]!--;
    const { start, children } = token(source, position);
    position = start;
    if (children === 0) continue;
    // Each child takes a byte at least.
    if (children > source.bytes.length - position) throw cut();
    if (left.length > MAX_NESTING) throw new MessagePackError(`nested deeper than ${MAX_NESTING}`);
    left.push(children);
  }
  return position;
}

/** How many entries the map that begins at `at` has, and where the first one begins. */
export function mapAt(source: MessagePackView, at: number): { readonly entries: number; readonly start: number } {
  const first = source.bytes[at];
  if (first === undefined) throw cut();
  const isMap = (first >= 0x80 && first <= 0x8f) || first === 0xde || first === 0xdf;
  if (!isMap) throw new MessagePackError('not a map');
  const { start, children } = token(source, at);
  return { entries: children / 2, start };
}

/** Where the content of the binary value that begins at `at` is. */
export function binaryAt(source: MessagePackView, at: number): { readonly start: number; readonly bytes: number } {
  switch (source.bytes[at]) {
    case undefined:
      throw cut();
    case 0xc4:
      return { start: at + 2, bytes: lengthAt(source, at + 1, 1) };
    case 0xc5:
      return { start: at + 3, bytes: lengthAt(source, at + 1, 2) };
    case 0xc6:
      return { start: at + 5, bytes: lengthAt(source, at + 1, 4) };
    default:
      throw new MessagePackError('not binary');
  }
}

/** Decodes one value that takes up all the bytes. Throws a `MessagePackError`. */
export function decode(bytes: Uint8Array): unknown {
  const end = endOfValue(viewOf(bytes), 0);
  if (end !== bytes.length) throw new MessagePackError('something is behind the value');
  try {
    return packr.unpack(bytes);
  } catch (error) {
    throw new MessagePackError(error instanceof Error ? error.message : String(error));
  }
}

export function encode(value: unknown): Buffer {
  return packr.pack(value);
}

function cut(): MessagePackCut {
  return new MessagePackCut('it is cut off');
}

/** The beginning of a value: where what follows it begins (behind its content, where it has no values inside). */
function token(source: MessagePackView, at: number): { start: number; children: number } {
  const first = source.bytes[at];
  if (first === undefined) throw cut();
  if (first <= 0x7f || first >= 0xe0) return leaf(source, at + 1);
  if (first <= 0x8f) return { start: at + 1, children: (first & 0x0f) * 2 };
  if (first <= 0x9f) return { start: at + 1, children: first & 0x0f };
  if (first <= 0xbf) return leaf(source, at + 1 + (first & 0x1f));
  const size = FIXED_SIZES[first - 0xc0] ?? -1;
  if (size >= 0) return leaf(source, at + 1 + size);
  switch (first) {
    case 0xc4:
    case 0xd9:
      return leaf(source, at + 2 + lengthAt(source, at + 1, 1));
    case 0xc5:
    case 0xda:
      return leaf(source, at + 3 + lengthAt(source, at + 1, 2));
    case 0xc6:
    case 0xdb:
      return leaf(source, at + 5 + lengthAt(source, at + 1, 4));
    case 0xdc:
      return { start: at + 3, children: lengthAt(source, at + 1, 2) };
    case 0xdd:
      return { start: at + 5, children: lengthAt(source, at + 1, 4) };
    case 0xde:
      return { start: at + 3, children: lengthAt(source, at + 1, 2) * 2 };
    case 0xdf:
      return { start: at + 5, children: lengthAt(source, at + 1, 4) * 2 };
    default:
      throw new MessagePackError(`a value of the type 0x${first.toString(16)}, which recordings do not have`);
  }
}

function leaf(source: MessagePackView, end: number): { start: number; children: number } {
  if (end > source.bytes.length) throw cut();
  return { start: end, children: 0 };
}

function lengthAt({ bytes, view }: MessagePackView, at: number, size: 1 | 2 | 4): number {
  if (at + size > bytes.length) throw cut();
  if (size === 1) return view.getUint8(at);
  return size === 2 ? view.getUint16(at) : view.getUint32(at);
}
