/** Stands before an IOMMU and makes it refuse what rules say. */
import {
  Access,
  isFaultInjectable,
  isRunTranslator,
  PageByPage,
  type RunTranslator,
  type Translation,
  type Translator,
} from '../../iommu/translator.ts';
import { type ActiveRule, RulePlace } from './active-rule.ts';
import type { RefuseRule } from './rules.ts';

const PAGE_BYTES = 4096;
const PAGE_SHIFT = 12;
const LAST_PAGE = 2 ** 52 - 1;

/** Page numbers of 64-bit addresses have 52 bits, and so are exact as doubles. */
interface PageRange {
  readonly first: number;
  readonly last: number;
}

/** The refusals of one device, with or without a PASID. */
export class Refusals extends RulePlace<RefuseRule> {
  private readonly ranges = new WeakMap<RefuseRule, PageRange>();

  /** The rule that refuses this page. */
  find(page: number, access: number): ActiveRule<RefuseRule> | undefined {
    return this.rules?.find(({ rule }) => {
      const { first, last } = this.rangeOf(rule);
      return page >= first && page <= last && matches(rule, access);
    });
  }

  /** How many of `length` bytes, the first of them in `page`, come before the next page that is refused. */
  bytesBefore(page: number, offset: number, length: number, access: number): number {
    let bytes = length;
    for (const { rule } of this.rules ?? []) {
      const { first } = this.rangeOf(rule);
      if (first > page && matches(rule, access)) bytes = Math.min(bytes, (first - page) * PAGE_BYTES - offset);
    }
    return bytes;
  }

  private rangeOf(rule: RefuseRule): PageRange {
    let range = this.ranges.get(rule);
    if (range === undefined) {
      range = rangeOf(rule);
      this.ranges.set(rule, range);
    }
    return range;
  }
}

export class RefusingTranslator implements RunTranslator {
  private readonly runs: RunTranslator;

  constructor(
    private readonly inner: Translator,
    private readonly refusals: Refusals,
  ) {
    this.runs = isRunTranslator(inner) ? inner : new PageByPage(inner);
  }

  /** Whether translations are told in events is for the IOMMU to say. */
  get emitsTranslations(): boolean {
    return this.inner.emitsTranslations ?? false;
  }

  translate(requesterId: number, high: number, low: number, access: number, out: Translation): boolean {
    if (this.refusals.rules !== undefined && this.refuses(requesterId, high, low, access)) return false;
    return this.inner.translate(requesterId, high, low, access, out);
  }

  translateRun(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
  ): boolean {
    let allowed = length;
    if (this.refusals.rules !== undefined) {
      if (this.refuses(requesterId, high, low, access)) return false;
      allowed = this.refusals.bytesBefore(pageOf(high, low), low & (PAGE_BYTES - 1), length, access);
    }
    return this.runs.translateRun(requesterId, high, low, access, allowed, out);
  }

  private refuses(requesterId: number, high: number, low: number, access: number): boolean {
    const rule = this.refusals.find(pageOf(high, low), access);
    if (rule === undefined) return false;
    // First, so that whoever hears of the fault knows that it is no mistake.
    rule.apply({
      iova: (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0),
      access: access === Access.write ? 'write' : 'read',
    });
    if (isFaultInjectable(this.inner)) this.inner.refuse(requesterId, high, low, access);
    return true;
  }
}

function matches({ access }: RefuseRule, wanted: number): boolean {
  return access === undefined || (wanted & (access === 'read' ? Access.read : Access.write)) !== 0;
}

function pageOf(high: number, low: number): number {
  return (high >>> 0) * 2 ** 20 + (low >>> PAGE_SHIFT);
}

function rangeOf({ iova, bytes = 1n }: RefuseRule): PageRange {
  if (iova === undefined) return { first: 0, last: LAST_PAGE };
  return { first: Number(iova >> 12n), last: Number((iova + bytes - 1n) >> 12n) };
}
