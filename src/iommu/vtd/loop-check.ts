/**
 * Finds page tables that are their own ancestors. Hardware walks them as any other, and comes out somewhere; but then a device that
 * uses the right address reads and writes the tables themselves, and nearly always it was a stray write that made it so.
 */

import { WINDOW_FRAME_SHIFT } from '../../memory/guest-memory.ts';
import type { PageTableFormat } from '../../page-tables/format.ts';
import { Walker, WalkStatus } from '../../page-tables/walker.ts';
import { Kind } from '../../trace/event-kinds.ts';
import type { VtdCore } from './core.ts';

export class LoopCheck {
  /** For walks from the root. */
  private readonly own: Walker;

  /** `engineWalker` is the one whose walks are looked at. */
  constructor(
    private readonly core: VtdCore,
    format: PageTableFormat,
    private readonly engineWalker: Walker,
  ) {
    this.own = new Walker(format, core.memory, false);
  }

  /**
   * After a walk for the address: emits `table.loop` if it came to a table twice. One that began in the middle is gone again from the
   * root, unless it read only the table that it began with, which the walk before has led to.
   */
  check(requesterId: number, domain: number, rootFrame: number, levels: number, high: number, low: number): void {
    let walker = this.engineWalker;
    if (walker.startLevel < levels) {
      const isRemote = this.core.memory.windows[rootFrame >>> WINDOW_FRAME_SHIFT] === undefined;
      if (walker.level === walker.startLevel || isRemote) return;
      const { generation } = this.core;
      walker = this.own;
      if (walker.walk(rootFrame, levels, high, low, 0) === WalkStatus.tooWide) return;
      if (generation !== this.core.generation) return;
    } else if (walker.exceedsWidth(levels, high, low)) return;
    const { visited, startLevel, level: last } = walker;
    for (let level = startLevel - 1; level >= last; level--) {
      const frame = visited[level << 1]!;
      for (let above = level + 1; above <= startLevel; above++) {
        if (visited[above << 1] !== frame) continue;
        this.emit(requesterId, domain, high, low, level, above, frame);
        return;
      }
    }
  }

  private emit(
    requesterId: number,
    domain: number,
    high: number,
    low: number,
    level: number,
    above: number,
    frame: number,
  ): void {
    const { events, source } = this.core;
    const what = requesterId | (level << 16) | (above << 20);
    events.emitLong(
      Kind['table.loop'],
      source,
      what,
      high,
      low,
      domain,
      frame >>> 20,
      frame << 12,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
    );
  }
}
