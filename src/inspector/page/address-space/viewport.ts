/** Which part of a line is shown. Positions and lengths as in `Folding`. */

export interface Viewport {
  readonly from: number;
  readonly to: number;
}

/** One page fills the picture at the most. */
export const SHORTEST = 1;
/** What is seen beside a page that is gone to. */
const LEAST_ROOM = 8;

/** Within the line, and not shorter than a page. */
export function bounded({ from, to }: Viewport, length: number): Viewport {
  const span = Math.min(Math.max(to - from, SHORTEST), Math.max(length, SHORTEST));
  const start = Math.min(Math.max(from, 0), Math.max(length - span, 0));
  return { from: start, to: start + span };
}

/** `factor` below 1 goes nearer; what is at `anchor` stays where it is. */
export function zoom(view: Viewport, factor: number, anchor: number, length: number): Viewport {
  const span = Math.min(Math.max((view.to - view.from) * factor, SHORTEST), length);
  const part = (anchor - view.from) / (view.to - view.from);
  return bounded({ from: anchor - part * span, to: anchor + (1 - part) * span }, length);
}

/** `part` of what is shown: 1 is a whole picture to the right. */
export function pan(view: Viewport, part: number, length: number): Viewport {
  const by = part * (view.to - view.from);
  return bounded({ from: view.from + by, to: view.to + by }, length);
}

/** A stretch in the middle, with room on both sides. */
export function around(at: number, length: number, whole: number): Viewport {
  const room = Math.max(length * 0.25, LEAST_ROOM);
  return bounded({ from: at - room, to: at + length + room }, whole);
}
