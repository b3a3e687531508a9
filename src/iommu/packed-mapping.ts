/** A mapping as one double, so that stores of many need no object each: first frame, log2 of its bytes, `Access` bits. */

/** What one frame more adds to a mapping. */
export const FRAME_UNIT = 256;
const SHIFT_UNIT = 4;

/** `frame` is a non-negative int32, `shift` below 64, `permissions` 0 to 3. */
export function pack(frame: number, shift: number, permissions: number): number {
  return frame * FRAME_UNIT + shift * SHIFT_UNIT + permissions;
}

export const frameOfMapping = (mapping: number): number => Math.floor(mapping / FRAME_UNIT);
export const shiftOfMapping = (mapping: number): number => (mapping % FRAME_UNIT) >> 2;
export const permissionsOfMapping = (mapping: number): number => mapping % SHIFT_UNIT;
