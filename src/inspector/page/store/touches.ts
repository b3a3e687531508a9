/** Which pages were touched by DMA, how often, by whom and when last: counted from the records that came by. */
import { Kind } from '../../../trace/event-kinds.ts';
import type { RecordCursor } from '../../../trace/record-cursor.ts';
import { wordsToPage } from '../format.ts';

/** Of all domains; more are counted but not told apart. */
export const MAX_TOUCHED_PAGES = 262_144;
/** Pages of one transfer that are told apart, from its start on. */
export const MAX_PAGES_OF_TRANSFER = 1024;
/** Devices that are told apart: one bit of a word for each. */
const MAX_DEVICES = 32;

export interface Touch {
  readonly page: number;
  readonly reads: number;
  readonly writes: number;
  readonly failures: number;
  /** Nanoseconds. */
  readonly last: number;
  readonly requesterIds: readonly number[];
}

/** One domain's pages. */
export class TouchedPages {
  /** Raised with every page that is new. */
  generation = 0;
  /** Those that touched anything: a bit for each. */
  devices = 0;
  private readonly index = new Map<number, number>();
  private pages = new Float64Array(64);
  private lasts = new Float64Array(64);
  /** Four to a page: reads, writes, failures, devices. */
  private counts = new Uint32Array(256);
  private ordered: Float64Array | undefined;

  get size(): number {
    return this.index.size;
  }

  /** False: it is not known yet, and may not become so. */
  add(page: number, what: 0 | 1 | 2, device: number, time: number, mayGrow: boolean): boolean {
    let at = this.index.get(page);
    if (at === undefined) {
      if (!mayGrow) return false;
      at = this.append(page);
    }
    this.lasts[at] = time;
    this.counts[at * 4 + what]!++;
    this.counts[at * 4 + 3]! |= 1 << device;
    this.devices |= 1 << device;
    return true;
  }

  at(page: number, devices: readonly number[]): Touch | undefined {
    const at = this.index.get(page);
    if (at === undefined) return undefined;
    const mask = this.counts[at * 4 + 3]!;
    return {
      page,
      reads: this.counts[at * 4]!,
      writes: this.counts[at * 4 + 1]!,
      failures: this.counts[at * 4 + 2]!,
      last: this.lasts[at]!,
      requesterIds: devices.filter((_, device) => (mask & (1 << device)) !== 0),
    };
  }

  /** Takes over what another one counted; returns how many pages of it were new, at most `room`. */
  absorb(other: TouchedPages, room: number): { readonly grown: number; readonly lost: number } {
    const before = this.size;
    this.devices |= other.devices;
    let lost = 0;
    for (const [page, from] of other.index) {
      let at = this.index.get(page);
      if (at === undefined && this.size - before >= room) {
        lost++;
        continue;
      }
      at ??= this.append(page);
      this.lasts[at] = Math.max(this.lasts[at]!, other.lasts[from]!);
      for (let n = 0; n < 3; n++) this.counts[at * 4 + n]! += other.counts[from * 4 + n]!;
      this.counts[at * 4 + 3]! |= other.counts[from * 4 + 3]!;
    }
    return { grown: this.size - before, lost };
  }

  /** Page numbers in order; made anew only when there are new ones. */
  sorted(): Float64Array {
    this.ordered ??= this.pages.slice(0, this.index.size).sort();
    return this.ordered;
  }

  /** Calls with the counts of each page from `from` to `to`, in order. */
  within(
    from: number,
    to: number,
    take: (page: number, reads: number, writes: number, failures: number, devices: number) => void,
  ): void {
    const pages = this.sorted();
    let low = 0;
    let high = pages.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (pages[middle]! < from) low = middle + 1;
      else high = middle;
    }
    for (; low < pages.length && pages[low]! <= to; low++) {
      const at = this.index.get(pages[low]!)! * 4;
      take(pages[low]!, this.counts[at]!, this.counts[at + 1]!, this.counts[at + 2]!, this.counts[at + 3]!);
    }
  }

  private append(page: number): number {
    const at = this.index.size;
    if (at === this.pages.length) {
      this.pages = grown(this.pages);
      this.lasts = grown(this.lasts);
      const counts = new Uint32Array(this.counts.length * 2);
      counts.set(this.counts);
      this.counts = counts;
    }
    this.pages[at] = page;
    this.index.set(page, at);
    this.ordered = undefined;
    this.generation++;
    return at;
  }
}

function grown(values: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(values.length * 2);
  larger.set(values);
  return larger;
}

/** In place of a domain, for a device of which it is not known yet. */
function pendingOf(requesterId: number): number {
  return -1 - requesterId;
}

export class Touches {
  /** Transfers counted, and pages that were not told apart because there were too many. */
  transfers = 0;
  beyond = 0;
  /** Requester ids in the order in which they came; the index is the bit in masks. */
  readonly devices: number[] = [];
  private size = 0;
  private readonly domains = new Map<number, TouchedPages>();
  private readonly domainsOf = new Map<number, number>();

  constructor(private readonly limit = MAX_TOUCHED_PAGES) {}

  /** Which domain a device's addresses are in, from now on; and before, as far as nothing was known. */
  attached(requesterId: number, domain: number): void {
    this.domainsOf.set(requesterId, domain);
    const pending = this.domains.get(pendingOf(requesterId));
    if (pending === undefined) return;
    this.domains.delete(pendingOf(requesterId));
    this.size -= pending.size;
    const touched = this.pagesOf(domain);
    const { grown, lost } = touched.absorb(pending, this.limit - this.size);
    this.size += grown;
    this.beyond += lost;
  }

  /** Undefined: not known. */
  domainOf(requesterId: number): number | undefined {
    return this.domainsOf.get(requesterId);
  }

  domain(domain: number): TouchedPages | undefined {
    return this.domains.get(domain);
  }

  /** In which anything was touched. */
  get domainNumbers(): number[] {
    return [...this.domains.keys()].filter(domain => domain >= 0);
  }

  touch(domain: number, page: number): Touch | undefined {
    return this.domains.get(domain)?.at(page, this.devices);
  }

  clear(): void {
    this.domains.clear();
    this.size = 0;
    this.transfers = 0;
    this.beyond = 0;
  }

  record(cursor: RecordCursor): void {
    switch (cursor.kind) {
      case Kind['dma.read']:
        this.transfer(cursor, 0);
        break;
      case Kind['dma.write']:
        this.transfer(cursor, 1);
        break;
      case Kind['dma.failed']:
        this.transfer(cursor, 2);
        break;
      case Kind.attach:
        // Those of a PASID are in other domains than the requester's own.
        if (cursor.word(3) === -1) this.attached(cursor.word(0) & 0xffff, cursor.word(1));
        break;
      case Kind.detach:
        if (cursor.word(3) === -1) this.domainsOf.delete(cursor.word(0) & 0xffff);
        break;
    }
  }

  private transfer(cursor: RecordCursor, what: 0 | 1 | 2): void {
    const requesterId = cursor.word(0) & 0xffff;
    // Addresses of a PASID are in a domain of its own, which the record does not tell.
    if (cursor.word(4) !== -1) {
      this.transfers++;
      this.beyond++;
      return;
    }
    const domain = this.domainsOf.get(requesterId) ?? pendingOf(requesterId);
    const device = this.deviceBit(requesterId);
    const first = wordsToPage(cursor.word(1), cursor.word(2));
    const offset = cursor.word(2) & 0xfff;
    const length = Math.max(cursor.word(3) >>> 0, 1);
    const pages = Math.floor((offset + length - 1) / 4096) + 1;
    // Of a failed transfer only the start is certain.
    const counted = what === 2 ? 1 : Math.min(pages, MAX_PAGES_OF_TRANSFER);
    const { time } = cursor;
    this.transfers++;
    const touched = this.pagesOf(domain);
    for (let n = 0; n < counted; n++) {
      const before = touched.size;
      if (!touched.add(first + n, what, device, time, this.size < this.limit)) this.beyond++;
      this.size += touched.size - before;
    }
    if (what !== 2) this.beyond += pages - counted;
  }

  private pagesOf(domain: number): TouchedPages {
    const known = this.domains.get(domain);
    if (known !== undefined) return known;
    const made = new TouchedPages();
    this.domains.set(domain, made);
    return made;
  }

  private deviceBit(requesterId: number): number {
    const known = this.devices.indexOf(requesterId);
    if (known >= 0) return known;
    if (this.devices.length >= MAX_DEVICES) return MAX_DEVICES - 1;
    return this.devices.push(requesterId) - 1;
  }
}
