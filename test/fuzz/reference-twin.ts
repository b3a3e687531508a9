/** The second stream of a client in twin-socket mode, as the specification has it: replies to what the server asked, and nothing else. */
import { HEADER_BYTES, HeaderFlag } from '../../src/vfio-user/spec.ts';
import { LARGEST_MESSAGE, MAX_DESCRIPTORS, type Message } from './reference.ts';
import type { DescriptorKind } from './steps.ts';

const PREFIX = 'twin socket: ';
/** What the server may see of an end, by what it had left to read, to answer or to send. */
const ENDS = [
  'end of stream',
  'end of stream inside a message',
  'receive failed',
  'send failed',
  'hung up with answers unread',
].map(reason => PREFIX + reason);

export class TwinReference {
  /** Why the connection must end, where it must; in the order in which it came about. */
  reasons: readonly string[] = [];
  private pending: Uint8Array = new Uint8Array(0);
  private arrivals: { readonly count: number; end: number }[] = [];

  /** `judgeReply`: of a reply, why it ends the connection, where it does. */
  constructor(private readonly judgeReply: (reply: Message) => string | undefined) {}

  get partial(): number {
    return this.pending.length;
  }

  push(bytes: Uint8Array, descriptors: readonly DescriptorKind[] = []): void {
    if (this.reasons.length > 0) return;
    const joined = new Uint8Array(this.pending.length + bytes.length);
    joined.set(this.pending);
    joined.set(bytes, this.pending.length);
    this.pending = joined;
    if (descriptors.length > 0) this.arrivals.push({ count: descriptors.length, end: joined.length });
    if (descriptors.length > MAX_DESCRIPTORS) this.doom('too many descriptors');
    while (this.reasons.length === 0 && this.split());
  }

  /** This side closes it. */
  end(): void {
    this.reasons = [...this.reasons, ...ENDS];
  }

  /** False where no whole message is left. */
  private split(): boolean {
    const { pending } = this;
    if (pending.length < HEADER_BYTES) return false;
    const view = new DataView(pending.buffer, pending.byteOffset, pending.length);
    const size = view.getUint32(4, true);
    const flags = view.getUint32(8, true);
    const type = flags & HeaderFlag.typeMask;
    if (size < HEADER_BYTES || size > LARGEST_MESSAGE) return this.doom('message size out of range');
    if (type > HeaderFlag.typeReply) return this.doom('unknown message type');
    if (pending.length < size) return false;
    const hasDescriptors = this.arrivals.some(({ end }) => end <= size);
    this.arrivals = this.arrivals.filter(({ end }) => end > size);
    for (const arrival of this.arrivals) arrival.end -= size;
    this.pending = pending.subarray(size);
    if (hasDescriptors) return this.doom('descriptors where none belong');
    if (type === HeaderFlag.typeCommand) return this.doom('a command from the client');
    const payload = new DataView(view.buffer, view.byteOffset + HEADER_BYTES, size - HEADER_BYTES);
    const reason = this.judgeReply({
      id: view.getUint16(0, true),
      command: view.getUint16(2, true),
      flags,
      payload,
      descriptors: [],
    });
    return reason === undefined ? true : this.doom(reason);
  }

  private doom(reason: string): false {
    this.reasons = [PREFIX + reason];
    return false;
  }
}
