/** Puts neighbouring mappings that changed alike into one event. */
import { EventClass, Kind, type MappingSource } from '../trace/event-kinds.ts';
import type { Events } from '../trace/events.ts';
import { FRAME_UNIT, frameOfMapping, permissionsOfMapping, shiftOfMapping } from './packed-mapping.ts';

export type MappingChange = 'added' | 'removed' | 'changed';

export class MappingRuns {
  private change: MappingChange = 'added';
  private domain = 0;
  private page = 0;
  private pages = 0;
  private mapping = 0;
  private before = 0;
  private how = 0;

  constructor(
    private readonly events: Events,
    private readonly source: number,
  ) {}

  /** `page` is the mapping's first; `before` what it was, where it changed. Told by `flush`, or when another does not follow it. */
  add(
    change: MappingChange,
    domain: number,
    page: number,
    mapping: number,
    before: number,
    how: (typeof MappingSource)[keyof typeof MappingSource],
  ): void {
    if (!this.follows(change, domain, page, mapping, before, how)) {
      this.flush();
      this.change = change;
      this.domain = domain;
      this.page = page;
      this.mapping = mapping;
      this.before = before;
      this.how = how;
    }
    this.pages += 2 ** (shiftOfMapping(mapping) - 12);
  }

  flush(): void {
    const { change, domain, page, pages, mapping, before, how, events } = this;
    this.pages = 0;
    if (pages === 0 || (events.mask & EventClass.mapping) === 0) return;
    events.emitLong(
      Kind[`mapping.${change}`],
      this.source,
      domain,
      Math.floor(page / 2 ** 20) | 0,
      ((page % 2 ** 20) << 12) | 0,
      frameOfMapping(mapping),
      pages,
      permissionsOfMapping(mapping) | (how << 8) | (shiftOfMapping(mapping) << 16),
      change === 'changed' ? frameOfMapping(before) : 0,
      change === 'changed' ? permissionsOfMapping(before) : 0,
      0,
      0,
      0,
      0,
      0,
    );
  }

  private follows(
    change: MappingChange,
    domain: number,
    page: number,
    mapping: number,
    before: number,
    how: number,
  ): boolean {
    const { pages } = this;
    return (
      pages !== 0 &&
      change === this.change &&
      how === this.how &&
      domain === this.domain &&
      page === this.page + pages &&
      // Below the frame, a mapping's number says how large it is and what it allows.
      mapping === this.mapping + pages * FRAME_UNIT &&
      before === this.before + pages * FRAME_UNIT
    );
  }
}
