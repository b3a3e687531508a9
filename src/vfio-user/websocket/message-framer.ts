/** Cuts a stream of vfio-user messages into messages. */
import { HEADER_BYTES, HEADER_SIZE } from '../spec.ts';

/** Bytes of the size in a header, and of what comes before it. */
const SIZE_END = HEADER_SIZE + 4;

export class MessageFramer {
  /** What came of a message that is not whole yet: its first bytes alone, until they tell its size. */
  private start: Buffer = Buffer.alloc(SIZE_END);
  private message: Buffer | undefined;
  private filled = 0;

  /** `deliver` gets each message once; the buffer is its to keep. */
  constructor(
    private readonly maxMessage: number,
    private readonly deliver: (message: Buffer) => void,
  ) {}

  /** The stream has stopped inside a message. */
  get partial(): boolean {
    return this.filled > 0;
  }

  /**
   * Takes the next bytes, which it may keep. Returns what is wrong with them, or undefined; after something was wrong there is no way to
   * find the next message.
   */
  push(chunk: Buffer): string | undefined {
    let at = this.filled > 0 ? this.complete(chunk) : 0;
    while (at >= 0 && chunk.length - at >= SIZE_END) {
      const size = chunk.readUInt32LE(at + HEADER_SIZE);
      const problem = this.check(size);
      if (problem !== undefined) return problem;
      if (size > chunk.length - at) {
        this.begin(size, chunk, at);
        return undefined;
      }
      this.deliver(chunk.subarray(at, at + size));
      at += size;
    }
    if (at < 0) return this.check(this.start.readUInt32LE(HEADER_SIZE));
    if (at < chunk.length) this.filled = chunk.copy(this.start, 0, at);
    return undefined;
  }

  /** Adds to what is there; returns how much of the chunk that took, or -1 where the size is out of range. */
  private complete(chunk: Buffer): number {
    let at = 0;
    if (this.message === undefined) {
      at = chunk.copy(this.start, this.filled, 0, SIZE_END - this.filled);
      this.filled += at;
      if (this.filled < SIZE_END) return at;
      const size = this.start.readUInt32LE(HEADER_SIZE);
      if (this.check(size) !== undefined) return -1;
      this.begin(size, this.start, 0);
    }
    const message = this.message!;
    const took = chunk.copy(message, this.filled, at, at + message.length - this.filled);
    this.filled += took;
    if (this.filled === message.length) {
      this.message = undefined;
      this.filled = 0;
      this.deliver(message);
    }
    return at + took;
  }

  private begin(size: number, chunk: Buffer, at: number): void {
    this.message = Buffer.allocUnsafeSlow(size);
    this.filled = chunk.copy(this.message, 0, at);
  }

  private check(size: number): string | undefined {
    if (size >= HEADER_BYTES && size <= this.maxMessage) return undefined;
    return `a message of ${size} bytes: ${HEADER_BYTES} to ${this.maxMessage} are possible`;
  }
}

/** What is wrong with a frame that should be one whole message; undefined: nothing. */
export function frameProblem(frame: Buffer): string | undefined {
  if (frame.length < HEADER_BYTES) return `a frame of ${frame.length} bytes holds no header`;
  const size = frame.readUInt32LE(HEADER_SIZE);
  return size === frame.length ? undefined : `a frame of ${frame.length} bytes with a message of ${size}`;
}
