/** Intervals of pages that can be cut, none overlapping another, in order of address. */
import { endOf, type PageInterval, PageIntervals } from '../page-intervals.ts';

export class IntervalSet<T extends PageInterval> extends PageIntervals<T> {
  /** `cut` makes the part of an interval that lies within [start, end); they overlap. */
  constructor(private readonly cut: (interval: T, start: number, end: number) => T) {
    super();
  }

  at(page: number): T | undefined {
    const found = this.from(page);
    return found !== undefined && found.start <= page ? found : undefined;
  }

  /**
   * Takes [start, start + pages) out and hands over what was there, piece by piece; intervals across the borders are cut. Where that
   * makes two of one, and it must not grow, the upper one is forgotten: then true.
   */
  remove(start: number, pages: number, mayGrow: boolean, taken: (piece: T) => void): boolean {
    const stop = start + pages;
    let forgot = false;
    for (;;) {
      const found = this.takeOverlap(start, stop);
      if (found === undefined) return forgot;
      if (found.start < start) this.insert(this.cut(found, found.start, start));
      if (endOf(found) > stop) {
        if (mayGrow || found.start >= start) this.insert(this.cut(found, stop, endOf(found)));
        else forgot = true;
      }
      taken(this.cut(found, start, stop));
    }
  }
}
