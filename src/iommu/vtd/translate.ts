/**
 * DMA remapping in legacy mode (3.4): requester id to context entry, context entry to page tables, and every way in which
 * that can fail. The path of a request that finds its context entry and its page cached allocates nothing.
 */
import { WalkStatus } from '../../page-tables/walker.ts';
import { address64 } from '../address64.ts';
import type { TranslationCache } from '../translation-cache.ts';
import type { TranslationEngine } from '../translation-engine.ts';
import { Access, bytesToPageEnd, type Translation } from '../translator.ts';
import { type ContextCache, FAULT_DOMAIN, Slot, SlotKind } from './context-cache.ts';
import { ContextReader } from './context-reader.ts';
import { frameOf, type VtdCore } from './core.ts';
import { FaultReason } from './fault-reasons.ts';
import type { FaultLog } from './faults.ts';
import { RecentPage } from './recent-page.ts';
import { Refusals } from './refusals.ts';
import type { VtdStatistics } from './statistics.ts';

const READ_WRITE = Access.read | Access.write;
const PAGE_SHIFT = 12;
const GIBIBYTE_SHIFT = 30;
/** FEEx_xxxxh, where processors take interrupt messages (3.15). */
const INTERRUPT_MEBIBYTE = 0xfee;
const INTERRUPT_FRAME = INTERRUPT_MEBIBYTE << 8;
/** Bits of an address's upper word that a frame number has no room for. */
const UNADDRESSABLE = ~0x7ff;

export class DmaRemapper {
  /** GSTS.TES. */
  enabled = false;
  /** What the last Set Root Table Pointer took over from RTADDR. */
  rootFrame = 0;
  mode = 0;
  readonly refusals: Refusals;
  /** `statistics.translations` when a walk last answered a request. */
  private walkedAt = -1;

  private readonly reader: ContextReader;
  private readonly cachingMode: boolean;
  private readonly recent = new RecentPage();
  private readonly cache: TranslationCache;
  private readonly statistics: VtdStatistics;
  private readonly engineCounters: TranslationEngine['counters'];

  constructor(
    private readonly core: VtdCore,
    private readonly contexts: ContextCache,
    private readonly engine: TranslationEngine,
    faults: FaultLog,
  ) {
    this.cache = engine.cache;
    this.statistics = core.statistics;
    this.engineCounters = engine.counters;
    this.reader = new ContextReader(core.memory, core.capabilities);
    this.refusals = new Refusals(core, contexts, engine, faults, this);
    this.cachingMode = core.capabilities.cachingMode;
  }

  /** As `Translator.translate`; an access of zero is a zero-length read, which any permission allows (3.14). */
  translate(requesterId: number, high: number, low: number, access: number, out: Translation): boolean {
    return this.translateRun(requesterId, high, low, access, 1, out);
  }

  /**
   * As `RunTranslator.translateRun`. What is in both caches, in the usual way, is found here; `translateSlowly` knows all the rest,
   * and alone would do.
   */
  translateRun(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
  ): boolean {
    const { recent, cache, statistics } = this;
    if (
      recent.requesterId !== requesterId ||
      recent.contextChanges !== this.contexts.changes ||
      !this.enabled ||
      high >>> recent.limitShift !== 0 ||
      (low >>> 20 === 0xfee && high === 0)
    ) {
      return this.translateOther(requesterId, high, low, access, length, out);
    }
    let end = 4096 - (low & 0xfff);
    if (
      recent.pageChanges === cache.changes &&
      ((low ^ recent.low) & ~recent.mask) === 0 &&
      high === recent.high &&
      (recent.permissions & access) === access
    ) {
      const within = low & recent.mask;
      end = (recent.mask + 1 - within) | 0;
      out.frame = recent.frame + (within >>> 12);
      out.shift = recent.shift;
      out.permissions = recent.permissions;
    } else {
      const entry = cache.findPreferred(recent.domain, high, low, access);
      // Who goes to the end of a page is not likely to come back to it soon.
      if (entry < 0 || length < end) return this.translateHit(requesterId, high, low, access, length, out);
      out.frame = cache.frameOf(entry);
      out.shift = 12;
      out.permissions = cache.permissionsOf(entry);
    }
    this.engineCounters.hits++;
    statistics.translations++;
    statistics.contextHits++;
    if (length > end || out.frame >>> 8 === 0xfee) {
      return this.finish(requesterId, high, low, access, length, out, recent.at);
    }
    out.bytes = length;
    return true;
  }

  /** For the requester that is remembered: what another page takes that is not to be found at once, or worth remembering. */
  private translateHit(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
  ): boolean {
    const { recent, cache, statistics } = this;
    const { domain } = recent;
    const entry = this.engine.translateHit(domain, high, low, access, out);
    if (entry < 0) return this.translateSlowly(requesterId, high, low, access, length, out);
    statistics.translations++;
    statistics.contextHits++;
    const end = 4096 - (low & 0xfff);
    if (length < end || out.shift !== 12) {
      recent.rememberPage(high, low, cache.sameAnswerShift(entry, domain, high, low), cache, out);
    }
    if (length > end || out.frame >>> 8 === 0xfee) {
      return this.finish(requesterId, high, low, access, length, out, recent.at);
    }
    out.bytes = length;
    return true;
  }

  /** For a requester that is not remembered, or an address that is not an ordinary one: remembers the requester if that can be. */
  private translateOther(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
  ): boolean {
    const { contexts, recent } = this;
    const at = contexts.find(requesterId);
    if (at < 0 || !this.enabled || contexts.words[at + Slot.kind] !== SlotKind.secondStage) {
      return this.translateSlowly(requesterId, high, low, access, length, out);
    }
    recent.rememberRequester(requesterId, at, contexts);
    if (high >>> recent.limitShift !== 0 || (low >>> 20 === INTERRUPT_MEBIBYTE && high === 0)) {
      return this.translateSlowly(requesterId, high, low, access, length, out);
    }
    return this.translateHit(requesterId, high, low, access, length, out);
  }

  private translateSlowly(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
  ): boolean {
    const { core, contexts } = this;
    const { statistics } = core;
    if (!this.enabled) {
      return this.untranslated(requesterId, high, low, length, out);
    }
    statistics.translations++;
    const toInterruptRange = high === 0 && low >>> 20 === INTERRUPT_MEBIBYTE;
    if (toInterruptRange && (access & Access.read) === 0) {
      // Interrupt requests and zero-length reads are not subject to remapping.
      statistics.interruptRequests++;
      identity(high, low, bytesToPageEnd(PAGE_SHIFT, low, length), out);
      return true;
    }

    const { generation } = core;
    let at = contexts.find(requesterId);
    if (at >= 0) {
      statistics.contextHits++;
    } else {
      statistics.contextMisses++;
      const { reader } = this;
      const reason = this.load(requesterId);
      // A reset while guest memory was read: this request belongs to what is gone.
      if (generation !== core.generation) return false;
      this.refusals.watch?.contextRead(requesterId, reason, reader.entry);
      if (generation !== core.generation) return false;
      if (reason !== 0 && !this.cachesFault(reason)) {
        return this.refusals.byEntries(requesterId, high, low, access, reason, reader);
      }
      at =
        reason === 0 ? contexts.fill(requesterId, reader.entry) : contexts.fillFault(requesterId, reader.entry, reason);
    }

    const slot = contexts.words;
    if (
      slot[at + Slot.kind] !== SlotKind.secondStage ||
      toInterruptRange ||
      high >>> slot[at + Slot.limitShift]! !== 0
    ) {
      return this.unusual(requesterId, high, low, access, length, out, at);
    }
    const domain = slot[at + Slot.domain]!;
    const levels = slot[at + Slot.levels]!;
    const { misses } = this.engineCounters;
    const status = this.engine.translate(domain, slot[at + Slot.rootFrame]!, levels, high, low, access, out);
    if (generation !== core.generation) {
      // The walk may have filled the caches after the reset had emptied them.
      this.engine.invalidateAll();
      return false;
    }
    const walked = this.engineCounters.misses !== misses;
    if (status !== WalkStatus.ok) {
      return this.refusals.byEngine(requesterId, high, low, access, length, out, at, status, walked);
    }
    if (walked) this.refusals.watch?.walked(requesterId, at, high, low, out);
    const usable = this.finish(requesterId, high, low, access, length, out, at);
    if (walked && usable) this.walkedAt = this.statistics.translations;
    return usable;
  }

  /** Whether the last translation took a walk. */
  get hasWalked(): boolean {
    return this.walkedAt === this.statistics.translations;
  }

  /** After a translation of the first page: whether it may be used, and how far it goes. */
  private finish(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
    at: number,
  ): boolean {
    if (out.frame >>> 8 === INTERRUPT_MEBIBYTE) return this.interruptFault(requesterId, high, low, access, at);
    const slot = this.contexts.words;
    const limit = beforeInterruptRange(high, low, out.frame, length);
    const more = this.engine.extend(slot[at + Slot.domain]!, slot[at + Slot.levels]!, high, low, access, limit, out);
    const { statistics } = this.core;
    statistics.translations += more;
    statistics.contextHits += more;
    return true;
  }

  /** A page that is mapped to where interrupt messages go. */
  private interruptFault(requesterId: number, high: number, low: number, access: number, at: number): false {
    const slot = this.contexts.words;
    // A faulting translation is not cached unless caching mode says so (6.2.4.1).
    if (!this.cachingMode) this.engine.invalidatePages(slot[at + Slot.domain]!, high, low, 0, true);
    const domain = slot[at + Slot.domain]!;
    return this.refusals.byContext(requesterId, high, low, access, 1, FaultReason.interruptAddress, at, domain, 0);
  }

  /** What is not an address within reach of the second-stage tables of a good context entry. */
  private unusual(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
    at: number,
  ): boolean {
    const slot = this.contexts.words;
    const { statistics } = this.core;
    if (slot[at + Slot.kind] === SlotKind.fault) {
      const reason = slot[at + Slot.reason] as FaultReason;
      return this.refusals.byContext(requesterId, high, low, access, length, reason, at, -1, 0);
    }
    const toInterruptRange = high === 0 && low >>> 20 === INTERRUPT_MEBIBYTE;
    if (toInterruptRange || high >>> slot[at + Slot.limitShift]! !== 0) {
      const reason = toInterruptRange ? FaultReason.interruptAddress : FaultReason.addressBeyondWidth;
      const domain = slot[at + Slot.domain]!;
      const width = slot[at + Slot.limitShift]! + 32;
      return this.refusals.byContext(requesterId, high, low, access, length, reason, at, domain, width);
    }
    const limit = beforeInterruptRange(high, low, frameOf(high, low), length);
    const pages = identity(high, low, bytesToPageEnd(GIBIBYTE_SHIFT, low, limit), out);
    statistics.passThrough += pages;
    statistics.translations += pages - 1;
    statistics.contextHits += pages - 1;
    return true;
  }

  /** Off, the unit lets everything pass; an address that no guest memory can have goes nowhere. */
  private untranslated(requesterId: number, high: number, low: number, length: number, out: Translation): boolean {
    const { statistics } = this.core;
    if ((high & UNADDRESSABLE) === 0) {
      statistics.untranslated += identity(high, low, bytesToPageEnd(GIBIBYTE_SHIFT, low, length), out);
      return true;
    }
    statistics.untranslated++;
    this.core.note('vtd.unaddressable', { requesterId, address: address64(high, low) });
    return false;
  }

  /** Reads the requester's root and context entry into `reader`. Returns why it cannot be used, or zero. */
  private load(requesterId: number): FaultReason | 0 {
    const { reader } = this;
    const error = reader.read(requesterId, this.rootFrame, this.mode);
    if (error === 0 && this.cachingMode && reader.entry.domain === FAULT_DOMAIN) {
      this.core.note('vtd.reservedDomain', { requesterId });
    }
    return error;
  }

  /** With caching mode, context entries that fault are cached; tables that cannot be read are not entries. */
  private cachesFault(reason: FaultReason): boolean {
    if (!this.cachingMode) return false;
    return (
      reason === FaultReason.contextNotPresent ||
      reason === FaultReason.contextInvalid ||
      reason === FaultReason.contextReserved
    );
  }
}

/** Returns how many pages that is. */
function identity(high: number, low: number, bytes: number, out: Translation): number {
  out.frame = frameOf(high, low);
  out.shift = PAGE_SHIFT;
  out.permissions = READ_WRITE;
  out.bytes = bytes;
  return ((low & 0xfff) + bytes + 0xfff) >>> PAGE_SHIFT;
}

/** How many of `length` bytes lie before the interrupt range, on either side of the translation; all, where it starts beyond. */
function beforeInterruptRange(high: number, low: number, frame: number, length: number): number {
  let limit = length;
  const within = low & 0xfff;
  if (high === 0) limit = before((INTERRUPT_FRAME - (low >>> PAGE_SHIFT)) * 4096 - within, limit);
  return before((INTERRUPT_FRAME - frame) * 4096 - within, limit);
}

function before(distance: number, limit: number): number {
  return distance > 0 && distance < limit ? distance : limit;
}
