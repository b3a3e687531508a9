/**
 * MessagePack back into the values that states are made of, and nothing else: numbers, true and false, text, bytes, lists and objects.
 * Strict where a library is generous, because a saved state may come from anybody: no extensions, and no size is believed that the bytes
 * behind it do not bear out.
 */
import { StateError, type StateValue } from '../pci/state.ts';

/**
 * What the values of one state may cost together, so that taking it apart takes tens of milliseconds at most, whatever it is made of: more
 * than a thousand times as much as a unit's or an edu's when it is idle, and enough for a `dma-iommu` with 10,000 objects or 250,000 mapped ranges.
 */
export const STATE_COST_MAX = 1 << 20;
/** A number, true or false costs 1. Text, bytes, a list or an object costs this and what is in it; so does the name of a member. */
const PART_COST = 8;
/** Lists and objects within each other. */
const NESTING_MAX = 16;
const TOO_SHORT = 'it ends too early';

const text = new TextDecoder('utf-8', { fatal: true });

/** Told of each member of the outermost object before its value is read: its name, and the members before it. */
export type BeforeMember = (name: string, before: ReadonlyMap<string, unknown>) => void;

/** Throws a StateError on anything but one whole value of STATE_COST_MAX at most, and whatever `beforeMember` throws. */
export function decodeState(bytes: Uint8Array, beforeMember: BeforeMember = () => {}): unknown {
  const reader = new Reader(bytes, beforeMember);
  const value = reader.value(0);
  if (!reader.atEnd) throw new StateError('there is something behind its end');
  return value;
}

/** Whether `decodeState` takes so much. */
export function fitsState(value: StateValue): boolean {
  return costOf(value) <= STATE_COST_MAX;
}

function costOf(value: StateValue): number {
  if (typeof value === 'number' || typeof value === 'boolean') return 1;
  if (typeof value === 'string' || value instanceof Uint8Array) return PART_COST;
  let cost = PART_COST;
  if (isList(value)) for (const one of value) cost += costOf(one);
  else for (const one of Object.values(value)) cost += PART_COST + costOf(one);
  return cost;
}

function isList(value: object): value is readonly StateValue[] {
  return Array.isArray(value);
}

class Reader {
  private at = 0;
  private left = STATE_COST_MAX;
  private readonly view: DataView;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly beforeMember: BeforeMember,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get atEnd(): boolean {
    return this.at === this.bytes.length;
  }

  value(nesting: number): unknown {
    const first = this.view.getUint8(this.take(1));
    this.spend(1);
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

  private spend(cost: number): void {
    this.left -= cost;
    if (this.left < 0) throw new StateError('it has more values than any state');
  }

  private binary(length: number): Uint8Array {
    this.spend(PART_COST - 1);
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
      if (nesting === 0) this.beforeMember(name, members);
      members.set(name, this.value(nesting + 1));
    }
    return Object.fromEntries(members);
  }

  /** Each element takes a byte at least. */
  private enter(elements: number, nesting: number): void {
    this.spend(PART_COST - 1);
    if (elements > this.bytes.length - this.at) throw new StateError(TOO_SHORT);
    if (nesting >= NESTING_MAX) throw new StateError(`it is nested deeper than ${NESTING_MAX}`);
  }
}
