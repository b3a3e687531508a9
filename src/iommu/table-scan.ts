/** Goes through page tables in memory that windows show, from present entry to present entry; holes are skipped level by level. */
import { type GuestMemory, WINDOW_FRAME_MASK, WINDOW_FRAME_SHIFT } from '../memory/guest-memory.ts';
import { LeafRule, type PageTableFormat } from '../page-tables/format.ts';

/** Address bits of an entry's high word that a page-frame number has no room for. */
const UNREACHABLE_HIGH = ~0x7ff;

export class TableScan {
  /** After `run`: entries that map pages, and entries looked at. */
  leaves = 0;
  steps = 0;

  private readonly entries: number;
  /** By level: pages of 4 KiB that one entry translates. Doubles: a page number has up to 52 bits. */
  private readonly spans: readonly number[];
  private maxLeaves = 0;
  private maxSteps = 0;
  private first = 0;
  private last = 0;
  private visit: (page: number) => void = () => {};

  /** Formats with a granule of 4 KiB only: throws a RangeError otherwise. */
  constructor(
    private readonly format: PageTableFormat,
    private readonly memory: GuestMemory,
  ) {
    if (format.granuleShift !== 12) throw new RangeError(`${format.name}: pages are not of 4 KiB`);
    this.entries = 1 << format.bitsPerLevel;
    this.spans = [0, ...format.levels.map((_, i) => this.entries ** i)];
  }

  /**
   * Calls `visit` with the first page (IOVA >> 12) of each present mapping that shares an address with pages `first` to `last`, in
   * order; whether the entry is a good one, a walk tells. Returns the page at which a limit ended it, or -1.
   */
  run(
    root: number,
    levels: number,
    first: number,
    last: number,
    limits: { readonly leaves: number; readonly steps: number },
    visit: (page: number) => void,
  ): number {
    this.leaves = 0;
    this.steps = 0;
    this.maxLeaves = limits.leaves;
    this.maxSteps = limits.steps;
    this.first = first;
    this.last = last;
    this.visit = visit;
    return this.table(root, levels, 0);
  }

  private table(frame: number, level: number, base: number): number {
    const words = this.memory.windows[frame >>> WINDOW_FRAME_SHIFT]?.words;
    if (words === undefined) return -1;
    const { format, first, last } = this;
    const span = this.spans[level]!;
    const rule = format.levels[level - 1]!;
    const from = Math.max(0, Math.floor((first - base) / span));
    const to = Math.min(this.entries - 1, Math.floor((last - base) / span));
    const start = (frame & WINDOW_FRAME_MASK) << 10;
    for (let index = from; index <= to; index++) {
      const page = base + index * span;
      if (this.steps >= this.maxSteps || this.leaves >= this.maxLeaves) return Math.max(page, first);
      this.steps++;
      const low = words[start + (index << 1)]!;
      if ((low & format.presentAny) === 0) continue;
      const marked = ((low & format.leafBit) !== 0) !== (format.leafBitClear ?? false);
      if (rule.leaf === LeafRule.always || (rule.leaf === LeafRule.byLeafBit && marked)) {
        this.leaves++;
        this.visit(page);
        continue;
      }
      const high = words[start + (index << 1) + 1]! & format.address[1];
      if (level === 1 || (high & UNREACHABLE_HIGH) !== 0) continue;
      const stopped = this.table((high << 20) | ((low & format.address[0]) >>> 12), level - 1, page);
      if (stopped >= 0) return stopped;
    }
    return -1;
  }
}
