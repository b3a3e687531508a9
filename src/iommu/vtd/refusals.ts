/** How requests are refused (7.1.3): which reason it is, what stands behind it, and that it is reported. */
import { WalkStatus } from '../../page-tables/walker.ts';
import { EventClass, FaultCause, StaleWhat } from '../../trace/event-kinds.ts';
import type { TranslationEngine } from '../translation-engine.ts';
import { Access, type Translation } from '../translator.ts';
import { addressWidthOf } from './capabilities.ts';
import { type ContextCache, Slot } from './context-cache.ts';
import type { ContextReader } from './context-reader.ts';
import { ContextScan } from './context-scan.ts';
import type { VtdCore } from './core.ts';
import { causeOf, FaultDetail } from './fault-detail.ts';
import { FaultReason } from './fault-reasons.ts';
import type { FaultLog } from './faults.ts';
import type { RootPointer } from './fresh-walk.ts';
import type { VtdWatch } from './watch.ts';

const READ_WRITE = Access.read | Access.write;
const NO_DOMAIN = -1;

export class Refusals {
  /** Where there are checks. */
  watch: VtdWatch | undefined = undefined;
  private readonly detail = new FaultDetail();
  private readonly others: ContextScan;

  constructor(
    private readonly core: VtdCore,
    private readonly contexts: ContextCache,
    private readonly engine: TranslationEngine,
    private readonly faults: FaultLog,
    pointer: RootPointer,
  ) {
    this.others = new ContextScan(core, contexts, pointer);
  }

  /** The entries that `reader` has just read cannot be used. Like its kin, returns false. */
  byEntries(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    reason: FaultReason,
    reader: ContextReader,
  ): false {
    this.detail.begin(NO_DOMAIN, reason, 0).fromContext(reader);
    return this.report(requesterId, high, low, access, reason, reader.entry.faultProcessingDisabled);
  }

  /** The cached context entry decides; `domain` and `width` are its own, where it is a good one. */
  byContext(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    reason: FaultReason,
    at: number,
    domain: number,
    width: number,
  ): false {
    const { generation } = this.core;
    if (reason !== FaultReason.interruptAddress) {
      this.watch?.refused(requesterId, high, low, access, length, -1);
      if (generation !== this.core.generation) return false;
    }
    this.detail.begin(domain, reason, width);
    return this.report(requesterId, high, low, access, reason, this.isSuppressed(at));
  }

  /** The engine's answer decides; `walked`: its walker's, else the IOTLB remembered that nothing is there. */
  byEngine(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
    at: number,
    status: WalkStatus,
    walked: boolean,
  ): false {
    const { core, engine, detail, watch } = this;
    const { generation } = core;
    const slot = this.contexts.words;
    const levels = slot[at + Slot.levels]!;
    const wanted = (core.events.mask & EventClass.fault) !== 0;
    detail.begin(slot[at + Slot.domain]!, FaultReason.readDenied, addressWidthOf(levels));
    if (walked && wanted) detail.fromWalk(engine.walker, status, core.memory, high, low);
    else if (status === WalkStatus.tooWide) detail.cause = FaultCause.addressTooWide;
    const skipped = walked && engine.walker.startLevel < levels;
    if (walked) watch?.cameThrough(requesterId, at, high, low);
    const reason = this.reasonOf(status, at, high, low, access, out);
    if (generation !== core.generation) return false;
    if (watch !== undefined) {
      const remembered = !walked && status === WalkStatus.notPresent;
      const what = remembered ? StaleWhat.notPresent : skipped ? StaleWhat.pagingStructure : -1;
      watch.refused(requesterId, high, low, access, length, what);
      if (generation !== core.generation) return false;
    }
    return this.report(requesterId, high, low, access, reason, this.isSuppressed(at));
  }

  /** As if nothing were mapped there, whatever is: for tests of what devices and drivers do then. */
  onPurpose(requesterId: number, high: number, low: number, access: number): void {
    const { contexts } = this;
    const at = contexts.find(requesterId);
    const reason = (access & Access.write) !== 0 ? FaultReason.writeDenied : FaultReason.readDenied;
    this.detail.begin(at < 0 ? NO_DOMAIN : contexts.words[at + Slot.domain]!, reason, 0);
    this.report(requesterId, high, low, access, reason, at >= 0 && this.isSuppressed(at));
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

  private isSuppressed(at: number): boolean {
    return this.contexts.words[at + Slot.faultProcessingDisabled] === 1;
  }

  /** The caller has filled `detail`. */
  private report(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    reason: FaultReason,
    suppressed: boolean,
  ): false {
    if (causeOf(reason) === FaultCause.notAttached) this.others.tell(requesterId);
    this.faults.report(requesterId, high, low, access, reason, suppressed, this.detail);
    return false;
  }
}
