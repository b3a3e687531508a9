/** Wakes those who wait for something to come. */

/** Where nothing says that there is something new, it is looked for again so soon, in milliseconds. */
const LOOK_AGAIN_MS = 50;

export class Arrivals {
  /** Nothing will come any more. */
  closed = false;
  private count = 0;
  private readonly waiting = new Set<() => void>();

  announce(): void {
    this.count++;
    for (const wake of [...this.waiting]) wake();
  }

  close(): void {
    this.closed = true;
    this.announce();
  }

  /**
   * Looks, and looks again whenever something came, until there is an answer. Undefined: there was none within the time, or before the
   * end of all that could come. Rejects where looking does.
   */
  async until<T>(look: () => T | undefined | Promise<T | undefined>, timeoutMs: number): Promise<T | undefined> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      const { count, closed } = this;
      const found = await look();
      if (found !== undefined || closed) return found;
      const left = end - performance.now();
      if (left <= 0) return undefined;
      await this.next(count, Math.min(left, LOOK_AGAIN_MS));
    }
  }

  private next(count: number, timeoutMs: number): Promise<void> {
    // It came while somebody was looking.
    if (this.count !== count) return Promise.resolve();
    return new Promise(resolve => {
      const done = () => {
        clearTimeout(timer);
        this.waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.waiting.add(done);
    });
  }
}
