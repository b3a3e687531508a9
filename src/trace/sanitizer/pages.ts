/** Pages as whole numbers of up to 52 bits, which doubles hold exactly. */
export const PAGE_BYTES = 4096;
export const PAGES_PER_HIGH_WORD = 2 ** 20;

/** The page of an address in two words. */
export function pageOf(high: number, low: number): number {
  return (high >>> 0) * PAGES_PER_HIGH_WORD + (low >>> 12);
}

export function addressOf(page: number, offset = 0): bigint {
  return BigInt(page) * BigInt(PAGE_BYTES) + BigInt(offset);
}
