/**
 * The store behind the IOTLB and the paging-structure cache: set-associative, keyed by (domain, address prefix), where a
 * prefix has one of a few sizes and all sizes live side by side. Flat int32 arrays; nothing is allocated after construction.
 */

/** A page number (address >> 12) has 52 bits: 32 in its low word and these in its high word. */
const PAGE_HIGH_BITS = 20;
const PAGE_HIGH_MASK = (1 << PAGE_HIGH_BITS) - 1;
const PAGE_BITS = 32 + PAGE_HIGH_BITS;

// One entry is eight words, half a cache line.
const ENTRY_SHIFT = 3;
const ENTRY_WORDS = 1 << ENTRY_SHIFT;
const PAGE_LOW = 0;
/** High word of the page number, and above it the size, so that entries of different sizes never compare equal. */
const TAG = 1;
const DOMAIN = 2;
const EPOCH = 3;
const FRAME = 4;
const PERMISSIONS = 5;

/** Groups that entries of the smallest size are counted in. */
const GROUPS = 256;
const GROUP_MASK = GROUPS - 1;

/** A range of up to 2^6 prefixes is looked up one by one; a larger one is found by going through all entries. */
const PROBE_ORDER = 6;
const SIZES_MAX = 64;
/** Odd, and puts sizes nine bits apart into sets far apart. */
const SIZE_SPREAD = 5;

/** One entry as `all` tells it. */
export interface CachedTranslation {
  readonly domain: number;
  /** Address of the first byte >> 12. */
  readonly page: bigint;
  /** log2 of the size. */
  readonly shift: number;
  readonly frame: number;
  readonly permissions: number;
}

export class TranslationCache {
  /** Entries of each size that are valid now, by log2 of the size in bytes; a size without any needs no look-up. */
  readonly live = new Int32Array(SIZES_MAX);
  /**
   * Valid entries of the smallest size by group: the low bits of the prefix of the next size around them, mixed with the domain. An empty group needs no look-up: so
   * large pages are not slower, by all the ways to be looked at in vain, for small ones elsewhere.
   */
  readonly groups = new Int32Array(GROUPS);
  /** Counts every change of what is known: whoever remembers an answer compares it. */
  changes = 0;

  private readonly smallest: number;
  private readonly groupShift: number;
  private readonly entries: Int32Array;
  /** For each set the way to be replaced next: round robin, so that a run can be repeated exactly. */
  private readonly victims: Uint8Array;
  private readonly ways: number;
  private readonly setMask: number;
  private readonly setBits: number;
  /**
   * Way by way, and all sets within: neighbouring prefixes, which lie in the same way of neighbouring sets, are neighbours in memory,
   * where the processor fetches ahead. log2 of the words of one way, and the bits of a word's index that tell the way.
   */
  private readonly wayShift: number;
  private readonly wayMask: number;
  private readonly shifts: readonly number[];
  /** An entry is valid if it carries this number: invalidating everything is counting on. Never 0. */
  private epoch = 1;
  /** Where the last look-up that found nothing looked, and for what: `insert` puts it there. */
  private missedFirst = 0;
  private missedPreferred = 0;
  private missedLow = 0;
  private missedTag = 0;

  /**
   * `sets` is a power of two; `shifts` lists log2 of the sizes of prefixes in bytes, ascending, each at least 12.
   * Throws a RangeError otherwise.
   */
  constructor(sets: number, ways: number, shifts: readonly number[]) {
    if (!Number.isInteger(Math.log2(sets)) || sets < 1 || sets > 1 << 20) {
      throw new RangeError(`the number of sets must be a power of two up to 2^20, not ${sets}`);
    }
    if (![1, 2, 4, 8, 16].includes(ways)) throw new RangeError(`ways must be 1, 2, 4, 8 or 16, not ${ways}`);
    if (shifts.some(shift => shift < 12 || shift >= SIZES_MAX)) throw new RangeError(`sizes out of range: ${shifts}`);
    this.ways = ways;
    this.setMask = sets - 1;
    this.setBits = Math.log2(sets);
    this.wayShift = this.setBits + ENTRY_SHIFT;
    this.wayMask = (ways - 1) << this.wayShift;
    this.shifts = shifts;
    this.smallest = shifts[0] ?? 12;
    this.groupShift = Math.min((shifts[1] ?? this.smallest) - 12, 31);
    this.entries = new Int32Array((sets * ways) << ENTRY_SHIFT);
    this.victims = new Uint8Array(sets);
  }

  /** The number of valid entries. */
  get size(): number {
    let size = 0;
    for (const shift of this.shifts) size += this.live[shift]!;
    return size;
  }

  /**
   * The entry of a page of 4 KiB that allows all of `access`, if it is where `insert` puts what it can. -1 does not say that there is
   * none: `find` knows.
   */
  findPreferred(domain: number, high: number, low: number, access: number): number {
    const { entries } = this;
    const page = (low >>> 12) | (high << 20);
    const round = page >>> this.setBits;
    const at = (((page ^ round ^ domain ^ (12 * 5)) & this.setMask) << 3) | ((round << this.wayShift) & this.wayMask);
    return entries[at] === page &&
      entries[at | 1] === ((high >>> 12) | (12 << 20)) &&
      entries[at | 2] === domain &&
      entries[at | 3] === this.epoch &&
      // 4 is nobody's access: it marks an entry that is no translation.
      (entries[at | 5]! & (access | 4)) === access
      ? at
      : -1;
  }

  /** As `find` for the smallest size, only quicker. */
  findSmallest(domain: number, high: number, low: number): number {
    const { entries } = this;
    const page = (low >>> 12) | (high << 20);
    if (this.smallest !== 12) return this.find(domain, high, low, this.smallest);
    const tag = (high >>> 12) | (12 << 20);
    const round = page >>> this.setBits;
    const first = ((page ^ round ^ domain ^ (12 * 5)) & this.setMask) << 3;
    const preferred = (round << this.wayShift) & this.wayMask;
    const at = first | preferred;
    if (
      entries[at] === page &&
      entries[at | 1] === tag &&
      entries[at | 2] === domain &&
      entries[at | 3] === this.epoch
    ) {
      return at;
    }
    if (this.groups[((page >>> this.groupShift) ^ domain) & 255] === 0) return -1;
    return this.probeOthers(domain, page, tag, first, preferred);
  }

  /**
   * Of an address that `entry` was found for: log2 of an aligned range around it, within the entry's page, in which every address is
   * found in the entry until the next change.
   */
  sameAnswerShift(entry: number, domain: number, high: number, low: number): number {
    const second = this.groupShift + 12;
    const shift = this.shiftOf(entry);
    // Within a large page, smaller ones may be known too, and are found first.
    if (shift < second || this.smallest !== 12 || second > 30) return this.smallest;
    if (shift !== second && this.live[second] !== 0) return this.smallest;
    const page = (low >>> 12) | (high << 20);
    return this.groups[((page >>> this.groupShift) ^ domain) & 255] === 0 ? second : this.smallest;
  }

  /** The entry that covers the address with a prefix of `1 << shift` bytes, or -1. Valid until the next change. */
  find(domain: number, high: number, low: number, shift: number): number {
    const entries = this.entries;
    let pageLow = (low >>> 12) | (high << 20);
    // The size stands above the page number's 20 high bits.
    let tag = (high >>> 12) | (shift << 20);
    // The prefix's own bits.
    let key = pageLow;
    if (shift !== 12) {
      const unit = shift - 12;
      if (unit < 32) {
        key = (pageLow >>> unit) | (tag << (32 - unit));
        pageLow &= -1 << unit;
      } else {
        key = (tag >>> (unit - 32)) | 0;
        pageLow = 0;
        tag &= -1 << (unit - 32);
      }
    }
    const round = key >>> this.setBits;
    // Neighbouring prefixes go to neighbouring sets; other sizes, other domains and what lies a whole round apart is spread.
    const first = ((key ^ round ^ domain ^ (shift * SIZE_SPREAD)) & this.setMask) << 3;
    const preferred = (round << this.wayShift) & this.wayMask;
    // First where `insert` puts it if it can. Word by word as laid out above; `|` because an entry is aligned, and costs no
    // check for overflow.
    const at = first | preferred;
    if (
      entries[at] === pageLow &&
      entries[at | 1] === tag &&
      entries[at | 2] === domain &&
      entries[at | 3] === this.epoch
    ) {
      return at;
    }
    return this.probeOthers(domain, pageLow, tag, first, preferred);
  }

  private probeOthers(domain: number, pageLow: number, tag: number, first: number, preferred: number): number {
    const { entries, epoch, wayMask } = this;
    const step = 1 << this.wayShift;
    for (let way = step; way <= wayMask; way += step) {
      const at = first | (preferred ^ way);
      if (
        entries[at + PAGE_LOW] === pageLow &&
        entries[at + TAG] === tag &&
        entries[at + DOMAIN] === domain &&
        entries[at + EPOCH] === epoch
      ) {
        return at;
      }
    }
    this.missedFirst = first;
    this.missedPreferred = preferred;
    this.missedLow = pageLow;
    this.missedTag = tag;
    return -1;
  }

  /**
   * How many pages of 4 KiB in a row are known, at most `max`, where each allows all of `access` and lies behind the one before;
   * the first at `frame`. Looks where `insert` puts what it can: there may be more, which `find` knows; -1 says that there are none,
   * because the first page is known otherwise. 0 where 4 KiB is not the smallest size. The row must not go over an address of 2^32.
   */
  countPages(domain: number, high: number, low: number, frame: number, access: number, max: number): number {
    if (this.smallest !== 12) return 0;
    const { entries, epoch, setBits, setMask, wayShift, wayMask } = this;
    const first = (low >>> 12) | (high << 20);
    const tag = (high >>> 12) | (12 << 20);
    const spread = domain ^ (12 * 5);
    // Nobody's access: marks an entry that is no translation.
    const examined = access | 4;
    let count = 0;
    for (; count < max; count++) {
      // As in `find`, without a call: this is most of what a page of a long transfer costs.
      const page = (first + count) | 0;
      const round = page >>> setBits;
      const at = (((page ^ round ^ spread) & setMask) << 3) | ((round << wayShift) & wayMask);
      if (entries[at] !== page || entries[at | 1] !== tag || entries[at | 2] !== domain || entries[at | 3] !== epoch)
        break;
      if (entries[at | 4] !== ((frame + count) | 0) || (entries[at | 5]! & examined) !== access) {
        return count === 0 ? -1 : count;
      }
    }
    return count;
  }

  frameOf(entry: number): number {
    return this.entries[entry | 4]!;
  }

  /** log2 of the size. */
  shiftOf(entry: number): number {
    return this.entries[entry | 1]! >>> 20;
  }

  permissionsOf(entry: number): number {
    return this.entries[entry | 5]!;
  }

  /** The valid entries, for people: in no order that means anything. */
  *all(): Generator<CachedTranslation, void, void> {
    const { entries, epoch } = this;
    for (let at = 0; at < entries.length; at += ENTRY_WORDS) {
      if (entries[at + EPOCH] !== epoch) continue;
      const tag = entries[at + TAG]!;
      yield {
        domain: entries[at + DOMAIN]!,
        page: (BigInt(tag & PAGE_HIGH_MASK) << 32n) | BigInt(entries[at + PAGE_LOW]! >>> 0),
        shift: tag >>> PAGE_HIGH_BITS,
        frame: entries[at + FRAME]!,
        permissions: entries[at + PERMISSIONS]!,
      };
    }
  }

  /** Remembers `frame` and `permissions` for the prefix of `1 << shift` bytes; replaces what was known of it. */
  insert(domain: number, high: number, low: number, shift: number, frame: number, permissions: number): void {
    const { entries, epoch } = this;
    this.changes++;
    const known = this.find(domain, high, low, shift);
    if (known >= 0) {
      entries[known + FRAME] = frame;
      entries[known + PERMISSIONS] = permissions;
      return;
    }
    const at = this.place();
    if (entries[at + EPOCH] === epoch) this.count(at, -1);
    entries[at + PAGE_LOW] = this.missedLow;
    entries[at + TAG] = this.missedTag;
    entries[at + DOMAIN] = domain;
    entries[at + EPOCH] = epoch;
    entries[at + FRAME] = frame;
    entries[at + PERMISSIONS] = permissions;
    this.count(at, 1);
  }

  /** Where to put what was not found: at its preferred place, else at any free one of its set, else at the next victim's. */
  private place(): number {
    const { entries, epoch, wayMask, missedFirst: first, missedPreferred: preferred } = this;
    const step = 1 << this.wayShift;
    for (let way = 0; way <= wayMask; way += step) {
      const at = first | (preferred ^ way);
      if (entries[at + EPOCH] !== epoch) return at;
    }
    const set = first >>> ENTRY_SHIFT;
    const victim = this.victims[set]!;
    this.victims[set] = (victim + 1) % this.ways;
    return first | (victim << this.wayShift);
  }

  drop(entry: number): void {
    this.changes++;
    this.count(entry, -1);
    this.entries[entry + EPOCH] = 0;
  }

  private count(entry: number, one: number): void {
    const { entries } = this;
    const shift = entries[entry + TAG]! >>> PAGE_HIGH_BITS;
    this.live[shift]! += one;
    if (shift === this.smallest)
      this.groups[((entries[entry + PAGE_LOW]! >>> this.groupShift) ^ entries[entry + DOMAIN]!) & GROUP_MASK]! += one;
  }

  /** Drops everything, in time that does not depend on the number of entries. Like its kin, returns how many went. */
  invalidateAll(): number {
    const count = this.size;
    this.changes++;
    this.live.fill(0);
    this.groups.fill(0);
    if (this.epoch === 0x7fffffff) {
      this.entries.fill(0);
      this.epoch = 0;
    }
    this.epoch++;
    return count;
  }

  invalidateDomain(domain: number): number {
    const { entries, epoch } = this;
    let count = 0;
    for (let at = 0; at < entries.length; at += ENTRY_WORDS) {
      if (entries[at + DOMAIN] !== domain || entries[at + EPOCH] !== epoch) continue;
      this.drop(at);
      count++;
    }
    return count;
  }

  /**
   * Drops every entry of the domain, of whatever size, that shares an address with the 2^order pages of 4 KiB around the
   * address; its lower bits are ignored.
   */
  invalidatePages(domain: number, high: number, low: number, order: number): number {
    if (order >= PAGE_BITS) return this.invalidateDomain(domain);
    for (const shift of this.shifts) {
      if (this.live[shift] !== 0 && order - (shift - 12) > PROBE_ORDER) {
        return this.scanPages(domain, high, low, order);
      }
    }
    // Probing starts at the aligned address: bits below the order would move it out of the range.
    const width = order + 12;
    const startHigh = width > 32 ? high & (-1 << (width - 32)) : high;
    const startLow = width >= 32 ? 0 : low & (-1 << width);
    let dropped = 0;
    for (const shift of this.shifts) {
      if (this.live[shift] === 0) continue;
      const count = order > shift - 12 ? 1 << (order - (shift - 12)) : 1;
      for (let i = 0; i < count; i++) {
        // The start is aligned to the whole range, so that the parts never overlap and `|` adds.
        const partLow = shift < 32 ? i << shift : 0;
        const partHigh = shift < 32 ? i >>> (32 - shift) : i << (shift - 32);
        const entry = this.find(domain, startHigh | partHigh, startLow | partLow, shift);
        if (entry < 0) continue;
        this.drop(entry);
        dropped++;
      }
    }
    return dropped;
  }

  private scanPages(domain: number, high: number, low: number, order: number): number {
    const { entries, epoch } = this;
    let dropped = 0;
    const pageLow = (low >>> 12) | (high << 20);
    const pageHigh = high >>> 12;
    for (let at = 0; at < entries.length; at += ENTRY_WORDS) {
      if (entries[at + DOMAIN] !== domain || entries[at + EPOCH] !== epoch) continue;
      const tag = entries[at + TAG]!;
      // Two aligned ranges share an address exactly if they agree on all bits above the larger of the two.
      const unit = Math.max(order, (tag >>> PAGE_HIGH_BITS) - 12);
      const differsLow = unit < 32 ? (entries[at + PAGE_LOW]! ^ pageLow) >>> unit : 0;
      const differsHigh = ((tag ^ pageHigh) & PAGE_HIGH_MASK) >>> (unit < 32 ? 0 : unit - 32);
      if ((differsLow | differsHigh) !== 0) continue;
      this.drop(at);
      dropped++;
    }
    return dropped;
  }
}
