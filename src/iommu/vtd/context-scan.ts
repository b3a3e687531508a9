/**
 * Which other requesters have a context entry: told beside a fault of one that has none, and when one loses its own, because a driver
 * that made an entry for the wrong requester id is then easy to see.
 */
import { EventClass, Kind } from '../../trace/event-kinds.ts';
import type { ContextCache } from './context-cache.ts';
import { ContextTables } from './context-tables.ts';
import type { VtdCore } from './core.ts';
import type { RootPointer } from './fresh-walk.ts';

/** Told at a time. */
export const CONTEXTS_TOLD = 8;
/** Requesters remembered for which that was done; beyond it all are forgotten. */
const REQUESTERS_MAX = 256;

export class ContextScan {
  /** By requester, the changes of the context cache when it was told last. */
  private readonly told = new Map<number, number>();
  private readonly tables: ContextTables;

  constructor(
    private readonly core: VtdCore,
    private readonly contexts: ContextCache,
    pointer: RootPointer,
  ) {
    this.tables = new ContextTables(core, pointer);
  }

  /** As `tellNow`, but once for each requester and change of the context cache. */
  tell(requesterId: number): void {
    const { contexts, told } = this;
    if (told.get(requesterId) === contexts.changes) return;
    if (told.size >= REQUESTERS_MAX) told.clear();
    told.set(requesterId, contexts.changes);
    this.tellNow(requesterId);
  }

  /** Emits up to `CONTEXTS_TOLD` events; from mapped memory only. */
  tellNow(requesterId: number): void {
    const { events, source } = this.core;
    if ((events.mask & EventClass.fault) === 0) return;
    let left = CONTEXTS_TOLD;
    this.tables.each((other, domain) => {
      if (other === requesterId) return true;
      events.emit(Kind['context.present'], source, other, requesterId, domain, 0, 0);
      return --left > 0;
    });
  }
}
