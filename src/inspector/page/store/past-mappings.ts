/** Mappings that records told of, also those that are gone by now: of a recorded file, all that was ever there. */
import { Kind } from '../../../trace/event-kinds.ts';
import type { RecordCursor } from '../../../trace/record-cursor.ts';
import { wordsToPage } from '../format.ts';
import type { Mapping } from '../wire.ts';

/** Of all domains; of more only the first ones are known. */
export const MAX_PAST_MAPPINGS = 65_536;

/** Payload words of `mapping.*`. */
const DOMAIN = 0;
const IOVA = 1;
const FRAME = 3;
const PAGES = 4;
const PERMISSIONS = 5;

export class PastMappings {
  /** Raised with every change. */
  generation = 0;
  /** Mappings that were not kept because there were too many. */
  beyond = 0;
  /** By domain, then by the first page; the newest of each. */
  private readonly domains = new Map<number, Map<number, Mapping>>();
  private size = 0;

  constructor(private readonly limit = MAX_PAST_MAPPINGS) {}

  get domainNumbers(): number[] {
    return [...this.domains.keys()];
  }

  clear(): void {
    this.domains.clear();
    this.size = 0;
    this.beyond = 0;
    this.generation++;
  }

  record(cursor: RecordCursor): void {
    switch (cursor.kind) {
      case Kind['mapping.added']:
      case Kind['mapping.changed']:
        this.add(cursor);
        break;
      case Kind['mapping.removed']:
        this.remove(cursor);
        break;
    }
  }

  /** In the order of the pages; where two were at the same place, the newer one. */
  of(domain: number): Mapping[] {
    const sorted = [...(this.domains.get(domain)?.values() ?? [])].sort((one, other) => one.page - other.page);
    const shown: Mapping[] = [];
    for (const mapping of sorted) {
      let before = shown.at(-1);
      while (before !== undefined && overlaps(before, mapping) && before.since <= mapping.since) {
        shown.pop();
        before = shown.at(-1);
      }
      if (before === undefined || !overlaps(before, mapping)) shown.push(mapping);
    }
    return shown;
  }

  private add(cursor: RecordCursor): void {
    const domain = cursor.word(DOMAIN);
    const mapping: Mapping = {
      domain,
      page: wordsToPage(cursor.word(IOVA), cursor.word(IOVA + 1)),
      pages: cursor.word(PAGES) >>> 0,
      frame: cursor.word(FRAME),
      permissions: cursor.word(PERMISSIONS) & 3,
      since: cursor.time,
    };
    let own = this.domains.get(domain);
    if (own?.has(mapping.page) !== true) {
      if (this.size >= this.limit) {
        this.beyond++;
        return;
      }
      this.size++;
    }
    if (own === undefined) {
      own = new Map();
      this.domains.set(domain, own);
    }
    own.set(mapping.page, mapping);
    this.generation++;
  }

  /** What is removed may be larger than what was added: whole ranges go at once. */
  private remove(cursor: RecordCursor): void {
    const own = this.domains.get(cursor.word(DOMAIN));
    if (own === undefined) return;
    const page = wordsToPage(cursor.word(IOVA), cursor.word(IOVA + 1));
    const pages = cursor.word(PAGES) >>> 0;
    const end = (one: Mapping) => {
      if (one.until === undefined) own.set(one.page, { ...one, until: cursor.time });
    };
    if (pages <= own.size) {
      for (let n = 0; n < pages; n++) {
        const one = own.get(page + n);
        if (one !== undefined) end(one);
      }
    } else {
      for (const one of [...own.values()]) if (one.page >= page && one.page < page + pages) end(one);
    }
    this.generation++;
  }
}

function overlaps(one: Mapping, next: Mapping): boolean {
  return one.page + one.pages > next.page;
}
