/** Messages put together in the output of one stream socket, and sent in order, each as soon as the kernel takes it. */
import type { StreamSocket } from '../posix/socket.ts';

interface Attached {
  at: number;
  readonly descriptors: readonly number[];
}

export class SendQueue {
  bytesSent = 0;
  private readonly output: Uint8Array;
  /** Of the output: from here on to be sent, and the end of that. */
  private head = 0;
  private tail = 0;
  /** Bytes still to send of each queued message: each goes out by itself, so that none of QEMU's reads ends in a header. */
  private readonly queue: Int32Array;
  private first = 0;
  private length = 0;
  private attached: Attached[] = [];

  constructor(
    private readonly socket: StreamSocket,
    maxMessages: number,
  ) {
    this.output = socket.output;
    this.queue = new Int32Array(maxMessages);
  }

  get isEmpty(): boolean {
    return this.length === 0;
  }

  hasRoom(size: number): boolean {
    return this.length < this.queue.length && this.output.length - (this.tail - this.head) >= size;
  }

  /** Where in the output a message of at most `size` bytes can be put together, or -1 where there is no room. Valid until the next call. */
  reserve(size: number): number {
    if (!this.hasRoom(size)) return -1;
    if (this.tail + size > this.output.length) this.compact();
    return this.tail;
  }

  /** Queues the `size` bytes at the reserved place. True where nothing waits before them: `flush` may send them at once. */
  commit(size: number, descriptors?: readonly number[]): boolean {
    if (descriptors !== undefined && descriptors.length > 0) this.attached.push({ at: this.tail, descriptors });
    this.queue[this.place(this.length)] = size;
    this.length++;
    this.tail += size;
    return this.length === 1;
  }

  /** Sends what the kernel takes. Throws a SystemError (EPIPE). */
  flush(): void {
    while (this.length > 0) {
      const left = this.queue[this.first]!;
      const next = this.attached[0];
      const descriptors = next !== undefined && next.at === this.head ? next.descriptors : undefined;
      const sent = this.socket.send(this.head, left, descriptors);
      if (sent < 0) return;
      if (descriptors !== undefined && sent > 0) this.attached.shift();
      this.head += sent;
      this.bytesSent += sent;
      if (sent < left) {
        this.queue[this.first] = left - sent;
      } else {
        this.first = this.place(1);
        this.length--;
      }
    }
    this.head = 0;
    this.tail = 0;
  }

  /** Forgets what was not sent. */
  clear(): void {
    this.length = 0;
    this.attached = [];
  }

  private place(index: number): number {
    const place = this.first + index;
    return place < this.queue.length ? place : place - this.queue.length;
  }

  private compact(): void {
    this.output.copyWithin(0, this.head, this.tail);
    for (const attached of this.attached) attached.at -= this.head;
    this.tail -= this.head;
    this.head = 0;
  }
}
