/**
 * Memory that only QEMU reaches: asks it by DMA_READ and DMA_WRITE, one transfer at a time, in as many messages as it takes. Nothing here
 * waits: a QEMU that does not answer, or does not read, keeps none of the bridge's other functions.
 */
import { FRAME_SHIFT } from '../memory/guest-memory.ts';
import type { EventLoop } from '../posix/event-loop.ts';
import type { Connection, Detail } from '../vfio-user/connection.ts';
import { Errno } from '../vfio-user/device-model.ts';
import { type AskedDma, repeatsDma } from '../vfio-user/dma-echo.ts';
import { ETIMEDOUT } from '../vfio-user/dma-messages.ts';
import { type Header, writeHeader } from '../vfio-user/header.ts';
import type { Limits } from '../vfio-user/limits.ts';
import { Command, commandName, DmaAccess, HEADER_BYTES, HeaderFlag } from '../vfio-user/spec.ts';
import { MAX_LATE_ANSWERS } from './limits.ts';
import { copyBytes } from './pass-on.ts';

const REQUEST_BYTES = HEADER_BYTES + DmaAccess.bytes;
const ID_COUNT = 0x10000;
const TWO_TO_32 = 0x100000000;
/** Linux errno values end there (linux/err.h, MAX_ERRNO). */
const ERRNO_LIMIT = 4096;

export interface Transfer {
  /** DMA_READ or DMA_WRITE. */
  readonly command: number;
  readonly frame: number;
  readonly offset: number;
  readonly count: number;
  /** What a write writes. */
  readonly bytes: Uint8Array;
}

export interface QemuMemoryOptions {
  readonly loop: EventLoop;
  readonly qemu: Connection;
  readonly limits: Limits;
  readonly note: (kind: string, detail: Detail) => void;
}

/** One message. */
interface Piece extends AskedDma {
  /** Its place in the transfer, in bytes. */
  readonly at: number;
}

/** What is under way. */
interface Running {
  readonly transfer: Transfer;
  readonly target: Uint8Array;
  readonly done: (errno: number) => void;
  /** Bytes asked for. */
  sent: number;
  /** Of the failed piece that comes first, where one has failed; nothing more is sent then. */
  errno: number;
  failedAt: number;
}

export class QemuMemory {
  /** Bytes in one message; zero until the handshake is done. */
  maxTransfer = 0;
  private running: Running | undefined;
  /** Of the transfer under way, by id. */
  private readonly pieces = new Map<number, Piece>();
  /** Commands given up, by id: each may still be answered, and its id is not used again before. */
  private readonly late = new Map<number, number>();
  private bytesInFlight = 0;
  private lastId = 0;
  /** When QEMU last got further, in milliseconds. */
  private progress = 0;
  /** Ends the look at the clock, where there is one to come. */
  private stopWatching: (() => void) | undefined;
  private queued = false;

  constructor(private readonly options: QemuMemoryOptions) {}

  /** Asks for it; `done` gets an errno, from a job of the loop, unless the transfer is abandoned. None may be under way. */
  start(transfer: Transfer, target: Uint8Array, done: (errno: number) => void): void {
    this.running = { transfer, target, done, sent: 0, errno: Errno.ok, failedAt: 0 };
    this.progress = performance.now();
    this.watch();
    this.goOn();
  }

  /** The server has let these pages go: nothing more is asked of them. */
  unmapped(firstFrame: number, frames: number): void {
    const { running } = this;
    if (running === undefined || !touches(running.transfer, firstFrame, frames)) return;
    if (running.sent < running.transfer.count) this.fail(running, running.sent, Errno.EFAULT);
    this.later();
  }

  /** There may be room towards QEMU again. */
  hasRoom(): void {
    if (this.running !== undefined) this.later();
  }

  /** An answer of QEMU. Closes its connection where it answers nothing that was asked, or in another form. */
  reply(header: Header, payload: number, length: number): void {
    const { qemu } = this.options;
    const { id, command } = header;
    const piece = this.pieces.get(id);
    const asked = piece?.command ?? this.late.get(id);
    if (asked === undefined) {
      qemu.close('reply to no request', { id, command: commandName(command) });
    } else if (asked !== command) {
      const answered = commandName(command);
      qemu.close('reply to another command', { id, asked: commandName(asked), answered });
    } else if (piece === undefined) {
      this.late.delete(id);
      this.options.note('dma.answered-late', { id, command: commandName(command) });
    } else this.settle(header, piece, payload, length);
  }

  /** The connection is gone: nobody will answer, and nobody is told. */
  abandon(): void {
    this.maxTransfer = 0;
    this.running = undefined;
    this.pieces.clear();
    this.late.clear();
    this.bytesInFlight = 0;
    this.stopWatching?.();
    this.stopWatching = undefined;
  }

  private settle(header: Header, piece: Piece, payload: number, length: number): void {
    const { qemu } = this.options;
    const running = this.running!;
    // The error field may be zero even then (section "Header").
    if ((header.flags & HeaderFlag.error) !== 0) {
      const { error } = header;
      this.fail(running, piece.at, error > 0 && error < ERRNO_LIMIT ? error : Errno.EIO);
    } else if (!repeatsDma(qemu, piece, payload, length)) return;
    else if (piece.command === Command.dmaRead) {
      copyBytes(qemu.input, payload + DmaAccess.data, running.target, piece.at, piece.count);
    }
    this.pieces.delete(header.id);
    this.bytesInFlight -= piece.count;
    this.progress = performance.now();
    this.later();
  }

  /** Between two messages, and not within one. */
  private later(): void {
    if (this.queued) return;
    this.queued = true;
    this.options.loop.push(() => {
      this.queued = false;
      this.goOn();
    });
  }

  /** Sends what may be on its way at once. */
  private goOn(): void {
    const { running } = this;
    if (running === undefined) return;
    const { count } = running.transfer;
    if (this.maxTransfer === 0) this.fail(running, running.sent, Errno.ENODEV);
    while (running.errno === Errno.ok && running.sent < count && this.sendNext(running)) {
      // QEMU may be found gone.
      if (this.running !== running) return;
    }
    if (this.pieces.size === 0 && (running.errno !== Errno.ok || running.sent === count)) this.finish(running);
  }

  /** False: it has to wait. */
  private sendNext(running: Running): boolean {
    const { qemu, limits } = this.options;
    const { command, frame, offset, count, bytes } = running.transfer;
    const reading = command === Command.dmaRead;
    const limit = reading ? Math.min(this.maxTransfer, limits.maxDmaRead) : this.maxTransfer;
    const length = Math.min(count - running.sent, limit);
    const size = REQUEST_BYTES + (reading ? 0 : length);
    // One that is larger than the window goes alone.
    const full = this.pieces.size >= limits.maxDmaMessages || this.bytesInFlight + length > limits.maxDmaBytes;
    if ((full && this.pieces.size > 0) || !qemu.hasRoom(size)) return false;
    const at = running.sent;
    const sum = ((frame << FRAME_SHIFT) | offset) >>> 0;
    const low = (sum + at) >>> 0;
    const high = (frame >>> (32 - FRAME_SHIFT)) + Math.floor((sum + at) / TWO_TO_32);
    const id = this.nextId();
    this.pieces.set(id, { command, high, low, count: length, at });
    this.bytesInFlight += length;
    running.sent += length;

    const out = qemu.reserve(size);
    const { outputView: view } = qemu;
    const payload = out + HEADER_BYTES;
    writeHeader(view, out, id, command, size, HeaderFlag.typeCommand, 0);
    view.setUint32(payload + DmaAccess.address, low, true);
    view.setUint32(payload + DmaAccess.address + 4, high, true);
    view.setUint32(payload + DmaAccess.count, length, true);
    view.setUint32(payload + DmaAccess.count + 4, 0, true);
    if (!reading) copyBytes(bytes, at, qemu.output, payload + DmaAccess.data, length);
    qemu.commit(size);
    return true;
  }

  private fail(running: Running, at: number, errno: number): void {
    if (running.errno !== Errno.ok && running.failedAt <= at) return;
    running.errno = errno;
    running.failedAt = at;
  }

  private finish(running: Running): void {
    this.running = undefined;
    running.done(running.errno);
  }

  /** One timer at a time: most transfers are over long before it. */
  private watch(): void {
    if (this.stopWatching !== undefined) return;
    const { loop, limits } = this.options;
    const left = this.progress + limits.dmaTimeout - performance.now();
    this.stopWatching = loop.after(Math.max(1, left), () => {
      this.stopWatching = undefined;
      if (this.running === undefined) return;
      if (performance.now() - this.progress >= limits.dmaTimeout) this.giveUp(this.running);
      else this.watch();
    });
  }

  private giveUp(running: Running): void {
    const { qemu, limits, note } = this.options;
    const { command, frame, offset, count } = running.transfer;
    for (const [id, piece] of this.pieces) {
      this.late.set(id, piece.command);
      this.fail(running, piece.at, ETIMEDOUT);
    }
    this.fail(running, running.sent, ETIMEDOUT);
    note('dma.unanswered', {
      command: commandName(command),
      address: (BigInt(frame) << BigInt(FRAME_SHIFT)) | BigInt(offset),
      count,
      messages: this.pieces.size,
      milliseconds: limits.dmaTimeout,
    });
    this.pieces.clear();
    this.bytesInFlight = 0;
    this.finish(running);
    if (this.late.size > MAX_LATE_ANSWERS) {
      qemu.close('too many DMA messages unanswered', { limit: MAX_LATE_ANSWERS });
    }
  }

  /** Ids are ours alone (section "Header"). */
  private nextId(): number {
    do {
      this.lastId = (this.lastId + 1) % ID_COUNT;
    } while (this.pieces.has(this.lastId) || this.late.has(this.lastId));
    return this.lastId;
  }
}

export function touches(
  { frame, offset, count }: Omit<Transfer, 'command' | 'bytes'>,
  firstFrame: number,
  frames: number,
): boolean {
  const last = frame + Math.floor((offset + count - 1) / 2 ** FRAME_SHIFT);
  return frame < firstFrame + frames && last >= firstFrame;
}
