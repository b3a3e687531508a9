/**
 * Mappings of tables that software writes without a word to the IOMMU: known since a walk saw them, and compared with the tables
 * when software invalidates, which is when it says that something has changed. Tells of what came, changed and went in events.
 */
import type { GuestMemory } from '../memory/guest-memory.ts';
import { LeafRule, type PageTableFormat } from '../page-tables/format.ts';
import { Walker, WalkStatus } from '../page-tables/walker.ts';
import { MappingSource } from '../trace/event-kinds.ts';
import type { Events } from '../trace/events.ts';
import { MappingRuns } from './mapping-runs.ts';
import { MappingTable } from './mapping-table.ts';
import { pack, permissionsOfMapping, shiftOfMapping } from './packed-mapping.ts';
import { TableScan } from './table-scan.ts';

/** Of all domains together, of which one leaves a quarter to the others; beyond it none is taken in, and that is counted. */
export const KNOWN_MAPPINGS_MAX = 65536;
/** Known mappings that an invalidation of a whole domain compares; the next one goes on with others. */
export const COMPARES_MAX = 2048;
/** What one invalidation looks at in search of new mappings: entries that map pages, and entries in all. */
export const SCAN_LEAVES_MAX = 4096;
export const SCAN_STEPS_MAX = 16384;
/**
 * Known mappings that one invalidation compares in memory that is reached by messages; those that differ are looked at twice. New ones
 * are not searched for there.
 */
export const REMOTE_COMPARES_MAX = 64;

/** log2 of how many looks at an entry, without a walk, count as one comparison. */
const WORK_SHIFT = 3;

/** `Access` bits. */
const READ_WRITE = 3;

/** Comparisons that telling of a change is worth. */
const CHANGE_WORK = 8;

type Source = (typeof MappingSource)[keyof typeof MappingSource];

/** One past the last page number of a 64-bit address. */
const PAGES_END = 2 ** 52;
function pageOf(high: number, low: number): number {
  return (high >>> 0) * 2 ** 20 + (low >>> 12);
}

interface DomainMappings {
  /** By first page. */
  readonly byPage: MappingTable<number>;
  /** Numbers of mappings larger than a page, by log2 of their bytes. */
  readonly large: Map<number, number>;
  /** Where the next search through the whole domain begins. */
  resume: number;
}

/** Where a domain's tables are. */
export interface DomainTables {
  readonly rootFrame: number;
  readonly levels: number;
}

export class KnownMappings {
  /** How often a mapping was not taken in because there were too many. */
  forgotten = 0;
  /** Grows by what is done, in comparisons of one mapping: about 100 ns each. */
  work = 0;

  private size = 0;
  private readonly domains = new Map<number, DomainMappings>();
  private readonly walker: Walker;
  private readonly scan: TableScan;
  private readonly runs: MappingRuns;
  /** log2 of the bytes of large pages. */
  private readonly largeShifts: readonly number[];
  private readonly maxOfDomain: number;

  /** Throws a RangeError on formats whose pages are not of 4 KiB. */
  constructor(
    events: Events,
    source: number,
    format: PageTableFormat,
    private readonly memory: GuestMemory,
    private readonly max = KNOWN_MAPPINGS_MAX,
  ) {
    this.walker = new Walker(format, memory, false);
    this.scan = new TableScan(format, memory);
    this.runs = new MappingRuns(events, source);
    this.maxOfDomain = max - (max >>> 2);
    this.largeShifts = format.levels.flatMap((level, i) =>
      i === 0 || level.leaf === LeafRule.never ? [] : [12 + format.bitsPerLevel * i],
    );
  }

  get count(): number {
    return this.size;
  }

  /** Domains of which mappings are known. */
  ids(): number[] {
    return [...this.domains.keys()];
  }

  /** A walk found this mapping of `1 << shift` bytes; `frame` is that of any page in it. */
  seen(domain: number, high: number, low: number, shift: number, frame: number, permissions: number): void {
    const within = 2 ** (shift - 12);
    const asked = pageOf(high, low);
    const page = asked - (asked % within);
    const mapping = pack(frame - (asked % within), shift, permissions);
    const known = this.domains.get(domain);
    const before = known?.byPage.get(page);
    if (before === mapping) return;
    if (known !== undefined && before === undefined) this.dropAround(domain, known, page, shift, MappingSource.walk);
    this.replace(domain, page, before, mapping, MappingSource.walk);
    this.runs.flush();
  }

  /** Compares what is known of the domain's pages from the address on, and searches there for what is new. */
  comparePages(domain: number, tables: DomainTables, high: number, low: number, pages: number, how: Source): void {
    const first = pageOf(high, low);
    this.compare(domain, tables, first, first + pages - 1, how);
    this.search(domain, tables, first, first + pages - 1, how);
  }

  /** Compares what is known at one address, and searches for nothing. */
  compareAt(domain: number, tables: DomainTables, high: number, low: number, how: Source): void {
    const page = pageOf(high, low);
    this.compare(domain, tables, page, page, how);
  }

  /** For all of the domain: up to `COMPARES_MAX` of what is known, in turns, and a search for what is new that goes on the next time. */
  compareDomain(domain: number, tables: DomainTables, how: Source): void {
    const before = this.domains.get(domain);
    if (before !== undefined) this.settle(domain, before, tables, this.inTurn(before, tables), how);
    const resume = this.domains.get(domain)?.resume ?? 0;
    const stopped = this.search(domain, tables, resume, PAGES_END - 1, how);
    const known = this.domains.get(domain);
    if (known !== undefined) known.resume = Math.max(stopped, 0);
  }

  /** Compares all that is known, and searches for nothing: the domain's tables are about to go. */
  compareKnown(domain: number, tables: DomainTables, how: Source): void {
    this.compare(domain, tables, 0, PAGES_END - 1, how);
  }

  /** The domain is no more: nothing is told. */
  forget(domain: number): void {
    const known = this.domains.get(domain);
    if (known === undefined) return;
    this.size -= known.byPage.size;
    this.domains.delete(domain);
  }

  clear(): void {
    for (const domain of this.ids()) this.forget(domain);
  }

  private compare(domain: number, tables: DomainTables, first: number, last: number, how: Source): void {
    const known = this.domains.get(domain);
    if (known === undefined) return;
    const limit = this.isRemote(tables) ? REMOTE_COMPARES_MAX : this.max;
    this.settle(domain, known, tables, this.differing(known, tables, first, last, limit), how);
  }

  /** Looks again at pages that seemed to differ from what is known of them, and tells. */
  private settle(
    domain: number,
    known: DomainMappings,
    tables: DomainTables,
    pages: readonly number[],
    how: Source,
  ): void {
    for (const page of pages) {
      // A reset may have come while guest memory was read.
      if (this.domains.get(domain) !== known) break;
      const before = known.byPage.get(page);
      const now = before === undefined ? -1 : this.walk(tables, page);
      if (before === undefined || now === before) continue;
      if (this.domains.get(domain) !== known || known.byPage.get(page) !== before) continue;
      if (now < 0 || shiftOfMapping(now) !== shiftOfMapping(before)) this.remove(domain, known, page, before, how);
      else this.replace(domain, page, before, now, how);
    }
    this.runs.flush();
  }

  private isRemote(tables: DomainTables): boolean {
    return this.memory.windows[tables.rootFrame >>> 18] === undefined;
  }

  /** First pages of known mappings whose turn it is and that differ from the tables, in order. */
  private inTurn(known: DomainMappings, tables: DomainTables): number[] {
    const limit = this.isRemote(tables) ? REMOTE_COMPARES_MAX : COMPARES_MAX;
    const found: number[] = [];
    for (let left = Math.min(limit, known.byPage.size); left > 0; left--) {
      const page = known.byPage.next();
      const mapping = known.byPage.get(page);
      if (mapping === undefined) break;
      if (this.walk(tables, page, permissionsOfMapping(mapping)) !== mapping) found.push(page);
    }
    return found.sort((a, b) => a - b);
  }

  /** First pages of known mappings that share an address with the range and differ from the tables, in order; walks `limit` times. */
  private differing(known: DomainMappings, tables: DomainTables, first: number, last: number, limit: number): number[] {
    const found: number[] = [];
    let left = limit;
    const look = (page: number, mapping: number) => {
      if (left-- > 0 && this.walk(tables, page, permissionsOfMapping(mapping)) !== mapping) found.push(page);
    };
    if (last - first >= known.byPage.size) {
      this.work += known.byPage.size >>> WORK_SHIFT;
      const within: number[] = [];
      known.byPage.forEach((page, mapping) => {
        if (page <= last && page + 2 ** (shiftOfMapping(mapping) - 12) > first) within.push(page);
      });
      // Apart, because memory that is waited for may bring a reset.
      for (const page of within) look(page, known.byPage.get(page)!);
      return found.sort((a, b) => a - b);
    }
    for (const shift of this.largeShifts) {
      const around = first - (first % 2 ** (shift - 12));
      if (around === first || !known.large.has(shift)) continue;
      const mapping = known.byPage.get(around);
      if (mapping !== undefined && shiftOfMapping(mapping) === shift) look(around, mapping);
    }
    this.work += (last - first) >>> WORK_SHIFT;
    for (let page = first; page <= last; page++) {
      const mapping = known.byPage.get(page);
      if (mapping !== undefined) look(page, mapping);
    }
    return found;
  }

  /** Tells of mappings that are there and were not known. Returns where a limit ended the search, or -1. */
  private search(domain: number, tables: DomainTables, first: number, last: number, how: Source): number {
    if (this.isFull(this.domains.get(domain))) return -1;
    const limits = { leaves: SCAN_LEAVES_MAX, steps: SCAN_STEPS_MAX };
    const stopped = this.scan.run(tables.rootFrame, tables.levels, first, last, limits, page => {
      const known = this.domains.get(domain);
      if (known?.byPage.has(page)) return;
      const mapping = this.walk(tables, page);
      if (mapping < 0) return;
      if (known !== undefined) this.dropAround(domain, known, page, shiftOfMapping(mapping), how);
      this.replace(domain, page, undefined, mapping, how);
    });
    this.work += this.scan.steps >>> WORK_SHIFT;
    this.runs.flush();
    return stopped;
  }

  /** What a walk from the root says of a page, or -1 where nothing can be accessed. `expected`: `Access` bits that are likely allowed. */
  private walk({ rootFrame, levels }: DomainTables, page: number, expected = READ_WRITE): number {
    const { walker } = this;
    this.work++;
    const high = Math.floor(page / 2 ** 20) | 0;
    const low = ((page % 2 ** 20) << 12) | 0;
    // An access that is allowed takes the walker's short way; what is allowed at all, the walk for none tells.
    let status = walker.walk(rootFrame, levels, high, low, expected);
    if (status === WalkStatus.denied) status = walker.walk(rootFrame, levels, high, low, 0);
    if (status !== WalkStatus.ok || walker.permissions === 0) return -1;
    return pack(walker.frame - (page % 2 ** (walker.shift - 12)), walker.shift, walker.permissions);
  }

  /** A large mapping that was known around the page, or at it, gives way to another. */
  private dropAround(domain: number, known: DomainMappings, page: number, shift: number, how: Source): void {
    for (const large of this.largeShifts) {
      if (large <= shift || !known.large.has(large)) continue;
      const around = page - (page % 2 ** (large - 12));
      const mapping = known.byPage.get(around);
      if (mapping !== undefined && shiftOfMapping(mapping) === large) this.remove(domain, known, around, mapping, how);
    }
  }

  private remove(domain: number, known: DomainMappings, page: number, mapping: number, how: Source): void {
    this.work += CHANGE_WORK;
    known.byPage.delete(page);
    this.size--;
    countLarge(known, shiftOfMapping(mapping), -1);
    if (known.byPage.size === 0) this.domains.delete(domain);
    this.runs.add('removed', domain, page, mapping, mapping, how);
  }

  private replace(domain: number, page: number, before: number | undefined, mapping: number, how: Source): void {
    let known = this.domains.get(domain);
    if (known !== undefined && before !== undefined && shiftOfMapping(before) !== shiftOfMapping(mapping)) {
      this.remove(domain, known, page, before, how);
      before = undefined;
      known = this.domains.get(domain);
    }
    if (before === undefined && this.isFull(known)) {
      this.forgotten++;
      return;
    }
    if (known === undefined) {
      known = { byPage: new MappingTable(), large: new Map(), resume: 0 };
      this.domains.set(domain, known);
    }
    this.work += CHANGE_WORK;
    if (before === undefined) this.size++;
    else countLarge(known, shiftOfMapping(before), -1);
    known.byPage.set(page, mapping);
    countLarge(known, shiftOfMapping(mapping), 1);
    this.runs.add(before === undefined ? 'added' : 'changed', domain, page, mapping, before ?? mapping, how);
  }

  /** Whether the domain cannot have one more. */
  private isFull(known: DomainMappings | undefined): boolean {
    return this.size >= this.max || (known !== undefined && known.byPage.size >= this.maxOfDomain);
  }
}

function countLarge(known: DomainMappings, shift: number, one: number): void {
  if (shift === 12) return;
  const count = (known.large.get(shift) ?? 0) + one;
  if (count > 0) known.large.set(shift, count);
  else known.large.delete(shift);
}
