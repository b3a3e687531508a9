/**
 * An address space as a line of pages in which long stretches without anything are folded: each takes a fixed length, however many
 * pages it has. Positions on the line are in pages of what is not folded.
 */

/** Pages, from `start` on. */
export interface Stretch {
  readonly start: number;
  readonly pages: number;
}

export interface Segment extends Stretch {
  /** Position of its start, and its length on the line. */
  readonly at: number;
  readonly length: number;
  readonly folded: boolean;
}

/** A stretch of nothing is folded where it would take more than this part of all that is there. */
const FOLDED_PART = 0.04;
/** Shorter ones never are. */
const FOLD_PAGES_MIN = 32;
/** Pages that are left as they are on both sides of a fold. */
const MARGIN = 2;

export class Folding {
  readonly segments: readonly Segment[];
  /** Of the whole line. */
  readonly length: number;

  /** `used` in order and not overlapping; `pages`: of the whole address space. */
  constructor(used: readonly Stretch[], pages: number, fold = true) {
    const segments: Segment[] = [];
    let at = 0;
    const add = (start: number, count: number, folded: boolean, length: number) => {
      if (count <= 0) return;
      segments.push({ start, pages: count, at, length, folded });
      at += length;
    };
    if (!fold || used.length === 0) {
      add(0, pages, false, pages);
    } else {
      const total = used.reduce((sum, one) => sum + one.pages, 0);
      const longest = Math.max(FOLD_PAGES_MIN, Math.ceil(total * FOLDED_PART));
      let begin = 0;
      let end = 0;
      const gap = (to: number) => {
        const isFirst = end === 0 && begin === 0;
        const isLast = to === pages;
        const before = isFirst ? 0 : Math.min(MARGIN, to - end);
        const after = isLast ? 0 : Math.min(MARGIN, to - end - before);
        if (to - end <= longest) return false;
        add(begin, end + before - begin, false, end + before - begin);
        add(end + before, to - end - before - after, true, longest);
        begin = to - after;
        return true;
      };
      for (const { start, pages: count } of used) {
        gap(start);
        end = start + count;
      }
      if (!gap(pages)) add(begin, pages - begin, false, pages - begin);
    }
    this.segments = segments;
    this.length = at;
  }

  /** Where a page is; its fraction is where in it. */
  position(page: number): number {
    const segment = this.segments[this.find(one => one.start + one.pages > page)];
    if (segment === undefined) return this.length;
    return segment.at + ((page - segment.start) / segment.pages) * segment.length;
  }

  /** Which page is at a position, with its fraction. */
  page(position: number): number {
    const segment = this.segments[this.find(one => one.at + one.length > position)] ?? this.segments.at(-1)!;
    const part = Math.min(Math.max((position - segment.at) / segment.length, 0), 1);
    return segment.start + part * segment.pages;
  }

  segmentAt(position: number): Segment | undefined {
    return this.segments[this.find(one => one.at + one.length > position)];
  }

  /** Segments that have a part between two positions. */
  between(from: number, to: number): readonly Segment[] {
    const first = this.find(one => one.at + one.length > from);
    const found: Segment[] = [];
    for (let index = first; index < this.segments.length && this.segments[index]!.at < to; index++) {
      found.push(this.segments[index]!);
    }
    return found;
  }

  private find(isFar: (segment: Segment) => boolean): number {
    let low = 0;
    let high = this.segments.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isFar(this.segments[middle]!)) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Puts stretches in order and makes one of those that touch. */
export function mergeStretches(stretches: readonly Stretch[]): Stretch[] {
  const sorted = [...stretches].sort((one, other) => one.start - other.start);
  const merged: { start: number; pages: number }[] = [];
  for (const { start, pages } of sorted) {
    const last = merged.at(-1);
    if (last !== undefined && start <= last.start + last.pages) {
      last.pages = Math.max(last.pages, start + pages - last.start);
    } else {
      merged.push({ start, pages });
    }
  }
  return merged;
}
