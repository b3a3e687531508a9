/** Says what the operations map and unmap in the tables that we build; which frames go, the tables tell while they still have them. */
import { WINDOW_FRAME_MASK, WINDOW_FRAME_SHIFT } from '../../memory/guest-memory.ts';
import type { TableBuilder } from '../../page-tables/table-builder.ts';
import { Walker, WalkStatus } from '../../page-tables/walker.ts';
import { Kind, MappingSource } from '../../trace/event-kinds.ts';
import { Access } from '../translator.ts';
import type { MappingEvents } from './mapping-events.ts';
import { highOf, lowOf } from './page-number.ts';
import type { PhysicalPages } from './physical-pages.ts';

const PAGE_SHIFT = 12;
const TABLE_PAGES = 512;
const ANY_ACCESS = 0;
const PERMISSIONS = Access.read | Access.write;

type Visit = (page: number, frame: number, permissions: number) => void;

export class ManagedEvents {
  private readonly walker: Walker;
  private readonly addressHigh: number;

  constructor(
    private readonly events: MappingEvents,
    private readonly builder: TableBuilder,
  ) {
    this.walker = new Walker(builder.format, builder.memory, false);
    this.addressHigh = builder.format.address[1];
  }

  mapped(domain: number, start: number, physical: PhysicalPages, permissions: number): void {
    const { events } = this;
    if (!events.wanted) return;
    events.begin(Kind['mapping.added'], domain, MappingSource.operation);
    const { frames } = physical;
    if (frames === undefined) events.add(start, physical.first, physical.pages, permissions, PAGE_SHIFT);
    else for (let i = 0; i < frames.length; i++) events.add(start + i, frames[i]!, 1, permissions, PAGE_SHIFT);
    events.end();
  }

  mappedIdentity(
    domain: number,
    pieces: readonly { readonly first: number; readonly pages: number }[],
    permissions: number,
  ): void {
    const { events } = this;
    if (!events.wanted) return;
    events.begin(Kind['mapping.added'], domain, MappingSource.operation);
    for (const { first, pages } of pieces) events.add(first, first, pages, permissions, PAGE_SHIFT);
    events.end();
  }

  /** One call unmaps what `unmapped` is told from here up to `end`. */
  beginUnmapped(domain: number): void {
    this.events.begin(Kind['mapping.removed'], domain, MappingSource.operation);
  }

  /** What the tables map of these pages, before it goes. */
  unmapped(root: number, start: number, pages: number): void {
    if (this.events.wanted) this.addMapped(root, start, pages);
  }

  end(): void {
    this.events.end();
  }

  private addMapped(root: number, start: number, pages: number): void {
    const { events } = this;
    this.forEachMapped(root, start, pages, (page, frame, permissions) =>
      events.add(page, frame, 1, permissions, PAGE_SHIFT),
    );
  }

  /** What the tables map of these pages, page by page. */
  forEachMapped(root: number, start: number, pages: number, visit: Visit): void {
    const { builder, walker } = this;
    const end = start + pages;
    for (let at = start; at < end; ) {
      const first = at % TABLE_PAGES;
      const next = Math.min(end, at - first + TABLE_PAGES);
      const status = walker.walk(root, builder.levels, highOf(at), lowOf(at), ANY_ACCESS);
      // Pages are mapped in tables of level 1 only; where the walk has not come to one there is none.
      if (status === WalkStatus.ok || walker.level === 1) {
        this.visitTable(walker.visited[2]!, first, at, next - at, visit);
      }
      at = next;
    }
  }

  private visitTable(table: number, first: number, page: number, pages: number, visit: Visit): void {
    const { addressHigh } = this;
    const { words } = this.builder.memory.windows[table >>> WINDOW_FRAME_SHIFT]!;
    const from = ((table & WINDOW_FRAME_MASK) << 10) | (first << 1);
    for (let i = 0; i < pages; i++) {
      const low = words[from + 2 * i]!;
      const permissions = low & PERMISSIONS;
      if (permissions === 0) continue;
      const frame = ((words[from + 2 * i + 1]! & addressHigh) << 20) | (low >>> 12);
      visit(page + i, frame, permissions);
    }
  }
}
