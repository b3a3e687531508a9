import type { VtdCore, VtdWork } from './core.ts';

const NOT_SCHEDULED = -1;

/** Work that is queued once at most, however often software asks for it while the jobs wait for a client. */
export class SingleJob {
  /** The unit's generation in which it is queued: a reset drops what was queued before it. */
  private generation = NOT_SCHEDULED;

  constructor(
    private readonly core: Pick<VtdCore, 'generation' | 'later'>,
    private readonly what: VtdWork,
  ) {}

  schedule(run: () => void): void {
    if (this.generation === this.core.generation) return;
    this.generation = this.core.generation;
    this.core.later(this.what, () => {
      this.generation = NOT_SCHEDULED;
      run();
    });
  }
}
