import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { frameProblem, MessageFramer } from '../../../src/vfio-user/websocket/message-framer.ts';
import { message, messages } from './rig.ts';

const MAX = 4096;

function framer() {
  const out: Buffer[] = [];
  const made = new MessageFramer(MAX, one => out.push(one));
  return { framer: made, out };
}

describe('the framer', () => {
  test('gives a message that comes in one piece as it is, without a copy', () => {
    const { framer: one, out } = framer();
    const bytes = message(1);
    expect(one.push(bytes)).toBeUndefined();
    expect(out).toEqual([bytes]);
    expect(out[0]!.buffer).toBe(bytes.buffer);
    expect(one.partial).toBe(false);
  });

  test('gives several messages of one piece', () => {
    const { framer: one, out } = framer();
    one.push(Buffer.concat(messages(5)));
    expect(out).toEqual(messages(5));
  });

  test('puts together what comes byte by byte', () => {
    const { framer: one, out } = framer();
    for (const byte of Buffer.concat(messages(3, i => 16 + i))) expect(one.push(Buffer.of(byte))).toBeUndefined();
    expect(out).toEqual(messages(3, i => 16 + i));
  });

  test('says that it is inside a message', () => {
    const { framer: one } = framer();
    one.push(message(1).subarray(0, 3));
    expect(one.partial).toBe(true);
    one.push(message(1).subarray(3, 20));
    expect(one.partial).toBe(true);
    one.push(message(1).subarray(20));
    expect(one.partial).toBe(false);
  });

  test('does not keep the chunk that the beginning of a message came in', () => {
    const { framer: one, out } = framer();
    const chunk = Buffer.from(message(9).subarray(0, 20));
    one.push(chunk);
    chunk.fill(0xff);
    one.push(message(9).subarray(20));
    expect(out).toEqual([message(9)]);
  });

  test.each([0, 15, MAX + 1, 0xffffffff])('refuses a size of %i', size => {
    const bytes = message(1);
    bytes.writeUInt32LE(size, 4);
    expect(framer().framer.push(bytes)).toContain(`a message of ${size} bytes`);
    const { framer: cut, out } = framer();
    cut.push(bytes.subarray(0, 5));
    expect(cut.push(bytes.subarray(5))).toContain(`a message of ${size} bytes`);
    expect(out).toEqual([]);
  });

  test('takes the smallest and the largest message', () => {
    const { framer: one, out } = framer();
    expect(one.push(Buffer.concat([message(1, 16), message(2, MAX)]))).toBeUndefined();
    expect(out.map(bytes => bytes.length)).toEqual([16, MAX]);
  });

  test('does not mind how a stream is cut', () => {
    const sizes = fc.array(fc.integer({ min: 16, max: 200 }), { maxLength: 20 });
    const cuts = fc.array(fc.integer({ min: 0, max: 90 }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(sizes, cuts, (lengths, pieces) => {
        const { framer: one, out } = framer();
        const sent = lengths.map((size, i) => message(i, size));
        let rest = Buffer.concat(sent);
        for (let i = 0; rest.length > 0; i++) {
          // A run of empty pieces must come to an end.
          const length = Math.max(pieces[i % pieces.length]!, i % 7 === 0 ? 1 : 0);
          expect(one.push(Buffer.from(rest.subarray(0, length)))).toBeUndefined();
          rest = rest.subarray(length);
        }
        expect(out).toEqual(sent);
        expect(one.partial).toBe(false);
      }),
    );
  });
});

describe('a frame', () => {
  test('is one whole message', () => {
    expect(frameProblem(message(1))).toBeUndefined();
    expect(frameProblem(message(1, 16))).toBeUndefined();
  });

  test('is refused where its length is not the size in its header', () => {
    expect(frameProblem(Buffer.concat([message(1), message(2)]))).toBe('a frame of 48 bytes with a message of 24');
    expect(frameProblem(message(1).subarray(0, 20))).toBe('a frame of 20 bytes with a message of 24');
    expect(frameProblem(Buffer.alloc(15))).toBe('a frame of 15 bytes holds no header');
    expect(frameProblem(Buffer.alloc(0))).toBe('a frame of 0 bytes holds no header');
  });
});
