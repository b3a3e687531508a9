/**
 * What becomes of each answer of the remapper while somebody watches: it is compared with the tables, and told where that is wanted.
 * Apart from the remapper, whose own path must stay as short as it is.
 */
import { Kind, TranslationSource } from '../../trace/event-kinds.ts';
import type { Events } from '../../trace/events.ts';
import type { Translation } from '../translator.ts';
import { type ContextCache, Slot, SlotKind } from './context-cache.ts';
import type { VtdCore } from './core.ts';
import { PATHS, type StaleCheck } from './stale-check.ts';
import { TablePath } from './table-path.ts';
import type { DmaRemapper } from './translate.ts';

const NO_DOMAIN = -1;
const INTERRUPT_MEBIBYTE = 0xfee;

export class AnswerWatch {
  private readonly events: Events;
  private readonly source: number;
  private readonly paths: readonly TablePath[];
  private readonly reservedLow: number;
  private readonly reservedHigh: number;
  /** Of the remapper, when the answer before was given. */
  private walks = 0;

  /** Without `check`, nothing is compared. */
  constructor(
    core: VtdCore,
    private readonly remapper: DmaRemapper,
    private readonly contexts: ContextCache,
    private readonly check: StaleCheck | undefined,
  ) {
    this.events = core.events;
    this.source = core.source;
    this.paths = check?.paths ?? Array.from({ length: PATHS }, () => new TablePath());
    this.reservedLow = check?.reservedLow ?? 0;
    this.reservedHigh = check?.reservedHigh ?? 0;
  }

  /** After a translation that went well, of `out.bytes` from the address on. */
  answered(requesterId: number, high: number, low: number, access: number, out: Translation): void {
    const { contexts } = this;
    const { walks } = this.remapper;
    const walked = walks !== this.walks;
    this.walks = walks;
    const key = (requesterId << 11) | (low >>> 21);
    const path = this.paths[(key ^ (requesterId * 5) ^ (high << 3)) & 255]!;
    // As in `TablePath.unchanged` and `agrees`, without calls or loops: this is nearly every DMA.
    const { held, doubles, leafAt } = path;
    if (
      path.direct !== key ||
      path.high !== high ||
      path.contextChanges !== contexts.changes ||
      out.bytes > 4096 - (low & 0xfff) ||
      doubles[path.at0] !== held[0] ||
      doubles[path.at1] !== held[1] ||
      doubles[path.at2] !== held[2] ||
      doubles[path.at3] !== held[3] ||
      doubles[path.at4] !== held[4] ||
      doubles[path.at5] !== held[5] ||
      doubles[path.at6] !== held[6]
    ) {
      this.answeredOtherwise(requesterId, high, low, access, out, walked);
      return;
    }
    let differs = access & ~path.allowed;
    if (leafAt >= 0) {
      const word = leafAt | ((low >>> 11) & 0x3fe);
      const entryLow = path.leafWords[word]!;
      const entryHigh = path.leafWords[word | 1]!;
      differs |= ((entryHigh << 20) | (entryLow >>> 12)) ^ out.frame;
      differs |= (entryLow & this.reservedLow) | (entryHigh & this.reservedHigh) | (access & ~entryLow);
    } else differs |= (path.baseFrame + ((low >>> 12) & 0x1ff)) ^ out.frame;
    if (differs !== 0) this.answeredOtherwise(requesterId, high, low, access, out, walked);
    // 2 is `EventClass.translation`: the compiler cannot fold what other modules export.
    else if ((this.events.mask & 2) !== 0) this.tell(requesterId, high, low, access, out, walked);
  }

  private answeredOtherwise(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    out: Translation,
    walked: boolean,
  ): void {
    const { mask } = this.events;
    if (this.remapper.enabled && (mask & 64) !== 0) {
      this.check?.check(requesterId, high | 0, low | 0, access, out, walked);
    }
    if ((mask & 2) !== 0) this.tell(requesterId, high, low, access, out, walked);
  }

  private tell(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    out: Translation,
    walked: boolean,
  ): void {
    const { contexts } = this;
    let source: number = TranslationSource.untranslated;
    let domain = NO_DOMAIN;
    const toInterruptRange = high === 0 && low >>> 20 === INTERRUPT_MEBIBYTE;
    const at = contexts.find(requesterId);
    if (this.remapper.enabled && !toInterruptRange && at >= 0) {
      const slot = contexts.words;
      domain = slot[at + Slot.domain]!;
      if (slot[at + Slot.kind] === SlotKind.passThrough) source = TranslationSource.passThrough;
      else source = walked ? TranslationSource.walk : TranslationSource.iotlb;
    }
    const what = requesterId | (access << 16) | (source << 18) | (out.permissions << 20) | (out.shift << 22);
    this.events.emit(Kind.translation, this.source, what, high, low, out.frame, domain);
  }
}
