import { describe, expect, it } from 'vitest';
import { COPY_LOOP_LIMIT, CopyEnd } from '../../src/memory/copy.ts';

const bytes = Uint8Array.from({ length: 1000 }, (_, i) => (i * 37) & 0xff);
const lengths = [0, 1, 2, 3, 4, 5, 7, 8, 63, COPY_LOOP_LIMIT - 1, COPY_LOOP_LIMIT, COPY_LOOP_LIMIT + 1, 500];
/** Aligned alike, differently, and not at all. */
const places = [
  [12, 100],
  [13, 101],
  [12, 102],
  [15, 100],
] as const;
const ways = {
  view: (source: CopyEnd, target: CopyEnd, from: number, at: number, length: number) =>
    target.bytes.set(source.view(from, length), at),
  partView: (source: CopyEnd, target: CopyEnd, from: number, at: number, length: number) =>
    target.bytes.set(source.partView(from, length), at),
  copyLoop: (source: CopyEnd, target: CopyEnd, from: number, at: number, length: number) =>
    source.copyLoop(target, from, at, length),
};
type Way = keyof typeof ways;

/** What `target` holds after a copy into it, and what it should hold. */
function copied(way: Way, source: Uint8Array, from: number, at: number, length: number, start = 0) {
  const target = new Uint8Array(1000 + start).subarray(start).fill(0xee);
  const expected = new Uint8Array(1000).fill(0xee);
  for (let i = 0; i < length; i++) expected[at + i] = source[from + i]!;
  ways[way](new CopyEnd(source), new CopyEnd(target), from, at, length);
  return [Buffer.from(target).toString('hex'), Buffer.from(expected).toString('hex')] as const;
}

describe.each(Object.keys(ways) as Way[])('%s', way => {
  describe.each(places)('from %d to %d', (from, at) => {
    it.each(lengths)('copies exactly %d bytes', length => {
      const [target, expected] = copied(way, bytes, from, at, length);
      expect(target).toBe(expected);
    });
  });

  it.each([1, 2, 3, 4])('keeps to arrays that start %d bytes into their buffer', start => {
    const source = new Uint8Array(1000 + start).subarray(start);
    source.set(bytes);
    for (const length of [8, 200]) {
      const [target, expected] = copied(way, source, 12, 100, length, start);
      expect(target).toBe(expected);
    }
  });

  it('copies the last bytes of arrays that do not end at a word', () => {
    const source = bytes.slice(0, 11);
    const target = new Uint8Array(11);
    ways[way](new CopyEnd(source), new CopyEnd(target), 0, 0, 11);
    expect(target).toEqual(source);
  });
});

describe('a part that is sent again', () => {
  it('is what the array holds by then, and not another part', () => {
    const source = bytes.slice();
    const end = new CopyEnd(source);
    const send = (from: number, length: number) => {
      expect(end.partView(from, length)).toEqual(source.subarray(from, from + length));
    };
    send(0, 200);
    source.fill(0x11);
    send(0, 200);
    source.set(bytes.subarray(0, 300), 5);
    send(5, 200);
    send(5, 300);
    send(0, 200);
  });
});
