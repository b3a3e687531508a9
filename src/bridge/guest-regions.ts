/** The guest's memory as QEMU announces it, and who reaches which part of it. */
import { FRAME_BYTES, FRAME_SHIFT } from '../memory/guest-memory.ts';
import { PageFlag } from '../memory/page-flags.ts';
import { INTERRUPT_FIRST_FRAME, INTERRUPT_FRAMES, RegionMemory } from '../memory/region-memory.ts';

export const Way = {
  /** `read` and `write` answer at once. */
  here: 0,
  /** Some of it is reached by asking QEMU. */
  client: 1,
} as const;
export type Way = (typeof Way)[keyof typeof Way];

export class GuestRegions extends RegionMemory {
  /** Of `length` bytes from (frame, offset) on. What nobody has mapped is answered here, too: by an error. */
  way(writing: boolean, frame: number, offset: number, length: number): Way {
    let bytes = offset + length;
    for (let at = frame; bytes > 0; ) {
      const flags = this.flags.at(at);
      if ((flags & PageFlag.remote) !== 0) return Way.client;
      const run = this.flags.run(at);
      // An interrupt message goes to the interrupt controller, which QEMU has.
      if (flags === 0 && writing && touchesInterrupts(at, Math.min(run, Math.ceil(bytes / FRAME_BYTES)))) {
        return Way.client;
      }
      at += run;
      bytes -= run << FRAME_SHIFT;
    }
    return Way.here;
  }
}

function touchesInterrupts(frame: number, frames: number): boolean {
  return frame < INTERRUPT_FIRST_FRAME + INTERRUPT_FRAMES && frame + frames > INTERRUPT_FIRST_FRAME;
}
