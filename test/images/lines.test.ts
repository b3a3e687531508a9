import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LineReader, MAX_LINE_LENGTH } from '../../images/guest/lines.ts';

function read(...chunks: (string | Buffer)[]): string[] {
  const lines: string[] = [];
  const reader = new LineReader(line => lines.push(line));
  for (const chunk of chunks) reader.push(Buffer.from(chunk as string));
  return lines;
}

describe('LineReader', () => {
  it('joins a line that comes in pieces', () => {
    expect(read('he', 'll', 'o\n')).toEqual(['hello']);
  });

  it('separates lines that come together', () => {
    expect(read('a\nb\n\nc')).toEqual(['a', 'b', '']);
  });

  it('takes CR LF for a line end, and keeps a CR within a line', () => {
    expect(read('a\r', '\nb\rc\n')).toEqual(['a', 'b\rc']);
  });

  it('joins a character that is cut in the middle', () => {
    const bytes = Buffer.from('€\n');
    expect(read(bytes.subarray(0, 1), bytes.subarray(1))).toEqual(['€']);
  });

  it('gives the same lines wherever the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', '|', '\n', '\r', 'ä', '€', '😀'), maxLength: 40 }),
        fc.array(fc.nat(20), { maxLength: 20 }),
        (text, cuts) => {
          const bytes = Buffer.from(`${text}\n`);
          const chunks: Buffer[] = [];
          let at = 0;
          for (const cut of cuts) {
            chunks.push(bytes.subarray(at, at + cut));
            at += cut;
          }
          chunks.push(bytes.subarray(at));
          expect(read(...chunks)).toEqual(read(bytes));
        },
      ),
    );
  });

  it('refuses a line without end, and reads on after it', () => {
    const lines: string[] = [];
    const reader = new LineReader(line => lines.push(line));
    expect(() => reader.push(Buffer.alloc(MAX_LINE_LENGTH + 1, 'x'))).toThrow('A line has more than');
    reader.push(Buffer.from('next\n'));
    expect(lines).toEqual(['next']);
  });
});
