/**
 * Polling for a while before blocking. It saves the other processor's wake-up where client and server run on two; where that does not
 * succeed it is given up for longer and longer. A loop that nothing reaches blocks.
 */

/** Busy polls in a row that found nothing before busy-polling is given up. */
const MISSES = 8;
/** Waits without it until it is tried once more; twice as many after each try that finds nothing, up to the longest. */
const PAUSE = 64;
const LONGEST_PAUSE = 8192;
// The global name is a getter, which is asked at each use.
const clock = performance;

interface Waitable {
  wait(timeoutMs: number): number;
}

export class BusyPoll {
  /** How long before blocking; 0: not at all. */
  nanoseconds = 0;
  private misses = 0;
  /** Waits left without a busy poll, and how many the next pause has. */
  private pause = 0;
  private nextPause = PAUSE;

  /** False where it is off, and while it has been given up. */
  get isOn(): boolean {
    return this.nanoseconds > 0 && this.pause === 0;
  }

  /** How many events are there, after at most so many milliseconds (negative: any number) and as long as is polled busily. */
  wait(poller: Waitable, timeoutMs: number): number {
    if (this.pause > 0) {
      this.pause--;
      return 0;
    }
    let ready = poller.wait(0);
    // What is there at once speaks neither for busy-polling nor against it: blocking would have found it too.
    if (ready > 0) return ready;
    const milliseconds = this.nanoseconds / 1e6;
    const end = clock.now() + (timeoutMs < 0 ? milliseconds : Math.min(milliseconds, timeoutMs));
    let inTime = true;
    while (ready === 0 && inTime) {
      ready = poller.wait(0);
      inTime = clock.now() < end;
    }
    // Found late: this thread was put aside for a peer that has no processor of its own, and only kept it waiting.
    if (ready > 0 && inTime) {
      this.misses = 0;
      this.nextPause = PAUSE;
    } else {
      this.miss();
    }
    return ready;
  }

  private miss(): void {
    this.misses++;
    if (this.misses < MISSES) return;
    // One more miss after the pause gives up again at once.
    this.misses = MISSES - 1;
    this.pause = this.nextPause;
    this.nextPause = Math.min(2 * this.nextPause, LONGEST_PAUSE);
  }
}
