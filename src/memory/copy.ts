/**
 * Up to this many bytes a loop is faster than `set`, which needs a new view of its source first. Measured on Node 20,
 * x86-64: the loop takes 6 ns for 16 bytes, 21 for 64, 31 for 96 and 40 for 128; `set(subarray)` 31 for any of them; a loop
 * byte by byte twice as long as this one.
 */
export const COPY_LOOP_LIMIT = 96;

/** `source[from, from + length)` to `target[at, ...)`. The caller has checked the bounds. */
export function copyBytes(source: Uint8Array, from: number, target: Uint8Array, at: number, length: number): void {
  if (length > COPY_LOOP_LIMIT) {
    target.set(source.subarray(from, from + length), at);
    return;
  }
  let i = 0;
  for (const last = length - 3; i < last; i += 4) {
    target[at + i] = source[from + i]!;
    target[at + i + 1] = source[from + i + 1]!;
    target[at + i + 2] = source[from + i + 2]!;
    target[at + i + 3] = source[from + i + 3]!;
  }
  for (; i < length; i++) target[at + i] = source[from + i]!;
}
