/**
 * DMA remapping in legacy mode (3.4): requester id to context entry, context entry to page tables, and every way in which
 * that can fail. The path of a request that finds its context entry and its page cached allocates nothing.
 */
import { WalkStatus } from '../../page-tables/walker.ts';
import type { TranslationEngine } from '../translation-engine.ts';
import { Access, type Translation } from '../translator.ts';
import { CONTEXT_ENTRY_BYTES, ContextEntry, type ContextRules, contextRules } from './context.ts';
import { type ContextCache, FAULT_DOMAIN, Slot, SlotKind } from './context-cache.ts';
import { address64, frameOf, type VtdCore } from './core.ts';
import { EntryReader } from './entry-reader.ts';
import { FaultReason } from './fault-reasons.ts';
import type { FaultLog } from './faults.ts';
import { checkRoot, contextTableFrame, type ReservedBits, ROOT_ENTRY_BYTES, rootReserved } from './root-table.ts';

const READ_WRITE = Access.read | Access.write;
const PAGE_SHIFT = 12;
/** FEEx_xxxxh, where processors take interrupt messages (3.15). */
const INTERRUPT_RANGE_MASK = 0xfff00000 | 0;
const INTERRUPT_RANGE = 0xfee00000 | 0;
const INTERRUPT_FRAMES = 0xfee;
/** Bits of an address's upper word that a frame number has no room for. */
const UNADDRESSABLE = ~0x7ff;

export class DmaRemapper {
  /** GSTS.TES. */
  enabled = false;
  /** What the last Set Root Table Pointer took over from RTADDR. */
  rootFrame = 0;
  mode = 0;

  private readonly words: EntryReader;
  private readonly entry = new ContextEntry();
  private readonly rules: ContextRules;
  private readonly rootReserved: ReservedBits;
  private readonly cachingMode: boolean;

  constructor(
    private readonly core: VtdCore,
    private readonly contexts: ContextCache,
    private readonly engine: TranslationEngine,
    private readonly faults: FaultLog,
  ) {
    this.words = new EntryReader(core.memory);
    this.rules = contextRules(core.capabilities);
    this.rootReserved = rootReserved(core.capabilities.hostAddressWidth);
    this.cachingMode = core.capabilities.cachingMode;
  }

  /** As `Translator.translate`; an access of zero is a zero-length read, which any permission allows (3.14). */
  translate(requesterId: number, high: number, low: number, access: number, out: Translation): boolean {
    const { core, contexts } = this;
    if (!this.enabled) {
      core.statistics.untranslated++;
      return this.untranslated(requesterId, high, low, out);
    }
    core.statistics.translations++;
    const toInterruptRange = high === 0 && (low & INTERRUPT_RANGE_MASK) === INTERRUPT_RANGE;
    if (toInterruptRange && (access & Access.read) === 0) {
      // Interrupt requests and zero-length reads are not subject to remapping.
      core.statistics.interruptRequests++;
      return identity(high, low, out);
    }

    const { generation } = core;
    let at = contexts.find(requesterId);
    if (at >= 0) {
      core.statistics.contextHits++;
    } else {
      core.statistics.contextMisses++;
      const reason = this.load(requesterId);
      // A reset while guest memory was read: this request belongs to what is gone.
      if (generation !== core.generation) return false;
      if (reason !== 0 && !this.cachesFault(reason)) {
        return this.fault(requesterId, high, low, access, reason, this.entry.faultProcessingDisabled);
      }
      at = reason === 0 ? contexts.fill(requesterId, this.entry) : contexts.fillFault(requesterId, this.entry, reason);
    }

    const slot = contexts.words;
    const suppressed = slot[at + Slot.faultProcessingDisabled] === 1;
    const kind = slot[at + Slot.kind];
    if (kind === SlotKind.fault) {
      return this.fault(requesterId, high, low, access, slot[at + Slot.reason] as FaultReason, suppressed);
    }
    if (toInterruptRange) {
      return this.fault(requesterId, high, low, access, FaultReason.interruptAddress, suppressed);
    }
    if (high >>> slot[at + Slot.limitShift] !== 0) {
      return this.fault(requesterId, high, low, access, FaultReason.addressBeyondWidth, suppressed);
    }
    if (kind === SlotKind.passThrough) {
      core.statistics.passThrough++;
      return identity(high, low, out);
    }

    const domain = slot[at + Slot.domain];
    const levels = slot[at + Slot.levels];
    const status = this.walk(domain, slot[at + Slot.rootFrame], levels, high, low, access, out);
    if (generation !== core.generation) {
      // The walk may have filled the caches after the reset had emptied them.
      this.engine.invalidateAll();
      return false;
    }
    if (status !== WalkStatus.ok) {
      const reason = this.reasonOf(status, at, high, low, access, out);
      if (generation !== core.generation) return false;
      return this.fault(requesterId, high, low, access, reason, suppressed);
    }
    if (out.frame >>> 8 === INTERRUPT_FRAMES) {
      // A faulting translation is not cached unless caching mode says so (6.2.4.1).
      if (!this.cachingMode) this.engine.invalidatePages(domain, high, low, 0, true);
      return this.fault(requesterId, high, low, access, FaultReason.interruptAddress, suppressed);
    }
    return true;
  }

  private walk(
    domain: number,
    rootFrame: number,
    levels: number,
    high: number,
    low: number,
    access: number,
    out: Translation,
  ): WalkStatus {
    const { engine } = this;
    if (access !== 0) return engine.translate(domain, rootFrame, levels, high, low, access, out);
    const status = engine.translate(domain, rootFrame, levels, high, low, Access.write, out);
    if (status !== WalkStatus.denied) return status;
    return engine.translate(domain, rootFrame, levels, high, low, Access.read, out);
  }

  /** Off, the unit lets everything pass; an address that no guest memory can have goes nowhere. */
  private untranslated(requesterId: number, high: number, low: number, out: Translation): boolean {
    if ((high & UNADDRESSABLE) === 0) return identity(high, low, out);
    this.core.note('vtd.unaddressable', { requesterId, address: address64(high, low) });
    return false;
  }

  /** Reads the requester's root and context entry into `entry`. Returns why it cannot be used, or zero. */
  private load(requesterId: number): FaultReason | 0 {
    const { entry, words } = this;
    entry.faultProcessingDisabled = false;
    if (this.mode !== 0) return FaultReason.rootTableMode;
    if (!words.readWhole(this.rootFrame, (requesterId >>> 8) * ROOT_ENTRY_BYTES)) return FaultReason.rootTableAccess;
    const rootError = checkRoot(words.w0, words.w1, words.w2, words.w3, this.rootReserved);
    if (rootError !== 0) return rootError;
    const table = contextTableFrame(words.w0, words.w1);
    if (!words.readWhole(table, (requesterId & 0xff) * CONTEXT_ENTRY_BYTES)) return FaultReason.contextTableAccess;
    const error = entry.decode(words.w0, words.w1, words.w2, words.w3, this.rules);
    if (error === 0 && this.cachingMode && entry.domain === FAULT_DOMAIN) {
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

  private reasonOf(
    status: WalkStatus,
    at: number,
    high: number,
    low: number,
    access: number,
    out: Translation,
  ): FaultReason {
    const slot = this.contexts.words;
    const levels = slot[at + Slot.levels];
    switch (status) {
      case WalkStatus.badPointer:
        // The table that the context entry itself points to counts as the context entry's fault (LCT.4.3).
        return this.engine.walker.level === levels ? FaultReason.contextInvalid : FaultReason.pageTableAccess;
      case WalkStatus.reserved:
        return FaultReason.pageTableReserved;
      case WalkStatus.tooWide:
        return FaultReason.addressBeyondWidth;
      default:
        break;
    }
    if (access !== READ_WRITE) return access === Access.write ? FaultReason.writeDenied : FaultReason.readDenied;
    const domain = slot[at + Slot.domain];
    const root = slot[at + Slot.rootFrame];
    const mayWrite = this.engine.translate(domain, root, levels, high, low, Access.write, out) === WalkStatus.ok;
    return mayWrite ? FaultReason.readDenied : FaultReason.writeDenied;
  }

  private fault(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    reason: FaultReason,
    suppressed: boolean,
  ): false {
    this.faults.report(requesterId, high, low, access, reason, suppressed);
    return false;
  }
}

function identity(high: number, low: number, out: Translation): true {
  out.frame = frameOf(high, low);
  out.shift = PAGE_SHIFT;
  out.permissions = READ_WRITE;
  return true;
}
