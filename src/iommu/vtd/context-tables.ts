/** Goes through the root table and the context tables that windows show, from present entry to present entry. */
import { type MemoryWindow, WINDOW_FRAME_MASK, WINDOW_FRAME_SHIFT } from '../../memory/guest-memory.ts';
import { frameOf, type VtdCore } from './core.ts';
import type { RootPointer } from './fresh-walk.ts';

/** Root and context entries that one run looks at. */
export const CONTEXT_SCAN_STEPS = 4096;

const ENTRIES = 256;
const ENTRY_WORDS = 4;
const PRESENT = 1;
const UNREACHABLE_HIGH = ~0x7ff;
const DOMAIN_SHIFT = 8;
const DOMAIN_MASK = 0xffff;

export class ContextTables {
  constructor(
    private readonly core: VtdCore,
    private readonly pointer: RootPointer,
  ) {}

  /** Calls `visit` with each present entry's requester id and domain id, whatever else the entry holds, until that returns false. */
  each(visit: (requesterId: number, domain: number) => boolean): void {
    const { rootFrame, mode } = this.pointer;
    const roots = mode === 0 ? this.window(rootFrame) : undefined;
    if (roots === undefined) return;
    let steps = CONTEXT_SCAN_STEPS;
    const root = firstWord(rootFrame);
    for (let bus = 0; bus < ENTRIES; bus++) {
      if (--steps < 0) return;
      const low = roots.words[root + bus * ENTRY_WORDS]!;
      const high = roots.words[root + bus * ENTRY_WORDS + 1]!;
      if ((low & PRESENT) === 0 || (high & UNREACHABLE_HIGH) !== 0) continue;
      const frame = frameOf(high, low);
      const table = this.window(frame);
      if (table === undefined) continue;
      const start = firstWord(frame);
      for (let function_ = 0; function_ < ENTRIES; function_++) {
        if (--steps < 0) return;
        const at = start + function_ * ENTRY_WORDS;
        if ((table.words[at]! & PRESENT) === 0) continue;
        if (!visit((bus << 8) | function_, (table.words[at + 2]! >>> DOMAIN_SHIFT) & DOMAIN_MASK)) return;
      }
    }
  }

  private window(frame: number): MemoryWindow | undefined {
    return this.core.memory.windows[frame >>> WINDOW_FRAME_SHIFT];
  }
}

function firstWord(frame: number): number {
  return (frame & WINDOW_FRAME_MASK) << 10;
}
