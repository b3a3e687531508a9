/** Which guest pages were written to, one bit each, in chunks of 2 MiB that exist once a page of theirs was. */
import type { DmaLog, LoggedRange } from '../vfio-user/device-model.ts';
import { FRAME_BYTES, FRAME_SHIFT } from './guest-memory.ts';
import { CHUNK_FRAME_MASK, CHUNK_FRAME_SHIFT, CHUNK_FRAMES } from './page-flags.ts';

/** Chunks of one log: 512 GiB, in about 50 MB. Beyond them every page counts as written. */
export const DIRTY_CHUNKS_MAX = 262_144;

const CHUNK_WORDS = CHUNK_FRAMES / 32;

interface Span {
  readonly start: number;
  readonly end: number;
}

export class DirtyLog implements DmaLog {
  active = false;
  private readonly chunks = new Map<number, Int32Array>();
  private spans: readonly Span[] = [];
  private all = false;

  /** Pages beyond `most` bytes are nobody's, and not looked for. `switched` is told whether writes are to be marked from now on. */
  constructor(
    private readonly most: number,
    private readonly switched: (active: boolean) => void = () => {},
    private readonly maxChunks = DIRTY_CHUNKS_MAX,
  ) {}

  start(ranges: readonly LoggedRange[]): void {
    this.forget();
    this.spans = merged(
      ranges.map(({ address, length }) => ({ start: this.clamp(address), end: this.clamp(address + length) })),
    );
    if (this.active) return;
    this.active = true;
    this.switched(true);
  }

  stop(): void {
    if (!this.active) return;
    this.forget();
    this.active = false;
    this.switched(false);
  }

  /** `length` bytes from `frame << 12 | offset` on are being written. */
  mark(frame: number, offset: number, length: number): void {
    if (length <= 0) return;
    const last = frame + ((offset + length - 1) >>> FRAME_SHIFT);
    for (let at = frame + (offset >>> FRAME_SHIFT); at <= last; at++) {
      const bits = this.chunk(at >>> CHUNK_FRAME_SHIFT);
      if (bits === undefined) return;
      const page = at & CHUNK_FRAME_MASK;
      bits[page >>> 5] = bits[page >>> 5]! | (1 << (page & 31));
    }
  }

  /** See `DmaLog.report`. */
  report(address: bigint, length: bigint, pageSize: bigint, bitmap: Uint8Array): void {
    const start = this.clamp(address);
    const end = this.clamp(address + length);
    const unit = Number(pageSize);
    if (this.all) {
      this.setLogged(start, end, start, unit, bitmap);
      return;
    }
    const last = Math.floor((end - 1) / FRAME_BYTES) >>> CHUNK_FRAME_SHIFT;
    const first = Math.floor(start / FRAME_BYTES) >>> CHUNK_FRAME_SHIFT;
    // Whichever is less: the chunks of the range, or those that there are.
    if (last - first < this.chunks.size) {
      for (let chunk = first; chunk <= last; chunk++) this.reportChunk(chunk, start, end, unit, bitmap);
    } else {
      for (const chunk of [...this.chunks.keys()]) {
        if (chunk >= first && chunk <= last) this.reportChunk(chunk, start, end, unit, bitmap);
      }
    }
  }

  private reportChunk(chunk: number, start: number, end: number, unit: number, bitmap: Uint8Array): void {
    const bits = this.chunks.get(chunk);
    if (bits === undefined) return;
    let left = 0;
    for (let word = 0; word < CHUNK_WORDS; word++) {
      let kept = bits[word]!;
      for (let rest = kept; rest !== 0; rest &= rest - 1) {
        const bit = 31 - Math.clz32(rest & -rest);
        const page = (chunk * CHUNK_FRAMES + word * 32 + bit) * FRAME_BYTES;
        this.setLogged(Math.max(page, start), Math.min(page + FRAME_BYTES, end), start, unit, bitmap);
        // What was told in part only is told again.
        if (page >= start && page + FRAME_BYTES <= end) kept &= ~(1 << bit);
      }
      bits[word] = kept;
      left |= kept;
    }
    if (left === 0) this.chunks.delete(chunk);
  }

  /** `[from, to)` was written: sets the bits of what lies within the ranges that are logged. */
  private setLogged(from: number, to: number, origin: number, unit: number, bitmap: Uint8Array): void {
    const { spans } = this;
    if (spans.length === 0) set(from, to, origin, unit, bitmap);
    for (let at = firstBehind(spans, from); at < spans.length && spans[at]!.start < to; at++) {
      set(Math.max(from, spans[at]!.start), Math.min(to, spans[at]!.end), origin, unit, bitmap);
    }
  }

  private forget(): void {
    this.chunks.clear();
    this.spans = [];
    this.all = false;
  }

  private chunk(number: number): Int32Array | undefined {
    if (this.all) return undefined;
    let bits = this.chunks.get(number);
    if (bits !== undefined) return bits;
    if (this.chunks.size >= this.maxChunks) {
      this.chunks.clear();
      this.all = true;
      return undefined;
    }
    bits = new Int32Array(CHUNK_WORDS);
    this.chunks.set(number, bits);
    return bits;
  }

  private clamp(address: bigint): number {
    return address > BigInt(this.most) ? this.most : Number(address);
  }
}

/** In order, and none of them touches another. */
function merged(spans: Span[]): readonly Span[] {
  spans.sort((one, other) => one.start - other.start);
  const result: Span[] = [];
  for (const span of spans) {
    const last = result.at(-1);
    if (last === undefined || last.end < span.start) result.push(span);
    else if (last.end < span.end) result[result.length - 1] = { start: last.start, end: span.end };
  }
  return result;
}

/** The first of the spans that ends behind `address`. */
function firstBehind(spans: readonly Span[], address: number): number {
  let low = 0;
  let high = spans.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (spans[middle]!.end <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

function set(from: number, to: number, origin: number, unit: number, bitmap: Uint8Array): void {
  if (from >= to) return;
  const last = Math.floor((to - 1 - origin) / unit);
  for (let bit = Math.floor((from - origin) / unit); bit <= last; bit++) {
    const at = Math.floor(bit / 8);
    bitmap[at] = bitmap[at]! | (1 << (bit % 8));
  }
}
