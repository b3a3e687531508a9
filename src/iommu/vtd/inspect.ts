/** What a VT-d unit shows of itself: tables, caches and the invalidation queue, as they are. Changes nothing. */
import { FreshStatus } from '../../trace/event-kinds.ts';
import { address64 } from '../address64.ts';
import type {
  IommuInspection,
  QueueAnswer,
  QueueEntry,
  TlbAnswer,
  TlbEntry,
  WalkAnswer,
  WalkOutcome,
  WalkStep,
} from '../inspection.ts';
import { compareCaches, found, type InspectedTables, type Reached, stepsOf, untouched } from '../table-steps.ts';
import type { TranslationEngine } from '../translation-engine.ts';
import { type ContextCache, Slot, SlotKind } from './context-cache.ts';
import { frameOf, type VtdCore } from './core.ts';
import { describeDescriptor } from './descriptor-text.ts';
import { DESCRIPTOR_BYTES } from './descriptors.ts';
import { EntryReader } from './entry-reader.ts';
import { contextStep, rootStep } from './entry-steps.ts';
import { FaultReason } from './fault-reasons.ts';
import { FreshWalk, type RootPointer } from './fresh-walk.ts';

/** Descriptors shown: so many before the head, from it on, and on either side of the tail. */
const BEFORE_HEAD = 16;
const FROM_HEAD = 24;
const AROUND_TAIL = 12;

const INTERRUPT_MEBIBYTE = 0xfee;
const QUEUE_PAGE_BYTES = 4096;
const OFFSET_MASK = 0xfff;
const READ_WRITE = 3;

const OUTCOMES: Readonly<Record<number, WalkOutcome>> = {
  [FreshStatus.mapped]: 'mapped',
  [FreshStatus.notPresent]: 'not present',
  [FreshStatus.denied]: 'no permission',
  [FreshStatus.malformed]: 'malformed',
  [FreshStatus.detached]: 'not attached',
};

export class VtdInspection implements IommuInspection {
  constructor(
    private readonly core: VtdCore,
    private readonly contexts: ContextCache,
    private readonly engine: TranslationEngine,
    private readonly remapper: RootPointer & { readonly enabled: boolean },
  ) {}

  /** Legacy mode knows no PASIDs: requests that carry one are attached to nothing. */
  walk(requesterId: number, pasid: number | undefined, iova: bigint): WalkAnswer {
    const high = Number(BigInt.asIntN(32, iova >> 32n));
    const low = Number(BigInt.asIntN(32, iova));
    if (pasid !== undefined) return { steps: [], status: 'not attached', agrees: true };
    if (!this.remapper.enabled) return untouched('untranslated', high, low);
    // Interrupt requests are not subject to DMA remapping (3.14).
    if (high === 0 && low >>> 20 === INTERRUPT_MEBIBYTE) return { steps: [], status: 'untranslated', agrees: true };
    const { core, contexts, engine, remapper } = this;
    const { memory } = core;
    const { format } = engine.walker;
    const fresh = new FreshWalk(memory, core.capabilities, format, contexts, remapper);
    fresh.look(requesterId, high, low);
    const reached = this.reached(fresh);
    const steps = this.contextSteps(fresh, requesterId);
    if (walked(fresh, high)) steps.push(...stepsOf(fresh.walker, format, memory, high, low));
    const caches = this.caches(fresh, requesterId, high, low, reached);
    return {
      steps,
      status: reached.status,
      ...found(reached, low),
      ...(fresh.domain === -1 ? {} : { domain: fresh.domain }),
      ...caches,
      agrees: caches.agrees && !fresh.contextDiffers(requesterId),
    };
  }

  tlb(limit: number): TlbAnswer {
    const { cache } = this.engine;
    const entries: TlbEntry[] = [];
    for (const { domain, page, shift, frame, permissions } of cache.all()) {
      if (entries.length >= limit) break;
      entries.push({ domain, iova: page << 12n, address: BigInt(frame) << 12n, shift, permissions });
    }
    return { entries, total: cache.size };
  }

  queue(): QueueAnswer {
    const { registers } = this.core;
    const word = (name: string) => registers.words[registers.offset(name) >>> 2]!;
    const baseLow = word('IQA');
    const baseHigh = registers.words[(registers.offset('IQA') >>> 2) + 1]!;
    const base = address64(baseHigh, baseLow & ~OFFSET_MASK);
    const bytes = QUEUE_PAGE_BYTES << registers.get(registers.field('IQA', 'QS'));
    const head = word('IQH');
    const tail = word('IQT');
    const enabled = registers.get(registers.field('GSTS', 'QIES')) === 1;
    const inside = enabled && head < bytes && tail < bytes;
    const first = frameOf(baseHigh, baseLow);
    return { enabled, base, bytes, head, tail, entries: inside ? this.queueEntries(first, bytes, head, tail) : [] };
  }

  private queueEntries(first: number, bytes: number, head: number, tail: number): QueueEntry[] {
    const count = bytes / DESCRIPTOR_BYTES;
    const at = { head: head / DESCRIPTOR_BYTES, tail: tail / DESCRIPTOR_BYTES };
    const pending = (at.tail - at.head + count) % count;
    const reader = new EntryReader(this.core.memory);
    const entries: QueueEntry[] = [];
    for (const index of shownIndices(at.head, at.tail, count)) {
      const offset = index * DESCRIPTOR_BYTES;
      const readable = reader.read(first + (offset >>> 12), offset & OFFSET_MASK);
      const { w0, w1, w2, w3 } = reader;
      const isEmpty = (w0 | w1 | w2 | w3) === 0;
      const isPending = (index - at.head + count) % count < pending;
      const behind = (at.head - index + count) % count;
      const isDone = behind > 0 && behind <= BEFORE_HEAD && !isEmpty;
      entries.push({
        offset,
        words: readable ? [address64(w1, w0), address64(w3, w2)] : [],
        text: readable ? describeDescriptor(reader) : 'not readable',
        state: isPending ? 'pending' : isDone ? 'done' : 'free',
      });
    }
    return entries;
  }

  private reached({ status, frame, shift, permissions, reader, reason }: FreshWalk): Reached {
    if (reason === 0 && status === FreshStatus.mapped && reader.entry.passThrough) {
      return { status: 'pass-through', frame, shift, permissions: READ_WRITE };
    }
    // Pages that lead to where interrupt messages go are refused (3.14).
    const toInterrupts = status === FreshStatus.mapped && frame >>> 8 === INTERRUPT_MEBIBYTE;
    return { status: toInterrupts ? 'malformed' : OUTCOMES[status]!, frame, shift, permissions };
  }

  private contextSteps({ reader, reason }: FreshWalk, requesterId: number): WalkStep[] {
    const { capabilities } = this.core;
    const { rootFrame, mode } = this.remapper;
    if (mode !== 0) return [];
    const root = rootStep(reader, rootFrame, requesterId, capabilities);
    const isRead = reader.tablesRead === 2;
    if (!isRead && reason !== FaultReason.contextTableAccess) return [root];
    const frame = frameOf(reader.root.w1, reader.root.w0);
    return [root, contextStep(reader.context, isRead, frame, requesterId, capabilities)];
  }

  private caches(
    fresh: FreshWalk,
    requesterId: number,
    high: number,
    low: number,
    reached: Reached,
  ): Pick<WalkAnswer, 'cached' | 'agrees'> {
    const tables = this.tablesOf(fresh, requesterId);
    // What is wider than the tables is refused before any cache of translations is asked.
    const tooWide = tables?.engine.walker.exceedsWidth(tables.levels, high, low) ?? true;
    return tooWide ? { agrees: true } : compareCaches(tables!, high, low, reached);
  }

  /** Those that a request would be translated with now: the context cache comes before memory. */
  private tablesOf({ reader, reason }: FreshWalk, requesterId: number): InspectedTables | undefined {
    const { core, contexts, engine } = this;
    const { memory } = core;
    const { format } = engine.walker;
    const at = contexts.find(requesterId);
    if (at >= 0) {
      const { words } = contexts;
      if (words[at + Slot.kind] !== SlotKind.secondStage) return undefined;
      const rootFrame = words[at + Slot.rootFrame]!;
      return { format, memory, engine, tag: words[at + Slot.domain]!, rootFrame, levels: words[at + Slot.levels]! };
    }
    const { domain, rootFrame, levels, passThrough } = reader.entry;
    if (reason !== 0 || passThrough) return undefined;
    return { format, memory, engine, tag: domain, rootFrame, levels };
  }
}

function walked({ reason, reader }: FreshWalk, high: number): boolean {
  return reason === 0 && !reader.entry.passThrough && high >>> reader.entry.limitShift === 0;
}

/** Positions in the ring, in its order from before the head on; none twice. */
function shownIndices(head: number, tail: number, count: number): number[] {
  const start = head - BEFORE_HEAD;
  const wanted = new Set<number>();
  const fromStart = (index: number) => (index - start + 2 * count) % count;
  for (let step = 0; step < BEFORE_HEAD + FROM_HEAD; step++) wanted.add(step % count);
  for (let step = -AROUND_TAIL; step < AROUND_TAIL; step++) wanted.add(fromStart(tail + step));
  return [...wanted].sort((a, b) => a - b).map(step => (start + step + count) % count);
}
