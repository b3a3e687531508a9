/**
 * When the time of grace is over for what waits for an invalidation. It does not run while none can come: while the machine is paused,
 * and while the work of the IOMMU is held back on purpose. All times are nanoseconds.
 */
import { InvalidationOrigin } from '../event-kinds.ts';
import type { Invalidation } from './invalidation-log.ts';
import type { NoteDetail } from './note-words.ts';

const NANOSECONDS_PER_MILLISECOND = 1e6;

export class Grace {
  /** -1: the machine runs. */
  #pausedAt = -1;
  /** How long it was paused altogether, but for the pause that goes on. */
  #paused = 0;
  /** On the clock that stands still during pauses: until then work is held back for a known time. */
  #heldUntil = Number.NEGATIVE_INFINITY;
  /** Work is held back until somebody releases it. */
  #held = false;

  constructor(private readonly grace: number) {}

  /** The time of something, on the clock that stands still during pauses. */
  running(time: number): number {
    return (this.#pausedAt < 0 ? time : Math.min(time, this.#pausedAt)) - this.#paused;
  }

  /** When what began at `began`, a time of `running`, has waited for long enough; Infinity: not before something else happens. */
  over(began: number): number {
    if (this.#pausedAt >= 0 || this.#held) return Number.POSITIVE_INFINITY;
    return Math.max(began, this.#heldUntil) + this.grace + this.#paused;
  }

  note(kind: string, time: number, detail: NoteDetail): void {
    switch (kind) {
      case 'machine.paused':
        if (this.#pausedAt < 0) this.#pausedAt = time;
        return;
      case 'machine.resumed':
        if (this.#pausedAt >= 0) this.#paused += time - this.#pausedAt;
        this.#pausedAt = -1;
        return;
      case 'injection.applied':
        if (detail.rule === 'delay-invalidation') this.#delayed(time, detail.milliseconds);
        return;
      case 'injection.released':
      case 'injection.overflow':
        this.#released(time);
        return;
    }
  }

  /** Work of the IOMMU's own is done again, in order. */
  invalidated({ origin, time }: Invalidation): void {
    if (origin !== InvalidationOrigin.register) this.#released(time);
  }

  #delayed(time: number, milliseconds: unknown): void {
    if (typeof milliseconds !== 'number' || !(milliseconds >= 0)) {
      this.#held = true;
      return;
    }
    const until = this.running(time) + milliseconds * NANOSECONDS_PER_MILLISECOND;
    this.#heldUntil = Math.max(this.#heldUntil, until);
  }

  #released(time: number): void {
    if (!this.#held) return;
    this.#held = false;
    this.#heldUntil = Math.max(this.#heldUntil, this.running(time));
  }
}
