/** One stream of a fuzzed connection: pieces out, whole messages in with the descriptors that came with them. */
import { SystemError } from '../../src/posix/errors.ts';
import { type EventLoop, PollEvents } from '../../src/posix/event-loop.ts';
import type { Watch } from '../../src/posix/loop-watch.ts';
import { closeDescriptor, StreamSocket } from '../../src/posix/socket.ts';
import { Header } from '../../src/vfio-user/header.ts';
import { HEADER_BYTES } from '../../src/vfio-user/spec.ts';
import { FuzzFailure } from './failure.ts';
import { MAX_TRANSFER } from './reference-regions.ts';

const BUFFER_BYTES = 1 << 18;
const DESCRIPTORS = 64;
const LARGEST_MESSAGE = MAX_TRANSFER + 65536;
/** What may wait to share a send. */
const OUTBOX_PIECES = 64;
/** In one go: others wait as well. */
const RECEIVES = 8;

interface Piece {
  readonly bytes: Uint8Array;
  readonly descriptors: readonly number[];
  /** Not together with others in one send. */
  readonly alone: boolean;
  sent: number;
}

/** Descriptors that came together, and where in the buffer the bytes end that came with them. */
interface Arrival {
  readonly descriptors: readonly number[];
  end: number;
}

export interface PeerStreamOptions {
  readonly name: string;
  readonly loop: EventLoop;
  readonly fd: number;
  /** Bytes are there: before any message of them is told. */
  readonly came?: () => void;
  /** The descriptors are the receiver's. */
  readonly message: (header: Header, payload: Uint8Array, descriptors: readonly number[]) => void;
  /** The other side has closed it. */
  readonly ended: () => void;
  readonly failed: (failure: FuzzFailure) => void;
}

export class PeerStream {
  private readonly socket: StreamSocket;
  private readonly watch: Watch;
  private readonly header = new Header();
  private readonly outbox: Piece[] = [];
  private arrivals: Arrival[] = [];
  private buffer: Uint8Array = new Uint8Array(BUFFER_BYTES);
  private filled = 0;
  private isReading = true;
  private isOver = false;
  private isClosed = false;

  /** Owns the descriptor. */
  constructor(private readonly options: PeerStreamOptions) {
    const { fd, loop } = options;
    this.socket = new StreamSocket(fd, BUFFER_BYTES, BUFFER_BYTES, DESCRIPTORS);
    this.watch = loop.watch(fd, PollEvents.in, () => this.ready());
  }

  /** The other side has ended it, or this one. */
  get over(): boolean {
    return this.isOver;
  }

  /** All has gone out. */
  get sent(): boolean {
    return this.outbox.length === 0;
  }

  get reading(): boolean {
    return this.isReading;
  }

  set reading(reading: boolean) {
    this.isReading = reading;
    this.updateInterest();
  }

  send(bytes: Uint8Array, descriptors: readonly number[], alone: boolean, joined: boolean): void {
    this.outbox.push({ bytes, descriptors, alone, sent: 0 });
    if (!joined || this.outbox.length > OUTBOX_PIECES) this.flush();
  }

  flush(): void {
    while (this.outbox.length > 0 && !this.isOver) {
      const sent = this.sendSome();
      if (sent < 0) break;
    }
    this.updateInterest();
  }

  /** All that is there; throws a FuzzFailure. */
  drain(): void {
    while (this.isReading && !this.isOver && this.receive());
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.isOver = true;
    this.watch.stop();
    this.socket.close();
    for (const { descriptors } of this.arrivals.splice(0)) descriptors.forEach(closeDescriptor);
  }

  private sendSome(): number {
    const first = this.outbox[0]!;
    const { output } = this.socket;
    let filled = 0;
    let pieces = 0;
    for (const piece of this.outbox) {
      if (pieces > 0 && (piece.alone || first.alone)) break;
      const left = piece.bytes.subarray(piece.sent, piece.sent + output.length - filled);
      output.set(left, filled);
      filled += left.length;
      pieces++;
      if (filled === output.length) break;
    }
    const descriptors = first.sent === 0 && first.descriptors.length > 0 ? first.descriptors : undefined;
    let sent: number;
    try {
      sent = this.socket.send(0, filled, descriptors);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      // Gone: what it has answered before is still to be read.
      this.outbox.length = 0;
      this.isReading = true;
      return -1;
    }
    if (sent < 0) return -1;
    for (let left = sent; left > 0; ) {
      const piece = this.outbox[0]!;
      const done = Math.min(left, piece.bytes.length - piece.sent);
      piece.sent += done;
      left -= done;
      if (piece.sent === piece.bytes.length) this.outbox.shift();
    }
    return sent;
  }

  private updateInterest(): void {
    if (this.isOver) return;
    this.watch.interest = (this.isReading ? PollEvents.in : 0) | (this.outbox.length > 0 ? PollEvents.out : 0);
  }

  private ready(): void {
    // An exception in a callback of the loop would be somebody else's.
    try {
      for (let i = 0; i < RECEIVES && this.isReading && !this.isOver && this.receive(); i++);
      if (!this.isOver) this.flush();
    } catch (error) {
      if (!(error instanceof FuzzFailure)) throw error;
      this.options.failed(error);
    }
  }

  /** False where nothing was there. */
  private receive(): boolean {
    let count: number;
    try {
      count = this.socket.receive(0, BUFFER_BYTES);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      count = 0;
    }
    if (count < 0) return false;
    const descriptors = this.socket.takeDescriptors();
    // What was sent on another stream before these bytes is seen before them.
    this.options.came?.();
    if (this.isOver) {
      descriptors.forEach(closeDescriptor);
      return false;
    }
    if (count === 0) {
      this.isOver = true;
      this.watch.stop();
      this.outbox.length = 0;
      this.options.ended();
      return false;
    }
    this.append(this.socket.input.subarray(0, count));
    if (descriptors.length > 0) this.arrivals.push({ descriptors, end: this.filled });
    this.split();
    return true;
  }

  private append(bytes: Uint8Array): void {
    if (this.filled + bytes.length > this.buffer.length) {
      const larger = new Uint8Array((this.filled + bytes.length) * 2);
      larger.set(this.buffer.subarray(0, this.filled));
      this.buffer = larger;
    }
    this.buffer.set(bytes, this.filled);
    this.filled += bytes.length;
  }

  private split(): void {
    let at = 0;
    const view = new DataView(this.buffer.buffer, 0, this.filled);
    while (this.filled - at >= HEADER_BYTES && !this.isOver) {
      this.header.read(view, at);
      const { size } = this.header;
      if (size < HEADER_BYTES || size > LARGEST_MESSAGE) {
        throw new FuzzFailure(`sent a header with a size of ${size}`, this.options.name);
      }
      if (this.filled - at < size) break;
      const payload = this.buffer.slice(at + HEADER_BYTES, at + size);
      at += size;
      this.options.message(this.header, payload, this.descriptorsUpTo(at));
    }
    this.buffer.copyWithin(0, at, this.filled);
    this.filled -= at;
    for (const arrival of this.arrivals) arrival.end -= at;
  }

  /** Those of the message that ends there: the kernel ends a receive behind the bytes that descriptors came with. */
  private descriptorsUpTo(end: number): number[] {
    if (this.arrivals.length === 0) return [];
    const all: number[] = [];
    while (this.arrivals.length > 0 && this.arrivals[0]!.end <= end) all.push(...this.arrivals.shift()!.descriptors);
    return all;
  }
}
