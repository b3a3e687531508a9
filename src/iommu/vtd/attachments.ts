/** The requesters whose context entries have been seen, and what they said: tells in events when one comes, changes or goes. */
import { AttachKind, EventClass, Kind } from '../../trace/event-kinds.ts';
import type { DomainTables } from '../known-mappings.ts';
import type { ContextEntry } from './context.ts';
import type { VtdCore } from './core.ts';

export interface Attachment extends DomainTables {
  readonly domain: number;
  readonly passThrough: boolean;
}

const NO_PASID = -1;

export class Attachments {
  private readonly byRequester = new Map<number, Attachment>();

  /** `lastGoes` is called before the detach of the last requester whose requests a domain's tables translate. */
  constructor(
    private readonly core: VtdCore,
    private readonly lastGoes: (gone: Attachment) => void,
    private readonly lastGone: (gone: Attachment) => void,
  ) {}

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

  /** Domains that translate for some requester. */
  domains(): number[] {
    const ids = new Set<number>();
    for (const { domain, passThrough } of this.byRequester.values()) if (!passThrough) ids.add(domain);
    return [...ids];
  }

  /** The requester's entry was read, and is good. */
  present(requesterId: number, { domain, rootFrame, levels, passThrough }: ContextEntry): void {
    const known = this.byRequester.get(requesterId);
    if (known !== undefined && known.domain === domain && known.passThrough === passThrough) {
      if (passThrough || (known.rootFrame === rootFrame && known.levels === levels)) return;
    } else if (known !== undefined) this.absent(requesterId);
    this.byRequester.set(requesterId, { domain, rootFrame, levels, passThrough });
    const { events, source } = this.core;
    if ((events.mask & EventClass.attach) === 0) return;
    const kind = passThrough ? AttachKind.passThrough : AttachKind.translated;
    events.emit(Kind.attach, source, requesterId, domain, kind, NO_PASID, 0);
  }

  /** The requester's entry was read, and there is none that could be used. */
  absent(requesterId: number): void {
    const known = this.byRequester.get(requesterId);
    if (known === undefined) return;
    this.byRequester.delete(requesterId);
    const last = !known.passThrough && this.tablesOf(known.domain) === undefined;
    const { events, source, generation } = this.core;
    if (last) this.lastGoes(known);
    // A reset while guest memory was read.
    if (generation !== this.core.generation) return;
    if ((events.mask & EventClass.attach) !== 0) {
      events.emit(Kind.detach, source, requesterId, known.domain, 0, NO_PASID, 0);
    }
    if (last) this.lastGone(known);
  }

  clear(): void {
    this.byRequester.clear();
  }
}
