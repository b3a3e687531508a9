/** Page numbers (address >> 12, up to 2^52) and the two words of an address. */

const PAGES_PER_HIGH = 2 ** 20;

/** The upper word of the page's address. */
export function highOf(page: number): number {
  return Math.floor(page / PAGES_PER_HIGH) | 0;
}

export function lowOf(page: number): number {
  return (page % PAGES_PER_HIGH) << 12;
}

export function pageOf(high: number, low: number): number {
  return (high >>> 0) * PAGES_PER_HIGH + (low >>> 12);
}
