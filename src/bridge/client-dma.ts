/**
 * DMA of the server that has to wait its turn: what only QEMU reaches (memory without a descriptor, or the interrupt controller's), and
 * everything that comes behind it, interrupts included, so that the order of the server holds. One message after the other, each in a
 * job of its own. No job waits: QEMU waits for register reads whose answers come meanwhile, and other functions have nothing to do with
 * a QEMU that does not answer.
 */
import { FRAME_SHIFT } from '../memory/guest-memory.ts';
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
import { type QemuMemory, touches } from './qemu-memory.ts';

const ANSWER_BYTES = HEADER_BYTES + DmaAccess.bytes;
const NO_BYTES = new Uint8Array(0);

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
  readonly memory: Pick<QemuMemory, 'start' | 'unmapped'>;
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
  /** Nobody looks at the clock for it any more. */
  readonly stop: () => void;
}

export class ClientDma {
  private readonly queue: Entry[] = [];
  private bytes = 0;
  private heldInterrupts = 0;
  /** It is being carried out or answered. */
  private current: Entry | undefined;
  /** Its answer waits for room towards the server. */
  private unsent: (() => void) | undefined;
  /** Ends that wait. */
  private stopWaiting: (() => void) | undefined;
  private queued = false;
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
  takes(bytes: number): boolean {
    return this.queue.length < MAX_CLIENT_DMA_MESSAGES && this.bytes + bytes <= MAX_CLIENT_DMA_BYTES;
  }

  /** There must be room. */
  add(request: ClientDmaRequest): void {
    this.queue.push({ request, since: performance.now(), revoked: false, interrupts: [] });
    this.bytes += request.bytes.length;
    this.later();
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
    const deadline = performance.now() + milliseconds;
    const stop = this.options.loop.after(milliseconds, () => this.lookAfterWaiters());
    this.waiters.push({ deadline, go, stop });
  }

  /** There may be room towards the server again. */
  hasRoom(): void {
    if (this.unsent !== undefined) this.later();
  }

  /** Nothing is answered from here on. */
  close(): void {
    this.closed = true;
    this.queue.length = 0;
    for (const { stop } of this.waiters) stop();
    this.waiters = [];
    this.bytes = 0;
    this.unsent = undefined;
    this.stopWaiting?.();
  }

  private later(): void {
    if (this.queued) return;
    this.queued = true;
    this.options.loop.push(() => {
      this.queued = false;
      if (this.unsent !== undefined) this.unsent();
      else if (this.current === undefined) this.next();
    });
  }

  private next(): void {
    const entry = this.queue.shift();
    if (entry === undefined || this.closed) return;
    this.current = entry;
    const { request, since, revoked } = entry;
    this.bytes -= request.bytes.length;
    const target = request.command === Command.dmaRead ? new Uint8Array(request.count) : NO_BYTES;
    const expired = performance.now() - since > this.options.maxWaitMilliseconds;
    const here = revoked || expired ? undefined : this.options.here(request, target);
    if (here !== undefined) this.answer(entry, here, target);
    else if (revoked) this.settle(entry, Errno.EFAULT, target);
    else if (expired) this.settle(entry, ETIMEDOUT, target);
    else this.ask(entry, target);
  }

  private ask(entry: Entry, target: Uint8Array): void {
    const { request } = entry;
    this.asked = request;
    this.options.memory.start(request, target, errno => {
      this.asked = undefined;
      this.unanswered = errno === ETIMEDOUT ? this.unanswered + 1 : 0;
      this.lookAfterWaiters();
      if (!this.closed) this.settle(entry, errno, target);
    });
  }

  /** Those that have waited long enough go. */
  private lookAfterWaiters(): void {
    if (this.waiters.length === 0) return;
    const now = performance.now();
    const due = this.asked === undefined ? this.waiters : this.waiters.filter(({ deadline }) => deadline <= now);
    if (due.length === 0) return;
    this.waiters = this.waiters.filter(waiter => !due.includes(waiter));
    for (const { go, stop } of due) {
      stop();
      if (!this.closed) go();
    }
  }

  private settle(entry: Entry, errno: number, target: Uint8Array): void {
    this.options.done(entry.request, errno);
    this.answer(entry, errno, target);
  }

  /** Sends the answer, when there is room, and lets what came behind it go on. */
  private answer(entry: Entry, errno: number, target: Uint8Array): void {
    const { server, loop } = this.options;
    const { request } = entry;
    const size = ANSWER_BYTES + target.length;
    if (!request.posted && !server.hasRoom(size)) {
      this.unsent = () => this.answer(entry, errno, target);
      this.stopWaiting ??= loop.after(ANSWER_TIMEOUT, () => server.close('the server does not read'));
      return;
    }
    this.stopWaiting?.();
    this.stopWaiting = undefined;
    this.unsent = undefined;
    if (!request.posted) this.send(request, errno, target);
    const { interrupts } = entry;
    for (let i = 0; i < interrupts.length && !this.closed; i += 2) {
      this.options.interrupt(interrupts[i]!, interrupts[i + 1]!);
    }
    this.heldInterrupts -= interrupts.length / 2;
    this.current = undefined;
    if (this.closed) return;
    if (this.unanswered >= MAX_UNANSWERED_IN_A_ROW) this.options.hung();
    else if (this.queue.length > 0) this.later();
  }

  /** There is room. */
  private send({ id, command, frame, offset, count }: ClientDmaRequest, errno: number, data: Uint8Array): void {
    const { server } = this.options;
    if (errno !== 0) {
      sendError(server, id, command, errno);
      return;
    }
    const size = ANSWER_BYTES + data.length;
    const at = server.reserve(size);
    if (at < 0) return;
    const { outputView: view } = server;
    const payload = at + HEADER_BYTES;
    writeHeader(view, at, id, command, size, HeaderFlag.typeReply, 0);
    view.setUint32(payload + DmaAccess.address, ((frame << FRAME_SHIFT) | offset) >>> 0, true);
    view.setUint32(payload + DmaAccess.address + 4, frame >>> (32 - FRAME_SHIFT), true);
    view.setUint32(payload + DmaAccess.count, count, true);
    view.setUint32(payload + DmaAccess.count + 4, 0, true);
    server.output.set(data, payload + DmaAccess.data);
    server.commit(size);
  }
}
