/** What the server sends: answers for QEMU, DMA for the memory here, interrupts for the eventfds here. */
import { SystemError } from '../posix/errors.ts';
import { closeDescriptor } from '../posix/socket.ts';
import type { Detail, MessageHandler } from '../vfio-user/connection.ts';
import { Errno } from '../vfio-user/device-model.ts';
import { type Header, writeHeader } from '../vfio-user/header.ts';
import { Command, commandName, HEADER_BYTES, HeaderFlag, Interrupt, Version } from '../vfio-user/spec.ts';
import { parseVersion, VersionError } from '../vfio-user/version.ts';
import { UNMAP_PATIENCE } from './limits.ts';
import { answerError, NO_ROOM, passOn } from './pass-on.ts';
import type { Relay } from './relay.ts';
import type { Pages } from './requests.ts';
import { bridgedVersionData } from './version-answer.ts';

// The hot path's own names: the compiler folds constants of this file, and loads those of others each time.
const REPLY = HeaderFlag.typeReply;
const ERROR = HeaderFlag.error;
const DMA_READ = Command.dmaRead;
const DMA_WRITE = Command.dmaWrite;
const INTERRUPT = Command.interrupt;
const VERSION = Command.version;
const HEADER = HEADER_BYTES;
/** Linux errno values end there (linux/err.h, MAX_ERRNO). */
const ERRNO_LIMIT = 4096;

export class ServerSide implements MessageHandler {
  /** Something waits for room towards QEMU. */
  held = false;

  constructor(private readonly relay: Relay) {}

  replyRoom(header: Header, payload: number, length: number): number {
    if (header.type !== REPLY) return this.relay.desk.room(header, payload, length);
    // The one answer that is not passed on as it is grows by no more than what was agreed on.
    const size = HEADER + (header.command === VERSION ? length + this.relay.limits.maxVersionData : length);
    if (this.relay.qemu.hasRoom(size)) return 0;
    this.held = true;
    return NO_ROOM;
  }

  message(header: Header, payload: number, length: number, descriptors: number[]): void {
    const { relay } = this;
    relay.counters.messagesFromServer++;
    if (descriptors.length > 0) {
      for (const descriptor of descriptors) closeDescriptor(descriptor);
      relay.end('the server sent descriptors', { command: commandName(header.command) });
    } else if (header.type === REPLY) this.answer(header, payload, length);
    else if (header.command === DMA_READ || header.command === DMA_WRITE) relay.desk.serve(header, payload, length);
    else if (header.command === INTERRUPT) this.interrupt(header, payload, length);
    else this.refuse(header, Errno.ENOTSUP);
  }

  closed(reason: string, detail: Detail): void {
    this.relay.end(`the link to the server ended: ${reason}`, detail);
  }

  private answer(header: Header, payload: number, length: number): void {
    const { relay } = this;
    const { requests, server, qemu } = relay;
    const command = requests.take(header.id);
    if (command !== header.command) {
      const what = command < 0 ? 'the server answered no request' : 'the server answered another command';
      relay.end(what, { id: header.id, command: commandName(header.command) });
      return;
    }
    const settlement = requests.takeSettlement(header.id, command);
    // The error field may be zero even then (section "Header").
    const failed = (header.flags & ERROR) !== 0;
    const errno = failed ? (header.error > 0 && header.error < ERRNO_LIMIT ? header.error : Errno.EIO) : 0;
    if (settlement !== undefined) settlement.settle(errno);
    if (command === VERSION && !failed) this.answerVersion(header, payload, length);
    else if (settlement?.pages !== undefined && !failed) this.passOnWhenClear(settlement.pages, payload, length);
    else passOn(server, payload, length, qemu);
    if (settlement !== undefined) relay.wakeQemu();
  }

  private passOnWhenClear({ firstFrame, frames }: Pages, payload: number, length: number): void {
    const { relay } = this;
    const { server, qemu, client } = relay;
    const message = server.input.slice(payload - HEADER, payload + length);
    client.whenClear(firstFrame, frames, UNMAP_PATIENCE, () => {
      const at = qemu.reserve(message.length);
      if (at < 0) {
        relay.end('QEMU does not read');
        return;
      }
      qemu.output.set(message, at);
      qemu.commit(message.length);
    });
  }

  private answerVersion(header: Header, payload: number, length: number): void {
    const { relay } = this;
    const { server, qemu, limits, proposal } = relay;
    if (proposal === undefined) throw new Error('an answer to VERSION without a proposal');
    let data: Uint8Array;
    try {
      const { capabilities } = parseVersion(server.input, payload, length, limits);
      const room = Math.max(proposal.dataBytes, length - Version.bytes);
      data = bridgedVersionData(capabilities, proposal.capabilities, limits, room);
    } catch (error) {
      if (!(error instanceof VersionError)) throw error;
      relay.end('handshake failed', { why: `the server's answer: ${error.message}` });
      return;
    }
    const size = HEADER + Version.bytes + data.length;
    const at = qemu.reserve(size);
    if (at < 0) return;
    writeHeader(qemu.outputView, at, header.id, header.command, size, header.flags, 0);
    qemu.output.set(server.input.subarray(payload, payload + Version.bytes), at + HEADER);
    qemu.output.set(data, at + HEADER + Version.bytes);
    qemu.commit(size);
    relay.agreed();
  }

  private interrupt(header: Header, payload: number, length: number): void {
    const { relay } = this;
    if (length < Interrupt.bytes) {
      this.refuse(header, Errno.EINVAL);
      return;
    }
    const { inputView: view } = relay.server;
    const index = view.getUint32(payload + Interrupt.index, true);
    const vector = view.getUint32(payload + Interrupt.vector, true);
    if (!relay.client.busy || !relay.eventfds.has(index, vector) || !relay.client.holdBack(index, vector)) {
      this.raise(index, vector);
    }
  }

  /** Signals the eventfd of an interrupt, if there is one. */
  raise(index: number, vector: number): void {
    const { relay } = this;
    try {
      if (relay.eventfds.fire(index, vector)) relay.counters.interrupts++;
      else relay.note('interrupt.unbound', { index, vector });
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      relay.note('interrupt.lost', { index, vector, code: error.code });
    }
  }

  private refuse(header: Header, errno: number): void {
    const { relay } = this;
    relay.counters.refused++;
    relay.note('message.refused', { from: 'server', command: commandName(header.command), errno });
    answerError(relay.server, header, errno);
  }
}
