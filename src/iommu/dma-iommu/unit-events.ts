/** What a unit tells of attachments, invalidations, translations and faults, as events. */
import {
  EventClass,
  InvalidationOrigin,
  InvalidationScope,
  InvalidationTarget,
  Kind,
  ResetWhat,
} from '../../trace/event-kinds.ts';
import type { Events } from '../../trace/events.ts';
import type { Translation } from '../translator.ts';
import type { LastAnswer } from './last-answer.ts';
import { MappingEvents } from './mapping-events.ts';
import { highOf, lowOf } from './page-number.ts';

/** Where no domain is meant. */
export const NO_DOMAIN = -1;
const NO_PASID = -1;

export interface FaultEvent {
  readonly requesterId: number;
  readonly pasid: number;
  readonly high: number;
  readonly low: number;
  readonly access: number;
  /** `FaultCause`. */
  readonly cause: number;
  /** `FaultOutcome`. */
  readonly outcome: number;
  /** `FaultType`. */
  readonly reason: number;
  readonly domain: number;
}

export class UnitEvents {
  readonly mappings: MappingEvents;
  private readonly source: number;

  constructor(
    readonly records: Events,
    name: string,
  ) {
    this.source = records.sourceId(name);
    this.mappings = new MappingEvents(records, this.source);
  }

  attached(ids: readonly number[], domain: number, kind: number, pasid = NO_PASID): void {
    if ((this.records.mask & EventClass.attach) === 0) return;
    for (const id of ids) this.records.emit(Kind.attach, this.source, id, domain, kind, pasid, 0);
  }

  detached(ids: readonly number[], domain: number, pasid = NO_PASID): void {
    if ((this.records.mask & EventClass.attach) === 0) return;
    for (const id of ids) this.records.emit(Kind.detach, this.source, id, domain, 0, pasid, 0);
  }

  invalidatedDomain(domain: number): void {
    if ((this.records.mask & EventClass.invalidation) === 0) return;
    const how = InvalidationTarget.iotlb | (InvalidationScope.domain << 4) | (InvalidationOrigin.operation << 8);
    this.records.emit(Kind.invalidation, this.source, domain, 0, 0, 0, how);
  }

  invalidatedPages(domain: number, page: number, pages: number, leafOnly: boolean): void {
    if ((this.records.mask & EventClass.invalidation) === 0) return;
    const how = InvalidationTarget.iotlb | (InvalidationScope.range << 4) | (InvalidationOrigin.operation << 8);
    const word = how | (leafOnly ? 1 << 12 : 0);
    this.records.emit(Kind.invalidation, this.source, domain, highOf(page), lowOf(page), pages, word);
  }

  reset(): void {
    if ((this.records.mask & EventClass.connection) === 0) return;
    this.records.emit(Kind.reset, this.source, ResetWhat.iommu, 0, 0, 0, 0);
  }

  /** `source`: `TranslationSource`. */
  translated(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    source: number,
    { frame, permissions, shift }: Translation,
    domain: number,
  ): void {
    if ((this.records.mask & EventClass.translation) === 0) return;
    const word = requesterId | (access << 16) | (source << 18) | (permissions << 20) | (shift << 22);
    this.records.emit(Kind.translation, this.source, word, high, low, frame, domain);
  }

  /** `used` is what the unit answered, undefined if it refused; `length` bytes were asked for. */
  stale(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    answer: LastAnswer,
    used: Translation | undefined,
    domain: number,
    length: number,
  ): void {
    if ((this.records.mask & EventClass.fault) === 0) return;
    const word = requesterId | (access << 16) | (answer.staleWhat << 18) | (answer.fresh << 21);
    const permissions = (used?.permissions ?? 0) | (answer.freshPermissions << 2) | ((used?.shift ?? 12) << 8);
    const frame = used?.frame ?? -1;
    const { freshFrame } = answer;
    const { records, source } = this;
    const kind = Kind.stale;
    records.emitLong(kind, source, word, high, low, frame, domain, freshFrame, permissions, length, domain, 0, 0, 0, 0);
  }

  fault(fault: FaultEvent, answer: LastAnswer): void {
    if ((this.records.mask & EventClass.fault) === 0) return;
    const { requesterId, pasid, high, low, access, cause, outcome, reason, domain } = fault;
    const { level, entryLow, entryHigh, entryFrame, entryOffset, width } = answer;
    const word = requesterId | (access << 16) | (outcome << 18) | (cause << 22);
    const entryAddressLow = (entryFrame << 12) | entryOffset;
    this.records.emitLong(
      Kind.fault,
      this.source,
      word,
      high,
      low,
      reason,
      domain,
      pasid,
      level,
      entryHigh,
      entryLow,
      entryFrame >>> 20,
      entryAddressLow,
      width,
      0,
    );
  }
}
