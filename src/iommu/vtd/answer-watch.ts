/**
 * What becomes of each answer of the remapper while somebody watches: it is compared with the tables, and told where that is wanted.
 * Apart from the remapper, whose own path must stay as short as it is.
 */
import { Kind, TranslationSource } from '../../trace/event-kinds.ts';
import type { Events } from '../../trace/events.ts';
import type { Translation } from '../translator.ts';
import { type ContextCache, Slot, SlotKind } from './context-cache.ts';
import type { VtdCore } from './core.ts';
import { PATHS, pathIndex, type StaleCheck } from './stale-check.ts';
import { TablePath } from './table-path.ts';
import type { DmaRemapper } from './translate.ts';

const NO_DOMAIN = -1;
const INTERRUPT_MEBIBYTE = 0xfee;
/** Address bits of a second-stage entry (9.8) that a frame number has room for. */
const ADDRESS_LOW = ~0xfff;
const ADDRESS_HIGH = 0x7ff;
const NO_PATH = new TablePath();

export class AnswerWatch {
  private readonly events: Events;
  private readonly source: number;
  private readonly paths: readonly TablePath[];
  /** Bits of an entry that maps a page of 4 KiB: its address, and those that must be clear. */
  private readonly examinedLow: number;
  private readonly examinedHigh: number;
  /** Of the answer before. */
  private path: TablePath = NO_PATH;
  /** Somebody tells when a round is over; else each answer counts as the first of one. */
  private readonly byTurns: boolean;

  /** Without `check`, nothing is compared. */
  constructor(
    core: VtdCore,
    private readonly remapper: DmaRemapper,
    private readonly contexts: ContextCache,
    private readonly check: StaleCheck | undefined,
  ) {
    this.events = core.events;
    this.source = core.source;
    this.byTurns = this.events.onRound(() => {
      this.path = NO_PATH;
    });
    this.paths = check?.paths ?? Array.from({ length: PATHS }, () => new TablePath());
    this.examinedLow = ADDRESS_LOW | (check?.reservedLow ?? 0);
    this.examinedHigh = ADDRESS_HIGH | (check?.reservedHigh ?? 0);
  }

  /**
   * After a translation that went well, of `out.bytes` from the address on. Of the way through the tables that the answer before came,
   * too, in the same round of the thread, one entry is looked at, from page to page another; of any other way all of them are.
   */
  answered(requesterId: number, high: number, low: number, access: number, out: Translation): void {
    const { path } = this;
    const { held, doubles } = path;
    const turn = (low >>> 12) & 7;
    // As in `TablePath.unchanged`, without a call or a loop: this is nearly every DMA of those that do much of it.
    if (
      ((path.direct ^ ((requesterId << 11) | (low >>> 21))) | (path.high ^ high)) !== 0 ||
      out.bytes > 4096 - (low & 0xfff) ||
      doubles[path.at[turn]!] !== held[turn] ||
      this.leafDiffers(path, low, access, out.frame) !== 0
    ) {
      this.answeredFirst(requesterId, high, low, access, out);
      return;
    }
    // 2 is `EventClass.translation`: the compiler cannot fold what other modules export.
    if ((this.events.mask & 2) !== 0) this.tell(requesterId, high, low, access, out);
  }

  /** Not zero where the page's entry, at the end of the way, says something else than what was answered. */
  private leafDiffers(path: TablePath, low: number, access: number, frame: number): number {
    const { leafAt } = path;
    const denied = access & ~path.allowed;
    if (leafAt < 0) return denied | ((path.baseFrame + ((low >>> 12) & 0x1ff)) ^ frame);
    const word = leafAt | ((low >>> 11) & 0x3fe);
    const entryLow = path.leafWords[word]!;
    const entryHigh = path.leafWords[word | 1]!;
    const address =
      ((entryLow & this.examinedLow) ^ (frame << 12)) | ((entryHigh & this.examinedHigh) ^ (frame >>> 20));
    return denied | address | (access & ~entryLow);
  }

  /** Of the way that is known, the context entry in the cache may not agree with memory any more. */
  contextsChanged(): void {
    this.path = NO_PATH;
  }

  /** The first answer of a round, or of a way that is not that of the answer before, or one that is not as expected. */
  private answeredFirst(requesterId: number, high: number, low: number, access: number, out: Translation): void {
    const path = this.paths[pathIndex(requesterId, high, low)]!;
    const { at, held, doubles } = path;
    if (this.byTurns) this.path = path;
    if (
      path.direct === ((requesterId << 11) | (low >>> 21)) &&
      path.high === high &&
      path.contextChanges === this.contexts.changes &&
      out.bytes <= 4096 - (low & 0xfff) &&
      doubles[at[0]!] === held[0] &&
      doubles[at[1]!] === held[1] &&
      doubles[at[2]!] === held[2] &&
      doubles[at[3]!] === held[3] &&
      doubles[at[4]!] === held[4] &&
      doubles[at[5]!] === held[5] &&
      doubles[at[6]!] === held[6] &&
      doubles[at[7]!] === held[7] &&
      this.leafDiffers(path, low, access, out.frame) === 0
    ) {
      if ((this.events.mask & 2) !== 0) this.tell(requesterId, high, low, access, out);
    } else this.answeredOtherwise(requesterId, high, low, access, out);
  }

  private answeredOtherwise(requesterId: number, high: number, low: number, access: number, out: Translation): void {
    const { mask } = this.events;
    if (this.remapper.enabled && (mask & 64) !== 0) {
      this.check?.check(requesterId, high | 0, low | 0, access, out, this.remapper.hasWalked);
    }
    if ((mask & 2) !== 0) this.tell(requesterId, high, low, access, out);
  }

  private tell(requesterId: number, high: number, low: number, access: number, out: Translation): void {
    const { contexts } = this;
    let source: number = TranslationSource.untranslated;
    let domain = NO_DOMAIN;
    const toInterruptRange = high === 0 && low >>> 20 === INTERRUPT_MEBIBYTE;
    const at = contexts.find(requesterId);
    if (this.remapper.enabled && !toInterruptRange && at >= 0) {
      const slot = contexts.words;
      domain = slot[at + Slot.domain]!;
      if (slot[at + Slot.kind] === SlotKind.passThrough) source = TranslationSource.passThrough;
      else source = this.remapper.hasWalked ? TranslationSource.walk : TranslationSource.iotlb;
    }
    const what = requesterId | (access << 16) | (source << 18) | (out.permissions << 20) | (out.shift << 22);
    this.events.emit(Kind.translation, this.source, what, high, low, out.frame, domain);
  }
}
