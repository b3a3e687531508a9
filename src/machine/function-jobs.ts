/**
 * The jobs of one function, which can be held back while it is stopped. They run in the order in which they were queued, held or not.
 * What is held is as much as a function may queue at a time: devices queue each kind of work once, and a reset forgets it all.
 */
import type { JobQueue } from '../pci/ports.ts';

export class FunctionJobs implements JobQueue {
  /** From `first` on. */
  private waiting: (() => void)[] = [];
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

  private turn(): void {
    this.turns++;
    this.inner.push(this.next);
  }

  private readonly next = (): void => {
    this.turns--;
    if (this.holds > 0 || this.first === this.waiting.length) return;
    const job = this.waiting[this.first]!;
    this.first++;
    if (this.first === this.waiting.length) this.clear();
    job();
  };
}
