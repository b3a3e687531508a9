/** Who is attached to which domain, and who was. */
import { AttachKind } from '../event-kinds.ts';
import { MAX_ATTACHMENTS, MAX_DETACHMENTS } from './limits.ts';

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
}

export class AttachmentLog {
  /** Attachments that did not fit. */
  forgotten = 0;
  readonly #current = new Map<string, Attachment>();
  /** How many attachments a domain translates for. */
  readonly #users = new Map<number, number>();
  readonly #past: PastAttachment[] = [];
  #next = 0;

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
    if (before !== undefined) this.#end(before, since, false);
    this.#current.set(key, attachment);
    if (translates(attachment)) this.#users.set(domain, this.users(domain) + 1);
    return before;
  }

  /** Returns what ended. */
  detach(requesterId: number, pasid: number, time: number): Attachment | undefined {
    const before = this.#current.get(keyOf(requesterId, pasid));
    if (before !== undefined) this.#end(before, time, false);
    return before;
  }

  /** Everybody is detached. */
  reset(time: number): void {
    for (const attachment of [...this.#current.values()]) this.#end(attachment, time, true);
  }

  /** The attachment of the requester that ended last. */
  lastOf(requesterId: number, pasid: number): PastAttachment | undefined {
    const length = this.#past.length;
    for (let back = 1; back <= length; back++) {
      const one = this.#past[(this.#next - back + 2 * length) % length]!;
      if (one.requesterId === requesterId && one.pasid === pasid) return one;
    }
    return undefined;
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

  #end(attachment: Attachment, until: number, reset: boolean): void {
    const { requesterId, pasid, domain } = attachment;
    this.#current.delete(keyOf(requesterId, pasid));
    if (translates(attachment)) {
      const left = this.users(domain) - 1;
      if (left > 0) this.#users.set(domain, left);
      else this.#users.delete(domain);
    }
    const past = { ...attachment, until, reset };
    if (this.#past.length < MAX_DETACHMENTS) {
      this.#past.push(past);
      return;
    }
    this.#past[this.#next] = past;
    this.#next = this.#next + 1 === MAX_DETACHMENTS ? 0 : this.#next + 1;
  }
}

function translates({ kind }: Attachment): boolean {
  return kind !== AttachKind.passThrough;
}

function keyOf(requesterId: number, pasid: number): string {
  return `${requesterId} ${pasid}`;
}
