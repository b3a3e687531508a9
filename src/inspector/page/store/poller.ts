/** Asks again and again while somebody wants to know, and never while an answer is still out. */

export interface PollerOptions {
  readonly milliseconds: number;
  readonly ask: () => Promise<void>;
  /** Answers that take long to make or to read must not fill all the time: the pause is at least this many times as long. Default 10. */
  readonly rest?: number;
}

export class Poller {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wanted = false;
  private asking = false;

  constructor(private readonly options: PollerOptions) {}

  /** Begins at once, or ends after the answer that is out. */
  want(wanted: boolean): void {
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    if (wanted) void this.run();
    else this.cancel();
  }

  /** Now, without waiting for the next turn. */
  async now(): Promise<void> {
    this.cancel();
    await this.run();
  }

  private async run(): Promise<void> {
    if (this.asking) return;
    this.asking = true;
    const { milliseconds, ask, rest = 10 } = this.options;
    const began = performance.now();
    try {
      await ask();
    } finally {
      this.asking = false;
    }
    const took = performance.now() - began;
    this.cancel();
    if (this.wanted) this.timer = setTimeout(() => void this.run(), Math.max(milliseconds - took, took * rest));
  }

  private cancel(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}
