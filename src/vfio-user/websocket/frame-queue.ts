/** Frames in order, by index from the first one that is still there. */
export class FrameQueue {
  private frames: Buffer[] = [];
  private head = 0;
  bytes = 0;

  get length(): number {
    return this.frames.length - this.head;
  }

  at(index: number): Buffer {
    return this.frames[this.head + index]!;
  }

  push(frame: Buffer): void {
    this.frames.push(frame);
    this.bytes += frame.length;
  }

  /** There must be one. */
  shift(): Buffer {
    const frame = this.frames[this.head]!;
    this.frames[this.head++] = EMPTY;
    this.bytes -= frame.length;
    // Moving what is left costs no more than what was taken since the last time.
    if (this.head >= COMPACT_AT && this.head * 2 >= this.frames.length) {
      this.frames = this.frames.slice(this.head);
      this.head = 0;
    }
    return frame;
  }

  clear(): void {
    this.frames = [];
    this.head = 0;
    this.bytes = 0;
  }
}

/** Stands where a frame was, so that its memory is free. */
const EMPTY = Buffer.alloc(0);
const COMPACT_AT = 64;
