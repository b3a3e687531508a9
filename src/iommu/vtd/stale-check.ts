/**
 * Compares the unit's answers with what the tables say at that moment. Hardware keeps silent about answers from caches that are out
 * of date; here each is told, as a `stale` event. Reads the tables for itself and knows nothing of the unit's caches but what they
 * answered; where the tables did not change since the last look, that costs a few loads.
 */
import type { GuestMemory } from '../../memory/guest-memory.ts';
import type { PageTableFormat } from '../../page-tables/format.ts';
import { EventClass, FreshStatus, Kind, StaleWhat } from '../../trace/event-kinds.ts';
import type { TranslationEngine } from '../translation-engine.ts';
import type { Translation } from '../translator.ts';
import type { ContextCache } from './context-cache.ts';
import type { VtdCore } from './core.ts';
import { FreshWalk, type RootPointer } from './fresh-walk.ts';
import { DoubleViews, PATH_SHIFT, TablePath } from './table-path.ts';

/** Ways through the tables that are remembered, of 2 MiB of addresses each. */
export const PATHS = 256;
const PATH_BYTES = 1 << PATH_SHIFT;
/** Tables that are reached by messages cost one for each entry: only one of so many answers is compared with them. */
export const REMOTE_CHECK_INTERVAL = 8;
/** Stale pages told of in one run of pages. */
export const STALE_EVENTS_PER_RUN = 16;
/** What looks stale is looked at so often before it is told: software may have been at writing an entry. */
const LOOKS = 2;
const INTERRUPT_MEBIBYTE = 0xfee;
const UNREACHABLE_HIGH = ~0x7ff;

type What = (typeof StaleWhat)[keyof typeof StaleWhat];

export class StaleCheck {
  readonly fresh: FreshWalk;
  private readonly memory: GuestMemory;
  readonly paths: readonly TablePath[];
  /** Bits that must be clear in an entry that maps a page of 4 KiB. */
  readonly reservedLow: number;
  readonly reservedHigh: number;
  /** The tables looked at last are reached by messages. */
  private remote = false;
  private remoteAnswers = 0;

  constructor(
    private readonly core: VtdCore,
    private readonly contexts: ContextCache,
    private readonly engine: TranslationEngine,
    format: PageTableFormat,
    pointer: RootPointer,
  ) {
    this.memory = core.memory;
    const views = new DoubleViews();
    this.paths = Array.from({ length: PATHS }, () => new TablePath(views));
    this.fresh = new FreshWalk(core.memory, core.capabilities, format, contexts, pointer);
    const [low, high] = format.levels[0]!.leafReserved;
    this.reservedLow = low;
    this.reservedHigh = high | (format.address[1] & UNREACHABLE_HIGH);
  }

  /** Remembered ways count no more: the root table pointer changed, or the unit was reset. */
  forget(): void {
    for (const path of this.paths) path.forget();
    this.remote = false;
  }

  /**
   * Before a fault is reported: whether a walk from the root would have gone well. `what` is where the answer came from; -1 where only
   * the context entry can be out of date.
   */
  refused(requesterId: number, high: number, low: number, access: number, length: number, what: What | -1): void {
    const { fresh } = this;
    const { generation } = this.core;
    let stale: What | -1 = -1;
    for (let look = 0; look < LOOKS; look++) {
      fresh.look(requesterId, high, low);
      if (generation !== this.core.generation) return;
      stale = fresh.statusFor(access) === FreshStatus.mapped ? what : -1;
      if (fresh.contextDiffers(requesterId)) stale = StaleWhat.context;
      if (stale < 0) return;
    }
    if (stale >= 0) this.emit(requesterId, high, low, access, 0, 0, 12, bytesInPage(low, length), stale as What);
  }

  /**
   * After a translation that went well, of `out.bytes` from the address on; `walked`: its first page came from a walk. Looks at it
   * part by part, where a part has one way through the tables.
   */
  check(requesterId: number, high: number, low: number, access: number, out: Translation, walked: boolean): void {
    // Interrupt messages are not translated (3.14).
    if (high === 0 && low >>> 20 === INTERRUPT_MEBIBYTE) return;
    let { frame } = out;
    let told = 0;
    for (let left = out.bytes; left > 0 && told < STALE_EVENTS_PER_RUN; ) {
      const bytes = Math.min(left, PATH_BYTES - (low & (PATH_BYTES - 1)));
      const inPart = this.checkPart(requesterId, high, low, access, bytes, frame, out, walked);
      if (inPart < 0) return;
      told += inPart;
      left -= bytes;
      frame += ((low & 0xfff) + bytes) >>> 12;
      low = (low + bytes) | 0;
      if (low === 0) high = (high + 1) | 0;
      walked = false;
    }
  }

  /** Returns how many events that made, or -1 where the rest is not to be looked at. */
  private checkPart(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    bytes: number,
    frame: number,
    out: Translation,
    walked: boolean,
  ): number {
    const { contexts, memory, fresh } = this;
    const { generation } = this.core;
    const path = this.paths[pathIndex(requesterId, high, low)]!;
    let captured =
      path.is(requesterId, high, low) &&
      path.generation === memory.generation &&
      path.contextChanges === contexts.changes &&
      path.unchanged();
    let first = 0;
    if (!captured) {
      if (this.remote && ++this.remoteAnswers % REMOTE_CHECK_INTERVAL !== 0) return -1;
      fresh.look(requesterId, high, low);
      if (generation !== this.core.generation) return -1;
      if (fresh.contextDiffers(requesterId)) {
        path.forget();
        this.inspect(requesterId, high, low, access, frame, out, bytes, walked);
        return -1;
      }
      captured = path.capture(fresh, requesterId, high, low, memory);
      path.contextChanges = contexts.changes;
      this.remote = path.remote;
      // Known already; the pages after it are not worth their messages.
      const good = fresh.statusFor(access) === FreshStatus.mapped && fresh.frame === frame;
      if (good && path.remote) return -1;
      if (good) first = bytesInPage(low, bytes);
    }
    let told = 0;
    if (first !== 0) frame++;
    for (let done = first; done < bytes && told < STALE_EVENTS_PER_RUN; ) {
      const at = low + done;
      const piece = bytesInPage(at, bytes - done);
      if (!captured || !this.agrees(path, at, frame, access)) {
        if (this.inspect(requesterId, high, at, access, frame, out, piece, walked && done === 0)) told++;
        if (generation !== this.core.generation || path.remote) return -1;
      }
      done += piece;
      frame++;
    }
    return told;
  }

  /** Whether the page's entry, at the end of a way that did not change, says what was answered. */
  private agrees(path: TablePath, low: number, frame: number, access: number): boolean {
    if (access === 0) return false;
    if (path.leafAt < 0) {
      return path.baseFrame + ((low >>> 12) & 0x1ff) === frame && (access & ~path.allowed) === 0;
    }
    const word = path.leafAt | ((low >>> 11) & 0x3fe);
    const entryLow = path.leafWords[word]!;
    const entryHigh = path.leafWords[word | 1]!;
    return (
      ((((entryHigh << 20) | (entryLow >>> 12)) ^ frame) |
        (entryLow & this.reservedLow) |
        (entryHigh & this.reservedHigh) |
        (access & ~(entryLow & path.allowed))) ===
      0
    );
  }

  /** One page, by walking afresh. Returns whether it is stale, and tells so. */
  private inspect(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    frame: number,
    out: Translation,
    length: number,
    walked: boolean,
  ): boolean {
    const { fresh, core, engine } = this;
    const { generation } = core;
    for (let look = 0; look < LOOKS; look++) {
      fresh.look(requesterId, high, low);
      if (generation !== core.generation) return false;
      if (fresh.contextDiffers(requesterId)) continue;
      if (fresh.statusFor(access) === FreshStatus.mapped && fresh.frame === frame) return false;
    }
    let what: What = StaleWhat.iotlb;
    if (fresh.contextDiffers(requesterId)) what = StaleWhat.context;
    else if (walked) {
      // That walk began at the root, too: the tables have changed since, and nothing was out of date.
      if (engine.walker.startLevel === fresh.reader.entry.levels) return false;
      what = StaleWhat.pagingStructure;
    }
    this.emit(requesterId, high, low, access, frame, out.permissions, out.shift, bytesInPage(low, length), what);
    return true;
  }

  private emit(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    frame: number,
    permissions: number,
    shift: number,
    length: number,
    what: What,
  ): void {
    const { contexts, core, fresh } = this;
    if ((core.events.mask & EventClass.fault) === 0) return;
    const at = contexts.find(requesterId);
    core.events.emitLong(
      Kind.stale,
      core.source,
      requesterId | (access << 16) | (what << 18) | (fresh.statusFor(access) << 21),
      high,
      low,
      frame,
      at < 0 ? -1 : contexts.words[at | 1]!,
      fresh.frame,
      permissions | (fresh.permissions << 2) | (shift << 8),
      length,
      fresh.domain,
      0,
      0,
      0,
      0,
    );
  }
}

/** Which of the remembered ways an address has. */
export function pathIndex(requesterId: number, high: number, low: number): number {
  return ((requesterId << 11) ^ (low >>> PATH_SHIFT) ^ (requesterId * 5) ^ (high << 3)) & (PATHS - 1);
}

function bytesInPage(low: number, length: number): number {
  return Math.min(length, 4096 - (low & 0xfff));
}
