/**
 * The operations once more, written as plainly as can be: maps of single pages instead of ranges, trees and tables, and a TLB that
 * forgets only what it is told to forget. Answers are names of statuses; nothing of the unit under test is used.
 */

import { ModelFaults, type ModelHandler } from './model-faults.ts';

export type Status =
  | 'SUCCESS'
  | 'INVALID_HANDLE'
  | 'INVALID_PARAMETER'
  | 'INVALID_PARAMETER_1'
  | 'INVALID_PARAMETER_2'
  | 'INVALID_PARAMETER_3'
  | 'INVALID_PARAMETER_4'
  | 'INVALID_PARAMETER_MIX'
  | 'INSUFFICIENT_RESOURCES'
  | 'NOT_SUPPORTED'
  | 'NOT_FOUND'
  | 'NOT_IMPLEMENTED'
  | 'BUFFER_TOO_SMALL'
  | 'IN_USE'
  | 'RESOURCE_IN_USE'
  | 'ACCESS_DENIED'
  | 'UNSUCCESSFUL';

export type Kind = 'logical' | 'identity' | 'reserved' | 'hole' | 'token';

interface Page {
  readonly kind: Kind;
  /** -1: nothing is mapped there. */
  frame: number;
  permissions: number;
  /** Pages that were mapped by one operation share it. */
  readonly mapping: object;
}

export interface ModelToken {
  readonly domain: ModelDomain;
  readonly start: number;
  readonly pages: number;
  readonly segments: Set<ModelSegment>;
}

export interface ModelSegment {
  readonly token: ModelToken;
  readonly start: number;
  readonly pages: number;
}

/** A caller's tables: for each region an entry of level 2, which points to one of two tables of level 1, or to none. */
export interface CallerTables {
  readonly leafTable: (number | undefined)[];
  /** By region, table and page within: the entry. */
  readonly entries: Map<string, { frame: number; permissions: number }>;
}

export const TRANSLATE = 0;
export const PASS_THROUGH = 1;
export const UNMANAGED = 2;
export const TRANSLATE_S1 = 3;

const READ_WRITE = 3;

export class ModelDomain {
  readonly pages = new Map<number, Page>();
  /** Of the allocator. */
  readonly blocks = new Map<number, number>();
  readonly attached = new Set<object>();
  readonly tokens = new Set<ModelToken>();
  /** The unit's name for it. */
  handle = 0;
  configured: 'no' | 'tables' | 'bypass' = 'no';
  arch: 'arm64' | 'x64' | undefined;
  readonly tables: CallerTables = { leafTable: [], entries: new Map() };
  readonly tlb = new Map<number, { frame: number; permissions: number }>();
  /** By region: the table of level 1 that the paging-structure cache knows. */
  readonly pointers = new Map<number, number>();

  constructor(
    readonly type: number,
    /** Of the allocator's address space; undefined: no allocator. */
    readonly buddyPages: number | undefined,
  ) {}

  get managed(): boolean {
    return this.type === TRANSLATE || this.type === TRANSLATE_S1;
  }
}

/** Pages in one region of a caller's tables. */
export const REGION_PAGES = 512;

export class ModelDevice {
  readonly pasids = new Set<ModelPasid>();
  attachment: ModelAttachment | undefined;
  watcher: { readonly callback: number; readonly context: unknown } | undefined;

  constructor(
    readonly pdo: number,
    readonly base: number,
    readonly ids: readonly number[],
    /** Has a PASID configuration. */
    readonly configured: boolean,
    readonly tagged: boolean,
    /** Its handler does not hear of faults of requests with a PASID. */
    readonly suppressed: boolean,
  ) {}
}

export class ModelPasid {
  domain: ModelDomain | undefined;

  constructor(
    readonly device: ModelDevice,
    readonly pasid: number,
  ) {}
}

export interface ModelAttachment {
  readonly domain: ModelDomain;
  readonly pdo: number;
  readonly base: number;
  readonly ids: readonly number[];
  readonly device: ModelDevice | undefined;
  /** Who hears of its faults. */
  reporting: ModelHandler | undefined;
}

/** What DMA gets: a frame, or the name of a fault. */
export type Outcome = number | 'blocked' | 'translation' | 'permission';

export class Model {
  readonly domains = new Set<ModelDomain>();
  readonly attachments = new Set<ModelAttachment>();
  readonly devices = new Set<ModelDevice>();
  readonly guarded = new Set<number>();
  readonly faults = new ModelFaults(this);

  constructor(readonly compat: 'extended' | 'windows') {}

  reset(): void {
    this.domains.clear();
    this.attachments.clear();
    this.devices.clear();
    this.faults.pending = [];
  }

  /** `regions` never overlap. */
  create(
    type: number,
    buddyPages: number | undefined,
    regions: readonly { start: number; pages: number; shouldMap: boolean }[],
  ): ModelDomain {
    const domain = new ModelDomain(type, buddyPages);
    if (domain.managed) {
      for (const { start, pages, shouldMap } of regions) {
        const mapping = {};
        for (let page = start; page < start + pages; page++) {
          const kind = shouldMap ? 'reserved' : 'hole';
          domain.pages.set(page, { kind, frame: shouldMap ? page : -1, permissions: READ_WRITE, mapping });
        }
      }
    }
    this.domains.add(domain);
    return domain;
  }

  delete(domain: ModelDomain): Status {
    if (domain.attached.size > 0 || domain.tokens.size > 0) return 'RESOURCE_IN_USE';
    this.domains.delete(domain);
    return 'SUCCESS';
  }

  attach(domain: ModelDomain, pdo: number, base: number, ids: readonly number[], device?: ModelDevice): Status {
    for (const attachment of this.attachments) {
      if (attachment.ids.some(id => ids.includes(id))) return 'INVALID_PARAMETER';
    }
    if (domain.type === PASS_THROUGH && this.guarded.has(pdo)) return 'ACCESS_DENIED';
    const attachment = { domain, pdo, base, ids, device, reporting: undefined };
    this.attachments.add(attachment);
    domain.attached.add(attachment);
    if (device !== undefined) device.attachment = attachment;
    return 'SUCCESS';
  }

  detachV1(domain: ModelDomain, pdo: number, base: number): Status {
    const all = [...this.attachments].filter(one => one.pdo === pdo && one.device === undefined);
    if (all.length === 0) return 'INVALID_PARAMETER_2';
    const attachment = all.find(one => one.base === base);
    if (attachment === undefined) return 'INVALID_PARAMETER_3';
    if (attachment.domain !== domain) return 'INVALID_PARAMETER_1';
    this.drop(attachment);
    return 'SUCCESS';
  }

  detachEx(device: ModelDevice): Status {
    if (device.attachment === undefined) return 'INVALID_PARAMETER_1';
    this.drop(device.attachment);
    device.attachment = undefined;
    return 'SUCCESS';
  }

  private drop(attachment: ModelAttachment): void {
    this.attachments.delete(attachment);
    attachment.domain.attached.delete(attachment);
  }

  deleteDevice(device: ModelDevice): Status {
    if (device.attachment !== undefined || device.pasids.size > 0) return 'RESOURCE_IN_USE';
    this.devices.delete(device);
    return 'SUCCESS';
  }

  attachPasid(domain: ModelDomain, pasid: ModelPasid): Status {
    if (domain.type === TRANSLATE) return 'INVALID_PARAMETER_1';
    if (pasid.domain !== undefined) return 'UNSUCCESSFUL';
    if (domain.type === PASS_THROUGH && this.guarded.has(pasid.device.pdo)) return 'ACCESS_DENIED';
    pasid.domain = domain;
    domain.attached.add(pasid);
    return 'SUCCESS';
  }

  detachPasid(pasid: ModelPasid): Status {
    if (pasid.domain === undefined) return 'INVALID_PARAMETER_1';
    pasid.domain.attached.delete(pasid);
    pasid.domain = undefined;
    return 'SUCCESS';
  }

  deletePasid(pasid: ModelPasid): Status {
    if (pasid.domain !== undefined) return 'RESOURCE_IN_USE';
    pasid.device.pasids.delete(pasid);
    return 'SUCCESS';
  }

  /** The lowest block of the next power of two that is free and whose first pages lie in the window; -1: none. */
  allocate(domain: ModelDomain, pages: number, first: number, end: number): number {
    let size = 1;
    while (size < pages) size *= 2;
    for (let start = 0; start + size <= domain.buddyPages!; start += size) {
      if (start < first || start + pages > end) continue;
      let free = true;
      for (let page = start; page < start + size; page++) {
        for (const [block, length] of domain.blocks) if (page >= block && page < block + length) free = false;
        const kind = domain.pages.get(page)?.kind;
        if (kind === 'reserved' || kind === 'hole') free = false;
      }
      if (!free) continue;
      domain.blocks.set(start, size);
      return start;
    }
    return -1;
  }

  /** Chooses where `frames` go, or says why nowhere. */
  place(
    domain: ModelDomain,
    pages: number,
    explicit: number | undefined,
    window: { first: number; end: number } | undefined,
  ): number | Status {
    if (domain.buddyPages === undefined) return explicit ?? 'NOT_SUPPORTED';
    if (explicit !== undefined) return 'NOT_SUPPORTED';
    if (window !== undefined && window.first >= window.end) return 'INVALID_PARAMETER_MIX';
    const start = this.allocate(domain, pages, window?.first ?? 0, window?.end ?? domain.buddyPages);
    if (start >= 0) return start;
    return window === undefined ? 'INSUFFICIENT_RESOURCES' : 'INVALID_PARAMETER_MIX';
  }

  map(
    domain: ModelDomain,
    frames: readonly number[],
    permissions: number,
    explicit: number | undefined,
    window?: { first: number; end: number },
  ): { status: Status; start: number } {
    if (!domain.managed) return { status: 'INVALID_PARAMETER_1', start: -1 };
    const start = this.place(domain, frames.length, explicit, window);
    if (typeof start !== 'number') return { status: start, start: -1 };
    return { status: this.put(domain, start, frames, permissions, 'logical'), start };
  }

  private put(domain: ModelDomain, start: number, frames: readonly number[], permissions: number, kind: Kind): Status {
    if (frames.some((_, i) => domain.pages.has(start + i))) return 'IN_USE';
    const mapping = {};
    frames.forEach((frame, i) => {
      domain.pages.set(start + i, { kind, frame, permissions, mapping });
    });
    return 'SUCCESS';
  }

  unmap(domain: ModelDomain, start: number, pages: number): Status {
    if (!domain.managed) return 'INVALID_PARAMETER_1';
    const all = Array.from({ length: pages }, (_, i) => domain.pages.get(start + i));
    if (all.some(page => page?.kind !== 'logical')) return 'NOT_FOUND';
    if (domain.buddyPages !== undefined) {
      const { mapping } = all[0]!;
      const whole = [...domain.pages].filter(([, page]) => page.mapping === mapping).map(([page]) => page);
      if (whole.length !== pages || Math.min(...whole) !== start) return 'NOT_FOUND';
      domain.blocks.delete(start);
    }
    for (let i = 0; i < pages; i++) domain.pages.delete(start + i);
    return 'SUCCESS';
  }

  private identityStatus(domain: ModelDomain): Status {
    if (domain.type === UNMANAGED) return 'INVALID_PARAMETER_1';
    return domain.buddyPages === undefined ? 'SUCCESS' : 'NOT_SUPPORTED';
  }

  mapIdentity(domain: ModelDomain, frames: readonly number[], permissions: number): Status {
    const status = this.identityStatus(domain);
    if (status !== 'SUCCESS' || !domain.managed) return status;
    if (new Set(frames).size !== frames.length || frames.some(frame => domain.pages.has(frame))) return 'IN_USE';
    for (const frame of frames) domain.pages.set(frame, { kind: 'identity', frame, permissions, mapping: {} });
    return 'SUCCESS';
  }

  unmapIdentity(domain: ModelDomain, frames: readonly number[]): Status {
    const status = this.identityStatus(domain);
    if (status !== 'SUCCESS' || !domain.managed) return status;
    if (frames.some(frame => domain.pages.get(frame)?.kind !== 'identity')) return 'NOT_FOUND';
    for (const frame of frames) domain.pages.delete(frame);
    return 'SUCCESS';
  }

  reserve(domain: ModelDomain, pages: number, explicit: number | undefined): { status: Status; token?: ModelToken } {
    if (!domain.managed) return { status: 'INVALID_PARAMETER_1' };
    const start = this.place(domain, pages, explicit, undefined);
    if (typeof start !== 'number') return { status: start };
    const status = this.put(domain, start, new Array<number>(pages).fill(-1), 0, 'token');
    if (status !== 'SUCCESS') return { status };
    const token = { domain, start, pages, segments: new Set<ModelSegment>() };
    domain.tokens.add(token);
    return { status, token };
  }

  freeToken(token: ModelToken): Status {
    if (token.segments.size > 0) return 'RESOURCE_IN_USE';
    const { domain, start, pages } = token;
    for (let i = 0; i < pages; i++) domain.pages.delete(start + i);
    domain.blocks.delete(start);
    domain.tokens.delete(token);
    return 'SUCCESS';
  }

  mapSegment(
    token: ModelToken,
    offset: number,
    frames: readonly number[],
    permissions: number,
  ): { status: Status; segment?: ModelSegment } {
    if (offset + frames.length > token.pages) return { status: 'INVALID_PARAMETER_2' };
    const pages = frames.map((_, i) => token.domain.pages.get(token.start + offset + i)!);
    if (pages.some(page => page.frame >= 0)) return { status: 'RESOURCE_IN_USE' };
    pages.forEach((page, i) => {
      page.frame = frames[i]!;
      page.permissions = permissions;
    });
    const segment = { token, start: token.start + offset, pages: frames.length };
    token.segments.add(segment);
    return { status: 'SUCCESS', segment };
  }

  unmapSegment(segment: ModelSegment): Status {
    for (let i = 0; i < segment.pages; i++) segment.token.domain.pages.get(segment.start + i)!.frame = -1;
    segment.token.segments.delete(segment);
    return 'SUCCESS';
  }

  configure(domain: ModelDomain, arch: 'arm64' | 'x64', bypass: boolean): Status {
    if (domain.type !== UNMANAGED) return 'INVALID_PARAMETER_1';
    if (arch === 'x64' && this.compat === 'windows') return 'NOT_SUPPORTED';
    domain.arch = arch;
    domain.configured = bypass ? 'bypass' : 'tables';
    this.forget(domain);
    return 'SUCCESS';
  }

  flush(domain: ModelDomain): Status {
    if (domain.type !== UNMANAGED) return 'INVALID_PARAMETER_1';
    this.forget(domain);
    return 'SUCCESS';
  }

  private forget(domain: ModelDomain): void {
    domain.tlb.clear();
    domain.pointers.clear();
  }

  flushPages(domain: ModelDomain, pages: readonly number[], lastLevel: boolean): Status {
    if (domain.type !== UNMANAGED) return 'INVALID_PARAMETER_1';
    // With stage 1 bypassed there is nothing whose pages could be named.
    if (domain.configured !== 'tables') return 'SUCCESS';
    for (const page of pages) {
      domain.tlb.delete(page);
      if (!lastLevel) domain.pointers.delete(Math.floor(page / REGION_PAGES));
    }
    return 'SUCCESS';
  }

  domainOf(id: number, pasid: number): ModelDomain | undefined {
    if (pasid >= 0) {
      for (const device of this.devices) {
        for (const one of device.pasids) if (one.pasid === pasid && device.pdo === id) return one.domain;
      }
      return undefined;
    }
    for (const attachment of this.attachments) if (attachment.ids.includes(id)) return attachment.domain;
    return undefined;
  }

  /** One access, with what it does to the caches. */
  translate(id: number, pasid: number, page: number, access: number): Outcome {
    const domain = this.domainOf(id, pasid);
    if (domain === undefined) return 'blocked';
    if (domain.type === PASS_THROUGH || domain.configured === 'bypass') return page;
    if (domain.type === UNMANAGED) return domain.configured === 'no' ? 'blocked' : this.walk(domain, page, access);
    const found = domain.pages.get(page);
    if (found === undefined || found.frame < 0) return 'translation';
    return (found.permissions & access) === access ? found.frame : 'permission';
  }

  private walk(domain: ModelDomain, page: number, access: number): Outcome {
    const cached = domain.tlb.get(page);
    if (cached !== undefined) {
      if ((cached.permissions & access) === access) return cached.frame;
      domain.tlb.delete(page);
    }
    const region = Math.floor(page / REGION_PAGES);
    const table = domain.pointers.get(region) ?? domain.tables.leafTable[region];
    if (table === undefined) return 'translation';
    const entry = domain.tables.entries.get(`${region}/${table}/${page % REGION_PAGES}`);
    if (entry === undefined) return 'translation';
    if ((entry.permissions & access) !== access) return 'permission';
    domain.tlb.set(page, { ...entry });
    domain.pointers.set(region, table);
    return entry.frame;
  }
}
