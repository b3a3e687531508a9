/** What is mapped in each domain, and what was: the shadow that the sanitizer keeps of the page tables. */
import { MappingSource } from '../event-kinds.ts';
import { MAX_EXTENT_STEPS, MAX_LIVE_MAPPINGS } from './limits.ts';
import { type LiveInterval, LiveMappings } from './live-mappings.ts';
import { PastMappings, REPLACED, UNKNOWN_TIME } from './past-mappings.ts';

/** Pages as an event names them. */
export interface MappedPages {
  readonly domain: number;
  /** IOVA >> 12. */
  readonly start: number;
  readonly pages: number;
  /** -1: they do not follow one another. */
  readonly frame: number;
  readonly permissions: number;
  /** `MappingSource`. */
  readonly how: number;
}

export class MappingHistory {
  readonly past: PastMappings;
  /** Mappings that did not fit: what is not known need not be absent. */
  forgotten = 0;
  readonly #domains = new Map<number, LiveMappings>();
  #live = 0;

  constructor(
    private readonly liveLimit: number = MAX_LIVE_MAPPINGS,
    pastLimit?: number,
  ) {
    this.past = new PastMappings(pastLimit);
  }

  get live(): number {
    return this.#live;
  }

  domains(): Iterable<number> {
    return this.#domains.keys();
  }

  of(domain: number): Iterable<LiveInterval> {
    return this.#domains.get(domain) ?? [];
  }

  at(domain: number, page: number): LiveInterval | undefined {
    return this.#domains.get(domain)?.at(page);
  }

  firstOverlap(domain: number, start: number, pages: number): LiveInterval | undefined {
    return this.#domains.get(domain)?.firstOverlap(start, pages);
  }

  /** Whether every page of the range is mapped. */
  covered(domain: number, start: number, pages: number): boolean {
    let at = start;
    while (at < start + pages) {
      const interval = this.at(domain, at);
      if (interval === undefined) return false;
      at = interval.start + interval.pages;
    }
    return true;
  }

  /** The mapped range around an interval: neighbours that allow the same, whoever mapped them. */
  extent(domain: number, interval: LiveInterval): { readonly start: number; readonly pages: number } {
    let { start } = interval;
    let end = start + interval.pages;
    for (let step = 0; step < MAX_EXTENT_STEPS; step++) {
      const before = this.at(domain, start - 1);
      if (before?.permissions !== interval.permissions) break;
      start = before.start;
    }
    for (let step = 0; step < MAX_EXTENT_STEPS; step++) {
      const after = this.at(domain, end);
      if (after?.permissions !== interval.permissions) break;
      end = after.start + after.pages;
    }
    return { start, pages: end - start };
  }

  /** The domains in which the page is mapped now, but this one. At most `limit`. */
  elsewhere(domain: number, page: number, limit: number): number[] {
    const found: number[] = [];
    for (const [other, live] of this.#domains) {
      if (found.length === limit) break;
      if (other !== domain && live.at(page) !== undefined) found.push(other);
    }
    return found;
  }

  /** Where the same is known already, its time stays; what it stands in place of is past. */
  added(mapped: MappedPages, time: number): void {
    const { domain, start, pages, frame, permissions, how } = mapped;
    const stop = start + pages;
    let at = start;
    while (at < stop) {
      const known = this.firstOverlap(domain, at, stop - at);
      const gapEnd = known === undefined ? stop : Math.max(at, known.start);
      const frameAt = frame < 0 ? -1 : frame + (at - start);
      if (known === undefined || gapEnd > at) {
        this.#insert(domain, { start: at, pages: gapEnd - at, frame: frameAt, permissions, how, since: time });
        at = gapEnd;
        continue;
      }
      const end = Math.min(stop, known.start + known.pages);
      if (!sameAs(known, at, frameAt, permissions) || how === MappingSource.operation) {
        this.#retire(domain, at, end - at, time, REPLACED);
        this.#insert(domain, { start: at, pages: end - at, frame: frameAt, permissions, how, since: time });
      }
      at = end;
    }
  }

  /** Pages that were not known are remembered as gone, too. */
  removed({ domain, start, pages, frame, permissions, how }: MappedPages, time: number): void {
    const { past } = this;
    const since = UNKNOWN_TIME;
    let at = start;
    const unknownUntil = (to: number) => {
      if (to <= at) return;
      const frameAt = frame < 0 ? -1 : frame + (at - start);
      past.add(domain, { start: at, pages: to - at, frame: frameAt, permissions, how, since }, time, how);
    };
    this.#retire(domain, start, pages, time, how, piece => {
      unknownUntil(piece.start);
      at = piece.start + piece.pages;
    });
    unknownUntil(start + pages);
  }

  changed(mapped: MappedPages, time: number): void {
    this.#retire(mapped.domain, mapped.start, mapped.pages, time, REPLACED);
    this.added(mapped, time);
  }

  /** Everything in a domain is gone, or not to be relied on any more. */
  dropDomain(domain: number, time: number, how: number): void {
    this.#retire(domain, 0, Number.MAX_SAFE_INTEGER, time, how);
  }

  #retire(
    domain: number,
    start: number,
    pages: number,
    time: number,
    removedHow: number,
    each?: (piece: LiveInterval) => void,
  ): void {
    const live = this.#domains.get(domain);
    if (live === undefined) return;
    const before = live.size;
    const forgot = live.remove(start, pages, this.#live < this.liveLimit, piece => {
      this.past.add(domain, piece, time, removedHow);
      each?.(piece);
    });
    if (forgot) this.forgotten++;
    this.#live += live.size - before;
    if (live.size === 0) this.#domains.delete(domain);
  }

  #insert(domain: number, interval: LiveInterval): void {
    if (this.#live >= this.liveLimit) {
      this.forgotten++;
      return;
    }
    let live = this.#domains.get(domain);
    if (live === undefined) {
      live = new LiveMappings();
      this.#domains.set(domain, live);
    }
    live.insert(interval);
    this.#live++;
  }
}

function sameAs(known: LiveInterval, page: number, frame: number, permissions: number): boolean {
  if (known.permissions !== permissions) return false;
  if (known.frame < 0 || frame < 0) return known.frame === frame;
  return known.frame + (page - known.start) === frame;
}
