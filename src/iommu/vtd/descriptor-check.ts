/**
 * Finds descriptors that software changes while the unit reads them: a second look right before the head moves, which is when
 * software may use the place again.
 */
import { WINDOW_FRAME_MASK, WINDOW_FRAME_SHIFT } from '../../memory/guest-memory.ts';
import { EventClass, Kind } from '../../trace/event-kinds.ts';
import type { VtdCore } from './core.ts';
import { DESCRIPTOR_BYTES } from './descriptors.ts';
import type { EntryReader } from './entry-reader.ts';

export class DescriptorCheck {
  constructor(private readonly core: VtdCore) {}

  /**
   * Emits `descriptor.changed` if the descriptor there is no longer what `first` holds. Looks through windows only: in memory that is
   * reached by messages each look would cost one. All zero counts as memory that no window shows.
   */
  compare(frame: number, offset: number, first: EntryReader): void {
    const { events, memory } = this.core;
    if ((events.mask & EventClass.fault) === 0) return;
    const words = memory.windows[frame >>> WINDOW_FRAME_SHIFT]?.words;
    if (words === undefined) return;
    const at = ((frame & WINDOW_FRAME_MASK) << 10) + (offset >> 2);
    const w0 = words[at]!;
    const w1 = words[at + 1]!;
    const w2 = words[at + 2]!;
    const w3 = words[at + 3]!;
    if ((w0 | w1 | w2 | w3) === 0) return;
    if (w0 !== first.w0 || w1 !== first.w1) this.emit(frame, offset, 0, first.w1, first.w0, w1, w0);
    if (w2 !== first.w2 || w3 !== first.w3) this.emit(frame, offset, 8, first.w3, first.w2, w3, w2);
  }

  /** One event for each half that differs: `offset` within the descriptor of 16 bytes. */
  private emit(
    frame: number,
    offset: number,
    within: number,
    beforeHigh: number,
    beforeLow: number,
    afterHigh: number,
    afterLow: number,
  ): void {
    this.core.events.emitLong(
      Kind['descriptor.changed'],
      this.core.source,
      0,
      frame >>> 20,
      (frame << 12) | offset,
      within,
      DESCRIPTOR_BYTES,
      beforeHigh,
      beforeLow,
      afterHigh,
      afterLow,
      0,
      0,
      0,
      0,
    );
  }
}
