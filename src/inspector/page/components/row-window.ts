/**
 * Which rows of a very long list are seen. Browsers do not make elements higher than some ten million pixels: beyond `MAX_EXTENT` the
 * scroll bar stands for a part of the list, not for pixels.
 */

/** Pixels. */
export const ROW_HEIGHT = 22;
export const MAX_EXTENT = 8_000_000;

export function extentOf(rows: number): number {
  return Math.min(rows * ROW_HEIGHT, MAX_EXTENT);
}

export function isScaled(rows: number): boolean {
  return rows * ROW_HEIGHT > MAX_EXTENT;
}

/** How many rows fit, with a fraction. */
export function rowsIn(height: number): number {
  return height / ROW_HEIGHT;
}

/** The last row that may be at the top. */
export function lastTop(rows: number, height: number): number {
  return Math.max(rows - rowsIn(height), 0);
}

/** The row at the top edge, with the fraction of it that is hidden. */
export function topRow(scrollTop: number, rows: number, height: number): number {
  if (!isScaled(rows)) return Math.min(scrollTop / ROW_HEIGHT, lastTop(rows, height));
  const part = scrollTop / (MAX_EXTENT - height);
  return Math.min(Math.max(part, 0), 1) * lastTop(rows, height);
}

export function scrollTopOf(top: number, rows: number, height: number): number {
  if (!isScaled(rows)) return top * ROW_HEIGHT;
  const last = lastTop(rows, height);
  return last === 0 ? 0 : (top / last) * (MAX_EXTENT - height);
}

/** The top that shows a row, moved no more than needed. */
export function topShowing(row: number, top: number, rows: number, height: number): number {
  const wanted = row < top ? row : Math.max(top, row + 1 - rowsIn(height));
  return Math.min(Math.max(wanted, 0), lastTop(rows, height));
}
