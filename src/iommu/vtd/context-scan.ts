/**
 * Which other requesters have a context entry: told beside a fault of one that has none, because a driver that made an entry for the
 * wrong requester id is then easy to see.
 */
import { type MemoryWindow, WINDOW_FRAME_MASK, WINDOW_FRAME_SHIFT } from '../../memory/guest-memory.ts';
import { EventClass, Kind } from '../../trace/event-kinds.ts';
import type { ContextCache } from './context-cache.ts';
import { frameOf, type VtdCore } from './core.ts';
import type { RootPointer } from './fresh-walk.ts';

/** Told beside one fault. */
export const CONTEXTS_TOLD = 8;
/** Root and context entries looked at for one fault. */
export const CONTEXT_SCAN_STEPS = 4096;
/** Requesters remembered for which that was done; beyond it all are forgotten. */
const REQUESTERS_MAX = 256;

const ENTRIES = 256;
const ENTRY_WORDS = 4;
const PRESENT = 1;
const UNREACHABLE_HIGH = ~0x7ff;

export class ContextScan {
  /** By requester, the changes of the context cache when it was told last. */
  private readonly told = new Map<number, number>();

  constructor(
    private readonly core: VtdCore,
    private readonly contexts: ContextCache,
    private readonly pointer: RootPointer,
  ) {}

  /** Emits up to `CONTEXTS_TOLD` events, once for each requester and change of the context cache; from mapped memory only. */
  tell(requesterId: number): void {
    const { core, contexts, told, pointer } = this;
    if ((core.events.mask & EventClass.fault) === 0 || pointer.mode !== 0) return;
    if (told.get(requesterId) === contexts.changes) return;
    if (told.size >= REQUESTERS_MAX) told.clear();
    told.set(requesterId, contexts.changes);
    const roots = this.window(pointer.rootFrame);
    if (roots === undefined) return;
    let left = CONTEXTS_TOLD;
    let steps = CONTEXT_SCAN_STEPS;
    const root = firstWord(pointer.rootFrame);
    for (let bus = 0; bus < ENTRIES && left > 0; bus++) {
      steps--;
      const low = roots.words[root + bus * ENTRY_WORDS]!;
      const high = roots.words[root + bus * ENTRY_WORDS + 1]!;
      if ((low & PRESENT) === 0 || (high & UNREACHABLE_HIGH) !== 0) continue;
      const frame = frameOf(high, low);
      const table = this.window(frame);
      if (table === undefined) continue;
      const start = firstWord(frame);
      for (let function_ = 0; function_ < ENTRIES && left > 0; function_++) {
        if (--steps < 0) return;
        const other = (bus << 8) | function_;
        if ((table.words[start + function_ * ENTRY_WORDS]! & PRESENT) === 0 || other === requesterId) continue;
        const domain = (table.words[start + function_ * ENTRY_WORDS + 2]! >>> 8) & 0xffff;
        core.events.emit(Kind['context.present'], core.source, other, requesterId, domain, 0, 0);
        left--;
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
