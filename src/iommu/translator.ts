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
}

export interface Translator {
  /**
   * Translates the page that holds the IOVA for one access. On success fills `out` and returns true. On a fault the IOMMU has
   * recorded and reported it as its specification demands, and returns false.
   * `requesterId` is bus << 8 | device << 3 | function.
   */
  translate(requesterId: number, high: number, low: number, access: number, out: Translation): boolean;
}
