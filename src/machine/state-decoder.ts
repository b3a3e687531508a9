/**
 * MessagePack back into the values that states are made of, and nothing else: numbers, true and false, text, bytes, lists and objects.
 * Strict where a library is generous, because a saved state may come from anybody: no extensions, and no size is believed that the bytes
 * behind it do not bear out.
 */
import { StateError } from '../pci/state.ts';

/** Lists and objects within each other. */
const NESTING_MAX = 16;
const TOO_SHORT = 'it ends too early';

const text = new TextDecoder('utf-8', { fatal: true });

/** Throws a StateError on anything but one whole value. */
export function decodeState(bytes: Uint8Array): unknown {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (!reader.atEnd) throw new StateError('there is something behind its end');
  return value;
}

class Reader {
  private at = 0;
  private readonly view: DataView;

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get atEnd(): boolean {
    return this.at === this.bytes.length;
  }

  value(nesting: number): unknown {
    const first = this.view.getUint8(this.take(1));
    if (first <= 0x7f) return first;
    if (first <= 0x8f) return this.object(first & 0x0f, nesting);
    if (first <= 0x9f) return this.list(first & 0x0f, nesting);
    if (first <= 0xbf) return this.text(first & 0x1f);
    if (first >= 0xe0) return first - 0x100;
    return this.sized(first, nesting);
  }

  private sized(first: number, nesting: number): unknown {
    const { view } = this;
    switch (first) {
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.binary(this.size(first - 0xc4));
      case 0xcb:
        return view.getFloat64(this.take(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.size(first - 0xcc);
      case 0xd0:
        return view.getInt8(this.take(1));
      case 0xd1:
        return view.getInt16(this.take(2));
      case 0xd2:
        return view.getInt32(this.take(4));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.text(this.size(first - 0xd9));
      case 0xdc:
      case 0xdd:
        return this.list(this.size(first - 0xdb), nesting);
      case 0xde:
      case 0xdf:
        return this.object(this.size(first - 0xdd), nesting);
      default:
        throw new StateError(`it has a value of the type 0x${first.toString(16)}, which states do not have`);
    }
  }

  /** An unsigned number of 1, 2 or 4 bytes. */
  private size(shift: number): number {
    const at = this.take(1 << shift);
    if (shift === 0) return this.view.getUint8(at);
    return shift === 1 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  private take(count: number): number {
    const { at } = this;
    if (count > this.bytes.length - at) throw new StateError(TOO_SHORT);
    this.at += count;
    return at;
  }

  private binary(length: number): Uint8Array {
    const at = this.take(length);
    // Of a Buffer this must not be a Buffer: what `slice` means depends on it.
    return new Uint8Array(this.bytes.buffer, this.bytes.byteOffset + at, length);
  }

  private text(length: number): string {
    try {
      return text.decode(this.binary(length));
    } catch (error) {
      if (error instanceof TypeError) throw new StateError('it has text that is not UTF-8');
      throw error;
    }
  }

  private list(length: number, nesting: number): unknown[] {
    this.enter(length, nesting);
    const list: unknown[] = [];
    for (let index = 0; index < length; index++) list.push(this.value(nesting + 1));
    return list;
  }

  private object(length: number, nesting: number): object {
    this.enter(length * 2, nesting);
    const members = new Map<string, unknown>();
    for (let index = 0; index < length; index++) {
      const name = this.value(nesting + 1);
      if (typeof name !== 'string' || members.has(name))
        throw new StateError('it has an object whose names are no names');
      members.set(name, this.value(nesting + 1));
    }
    return Object.fromEntries(members);
  }

  /** Each element takes a byte at least. */
  private enter(elements: number, nesting: number): void {
    if (elements > this.bytes.length - this.at) throw new StateError(TOO_SHORT);
    if (nesting >= NESTING_MAX) throw new StateError(`it is nested deeper than ${NESTING_MAX}`);
  }
}
