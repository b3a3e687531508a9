/**
 * Looks over MessagePack bytes before they are decoded: that they are one whole value of the types that the remote API uses, and
 * within its limits. It allocates nothing, so a short message cannot cost much memory or stack.
 */
import type { MessageLimits } from './limits.ts';

const TOO_SHORT = 'it ends too early';

/** Bytes behind the first byte, by first byte from 0xc0, for values of a fixed size; -1: not one of them. */
const FIXED_SIZES: readonly number[] = [
  // c0 nil, c1 never used, c2 false, c3 true
  0, -1, 0, 0,
  // c4..c6 binary, c7..c9 extension
  -1, -1, -1, -1, -1, -1,
  // ca float32, cb float64, cc..cf unsigned, d0..d3 signed
  4, 8, 1, 2, 4, 8, 1, 2, 4, 8,
];

class Scan {
  private position = 0;
  private values = 0;
  private containers = 0;
  private readonly view: DataView;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly limits: MessageLimits,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** What is wrong; undefined: nothing. */
  run(): string | undefined {
    const error = this.value(0);
    if (error !== undefined) return error;
    return this.position === this.bytes.length ? undefined : 'there is something behind the value';
  }

  private value(nesting: number): string | undefined {
    if (this.position >= this.bytes.length) return TOO_SHORT;
    if (++this.values > this.limits.values) return `it has more than ${this.limits.values} values`;
    const first = this.bytes[this.position++]!;
    if (first <= 0x7f || first >= 0xe0) return undefined;
    if (first <= 0x8f) return this.map(first & 0x0f, nesting);
    if (first <= 0x9f) return this.list(first & 0x0f, nesting);
    if (first <= 0xbf) return this.skip(first & 0x1f);
    const size = FIXED_SIZES[first - 0xc0] ?? -1;
    return size >= 0 ? this.skip(size) : this.sized(first, nesting);
  }

  private sized(first: number, nesting: number): string | undefined {
    switch (first) {
      case 0xc4:
      case 0xd9:
        return this.skip(this.length(1));
      case 0xc5:
      case 0xda:
        return this.skip(this.length(2));
      case 0xc6:
      case 0xdb:
        return this.skip(this.length(4));
      case 0xdc:
        return this.list(this.length(2), nesting);
      case 0xdd:
        return this.list(this.length(4), nesting);
      case 0xde:
        return this.map(this.length(2), nesting);
      case 0xdf:
        return this.map(this.length(4), nesting);
      default:
        return `it has a value of the type 0x${first.toString(16)}, which is not used here`;
    }
  }

  private skip(size: number): string | undefined {
    this.position += size;
    return this.position <= this.bytes.length ? undefined : TOO_SHORT;
  }

  /** A length of that many bytes; Infinity where they are not there. */
  private length(size: 1 | 2 | 4): number {
    const at = this.position;
    this.position += size;
    if (this.position > this.bytes.length) return Number.POSITIVE_INFINITY;
    if (size === 1) return this.view.getUint8(at);
    return size === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  private list(length: number, nesting: number): string | undefined {
    const error = this.container(length, nesting);
    if (error !== undefined) return error;
    for (let index = 0; index < length; index++) {
      const inner = this.value(nesting + 1);
      if (inner !== undefined) return inner;
    }
    return undefined;
  }

  private map(length: number, nesting: number): string | undefined {
    const error = this.container(length, nesting);
    if (error !== undefined) return error;
    for (let index = 0; index < length; index++) {
      const first = this.bytes[this.position];
      if (first === undefined) return TOO_SHORT;
      const isText = (first >= 0xa0 && first <= 0xbf) || (first >= 0xd9 && first <= 0xdb);
      if (!isText) return 'it has an object with a key that is not text';
      const inner = this.value(nesting + 1) ?? this.value(nesting + 1);
      if (inner !== undefined) return inner;
    }
    return undefined;
  }

  private container(length: number, nesting: number): string | undefined {
    // Each element takes a byte at least: what cannot be there is refused before anything is made for it.
    if (length > this.bytes.length - this.position) return TOO_SHORT;
    if (nesting >= this.limits.nesting) return `it is nested deeper than ${this.limits.nesting}`;
    if (++this.containers > this.limits.containers) {
      return `it has more than ${this.limits.containers} lists and objects`;
    }
    return undefined;
  }
}

/** What is wrong with the bytes; undefined: they can be decoded. */
export function checkMessagePack(bytes: Uint8Array, limits: MessageLimits): string | undefined {
  return new Scan(bytes, limits).run();
}
