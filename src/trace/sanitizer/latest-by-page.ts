/** Which of many numbered things with a range of pages came last at a page: found without a look at the others. */
import type { PageInterval } from '../page-intervals.ts';
import { IntervalSet } from './interval-set.ts';

interface Painted extends PageInterval {
  readonly number: number;
}

/** How many pieces there may be for each thing that is remembered, before those of forgotten ones are taken out. */
const PIECES_PER_THING = 4;

export class LatestByPage {
  readonly #domains = new Map<number, IntervalSet<Painted>>();
  #pieces = 0;

  /** Only things with the last `remembered` numbers are ever asked for. */
  constructor(private readonly remembered: number) {}

  /** For tests: how many pieces are kept. */
  get pieces(): number {
    return this.#pieces;
  }

  /** Numbers grow by one. Ranges without a page are in nobody's way. */
  add(number: number, domain: number, start: number, pages: number): void {
    if (!(pages > 0)) return;
    let set = this.#domains.get(domain);
    if (set === undefined) {
      set = new IntervalSet<Painted>(cut);
      this.#domains.set(domain, set);
    }
    const before = set.size;
    set.remove(start, pages, true, ignore);
    set.insert({ start, pages, number });
    this.#pieces += set.size - before;
    // A thing adds two pieces at most, so that this pays for itself.
    if (this.#pieces > PIECES_PER_THING * this.remembered) this.#sweep(number);
  }

  /** -1: none of those that are remembered; `newest` is the number of the last one. */
  find(domain: number, page: number, newest: number): number {
    const number = this.#domains.get(domain)?.at(page)?.number ?? -1;
    return number > newest - this.remembered ? number : -1;
  }

  #sweep(newest: number): void {
    this.#pieces = 0;
    for (const [domain, set] of this.#domains) {
      const gone = [...set].filter(({ number }) => number <= newest - this.remembered);
      for (const { start, pages } of gone) set.remove(start, pages, true, ignore);
      if (set.size === 0) this.#domains.delete(domain);
      this.#pieces += set.size;
    }
  }
}

function cut({ start, pages, number }: Painted, from: number, to: number): Painted {
  const first = Math.max(start, from);
  return { start: first, pages: Math.min(start + pages, to) - first, number };
}

function ignore(): void {}
