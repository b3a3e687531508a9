/**
 * What walks have seen of tables that belong to software: told when it is seen first, and looked at again when software says that it
 * has changed something. Bounded; what is not taken in is counted.
 */
import { Kind, MappingSource } from '../../trace/event-kinds.ts';
import { MappingTable } from '../mapping-table.ts';
import { Translation } from '../translator.ts';
import type { MappingEvents } from './mapping-events.ts';
import { highOf, lowOf, pageOf } from './page-number.ts';

/** Mappings of all domains together, of which one leaves a quarter to the others: about 100 bytes each. */
export const KNOWN_MAPPINGS_MAX = 65536;
/** Mappings that one comparison of a whole domain looks at; the next one goes on with others. */
export const COMPARES_MAX = 2048;
/** Walks through memory that is reached by messages, in one comparison; what is beyond is left as it was known. */
export const WALKS_BY_MESSAGES_MAX = 64;

/** The tables of one domain as they are now, whatever is cached of them. */
export interface TableView {
  /** False: not mapped. `out.permissions` also has what only an unset dirty bit withholds. */
  fresh(high: number, low: number, out: Translation): boolean;
  /** Whether the last walk of `fresh` read tables by messages. */
  readonly byMessages: boolean;
}

interface Mapping {
  /** Page frame of the first page. */
  readonly frame: number;
  /** log2 of the bytes. */
  readonly shift: number;
  readonly permissions: number;
}

/** Of one domain. */
class DomainMappings {
  /** By page number of the first page. */
  readonly byPage = new MappingTable<Mapping>();
  /** log2 of the bytes of those that there have been, largest last. */
  readonly shifts: number[] = [];

  /** The first page of the mapping that covers this one, or -1. */
  find(page: number): number {
    for (const shift of this.shifts) {
      const first = aligned(page, shift);
      if (this.byPage.get(first)?.shift === shift) return first;
    }
    return -1;
  }
}

export class KnownMappings {
  /** How often a mapping was not taken in because there were too many. */
  forgotten = 0;
  /** Mappings looked at so far. */
  comparisons = 0;
  private readonly domains = new Map<number, DomainMappings>();
  private readonly out = new Translation();
  private count = 0;
  private walksByMessages = 0;

  constructor(
    private readonly events: MappingEvents,
    private readonly limit = KNOWN_MAPPINGS_MAX,
  ) {}

  get size(): number {
    return this.count;
  }

  /** A walk for the address came to this. */
  seen(domain: number, high: number, low: number, walked: Translation, view: TableView): void {
    const page = pageOf(high, low);
    const known = this.domains.get(domain);
    const first = known?.find(page) ?? -1;
    const before = known?.byPage.get(first);
    if (before !== undefined && before.shift === walked.shift && before.frame + (page - first) === walked.frame) return;
    // The walk itself may have left out a write that only lacks its mark.
    if (!view.fresh(high, low, this.out)) return;
    this.replace(domain, page, first, before, MappingSource.walk);
  }

  /** Looks again at mappings of the domain, up to `COMPARES_MAX` of them, in turns. */
  compareDomain(domain: number, view: TableView, how: number): void {
    this.compareSome(domain, COMPARES_MAX, view, how);
  }

  /** Looks at every mapping of the domain again. */
  compareAll(domain: number, view: TableView, how: number): void {
    this.compareSome(domain, this.limit, view, how);
  }

  /** Looks at the mapping again that covers the address, if any. */
  compareAt(domain: number, high: number, low: number, view: TableView, how: number): void {
    if (this.domains.get(domain) === undefined) return;
    this.walksByMessages = 0;
    this.comparePages(domain, pageOf(high, low), 1, 1, view, how);
  }

  /** Looks again at the mappings that cover any of the pages; none of them is smaller than `step` pages. */
  comparePages(domain: number, page: number, pages: number, step: number, view: TableView, how: number): void {
    const known = this.domains.get(domain);
    if (known === undefined || !this.events.wanted) return;
    this.events.begin(Kind['mapping.removed'], domain, how);
    for (let at = page; at < page + pages; ) {
      const first = known.find(at);
      const shift = known.byPage.get(first)?.shift ?? 12;
      if (first >= 0) this.compare(domain, known, first, view, how);
      at = first >= 0 ? first + 2 ** (shift - 12) : at + step;
    }
    this.events.end();
  }

  /** A run of comparisons of pages begins: what they may spend together is counted from here on. */
  beginComparison(): void {
    this.walksByMessages = 0;
  }

  /** The domain is gone, or its tables are: so are all mappings. */
  drop(domain: number, how: number): void {
    const known = this.domains.get(domain);
    if (known === undefined) return;
    this.domains.delete(domain);
    this.count -= known.byPage.size;
    if (!this.events.wanted) return;
    this.events.begin(Kind['mapping.removed'], domain, how);
    known.byPage.forEach((page, { frame, shift, permissions }) => {
      this.events.add(page, frame, 2 ** (shift - 12), permissions, shift);
    });
    this.events.end();
  }

  /** Forgets everything without a word. */
  clear(): void {
    this.domains.clear();
    this.count = 0;
  }

  private compareSome(domain: number, limit: number, view: TableView, how: number): void {
    const known = this.domains.get(domain);
    if (known === undefined || !this.events.wanted) return;
    this.walksByMessages = 0;
    const pages: number[] = [];
    const count = Math.min(limit, known.byPage.size, view.byMessages ? WALKS_BY_MESSAGES_MAX : limit);
    for (let i = 0; i < count; i++) pages.push(known.byPage.next());
    this.events.begin(Kind['mapping.removed'], domain, how);
    for (const first of pages.sort((a, b) => a - b)) this.compare(domain, known, first, view, how);
    this.events.end();
  }

  private compare(domain: number, known: DomainMappings, first: number, view: TableView, how: number): void {
    const before = known.byPage.get(first);
    if (before === undefined || this.walksByMessages >= WALKS_BY_MESSAGES_MAX) return;
    const { out, events } = this;
    this.comparisons++;
    const mapped = view.fresh(highOf(first), lowOf(first), out);
    if (view.byMessages) this.walksByMessages++;
    const { frame, shift, permissions } = before;
    if (!mapped) {
      this.remove(domain, known, first);
      events.add(first, frame, 2 ** (shift - 12), permissions, shift);
      return;
    }
    if (out.frame === frame && out.shift === shift && out.permissions === permissions) return;
    events.end();
    this.replace(domain, first, first, before, how);
    events.begin(Kind['mapping.removed'], domain, how);
  }

  /** Tells and remembers what `out` says of the page, in place of what is known: a mapping that begins at `first`, if any. */
  private replace(domain: number, page: number, first: number, before: Mapping | undefined, how: number): void {
    const { out, events } = this;
    const { shift, permissions } = out;
    const start = aligned(page, shift);
    const frame = out.frame - (page - start);
    const pages = 2 ** (shift - 12);
    if (before !== undefined && before.shift === shift) {
      if (before.frame === frame && before.permissions === permissions) return;
      this.put(domain, start, { frame, shift, permissions });
      events.changed(domain, how, start, pages, shift, frame, permissions, before.frame, before.permissions);
      return;
    }
    if (before !== undefined) {
      this.remove(domain, this.domains.get(domain)!, first);
      events.begin(Kind['mapping.removed'], domain, how);
      events.add(first, before.frame, 2 ** (before.shift - 12), before.permissions, before.shift);
      events.end();
    }
    if (!this.put(domain, start, { frame, shift, permissions })) return;
    events.begin(Kind['mapping.added'], domain, how);
    events.add(start, frame, pages, permissions, shift);
    events.end();
  }

  /** False where there is no room for one more. */
  private put(domain: number, page: number, mapping: Mapping): boolean {
    let known = this.domains.get(domain);
    if (known?.byPage.has(page) !== true) {
      const size = known?.byPage.size ?? 0;
      if (this.count >= this.limit || size >= this.limit - (this.limit >>> 2)) {
        this.forgotten++;
        return false;
      }
      this.count++;
    }
    if (known === undefined) {
      known = new DomainMappings();
      this.domains.set(domain, known);
    }
    known.byPage.set(page, mapping);
    if (!known.shifts.includes(mapping.shift)) {
      known.shifts.push(mapping.shift);
      known.shifts.sort((a, b) => a - b);
    }
    return true;
  }

  private remove(domain: number, known: DomainMappings, page: number): void {
    if (!known.byPage.delete(page)) return;
    this.count--;
    if (known.byPage.size === 0) this.domains.delete(domain);
  }
}

function aligned(page: number, shift: number): number {
  const pages = 2 ** (shift - 12);
  return page - (page % pages);
}
