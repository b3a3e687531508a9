/**
 * DMA of the server that has to wait its turn: what only QEMU reaches (memory without a descriptor, or the interrupt controller's), and
 * everything that comes behind it, interrupts included, so that the order of the server holds. One message after the other, each in a
 * job of its own, because it waits for QEMU, and QEMU waits for register reads whose answers come meanwhile.
 */
import { FRAME_BYTES } from '../memory/guest-memory.ts';
import type { EventLoop } from '../posix/event-loop.ts';
import type { Connection } from '../vfio-user/connection.ts';
import { Errno } from '../vfio-user/device-model.ts';
import { ETIMEDOUT } from '../vfio-user/dma-messages.ts';
import { writeHeader } from '../vfio-user/header.ts';
import { Command, DmaAccess, HEADER_BYTES, HeaderFlag } from '../vfio-user/spec.ts';
import {
  ANSWER_TIMEOUT,
  MAX_CLIENT_DMA_BYTES,
  MAX_CLIENT_DMA_MESSAGES,
  MAX_HELD_INTERRUPTS,
  MAX_UNANSWERED_IN_A_ROW,
} from './limits.ts';
import { sendError } from './pass-on.ts';

const ANSWER_BYTES = HEADER_BYTES + DmaAccess.bytes;
const NO_BYTES = new Uint8Array(0);

/** QEMU's side: `DmaMessages` of vfio-user. */
export interface ClientMemory {
  read(frame: number, offset: number, target: Uint8Array, at: number, length: number): number;
  write(frame: number, offset: number, source: Uint8Array, at: number, length: number): number;
  unmapped(firstFrame: number, frames: number): void;
}

export interface ClientDmaRequest {
  readonly id: number;
  readonly command: number;
  readonly posted: boolean;
  readonly frame: number;
  readonly offset: number;
  readonly count: number;
  /** What a write writes: a copy. */
  readonly bytes: Uint8Array;
}

export interface ClientDmaOptions {
  readonly loop: EventLoop;
  readonly server: Connection;
  readonly memory: ClientMemory;
  /** A request that waited longer is not carried out any more: whoever asked has given it up. */
  readonly maxWaitMilliseconds: number;
  /** Does it in the memory that is mapped here; an errno, or undefined where only QEMU reaches it. */
  readonly here: (request: ClientDmaRequest, target: Uint8Array) => number | undefined;
  /** QEMU was asked, or was not to be asked any more; `errno` 0: QEMU did it. */
  readonly done: (request: ClientDmaRequest, errno: number) => void;
  /** An interrupt whose turn has come. */
  readonly interrupt: (index: number, vector: number) => void;
  /** QEMU leaves one request after the other without an answer. */
  readonly hung: () => void;
}

interface Entry {
  readonly request: ClientDmaRequest;
  /** In milliseconds. */
  readonly since: number;
  /** Its memory was taken away while it waited. */
  revoked: boolean;
  /** Interrupts that came behind it, each once: index and vector by turns. */
  readonly interrupts: number[];
}

/** What is to be done when the request under way does not touch these pages any more. */
interface Waiter {
  readonly deadline: number;
  readonly go: () => void;
}

export class ClientDma {
  private readonly queue: Entry[] = [];
  private bytes = 0;
  private heldInterrupts = 0;
  /** It is being carried out or answered. */
  private current: Entry | undefined;
  /** QEMU is being asked for it. */
  private asked: ClientDmaRequest | undefined;
  private waiters: Waiter[] = [];
  private unanswered = 0;
  private closed = false;

  constructor(private readonly options: ClientDmaOptions) {}

  /** Something waits or is under way: what comes must not overtake it. */
  get busy(): boolean {
    return this.current !== undefined || this.queue.length > 0;
  }

  /** Whether one more that writes so many bytes may wait. */
  hasRoom(bytes: number): boolean {
    return this.queue.length < MAX_CLIENT_DMA_MESSAGES && this.bytes + bytes <= MAX_CLIENT_DMA_BYTES;
  }

  /** There must be room. */
  add(request: ClientDmaRequest): void {
    this.queue.push({ request, since: performance.now(), revoked: false, interrupts: [] });
    this.bytes += request.bytes.length;
    this.options.loop.push(() => this.next());
  }

  /** Raises the interrupt behind all that waits. False: nothing waits, or there are too many. */
  holdBack(index: number, vector: number): boolean {
    const last = this.queue.at(-1) ?? this.current;
    if (last === undefined) return false;
    const { interrupts } = last;
    for (let i = 0; i < interrupts.length; i += 2) {
      if (interrupts[i] === index && interrupts[i + 1] === vector) return true;
    }
    if (this.heldInterrupts >= MAX_HELD_INTERRUPTS) return false;
    interrupts.push(index, vector);
    this.heldInterrupts++;
    return true;
  }

  /** The server has let these pages go: nothing that waits touches them any more, and of what is under way no more is sent. */
  unmapped(firstFrame: number, frames: number): void {
    for (const entry of this.queue) {
      if (touches(entry.request, firstFrame, frames)) entry.revoked = true;
    }
    this.options.memory.unmapped(firstFrame, frames);
  }

  /**
   * Calls `go` when what QEMU is being asked for touches none of these pages: at once, when that has been answered, or after so many
   * milliseconds, for a QEMU that answers nothing before.
   */
  whenClear(firstFrame: number, frames: number, milliseconds: number, go: () => void): void {
    const { asked } = this;
    if (asked === undefined || !touches(asked, firstFrame, frames)) {
      go();
      return;
    }
    this.waiters.push({ deadline: performance.now() + milliseconds, go });
    // Ends a round of the wait under way, which looks after it by `lookAfterWaiters`.
    this.options.loop.after(milliseconds, () => this.lookAfterWaiters());
  }

  /** Those that have waited long enough go. Called in every round while QEMU is waited for. */
  lookAfterWaiters(): void {
    if (this.waiters.length === 0) return;
    const now = performance.now();
    const due = this.asked === undefined ? this.waiters : this.waiters.filter(({ deadline }) => deadline <= now);
    if (due.length === 0) return;
    this.waiters = this.waiters.filter(waiter => !due.includes(waiter));
    for (const { go } of due) if (!this.closed) go();
  }

  /** Nothing is answered from here on. */
  close(): void {
    this.closed = true;
    this.queue.length = 0;
    this.waiters = [];
    this.bytes = 0;
  }

  private next(): void {
    const entry = this.queue.shift();
    if (entry === undefined) return;
    this.current = entry;
    try {
      this.serve(entry);
    } finally {
      this.current = undefined;
    }
  }

  private serve(entry: Entry): void {
    const { request, interrupts } = entry;
    this.bytes -= request.bytes.length;
    const target = request.command === Command.dmaRead ? new Uint8Array(request.count) : NO_BYTES;
    const errno = this.carryOut(entry, target);
    if (this.closed) return;
    if (!request.posted) this.answer(request, errno, target);
    for (let i = 0; i < interrupts.length && !this.closed; i += 2) {
      this.options.interrupt(interrupts[i]!, interrupts[i + 1]!);
    }
    this.heldInterrupts -= interrupts.length / 2;
    if (this.unanswered >= MAX_UNANSWERED_IN_A_ROW && !this.closed) this.options.hung();
  }

  private carryOut({ request, since, revoked }: Entry, target: Uint8Array): number {
    const { maxWaitMilliseconds, here, done } = this.options;
    const expired = performance.now() - since > maxWaitMilliseconds;
    if (!revoked && !expired) {
      const errno = here(request, target);
      if (errno !== undefined) return errno;
    }
    const errno = revoked ? Errno.EFAULT : expired ? ETIMEDOUT : this.ask(request, target);
    if (!this.closed) done(request, errno);
    return errno;
  }

  private ask(request: ClientDmaRequest, target: Uint8Array): number {
    const { memory } = this.options;
    const { command, frame, offset, count, bytes } = request;
    this.asked = request;
    let errno: number;
    try {
      errno =
        command === Command.dmaRead
          ? memory.read(frame, offset, target, 0, count)
          : memory.write(frame, offset, bytes, 0, count);
    } finally {
      this.asked = undefined;
    }
    this.unanswered = errno === ETIMEDOUT ? this.unanswered + 1 : 0;
    this.lookAfterWaiters();
    return errno;
  }

  private answer({ id, command, frame, offset, count }: ClientDmaRequest, errno: number, data: Uint8Array): void {
    const { loop, server } = this.options;
    const size = ANSWER_BYTES + data.length;
    if (!server.hasRoom(size)) loop.waitUntil(() => server.closed || server.hasRoom(size), ANSWER_TIMEOUT);
    if (server.closed) return;
    if (!server.hasRoom(size)) {
      server.close('the server does not read');
      return;
    }
    if (errno !== 0) {
      sendError(server, id, command, errno);
      return;
    }
    const at = server.reserve(size);
    const { outputView: view } = server;
    const payload = at + HEADER_BYTES;
    writeHeader(view, at, id, command, size, HeaderFlag.typeReply, 0);
    view.setUint32(payload + DmaAccess.address, ((frame << 12) | offset) >>> 0, true);
    view.setUint32(payload + DmaAccess.address + 4, frame >>> 20, true);
    view.setUint32(payload + DmaAccess.count, count, true);
    view.setUint32(payload + DmaAccess.count + 4, 0, true);
    server.output.set(data, payload + DmaAccess.data);
    server.commit(size);
  }
}

function touches({ frame, offset, count }: ClientDmaRequest, firstFrame: number, frames: number): boolean {
  return frame < firstFrame + frames && frame + Math.ceil((offset + count) / FRAME_BYTES) > firstFrame;
}
