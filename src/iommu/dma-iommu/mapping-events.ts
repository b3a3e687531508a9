/**
 * Says which mappings come and go: one event for each stretch of pages that are contiguous on both sides. One call of the interface
 * may name millions of scattered pages: beyond a limit it is told roughly, without the frames.
 */
import { EventClass, Kind } from '../../trace/event-kinds.ts';
import type { Events } from '../../trace/events.ts';
import { highOf, lowOf } from './page-number.ts';

/** Events of one call that say exactly which frames the pages have. */
export const EXACT_PIECES_MAX = 4096;
/** Pages of one event beyond that, whose frame is -1. */
export const ROUGH_PIECE_PAGES = 4096;
/** Pages of one event in any case, so that their number is a positive int32. */
const PIECE_PAGES_MAX = 2 ** 30;
export const UNKNOWN_FRAME = -1;

export class MappingEvents {
  private kind = 0;
  private domain = 0;
  /** Word 5 of the payload, but for the permissions. */
  private rest = 0;
  private exactLeft = 0;
  // The stretch that may still grow; none if it has no pages.
  private page = 0;
  private frame = 0;
  private pages = 0;
  private permissions = 0;

  constructor(
    private readonly records: Events,
    private readonly source: number,
  ) {}

  get wanted(): boolean {
    return (this.records.mask & EventClass.mapping) !== 0;
  }

  /** What follows up to `end` belongs together: an event kind's code, a domain's handle, `MappingSource`. */
  begin(kind: number, domain: number, how: number): void {
    this.kind = kind;
    this.domain = domain;
    this.rest = how << 8;
    this.exactLeft = EXACT_PIECES_MAX;
    this.pages = 0;
  }

  /** A stretch with the page size `1 << shift`: page number (address >> 12), frame of its first page, length in pages of 4 KiB. */
  add(page: number, frame: number, pages: number, permissions: number, shift: number): void {
    const rest = (this.rest & 0xff00) | (shift << 16);
    const rough = this.exactLeft === 0;
    if (
      this.pages > 0 &&
      page === this.page + this.pages &&
      (rough || frame === this.frame + this.pages) &&
      permissions === this.permissions &&
      rest === this.rest &&
      this.pages + pages <= (rough ? ROUGH_PIECE_PAGES : PIECE_PAGES_MAX)
    ) {
      this.pages += pages;
      return;
    }
    this.flush();
    this.page = page;
    this.frame = this.exactLeft === 0 ? UNKNOWN_FRAME : frame;
    this.pages = pages;
    this.permissions = permissions;
    this.rest = rest;
    while (this.pages > PIECE_PAGES_MAX) this.split();
  }

  end(): void {
    this.flush();
  }

  /** A mapping that leads elsewhere now. */
  changed(
    domain: number,
    how: number,
    page: number,
    pages: number,
    shift: number,
    frame: number,
    permissions: number,
    oldFrame: number,
    oldPermissions: number,
  ): void {
    const rest = permissions | (how << 8) | (shift << 16);
    const high = highOf(page);
    const low = lowOf(page);
    const kind = Kind['mapping.changed'];
    this.records.emitLong(
      kind,
      this.source,
      domain,
      high,
      low,
      frame,
      pages,
      rest,
      oldFrame,
      oldPermissions,
      0,
      0,
      0,
      0,
      0,
    );
  }

  private split(): void {
    const left = this.pages - PIECE_PAGES_MAX;
    this.pages = PIECE_PAGES_MAX;
    this.flush();
    this.page += PIECE_PAGES_MAX;
    if (this.frame !== UNKNOWN_FRAME) this.frame += PIECE_PAGES_MAX;
    this.pages = left;
  }

  private flush(): void {
    const { page, frame, pages, permissions, rest } = this;
    if (pages === 0) return;
    if (this.exactLeft > 0) this.exactLeft--;
    const high = highOf(page);
    const low = lowOf(page);
    const word = permissions | rest;
    this.records.emitLong(this.kind, this.source, this.domain, high, low, frame, pages, word, 0, 0, 0, 0, 0, 0, 0);
    this.pages = 0;
  }
}
