/** Whether software changes a descriptor while it is being carried out: it is read again, and the first reading is the one that counts. */
import { FRAME_SHIFT, MemoryStatus } from '../../../memory/guest-memory.ts';
import { EventClass, Kind } from '../../../trace/event-kinds.ts';
import type { FunctionCore } from './core.ts';
import { Entry } from './struct.ts';

export class DescriptorCheck {
  private readonly again: Entry;

  constructor(
    private readonly core: FunctionCore,
    private readonly bytes: number,
  ) {
    this.again = new Entry(bytes);
  }

  /** `first` is what was read at that place. Guest memory may be slow: see `FunctionCore.cycle`. */
  check(frame: number, offset: number, first: Entry): void {
    const { core, again, bytes } = this;
    if ((core.records.mask & EventClass.fault) === 0) return;
    if (core.memory.read(frame, offset, again.bytes, 0, bytes) !== MemoryStatus.ok) return;
    for (let word = 0; word < bytes >>> 2; word += 2) {
      const low = first.words[word]!;
      const high = first.words[word + 1]!;
      const newLow = again.words[word]!;
      const newHigh = again.words[word + 1]!;
      if (low === newLow && high === newHigh) continue;
      const addressLow = (frame << FRAME_SHIFT) | offset;
      const kind = Kind['descriptor.changed'];
      const { records, source } = core;
      const at = word << 2;
      records.emitLong(kind, source, 0, frame >>> 20, addressLow, at, bytes, high, low, newHigh, newLow, 0, 0, 0, 0);
      return;
    }
  }
}
