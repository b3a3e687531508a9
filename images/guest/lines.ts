/** Cuts a stream of bytes into lines of text. */
import { StringDecoder } from 'node:string_decoder';

/** Characters of one line; a stream that goes on longer without a line end is not what it should be. */
export const MAX_LINE_LENGTH = 1024 * 1024;

export class LineReader {
  readonly #onLine: (line: string) => void;
  readonly #decoder = new StringDecoder('utf8');
  #partial = '';

  /** @param onLine gets each line without its LF or CR LF. */
  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  /** Throws, and forgets the line, when it is longer than MAX_LINE_LENGTH. */
  push(chunk: Buffer): void {
    const pieces = this.#decoder.write(chunk).split('\n');
    pieces[0] = this.#partial + pieces[0]!;
    this.#partial = pieces.pop()!;
    for (const piece of pieces) this.#onLine(piece.endsWith('\r') ? piece.slice(0, -1) : piece);
    if (this.#partial.length > MAX_LINE_LENGTH) {
      this.#partial = '';
      throw new Error(`A line has more than ${MAX_LINE_LENGTH} characters`);
    }
  }
}
