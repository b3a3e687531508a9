/** Feeds a sanitizer with events, put together by the table of kinds. */
import {
  AttachKind,
  EVENT_KINDS,
  EventClass,
  type EventKind,
  type EventKindName,
  FaultCause,
  FreshStatus,
  InvalidationScope,
  LONG_PAYLOAD_WORDS,
  MappingSource,
  type PayloadField,
  ResetWhat,
  StaleWhat,
} from '../../../src/trace/event-kinds.ts';
import type { Finding } from '../../../src/trace/sanitizer/finding.ts';
import { parsePolicy } from '../../../src/trace/sanitizer/policy.ts';
import { Sanitizer } from '../../../src/trace/sanitizer/sanitizer.ts';

export const MS = 1e6;
export const GRACE = 100 * MS;
export const EDU0 = 0x100;
export const EDU1 = 0x200;
export const STRANGER = 0x300;
export const READ = 1;
export const WRITE = 2;
export const BOTH = 3;
export const DOMAIN = 5;
export const Status = { ok: 0, fault: 1, notBusMaster: 2, noMemory: 3, aborted: 4 } as const;

type Values = Readonly<Record<string, number | bigint>>;

/** Payload words of an event, by the names of its fields; those not given are zero. */
export function encode(name: EventKindName, values: Values): Int32Array {
  const kind = EVENT_KINDS.find(one => one.name === name) as EventKind;
  const words = new Int32Array(LONG_PAYLOAD_WORDS);
  for (const [field, value] of Object.entries(values)) {
    const found = kind.fields.find(one => one.name === field);
    if (found === undefined) throw new Error(`${name} has no field ${field}`);
    put(words, found, value);
  }
  return words;
}

function put(words: Int32Array, { word, shift = 0, bits = 32 }: PayloadField, value: number | bigint): void {
  if (bits === 64) {
    const wide = BigInt(value);
    words[word] = Number(BigInt.asIntN(32, wide >> 32n));
    words[word + 1] = Number(BigInt.asIntN(32, wide));
    return;
  }
  const mask = bits === 32 ? -1 : (1 << bits) - 1;
  words[word] = (words[word]! & ~(mask << shift)) | ((Number(value) & mask) << shift);
}

export interface ScenarioOptions {
  readonly policy?: string;
  readonly onStop?: (finding: Finding) => void;
  readonly onFinding?: (finding: Finding, isNew: boolean) => void;
}

export class Scenario {
  readonly sanitizer: Sanitizer;
  now = 1000 * MS;

  constructor({ policy = 'on', onStop, onFinding }: ScenarioOptions = {}) {
    this.sanitizer = new Sanitizer({
      policy: parsePolicy(policy),
      endpoints: new Map([
        [EDU0, 'edu0'],
        [EDU1, 'edu1'],
      ]),
      ...(onStop ? { onStop } : {}),
      ...(onFinding ? { onFinding, everyOccurrence: true } : {}),
    });
  }

  get findings(): readonly Finding[] {
    return this.sanitizer.findings;
  }

  get names(): string[] {
    return this.findings.map(finding => finding.detector);
  }

  /** The only finding. */
  get only(): Finding {
    if (this.findings.length !== 1) throw new Error(`findings: ${this.names.join(', ') || 'none'}`);
    return this.findings[0]!;
  }

  after(nanoseconds: number): this {
    this.now += nanoseconds;
    return this;
  }

  event(name: EventKindName, values: Values, source = 'iommu'): this {
    const kind = EVENT_KINDS.find(one => one.name === name) as EventKind;
    // As the machine does: what is not wanted is not heard.
    if ((this.sanitizer.wants & EventClass[kind.class]) === 0) throw new Error(`${name} is not wanted`);
    this.sanitizer.event(kind.code, source, this.now, encode(name, values));
    return this;
  }

  note(kind: string, detail: Readonly<Record<string, unknown>>, source = 'iommu'): this {
    this.sanitizer.note(kind, source, this.now, detail);
    return this;
  }

  finish(): this {
    this.sanitizer.finish(this.now);
    return this;
  }

  /** Lets the time of grace pass. */
  wait(): this {
    this.after(GRACE + 1);
    this.sanitizer.tick(this.now);
    return this;
  }

  attach(requesterId = EDU0, domain = DOMAIN, kind: number = AttachKind.translated, pasid = -1): this {
    return this.event('attach', { requesterId, domain, kind, pasid });
  }

  detach(requesterId = EDU0, domain = DOMAIN, pasid = -1): this {
    return this.event('detach', { requesterId, domain, pasid });
  }

  map(
    iova: number | bigint,
    pages = 1,
    { frame = 0x10000, permissions = BOTH, domain = DOMAIN, how = MappingSource.walk as number } = {},
  ): this {
    return this.event('mapping.added', { domain, iova, frame, pages, permissions, how, shift: 12 });
  }

  unmap(
    iova: number | bigint,
    pages = 1,
    { frame = 0x10000, domain = DOMAIN, how = MappingSource.invalidation as number } = {},
  ): this {
    return this.event('mapping.removed', { domain, iova, frame, pages, permissions: BOTH, how, shift: 12 });
  }

  flush(iova: number | bigint, pages = 1, domain = DOMAIN): this {
    return this.event('invalidation', { domain, iova, pages, scope: InvalidationScope.range });
  }

  flushDomain(domain = DOMAIN): this {
    return this.event('invalidation', { domain, scope: InvalidationScope.domain });
  }

  /** A page-selective invalidation and what it showed. */
  unmapAndFlush(iova: number | bigint, pages = 1): this {
    return this.flush(iova, pages).unmap(iova, pages);
  }

  fault(iova: number | bigint, fields: Values = {}): this {
    const rest = {
      requesterId: EDU0,
      access: WRITE,
      cause: FaultCause.notPresent,
      reason: 5,
      domain: DOMAIN,
      pasid: -1,
    };
    return this.event('fault', { ...rest, iova, ...fields });
  }

  failed(
    iova: number | bigint,
    length: number,
    { status = Status.fault as number, write = 1, requesterId = EDU0, pasid = -1 } = {},
  ): this {
    const source = requesterId === EDU0 ? 'edu0' : 'edu1';
    return this.event('dma.failed', { requesterId, status, iova, length, pasid, write }, source);
  }

  /** A refused write of so many bytes, at the page that the IOMMU refuses. */
  refused(iova: number | bigint, length = 64, page: number | bigint = iova): this {
    return this.fault(page).failed(iova, length);
  }

  stale(iova: number | bigint, fields: Values = {}): this {
    return this.event('stale', {
      requesterId: EDU0,
      access: WRITE,
      what: StaleWhat.iotlb,
      fresh: FreshStatus.notPresent,
      iova,
      usedFrame: 0x10000,
      domain: DOMAIN,
      freshFrame: 0x20000,
      usedPermissions: BOTH,
      freshPermissions: BOTH,
      shift: 12,
      length: 64,
      freshDomain: DOMAIN,
      ...fields,
    });
  }

  memory(address: number | bigint, bytes: number | bigint, source = 'edu0', writable = 1): this {
    return this.event('memory.added', { writable, mapped: 1, address, bytes }, source);
  }

  noMemory(address: number | bigint, bytes: number | bigint, source = 'edu0'): this {
    return this.event('memory.removed', { writable: 1, mapped: 1, address, bytes }, source);
  }

  reset(what: number, source = 'iommu'): this {
    return this.event('reset', { what }, source);
  }

  resetIommu(): this {
    return this.reset(ResetWhat.iommu);
  }
}
