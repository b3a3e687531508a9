/** What is to be done later, in the order of time. */

export interface Timer {
  /** Milliseconds, monotonic. */
  readonly due: number;
  readonly job: () => void;
}

export class Timers {
  private readonly timers: Timer[] = [];

  /** Milliseconds until the first is due, 0 where it is; infinity where there is none. */
  remaining(now: number): number {
    const first = this.timers[0];
    return first === undefined ? Number.POSITIVE_INFINITY : Math.max(0, first.due - now);
  }

  /** Of those due at once, the one that was added first comes first. */
  add(due: number, job: () => void): Timer {
    const timer = { due, job };
    let at = this.timers.length;
    while (at > 0 && this.timers[at - 1]!.due > due) at--;
    this.timers.splice(at, 0, timer);
    return timer;
  }

  remove(timer: Timer): void {
    const at = this.timers.indexOf(timer);
    if (at >= 0) this.timers.splice(at, 1);
  }

  /** Takes out the first one if it is due. */
  take(now: number): Timer | undefined {
    return this.timers.length > 0 && this.timers[0]!.due <= now ? this.timers.shift() : undefined;
  }

  get size(): number {
    return this.timers.length;
  }

  clear(): void {
    this.timers.length = 0;
  }
}
