/**
 * Finds the mistakes that hardware keeps silent about. It knows a machine by its events and notes only, so the same code watches a
 * running machine and reads a recorded file. Nothing in it waits: the caller asks `deadline` and calls `tick`.
 */
import { EventClass, Kind, MappingSource, ResetWhat } from '../event-kinds.ts';
import type { EventListener } from '../events.ts';
import { attached, detached, leftMapped } from './attach-events.ts';
import type { DetectorName } from './detectors.ts';
import { descriptorChanged, guestSpins } from './driver-races.ts';
import { classifyFailure, TransferStatus } from './failed-dma.ts';
import { type Fault, type OtherContext, readFault, transferOf } from './fault.ts';
import type { Finding } from './finding.ts';
import { FindingLog } from './finding-log.ts';
import { Grace } from './grace.ts';
import { liveEvidence, type Transfer } from './history-evidence.ts';
import type { Invalidation } from './invalidation-log.ts';
import { DEFAULT_GRACE_NANOSECONDS, MAX_CONTEXTS } from './limits.ts';
import type { MappedPages } from './mapping-history.ts';
import { MaskedAddresses } from './masked-addresses.ts';
import { takeNote } from './notes.ts';
import { addressOf, PAGE_BYTES, pageOf } from './pages.ts';
import type { SanitizePolicy } from './policy.ts';
import { classifyFault } from './refused.ts';
import { StaleWatch } from './stale-watch.ts';
import { tableLoops } from './table-loops.ts';
import { domainText, rangeText } from './text.ts';
import { World } from './world.ts';

export interface SanitizerOptions {
  readonly policy: SanitizePolicy;
  /** Names by requester id. */
  readonly endpoints: ReadonlyMap<number, string>;
  /** Called at the first occurrence of each. */
  readonly onFinding?: (finding: Finding, isNew: boolean) => void;
  /** Then `onFinding` is called at every occurrence, with `isNew` only at the first. Default false. */
  readonly everyOccurrence?: boolean;
  /** Called at once, within the event, so that what is under way can be refused. */
  readonly onStop?: (finding: Finding) => void;
  /** How long a stale answer waits for the invalidation that may be under way. */
  readonly graceNanoseconds?: number;
}

/** A mapping as far as it is known: VT-d and tables of the caller's own are known by walks and invalidations only. */
export interface LiveMapping {
  readonly domain: number;
  readonly iova: bigint;
  readonly pages: number;
  /** Guest page frame of the first page; -1: the pages are scattered. */
  readonly frame: number;
  /** 1 read, 2 write. */
  readonly permissions: number;
  /** Nanoseconds: when it was made, or seen first. */
  readonly since: number;
  readonly how: keyof typeof MappingSource;
}

export interface Attachment {
  readonly requesterId: number;
  /** The endpoint's name, or the requester id as 01:00.0. */
  readonly device: string;
  readonly domain: number;
  /** `AttachKind`. */
  readonly kind: number;
  /** -1: requests without one. */
  readonly pasid: number;
  /** Nanoseconds. */
  readonly since: number;
}

const MAPPING_SOURCES = Object.keys(MappingSource) as (keyof typeof MappingSource)[];

export class Sanitizer implements EventListener {
  readonly wants =
    EventClass.mapping |
    EventClass.attach |
    EventClass.invalidation |
    EventClass.fault |
    EventClass.connection |
    EventClass.note;
  private readonly world: World;
  private readonly log: FindingLog;
  private readonly grace: Grace;
  private readonly stale: StaleWatch;
  private readonly masked: MaskedAddresses;
  /** A fault whose failed transfer has not come yet. */
  private fault: Fault | undefined;
  private others: OtherContext[] = [];
  /** A refusal of this page is explained by the stale answer that came right before it. */
  private explained: { readonly requesterId: number; readonly page: number } | undefined;
  /** The next fault is one that was asked for. */
  private injected = false;
  private finished = false;

  constructor({ policy, endpoints, onFinding, everyOccurrence, onStop, graceNanoseconds }: SanitizerOptions) {
    this.log = new FindingLog({ policy, onFinding, everyOccurrence, onStop });
    this.world = new World(this.log, endpoints);
    this.grace = new Grace(graceNanoseconds ?? DEFAULT_GRACE_NANOSECONDS);
    this.stale = new StaleWatch(this.world, this.grace);
    this.masked = new MaskedAddresses(this.log);
  }

  /** In the order of their first occurrence. A finding that happens again is replaced by one with a higher count. */
  get findings(): readonly Finding[] {
    return this.log.findings;
  }

  /** Occurrences of findings for which there was no room. */
  get lost(): number {
    return this.log.lost;
  }

  /** The same of each detector that has any. */
  get lostByDetector(): Partial<Record<DetectorName, number>> {
    return this.log.lostByDetector;
  }

  /** Nanoseconds: when `tick` has to be called, unless events come before. Infinity: nothing waits. */
  get deadline(): number {
    return Math.min(this.fault?.time ?? Number.POSITIVE_INFINITY, this.stale.deadline);
  }

  mappings(): readonly LiveMapping[] {
    const { mappings } = this.world;
    const all: LiveMapping[] = [];
    for (const domain of mappings.domains()) {
      for (const { start, pages, frame, permissions, since, how } of mappings.of(domain)) {
        const iova = addressOf(start);
        all.push({ domain, iova, pages, frame, permissions, since, how: MAPPING_SOURCES[how] ?? 'walk' });
      }
    }
    return all;
  }

  attachments(): readonly Attachment[] {
    return this.world.attachments.all().map(one => ({ ...one, device: this.world.deviceOf(one.requesterId) }));
  }

  event(kind: number, source: string, time: number, payload: Int32Array): void {
    this.stale.tick(time);
    if (kind === Kind['dma.failed']) {
      this.failed(source, time, payload);
      return;
    }
    this.decideFault();
    const others = this.others;
    if (kind !== Kind.fault && kind !== Kind['context.present']) {
      if (others.length > 0) this.others = [];
      this.explained = undefined;
    }
    switch (kind) {
      case Kind['mapping.added']:
        this.mappingAdded(source, time, readMapping(payload));
        return;
      case Kind['mapping.removed']:
        this.world.mappings.removed(readMapping(payload), time);
        return;
      case Kind['mapping.changed']:
        this.world.mappings.changed(readMapping(payload), time);
        return;
      case Kind.attach:
        attached(this.world, source, time, payload);
        return;
      case Kind.detach:
        detached(this.world, source, time, payload, strangersTo(payload[0]! & 0xffff, others));
        return;
      case Kind.invalidation:
        this.invalidation(source, time, payload);
        return;
      case Kind.fault:
        this.faulted(source, time, payload);
        return;
      case Kind['context.present']:
        this.contextPresent(payload);
        return;
      case Kind.stale:
        this.explained = this.stale.stale(source, time, payload);
        return;
      case Kind['memory.added']:
      case Kind['memory.removed']:
        this.memory(kind, source, payload);
        return;
      case Kind.dropped:
        this.world.droppedRecords += payload[0]! >>> 0;
        return;
      case Kind.reset:
        this.reset(source, time, payload[0]! & 0xf);
        return;
      case Kind['register.spin']:
        guestSpins(this.world, source, time, payload);
        return;
      case Kind['table.loop']:
        tableLoops(this.world, source, time, payload);
        return;
      case Kind['descriptor.changed']:
        descriptorChanged(this.world, source, time, payload);
        return;
    }
  }

  note(kind: string, source: string, time: number, detail: Readonly<Record<string, unknown>>): void {
    this.stale.tick(time);
    if (kind === 'injection.applied' && detail.rule === 'refuse') this.injected = true;
    this.grace.note(kind, time, detail);
    this.masked.note(kind, source, detail);
    takeNote(this.world, kind, source, time, detail);
  }

  /** Decides what waited for longer than its grace. */
  tick(now: number): void {
    this.decideFault();
    this.stale.tick(now);
  }

  /** The end of the machine, or of the file: what waits is decided, and what is left behind is told. Once. */
  finish(now: number): void {
    if (this.finished) return;
    this.finished = true;
    this.decideFault();
    this.stale.finish(now);
    leftMapped(this.world, now, 'end', 'at the end', 'end');
  }

  private mappingAdded(source: string, time: number, mapped: MappedPages): void {
    const { world } = this;
    const { mappings } = world;
    world.iommu = source;
    const { domain, start, pages, how } = mapped;
    if (how === MappingSource.operation) world.noteOperated(domain);
    const live = how === MappingSource.operation ? mappings.firstOverlap(domain, start, pages) : undefined;
    if (live !== undefined && live.how === MappingSource.operation) {
      const same = live.permissions === mapped.permissions && live.frame - live.start === mapped.frame - start;
      const text = `${rangeText(start, pages)} was mapped in ${domainText(domain)} over ${rangeText(live.start, live.pages)}, which is mapped already`;
      const access = { time, kind: 'mapping.added', source, text };
      world.log.report({ detector: 'overlapping-map', device: source, key: `${domain} ${start}`, access }, () => ({
        summary: same ? `${text}, to the same memory` : text,
        explanation: same
          ? 'Both lead to the same memory with the same permissions, so nothing changes, but the first unmap takes the page from both.'
          : 'The mapping that was there is gone, and whoever made it does not know.',
        evidence: [liveEvidence(world, domain, live, time)],
        iova: addressOf(start),
        length: pages * PAGE_BYTES,
        domain,
      }));
    }
    mappings.added(mapped, time);
  }

  private invalidation(source: string, time: number, payload: Int32Array): void {
    const how = payload[4]!;
    const invalidation: Invalidation = {
      time,
      source,
      domain: payload[0]!,
      start: pageOf(payload[1]!, payload[2]!),
      pages: payload[3]! >>> 0,
      target: how & 0xf,
      scope: (how >>> 4) & 0xf,
      origin: (how >>> 8) & 0xf,
      leafOnly: ((how >>> 12) & 1) !== 0,
      requesterId: how >>> 16,
    };
    this.world.invalidations.add(invalidation);
    this.stale.invalidated(invalidation);
    this.grace.invalidated(invalidation);
  }

  private contextPresent(payload: Int32Array): void {
    if (this.others.length >= MAX_CONTEXTS) return;
    this.others.push({ requesterId: payload[0]! & 0xffff, beside: payload[1]! & 0xffff, domain: payload[2]! });
  }

  private faulted(source: string, time: number, payload: Int32Array): void {
    const requesterId = payload[0]! & 0xffff;
    const others = this.others.filter(other => other.beside === requesterId);
    const fault = readFault(source, time, payload, others);
    const { explained, injected } = this;
    this.others = [];
    this.explained = undefined;
    this.injected = false;
    this.world.iommu = source;
    if (injected) return;
    if (explained?.requesterId === requesterId && explained.page === fault.page) return;
    this.fault = fault;
  }

  private failed(source: string, time: number, payload: Int32Array): void {
    const { fault, world } = this;
    const first = payload[0]!;
    const requesterId = first & 0xffff;
    const status = (first >>> 16) & 0xf;
    const transfer: Transfer = {
      page: pageOf(payload[1]!, payload[2]!),
      offset: payload[2]! & 0xfff,
      length: payload[3]! >>> 0,
      access: ((first >>> 20) & 1) !== 0 ? 2 : 1,
      time,
    };
    const pasid = payload[4]!;
    this.injected = false;
    this.explained = undefined;
    this.others = [];
    if (fault !== undefined && status === TransferStatus.fault && fault.requesterId === requesterId) {
      this.fault = undefined;
      if (this.masked.explains(source, transfer)) return;
      classifyFault(world, { fault, transfer, domain: world.domainOf(requesterId, fault.pasid, fault.domain) });
      return;
    }
    this.decideFault();
    if (status === TransferStatus.noMemory && this.masked.explains(source, transfer)) return;
    // A fault by itself says why; without one, there is nothing to go by.
    if (status !== TransferStatus.fault) classifyFailure(world, { source, requesterId, pasid, status, transfer });
  }

  /** No failed transfer followed the fault. */
  private decideFault(): void {
    const { fault, world } = this;
    if (fault === undefined) return;
    this.fault = undefined;
    const transfer = transferOf(fault);
    if (this.masked.explains(world.deviceOf(fault.requesterId), transfer)) return;
    const domain = world.domainOf(fault.requesterId, fault.pasid, fault.domain);
    classifyFault(world, { fault, transfer, domain });
  }

  private memory(kind: number, source: string, payload: Int32Array): void {
    const { memory } = this.world;
    const start = pageOf(payload[1]!, payload[2]!);
    const pages = pageOf(payload[3]!, payload[4]!);
    if (kind === Kind['memory.added']) memory.added(source, start, pages, (payload[0]! & 1) !== 0);
    else memory.removed(source, start, pages);
  }

  private reset(source: string, time: number, what: number): void {
    const { world } = this;
    if (what !== ResetWhat.iommu) {
      world.noteReset(source, what, time);
      return;
    }
    world.iommu = source;
    // Its caches are empty now: no invalidation can be expected any more.
    this.stale.finish(time);
    leftMapped(world, time, 'reset', 'when the IOMMU was reset', 'reset');
    for (const domain of [...world.mappings.domains()]) world.mappings.dropDomain(domain, time, MappingSource.reset);
    world.attachments.reset(time);
  }
}

/** Undefined where so many were told that there may be more. */
function strangersTo(requesterId: number, others: readonly OtherContext[]): number[] | undefined {
  const told = others.filter(other => other.beside === requesterId);
  return told.length >= MAX_CONTEXTS ? undefined : told.map(other => other.requesterId);
}

function readMapping(payload: Int32Array): MappedPages {
  const how = payload[5]!;
  return {
    domain: payload[0]!,
    start: pageOf(payload[1]!, payload[2]!),
    pages: payload[4]! >>> 0,
    frame: payload[3]!,
    permissions: how & 3,
    how: (how >>> 8) & 0xf,
  };
}
