/** Everything that the sanitizer knows of a machine, by events alone. */
import { ResetWhat } from '../event-kinds.ts';
import { AttachmentLog } from './attachment-log.ts';
import type { FindingLog } from './finding-log.ts';
import { InvalidationLog } from './invalidation-log.ts';
import { MAX_OPERATED_DOMAINS, MAX_RESETS } from './limits.ts';
import { MappingHistory } from './mapping-history.ts';
import { MemoryMap } from './memory-map.ts';
import { durationText, requesterText } from './text.ts';

export interface LastReset {
  /** `ResetWhat`. */
  readonly what: number;
  readonly time: number;
}

export class World {
  readonly mappings = new MappingHistory();
  readonly attachments = new AttachmentLog();
  readonly invalidations = new InvalidationLog();
  readonly memory = new MemoryMap();
  readonly resets = new Map<string, LastReset>();
  /** Of a recording: records that were lost while it was made. */
  droppedRecords = 0;
  /** Who tells of mappings and faults. */
  iommu = 'iommu';
  /** Domains whose mappings all come by operations, so that what no event told of is not there. */
  readonly #operated = new Set<number>();
  readonly #requesterIds = new Map<string, number>();

  constructor(
    readonly log: FindingLog,
    readonly endpoints: ReadonlyMap<number, string>,
  ) {
    for (const [requesterId, name] of endpoints) this.#requesterIds.set(name, requesterId);
  }

  /** A finding's `device`. */
  deviceOf(requesterId: number): string {
    return this.endpoints.get(requesterId) ?? requesterText(requesterId);
  }

  /** For sentences: `edu0 (01:00.0)`. */
  describe(requesterId: number): string {
    const name = this.endpoints.get(requesterId);
    const address = requesterText(requesterId);
    return name === undefined ? address : `${name} (${address})`;
  }

  /** The same of an event's source. */
  describeSource(source: string): string {
    const requesterId = this.#requesterIds.get(source);
    return requesterId === undefined ? source : this.describe(requesterId);
  }

  /** What happened to a function last, unless too many functions were reset. */
  noteReset(source: string, what: number, time: number): void {
    if (this.resets.has(source) || this.resets.size < MAX_RESETS) this.resets.set(source, { what, time });
  }

  /** The domain that a request goes through, where the event does not say it. */
  domainOf(requesterId: number, pasid: number, told: number): number {
    return told >= 0 ? told : (this.attachments.of(requesterId, pasid)?.domain ?? -1);
  }

  /** Something was mapped in the domain by an operation. */
  noteOperated(domain: number): void {
    if (this.#operated.size < MAX_OPERATED_DOMAINS) this.#operated.add(domain);
  }

  /** A domain of this number is a new one, whose tables software may write by itself. */
  forgetOperated(domain: number): void {
    this.#operated.delete(domain);
  }

  /** Whether every mapping of the domain was told; of tables that software writes by itself only some are seen. */
  knowsAllMappings(domain: number): boolean {
    return this.#operated.has(domain) && this.mappings.forgotten === 0 && this.droppedRecords === 0;
  }

  /** A sentence for explanations that rest on the absence of history; empty where all of it is there. */
  gaps(now: number): string {
    const { past, forgotten } = this.mappings;
    const oldest = Math.max(past.droppedBefore, this.invalidations.droppedBefore);
    const parts: string[] = [];
    if (oldest >= 0) parts.push(`History older than ${durationText(now - oldest)} was dropped.`);
    if (forgotten > 0) parts.push(`There were more mappings than are remembered: ${forgotten} are not.`);
    const records = this.droppedRecords;
    if (records > 0) parts.push(`The recording lacks ${records} records that were lost.`);
    return parts.join(' ');
  }
}

export function resetName(what: number): string {
  if (what === ResetWhat.functionLevel) return 'a function-level reset';
  if (what === ResetWhat.client) return 'a reset by the virtual machine';
  return what === ResetWhat.iommu ? 'a reset of the IOMMU' : 'the end of its connection';
}
