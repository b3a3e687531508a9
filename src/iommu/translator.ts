/**
 * What every IOMMU does for the endpoints behind it, and the result it leaves.
 */

/** What an endpoint wants to do, as a bit mask. */
export const Access = { read: 1, write: 2 } as const;

/** The answer to one translation; one object is reused for all, so read it before the next call. */
export class Translation {
  /** Guest page frame of the byte asked for (not of the start of a large page). */
  frame = 0;
  /** log2 of the mapping's size in bytes: 12, 21, 30; 12 where nothing is translated. */
  shift = 12;
  /** `Access` bits that the mapping allows. */
  permissions = 0;
  /** After `translateRun`: bytes from the address asked for on that lie in one piece from `frame` on. */
  bytes = 0;
}

export interface Translator {
  /** True: tells every translation in an event of its own, where that is wanted; what follows on has its time. */
  readonly emitsTranslations?: boolean;
  /**
   * Translates the page that holds the IOVA for one access. On success fills `out` and returns true. On a fault the IOMMU has
   * recorded and reported it as its specification demands, and returns false.
   * `requesterId` is bus << 8 | device << 3 | function.
   */
  translate(requesterId: number, high: number, low: number, access: number, out: Translation): boolean;
}

/** A translator that goes on, where that costs little, to the pages that follow. */
export interface RunTranslator extends Translator {
  /**
   * As `translate`, for up to `length` bytes (at least 1) from the IOVA on: says in `out.bytes` how many of them are translated
   * for this access and physically contiguous. That may be fewer than there are, but ends at `length` or at a page's end.
   * Counted, page by page, as if each had been asked for.
   */
  translateRun(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
  ): boolean;
}

/** Bytes from the address to the end of its page of `1 << shift` bytes, at most `length`; pages above 1 GiB count as many. */
export function bytesToPageEnd(shift: number, low: number, length: number): number {
  const size = shift < 30 ? 1 << shift : 1 << 30;
  return Math.min(size - (low & (size - 1)), length) | 0;
}

/** Makes a translator that knows single pages only do as one that knows runs. */
export class PageByPage implements RunTranslator {
  constructor(private readonly translator: Translator) {}

  get emitsTranslations(): boolean {
    return this.translator.emitsTranslations ?? false;
  }

  translate(requesterId: number, high: number, low: number, access: number, out: Translation): boolean {
    return this.translator.translate(requesterId, high, low, access, out);
  }

  translateRun(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
  ): boolean {
    if (!this.translator.translate(requesterId, high, low, access, out)) return false;
    out.bytes = bytesToPageEnd(out.shift, low, length);
    return true;
  }
}

export function isRunTranslator(translator: Translator): translator is RunTranslator {
  return 'translateRun' in translator;
}

/** A translator that can be made to refuse, so that what a driver does about faults can be tested. */
export interface FaultInjectable {
  /** Records and reports a fault of this access as if nothing were mapped at the IOVA. Called by jobs only, as `translate` is. */
  refuse(requesterId: number, high: number, low: number, access: number): void;
}

export function isFaultInjectable(translator: object): translator is FaultInjectable {
  return 'refuse' in translator;
}
