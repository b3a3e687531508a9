/** Makes a list that fails shorter: pieces are left out as long as what is left fails still. */

/** `fails` is asked at most `attempts` times; order is kept. */
export async function shrink<T>(
  whole: readonly T[],
  fails: (part: readonly T[]) => Promise<boolean>,
  attempts: number,
): Promise<readonly T[]> {
  let best = whole;
  let left = attempts;
  for (let piece = Math.ceil(best.length / 2); piece >= 1 && left > 0; ) {
    let shortened = false;
    // From the end: what comes after the failure goes first.
    for (let end = best.length; end > 0 && left > 0; end -= piece) {
      const part = [...best.slice(0, Math.max(0, end - piece)), ...best.slice(end)];
      if (part.length === best.length || part.length === 0) continue;
      left--;
      if (!(await fails(part))) continue;
      best = part;
      shortened = true;
    }
    if (piece === 1 && !shortened) break;
    if (!shortened || piece > best.length) piece = Math.max(1, Math.floor(Math.min(piece, best.length) / 2));
  }
  return best;
}
