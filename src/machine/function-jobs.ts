/**
 * The jobs of one function, which can be held back while it is stopped. They run in the order in which they were queued, held or not.
 * What is held is as much as a function may queue at a time: devices queue each kind of work once, and a reset forgets it all.
 */
import type { JobQueue } from '../pci/ports.ts';

/** Places before `first` that are given back at once, where they are half of all at least. */
const SPENT_MAX = 64;

export class FunctionJobs implements JobQueue {
  /** From `first` on; the places before it are empty. */
  private waiting: ((() => void) | undefined)[] = [];
  private first = 0;
  /** How often `next` is queued and has not run. */
  private turns = 0;
  private holds = 0;

  constructor(private readonly inner: JobQueue) {}

  push(job: () => void): void {
    this.waiting.push(job);
    this.turn();
  }

  /** No job begins until every hold is released. */
  hold(): void {
    this.holds++;
  }

  release(): void {
    this.holds--;
    if (this.holds > 0) return;
    for (let missing = this.waiting.length - this.first - this.turns; missing > 0; missing--) this.turn();
  }

  /** None of those that wait will run. */
  clear(): void {
    this.waiting = [];
    this.first = 0;
  }

  /** Places that the queue takes up, for tests: not many more than jobs wait. */
  get places(): number {
    return this.waiting.length;
  }

  private turn(): void {
    this.turns++;
    this.inner.push(this.next);
  }

  private readonly next = (): void => {
    this.turns--;
    if (this.holds > 0 || this.first === this.waiting.length) return;
    const job = this.waiting[this.first]!;
    // What has run must not be kept alive by those that still wait.
    this.waiting[this.first] = undefined;
    this.first++;
    if (this.first === this.waiting.length) this.clear();
    else if (this.first >= SPENT_MAX && this.first * 2 >= this.waiting.length) this.compact();
    job();
  };

  /** Two kinds of work that queue each other never let it run empty. */
  private compact(): void {
    this.waiting.splice(0, this.first);
    this.first = 0;
  }
}
