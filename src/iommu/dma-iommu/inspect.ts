/** What a unit shows of itself: attachments, tables and caches as they are. Changes nothing. */
import type { IommuInspection, TlbAnswer, TlbEntry, WalkAnswer } from '../inspection.ts';
import { compareCaches, found, untouched, walkTables } from '../table-steps.ts';
import { blockedSpace, identitySpace } from './address-space.ts';
import type { Core } from './core.ts';
import { Domain } from './domain.ts';
import type { Engines } from './engines.ts';
import type { Streams } from './streams.ts';

const TAGS_PER_DOMAIN = 2;

export class DmaIommuInspection implements IommuInspection {
  constructor(
    private readonly core: Core,
    private readonly streams: Streams,
    private readonly engines: Engines,
  ) {}

  walk(requesterId: number, pasid: number | undefined, iova: bigint): WalkAnswer {
    const high = Number(BigInt.asIntN(32, iova >> 32n));
    const low = Number(BigInt.asIntN(32, iova));
    const { attachments, pasids } = this.streams;
    const owner = pasid === undefined ? attachments[requesterId] : pasids[requesterId]?.get(pasid);
    if (owner?.domain === undefined) return { steps: [], status: 'not attached', agrees: true };
    const { space, handle: domain } = owner.domain;
    if (space === identitySpace) return { ...untouched('pass-through', high, low), domain };
    const at = space === blockedSpace ? undefined : space.tablesFor?.(high, low);
    if (at === undefined) return { steps: [], status: 'not present', domain, agrees: true };
    const { tables, tag, rootFrame, levels } = at;
    const inspected = {
      format: tables.format,
      memory: tables.memory,
      engine: tables.engine,
      tag,
      rootFrame,
      levels,
    };
    // The managed tables' own width is for them to say: what is wider is mapped nowhere.
    if (tables.engine.walker.exceedsWidth(levels, at.high, at.low)) {
      return { steps: [], status: 'not present', domain, agrees: true };
    }
    const { reached, steps } = walkTables(inspected, at.high, at.low);
    const caches = compareCaches(inspected, at.high, at.low, reached);
    return { steps, status: reached.status, ...found(reached, at.low), domain, ...caches };
  }

  tlb(limit: number): TlbAnswer {
    const entries: TlbEntry[] = [];
    let total = 0;
    for (const { engine } of this.engines.all()) {
      total += engine.cache.size;
      for (const { domain: tag, page, shift, frame, permissions } of engine.cache.all()) {
        if (entries.length >= limit) break;
        const domain = Math.floor(tag / TAGS_PER_DOMAIN);
        const { space } = this.core.handles.find(domain, Domain) ?? {};
        const iova = space?.requestAddress?.(tag, page << 12n) ?? page << 12n;
        entries.push({ domain, iova, address: BigInt(frame) << 12n, shift, permissions });
      }
    }
    return { entries, total };
  }
}
