/** Who is attached to which domain, and who was. */
import { AttachKind } from '../event-kinds.ts';
import { MAX_ATTACHMENTS, MAX_DETACHMENTS, MAX_ENDED_DOMAINS } from './limits.ts';

export interface Attachment {
  readonly requesterId: number;
  /** -1: requests without one. */
  readonly pasid: number;
  readonly domain: number;
  /** `AttachKind`. */
  readonly kind: number;
  /** Nanoseconds. */
  readonly since: number;
}

export interface PastAttachment extends Attachment {
  readonly until: number;
  readonly reset: boolean;
  /** Other requesters that had a context entry then, as they were told; undefined: not known. */
  readonly others: readonly number[] | undefined;
}

export class AttachmentLog {
  /** Attachments that did not fit. */
  forgotten = 0;
  readonly #current = new Map<string, Attachment>();
  /** How many attachments a domain translates for. */
  readonly #users = new Map<number, number>();
  readonly #past: PastAttachment[] = [];
  #next = 0;
  /** Of those in `#past`, the latest of each requester and PASID. */
  readonly #last = new Map<string, PastAttachment>();
  /** When the last one that used a domain left it; in that order. */
  readonly #ended = new Map<number, number>();

  all(): Attachment[] {
    return [...this.#current.values()];
  }

  of(requesterId: number, pasid: number): Attachment | undefined {
    return this.#current.get(keyOf(requesterId, pasid));
  }

  /** Those that pass through use no tables, and so do not count. */
  users(domain: number): number {
    return this.#users.get(domain) ?? 0;
  }

  /** Returns the one in whose place it stands. */
  attach(attachment: Attachment): Attachment | undefined {
    const { requesterId, pasid, domain, since } = attachment;
    const key = keyOf(requesterId, pasid);
    const before = this.#current.get(key);
    if (before === undefined && this.#current.size >= MAX_ATTACHMENTS) {
      this.forgotten++;
      return undefined;
    }
    // First, so that a domain does not end where its only user is attached to it again.
    if (translates(attachment)) this.#users.set(domain, this.users(domain) + 1);
    if (before !== undefined) this.#end(before, since, false, undefined);
    this.#current.set(key, attachment);
    return before;
  }

  /** Returns what ended. `others`: see `PastAttachment`. */
  detach(requesterId: number, pasid: number, time: number, others?: readonly number[]): Attachment | undefined {
    const before = this.#current.get(keyOf(requesterId, pasid));
    if (before !== undefined) this.#end(before, time, false, others);
    return before;
  }

  /** Everybody is detached. */
  reset(time: number): void {
    for (const attachment of [...this.#current.values()]) this.#end(attachment, time, true, undefined);
  }

  /** The attachment of the requester that ended last. */
  lastOf(requesterId: number, pasid: number): PastAttachment | undefined {
    return this.#last.get(keyOf(requesterId, pasid));
  }

  /**
   * Whether what happened in a domain at a time in the past concerns the requester: since then somebody used the domain all the time, or
   * the requester itself was attached to it then. Else it was another domain, which had the same number.
   */
  concerns(requesterId: number, domain: number, time: number): boolean {
    const ended = this.#ended.get(domain);
    if (ended === undefined || time > ended) return true;
    return this.#past.some(
      one => one.requesterId === requesterId && one.domain === domain && one.since <= time && time <= one.until,
    );
  }

  /** The current users of a domain; at most `limit`. */
  usersOf(domain: number, limit: number): Attachment[] {
    const found: Attachment[] = [];
    for (const attachment of this.#current.values()) {
      if (found.length === limit) break;
      if (attachment.domain === domain) found.push(attachment);
    }
    return found;
  }

  #end(attachment: Attachment, until: number, reset: boolean, others: readonly number[] | undefined): void {
    const { requesterId, pasid, domain } = attachment;
    const key = keyOf(requesterId, pasid);
    this.#current.delete(key);
    if (translates(attachment)) {
      const left = this.users(domain) - 1;
      if (left > 0) this.#users.set(domain, left);
      else {
        this.#users.delete(domain);
        this.#endDomain(domain, until);
      }
    }
    const past = { ...attachment, until, reset, others };
    this.#last.set(key, past);
    if (this.#past.length < MAX_DETACHMENTS) {
      this.#past.push(past);
      return;
    }
    const oldest = this.#past[this.#next]!;
    const itsKey = keyOf(oldest.requesterId, oldest.pasid);
    if (this.#last.get(itsKey) === oldest) this.#last.delete(itsKey);
    this.#past[this.#next] = past;
    this.#next = this.#next + 1 === MAX_DETACHMENTS ? 0 : this.#next + 1;
  }

  #endDomain(domain: number, time: number): void {
    this.#ended.delete(domain);
    this.#ended.set(domain, time);
    if (this.#ended.size <= MAX_ENDED_DOMAINS) return;
    for (const oldest of this.#ended.keys()) {
      this.#ended.delete(oldest);
      break;
    }
  }
}

function translates({ kind }: Attachment): boolean {
  return kind !== AttachKind.passThrough;
}

function keyOf(requesterId: number, pasid: number): string {
  return `${requesterId} ${pasid}`;
}
