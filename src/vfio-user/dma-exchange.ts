/** DMA messages on their way, and those of them whose answers are waited for together. */

/** One message. Reused, so that a transfer allocates nothing. */
export class Pending {
  id = 0;
  command = 0;
  high = 0;
  low = 0;
  count = 0;
  target: Uint8Array | undefined;
  at = 0;
  /** Its place in the exchange, in the order of sending. */
  sequence = 0;
  /** What the asker calls the run that it belongs to. */
  mark = 0;
  exchange: DmaExchange | undefined;
}

/** Messages whose answers are waited for together. Of their failures the first in the order of sending counts. */
export class DmaExchange {
  /** Not answered yet. */
  outstanding = 0;
  /** Given up by its waiter: replies that still come are dropped. */
  givenUp = false;
  /** Of the first failure; zero while there is none. */
  errno = 0;
  /** The mark of the run that failed first, and the page where the message that failed starts. */
  failedMark = 0;
  failedFrame = 0;
  /** Pages of the run that is being sent, both inclusive. */
  firstFrame = 0;
  lastFrame = 0;
  mark = 0;
  nextSequence = 0;
  readonly isDone = (): boolean => this.outstanding === 0;
  private failedSequence = 0;

  begin(): this {
    this.outstanding = 0;
    this.givenUp = false;
    this.errno = 0;
    this.nextSequence = 0;
    return this;
  }

  fail(sequence: number, errno: number, mark: number, frame: number): void {
    if (this.errno !== 0 && this.failedSequence <= sequence) return;
    this.failedSequence = sequence;
    this.errno = errno;
    this.failedMark = mark;
    this.failedFrame = frame;
  }

  /** What is still to be sent will not be. */
  stop(errno: number): void {
    this.fail(this.nextSequence, errno, this.mark, this.firstFrame);
  }
}
