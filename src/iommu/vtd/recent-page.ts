/**
 * The requester and the page that were translated last, for those who come again: what the context cache and the IOTLB would say,
 * in one object instead of many that a long copy has pushed out of the processor's cache. Never anything else than they would say:
 * any change of either makes it void.
 */
import type { TranslationCache } from '../translation-cache.ts';
import type { Translation } from '../translator.ts';
import type { ContextCache } from './context-cache.ts';

/** log2 of the most that is remembered: FEEx_xxxxh, the interrupt range, starts such a block, so that no run within one runs into it. */
const BLOCK_SHIFT = 21;

export class RecentPage {
  /** Nobody's number: nothing is remembered. */
  requesterId = -1;
  /** Of `contexts` when the requester's slot was looked up. */
  contextChanges = 0;
  /** The slot; its kind is second-stage translation. */
  at = 0;
  domain = 0;
  limitShift = 0;
  /** Of the IOTLB when the page was looked up; -1 where none was for this requester. */
  pageChanges = -1;
  high = 0;
  low = 0;
  /** Bytes of the page, or of a part of it, less one. */
  mask = 0;
  /** Of the page's first address. */
  frame = 0;
  permissions = 0;
  shift = 0;

  rememberRequester(requesterId: number, at: number, contexts: ContextCache): void {
    const slot = contexts.words;
    this.requesterId = requesterId;
    this.contextChanges = contexts.changes;
    this.at = at;
    this.domain = slot[at | 1]!;
    this.limitShift = slot[at | 4]!;
    this.pageChanges = -1;
  }

  /** What `entry` of the IOTLB just answered the requester with; `sameShift` is log2 of the bytes that share the answer. */
  rememberPage(high: number, low: number, sameShift: number, cache: TranslationCache, answer: Translation): void {
    const mask = (1 << Math.min(sameShift, BLOCK_SHIFT)) - 1;
    this.pageChanges = cache.changes;
    this.high = high | 0;
    this.low = low & ~mask;
    this.mask = mask;
    this.frame = answer.frame & ~(mask >>> 12);
    this.permissions = answer.permissions;
    this.shift = answer.shift;
  }
}
