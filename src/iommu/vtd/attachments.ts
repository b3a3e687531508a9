/** The requesters whose context entries have been seen, and what they said: tells in events when one comes, changes or goes. */
import { AttachKind, EventClass, Kind } from '../../trace/event-kinds.ts';
import type { DomainTables } from '../known-mappings.ts';
import type { ContextEntry } from './context.ts';
import type { VtdCore } from './core.ts';

/** Beyond it, no requester is looked for in the context tables: told are then only those that did DMA. */
export const ATTACHMENTS_FOUND_MAX = 1024;

export interface Attachment extends DomainTables {
  readonly domain: number;
  readonly passThrough: boolean;
  /** The entry is present, but cannot be used any more: the tables are those of before. */
  readonly faulty: boolean;
}

/** What becomes of a domain, for those who know what is mapped in it. */
export interface DomainFate {
  /** Another requester with the same domain and tables, by its context entry; -1 where there is none. */
  findUser(of: Attachment, except: number): number;
  /** Called before the detach of the last requester whose requests a domain's tables translate. */
  lastGoes(gone: Attachment): void;
  /** And after it. */
  lastGone(gone: Attachment): void;
  /** A requester is about to be told detached. */
  leaves(requesterId: number): void;
  /** The domain has other tables than before. */
  moved(now: Attachment): void;
}

const NO_PASID = -1;

export class Attachments {
  private readonly byRequester = new Map<number, Attachment>();

  constructor(
    private readonly core: VtdCore,
    private readonly fate: DomainFate,
  ) {}

  get count(): number {
    return this.byRequester.size;
  }

  requesters(): number[] {
    return [...this.byRequester.keys()];
  }

  get(requesterId: number): Attachment | undefined {
    return this.byRequester.get(requesterId);
  }

  /** Where the tables of the domain are; undefined where no requester is known that uses it. */
  tablesOf(domain: number): DomainTables | undefined {
    for (const attachment of this.byRequester.values()) {
      if (attachment.domain === domain && !attachment.passThrough) return attachment;
    }
    return undefined;
  }

  /** Domains that translate for some requester, with the tables that `tablesOf` would tell. */
  domains(): Map<number, DomainTables> {
    const found = new Map<number, DomainTables>();
    for (const attachment of this.byRequester.values()) {
      if (!attachment.passThrough && !found.has(attachment.domain)) found.set(attachment.domain, attachment);
    }
    return found;
  }

  /** The requester's entry was read, and is good. */
  present(requesterId: number, { domain, rootFrame, levels, passThrough }: ContextEntry): void {
    const now: Attachment = { domain, rootFrame, levels, passThrough, faulty: false };
    const known = this.byRequester.get(requesterId);
    const sameDomain = known !== undefined && known.domain === domain && known.passThrough === passThrough;
    const sameTables = sameDomain && (passThrough || isSameTables(known, now));
    if (sameTables && !known.faulty) return;
    const { generation } = this.core;
    if (known !== undefined && !sameDomain) this.absent(requesterId);
    // A reset while guest memory was read.
    if (generation !== this.core.generation) return;
    this.byRequester.set(requesterId, now);
    this.tellAttach(requesterId, domain, passThrough ? AttachKind.passThrough : AttachKind.translated);
    if (sameDomain && !sameTables && !this.isUsed(known)) this.fate.moved(now);
  }

  /** The requester's entry was read, and is present, but cannot be used. Nothing is said of one that was never good. */
  faulty(requesterId: number): void {
    const known = this.byRequester.get(requesterId);
    if (known === undefined || known.faulty) return;
    if (known.passThrough) {
      this.absent(requesterId);
      return;
    }
    this.byRequester.set(requesterId, { ...known, faulty: true });
    this.tellAttach(requesterId, known.domain, AttachKind.faulty);
  }

  /** The requester's entry was read, and there is none. */
  absent(requesterId: number): void {
    const known = this.byRequester.get(requesterId);
    if (known === undefined) return;
    this.byRequester.delete(requesterId);
    const { core, fate } = this;
    const { events, source, generation } = core;
    const last = !known.passThrough && this.tablesOf(known.domain) === undefined && !this.adopt(known, requesterId);
    if (last) fate.lastGoes(known);
    // A reset while guest memory was read.
    if (generation !== core.generation) return;
    fate.leaves(requesterId);
    if ((events.mask & EventClass.attach) !== 0) {
      events.emit(Kind.detach, source, requesterId, known.domain, 0, NO_PASID, 0);
    }
    if (last) fate.lastGone(known);
  }

  clear(): void {
    this.byRequester.clear();
  }

  /** Looks for one who uses the domain as well and did no DMA yet, and tells of it. */
  private adopt(gone: Attachment, except: number): boolean {
    const wanted = (this.core.events.mask & EventClass.attach) !== 0;
    if (!wanted || this.byRequester.size >= ATTACHMENTS_FOUND_MAX) return false;
    const other = this.fate.findUser(gone, except);
    if (other < 0) return false;
    this.byRequester.set(other, { ...gone, faulty: false });
    this.tellAttach(other, gone.domain, AttachKind.translated);
    return true;
  }

  private isUsed(tables: Attachment): boolean {
    for (const other of this.byRequester.values()) {
      if (other.domain === tables.domain && !other.passThrough && isSameTables(other, tables)) return true;
    }
    return false;
  }

  private tellAttach(requesterId: number, domain: number, kind: number): void {
    const { events, source } = this.core;
    if ((events.mask & EventClass.attach) === 0) return;
    events.emit(Kind.attach, source, requesterId, domain, kind, NO_PASID, 0);
  }
}

function isSameTables(one: DomainTables, other: DomainTables): boolean {
  return one.rootFrame === other.rootFrame && one.levels === other.levels;
}
