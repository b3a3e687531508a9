/**
 * What a unit with checks knows beside its caches: who is attached, what is mapped as far as anybody has seen, and what the tables
 * say. The unit's parts tell it what they do; it tells in events what that shows.
 */
import type { PageTableFormat } from '../../page-tables/format.ts';
import type { FieldHandle } from '../../pci/registers.ts';
import { EventClass, MappingSource, type StaleWhat } from '../../trace/event-kinds.ts';
import { COMPARES_MAX, KnownMappings } from '../known-mappings.ts';
import type { TranslationEngine } from '../translation-engine.ts';
import type { Translation } from '../translator.ts';
import { ATTACHMENTS_FOUND_MAX, type Attachment, Attachments } from './attachments.ts';
import type { ContextEntry } from './context.ts';
import { type ContextCache, Slot } from './context-cache.ts';
import { ContextReader } from './context-reader.ts';
import { ContextScan } from './context-scan.ts';
import { ContextTables } from './context-tables.ts';
import type { VtdCore } from './core.ts';
import { FaultReason } from './fault-reasons.ts';
import type { RootPointer } from './fresh-walk.ts';
import { LoopCheck } from './loop-check.ts';
import { StaleCheck } from './stale-check.ts';

/** Function bits that a function mask leaves out of the comparison (6.5.2.1). */
const FUNCTION_MASKS = [0, 0x4, 0x6, 0x7] as const;
/** Context entries that one invalidation reads again. */
export const CONTEXTS_PER_INVALIDATION = 1024;
/** What a domain costs that has no mappings, in comparisons. */
const COMPARISONS_PER_DOMAIN = 4;
/** And a search through the context tables. */
const COMPARISONS_PER_CONTEXT_SCAN = 512;
const ALL_BITS = 0xffff;

export class VtdWatch {
  readonly mappings: KnownMappings;
  readonly attachments: Attachments;
  readonly stale: StaleCheck;
  private readonly reader: ContextReader;
  /** Of entries that are looked at while `reader` holds another. */
  private readonly otherReader: ContextReader;
  private readonly tables: ContextTables;
  private readonly loops: LoopCheck;
  private readonly rootPointerSet: FieldHandle;
  /** The domain at which the last invalidation of all ended: it may have been enough for some only. */
  private lastCompared = -1;

  constructor(
    private readonly core: VtdCore,
    private readonly contexts: ContextCache,
    engine: TranslationEngine,
    format: PageTableFormat,
    private readonly pointer: RootPointer,
  ) {
    this.mappings = new KnownMappings(core.events, core.source, format, core.memory);
    const others = new ContextScan(core, contexts, pointer);
    this.attachments = new Attachments(core, {
      findUser: (of, except) => this.findUser(of, except),
      lastGoes: gone => this.mappings.compareKnown(gone.domain, gone, MappingSource.detach),
      lastGone: gone => this.mappings.forget(gone.domain),
      leaves: requesterId => others.tellNow(requesterId),
      moved: now => this.mappings.compareKnown(now.domain, now, MappingSource.invalidation),
    });
    this.stale = new StaleCheck(core, contexts, engine, format, pointer);
    this.reader = new ContextReader(core.memory, core.capabilities);
    this.otherReader = new ContextReader(core.memory, core.capabilities);
    this.tables = new ContextTables(core, pointer);
    this.loops = new LoopCheck(core, format, engine.walker);
    this.rootPointerSet = core.registers.field('GSTS', 'RTPS');
  }

  /** The requester's context entry was read; `reason` says why it cannot be used, or is zero. */
  contextRead(requesterId: number, reason: FaultReason | 0, entry: ContextEntry): void {
    if (reason === 0) this.attachments.present(requesterId, entry);
    else if (reason === FaultReason.rootNotPresent || reason === FaultReason.contextNotPresent) {
      this.attachments.absent(requesterId);
    } else this.attachments.faulty(requesterId);
  }

  /** A walk for the requester with the context-cache slot `at` has filled the IOTLB. */
  walked(requesterId: number, at: number, high: number, low: number, { shift, frame, permissions }: Translation): void {
    this.cameThrough(requesterId, at, high, low);
    if ((this.core.events.mask & EventClass.mapping) === 0) return;
    this.mappings.seen(this.contexts.words[at + Slot.domain]!, high, low, shift, frame, permissions);
  }

  /** The engine's last walk, whatever it found: its tables are looked at. */
  cameThrough(requesterId: number, at: number, high: number, low: number): void {
    if ((this.core.events.mask & EventClass.fault) === 0) return;
    const slot = this.contexts.words;
    const domain = slot[at + Slot.domain]!;
    this.loops.check(requesterId, domain, slot[at + Slot.rootFrame]!, slot[at + Slot.levels]!, high, low);
  }

  /** A request is about to be refused. */
  refused(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    what: (typeof StaleWhat)[keyof typeof StaleWhat] | -1,
  ): void {
    if ((this.core.events.mask & EventClass.fault) === 0) return;
    const { core, contexts } = this;
    const { generation } = core;
    const at = contexts.find(requesterId);
    const domain = at < 0 ? -1 : contexts.words[at + Slot.domain]!;
    const tables = domain < 0 ? undefined : this.tablesOf(domain);
    // What was mapped there may be gone, and its turn to be compared did not come yet.
    if (tables !== undefined) this.mappings.compareAt(domain, tables, high, low, MappingSource.walk);
    if (generation !== core.generation) return;
    this.stale.refused(requesterId, high, low, access, length, what);
  }

  contextsInvalidated(): void {
    this.reread(() => true);
    this.readNew(() => true);
  }

  domainContextsInvalidated(domain: number): void {
    this.reread(requesterId => this.attachments.get(requesterId)?.domain === domain);
    this.readNew((_requesterId, of) => of === domain);
  }

  deviceContextsInvalidated(requesterId: number, functionMask: number): void {
    const compared = ALL_BITS & ~FUNCTION_MASKS[functionMask & 3]!;
    this.reread(candidate => ((candidate ^ requesterId) & compared) === 0);
    const first = requesterId & compared;
    this.readEach(Array.from({ length: 8 }, (_, i) => first | i).filter(one => ((one ^ first) & compared) === 0));
  }

  translationsInvalidated(): void {
    if ((this.core.events.mask & EventClass.mapping) === 0) return;
    const { mappings } = this;
    const domains = [...this.attachments.domains()].sort(([a], [b]) => a - b);
    const first = domains.findIndex(([domain]) => domain > this.lastCompared);
    const last = mappings.work + COMPARES_MAX;
    for (let i = 0; i < domains.length && mappings.work < last; i++) {
      const [domain, tables] = domains[(Math.max(first, 0) + i) % domains.length]!;
      this.lastCompared = domain;
      mappings.work += COMPARISONS_PER_DOMAIN;
      mappings.compareDomain(domain, tables, MappingSource.invalidation);
    }
  }

  domainInvalidated(domain: number): void {
    const tables = this.tablesOf(domain);
    if (tables !== undefined) this.mappings.compareDomain(domain, tables, MappingSource.invalidation);
  }

  /** The address is that of the first page. */
  pagesInvalidated(domain: number, high: number, low: number, pages: number): void {
    const tables = this.tablesOf(domain);
    if (tables === undefined) return;
    this.mappings.comparePages(domain, tables, high, low, pages, MappingSource.invalidation);
  }

  /** Software set another root table pointer, or switched translation on or off. */
  switched(): void {
    this.stale.forget();
  }

  reset(): void {
    this.stale.forget();
    this.lastCompared = -1;
    this.mappings.clear();
    this.attachments.clear();
  }

  /** By the context tables, which no cache need have read yet. */
  private findUser({ domain, rootFrame, levels }: Attachment, except: number): number {
    const { otherReader, pointer } = this;
    let found = -1;
    this.tables.each((requesterId, of) => {
      if (of !== domain || requesterId === except) return true;
      if (otherReader.read(requesterId, pointer.rootFrame, pointer.mode) !== 0) return true;
      const { entry } = otherReader;
      if (entry.passThrough || entry.rootFrame !== rootFrame || entry.levels !== levels) return true;
      found = requesterId;
      return false;
    });
    return found;
  }

  /** Reads entries of requesters that did no DMA yet, as far as windows show the tables. */
  private readNew(covered: (requesterId: number, domain: number) => boolean): void {
    this.mappings.work += COMPARISONS_PER_CONTEXT_SCAN;
    const found: number[] = [];
    this.tables.each((requesterId, domain) => {
      if (this.attachments.get(requesterId) === undefined && covered(requesterId, domain)) found.push(requesterId);
      return found.length < CONTEXTS_PER_INVALIDATION;
    });
    this.readEach(found);
  }

  private readEach(requesterIds: readonly number[]): void {
    const { core, reader, pointer, attachments } = this;
    if ((core.events.mask & EventClass.attach) === 0 || core.registers.get(this.rootPointerSet) === 0) return;
    const { generation } = core;
    for (const requesterId of requesterIds) {
      if (attachments.get(requesterId) !== undefined || attachments.count >= ATTACHMENTS_FOUND_MAX) continue;
      this.mappings.work++;
      const reason = reader.read(requesterId, pointer.rootFrame, pointer.mode);
      // A reset while guest memory was read.
      if (generation !== core.generation) return;
      if (reason === 0) attachments.present(requesterId, reader.entry);
      if (generation !== core.generation) return;
    }
  }

  private tablesOf(domain: number) {
    return (this.core.events.mask & EventClass.mapping) === 0 ? undefined : this.attachments.tablesOf(domain);
  }

  /** Reads the entries of known requesters again, after an invalidation that covered them. */
  private reread(covered: (requesterId: number) => boolean): void {
    const { core, reader, pointer } = this;
    if ((core.events.mask & EventClass.attach) === 0) return;
    const { generation } = core;
    let left = CONTEXTS_PER_INVALIDATION;
    for (const requesterId of this.attachments.requesters()) {
      if (!covered(requesterId) || left-- <= 0) continue;
      this.mappings.work++;
      const reason = reader.read(requesterId, pointer.rootFrame, pointer.mode);
      // A reset while guest memory was read: what was known is gone.
      if (generation !== core.generation) return;
      this.contextRead(requesterId, reason, reader.entry);
      if (generation !== core.generation) return;
    }
  }
}
