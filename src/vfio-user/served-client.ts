/** One client of a server, from its connection to its end: checks, dispatch, answers. */
import { SystemError } from '../posix/errors.ts';
import type { EventLoop } from '../posix/event-loop.ts';
import { closeDescriptor } from '../posix/socket.ts';
import type { Trace } from '../trace/trace.ts';
import { type CommandHandler, commandHandlers } from './commands.ts';
import { Connection, type Detail, type MessageHandler } from './connection.ts';
import { type ClientPort, type DeviceModel, type DmaBatch, Errno } from './device-model.ts';
import { DmaMessages } from './dma-messages.ts';
import { featureReplyBytes } from './features.ts';
import { type Header, writeHeader } from './header.ts';
import { EventFdSink, type InterruptSink, MessageSink } from './interrupt-sink.ts';
import { InterruptTable } from './interrupts.ts';
import { IoEventFds } from './io-eventfds.ts';
import { type Limits, streamLimits } from './limits.ts';
import { NO_DESCRIPTORS, Reply, Request } from './messages.ts';
import { Migration } from './migration.ts';
import type { ServerCounters } from './server-counters.ts';
import {
  Command,
  commandName,
  HEADER_BYTES,
  HeaderFlag,
  MigrationData,
  REGION_REPLY_BYTES,
  RegionAccess,
  SMALL_REPLY_BYTES,
} from './spec.ts';
import { TwinSocket } from './twin-socket.ts';
import { NO_TERMS, type Terms } from './version.ts';

// The hot path's own names: the compiler folds constants of this file, and loads those of others each time.
const OK = Errno.ok;
const REGION_READ = Command.regionRead;
const ACCESS_BYTES = RegionAccess.bytes;
const ACCESS_COUNT = RegionAccess.count;
const HEADER = HEADER_BYTES;
const REPLY = HeaderFlag.typeReply;
const NO_REPLY = HeaderFlag.noReply;
const RESERVED = HeaderFlag.reserved;
const FAILED = HeaderFlag.typeReply | HeaderFlag.error;
const SMALL_REPLY = SMALL_REPLY_BYTES;
/** In place of an errno: the answer comes later. */
const LATER = -1;

export interface ServedClientOptions {
  readonly name: string;
  readonly model: DeviceModel;
  readonly loop: EventLoop;
  readonly trace: Trace;
  readonly limits: Limits;
  readonly counters: ServerCounters;
  /** Its stream carries descriptors: a unix socket. Else the messages profile is spoken (see spec.ts, `Interrupt`). */
  readonly carriesDescriptors: boolean;
  /** The client is gone, for this reason, and everything of it is cleaned up. */
  readonly ended: (reason: string) => void;
}

export class ServedClient implements MessageHandler, ClientPort {
  readonly model: DeviceModel;
  readonly limits: Limits;
  readonly connection: Connection;
  readonly interrupts: InterruptTable;
  readonly carriesDescriptors: boolean;
  /** Missing where the model cannot be saved. */
  readonly migration: Migration | undefined;
  /** The handshake is done. */
  negotiated = false;
  terms: Terms = NO_TERMS;
  readonly ioEventFds: IoEventFds;
  /** DMA regions that the client has mapped. */
  dmaRegions = 0;

  private readonly dma: DmaMessages;
  private readonly request: Request;
  private readonly reply: Reply;
  private readonly counters: ServerCounters;
  private readonly sink: InterruptSink;
  private twin: TwinSocket | undefined;
  private isPaused = false;
  private sawReserved = false;
  /** Of the command that is served just now. */
  private header: Header | undefined;
  /** What `replyRoom` said of the message at hand. */
  private room = 0;

  /** Owns `fd` from here on. */
  constructor(
    fd: number,
    private readonly options: ServedClientOptions,
  ) {
    const { model, loop, trace, name, carriesDescriptors } = options;
    const limits = carriesDescriptors ? options.limits : streamLimits(options.limits);
    this.model = model;
    this.limits = limits;
    this.carriesDescriptors = carriesDescriptors;
    this.counters = options.counters;
    this.connection = new Connection(fd, loop, limits, this);
    const { interrupts } = model;
    this.sink = carriesDescriptors ? new EventFdSink(trace, name) : new MessageSink(this.connection, interrupts);
    this.interrupts = new InterruptTable({ interrupts, listener: model, loop, sink: this.sink });
    this.ioEventFds = new IoEventFds({ model, loop, trace, name });
    this.dma = new DmaMessages({ connection: this.connection, loop, limits, trace, name });
    const device = model.migration;
    this.migration =
      device &&
      new Migration({
        device,
        maxBytes: limits.maxMigrationData,
        note: (kind, detail) => trace.note(kind, name, detail),
      });
    this.request = new Request(this.connection);
    this.reply = new Reply(this.connection);
    trace.note('client.connected', name, carriesDescriptors ? {} : { over: 'stream' });
  }

  get dmaMessages(): number {
    return this.dma.messages;
  }

  get dmaBatch(): DmaBatch {
    return this.dma;
  }

  /** The client took pages away: transfers with them that are under way end. */
  dmaUnmapped(firstFrame: number, frames: number): void {
    this.dma.unmapped(firstFrame, frames);
  }

  /** Serves nothing more until `resume`. Also from within a message. */
  pause(): void {
    if (this.isPaused) return;
    this.isPaused = true;
    this.interrupts.hears = false;
    this.ioEventFds.hears = false;
    this.twin?.connection.pause();
    this.connection.pause();
  }

  /** Serves at once what is there; `accessed` is told of each access to a region, when it is answered. */
  resume(accessed?: () => void): void {
    this.ioEventFds.accessed = accessed;
    this.connection.handTo(accessed === undefined ? this : new AccessObserver(this, accessed));
    if (!this.isPaused) return;
    this.isPaused = false;
    this.interrupts.hears = true;
    this.ioEventFds.hears = true;
    this.twin?.connection.resume();
    this.connection.resume();
  }

  /** For the answer to VERSION: the client's end of a second stream, which the DMA messages then take; -1 where there can be none. */
  openTwin(): number {
    const { loop, limits } = this.options;
    try {
      this.twin = new TwinSocket({
        loop,
        limits,
        reply: (header, payload, length) => this.dma.reply(header, payload, length),
        ended: (reason, detail) => this.connection.close(reason, detail),
      });
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.note('client.without-twin', { code: error.code });
      return -1;
    }
    this.dma.moveTo(this.twin.connection);
    return this.twin.clientEnd;
  }

  /** The handshake succeeded. */
  negotiate(terms: Terms): void {
    this.negotiated = true;
    this.terms = terms;
    this.dma.maxTransfer = terms.maxTransfer;
    this.model.connected(this);
  }

  /**
   * What a handler returns whose command may take until other work is done: `begin` says how it ended, at once or later; on success
   * `compose` puts the answer together. An answer that waits lets later commands pass.
   */
  answerWhen(begin: (done: (errno: number) => void) => void, compose: () => void): number {
    const { id, command, flags } = this.header!;
    let errno = LATER;
    let isNow = true;
    begin(result => {
      if (isNow) errno = result;
      else this.answerLater(id, command, (flags & NO_REPLY) !== 0, result, compose);
    });
    isNow = false;
    if (errno === OK) compose();
    return errno;
  }

  trigger(index: number, vector: number): boolean {
    return this.interrupts.trigger(index, vector);
  }

  isArmed(index: number, vector: number): boolean {
    return this.interrupts.isArmed(index, vector);
  }

  dmaRead(frame: number, offset: number, target: Uint8Array, at: number, length: number): number {
    return this.dma.read(frame, offset, target, at, length);
  }

  dmaWrite(frame: number, offset: number, source: Uint8Array, at: number, length: number): number {
    return this.dma.write(frame, offset, source, at, length);
  }

  replyRoom(header: Header, payload: number, length: number): number {
    this.room = SMALL_REPLY;
    if (header.type === REPLY) return 0;
    if (header.command !== REGION_READ || length < ACCESS_BYTES) return this.otherRoom(header.command, payload, length);
    const count = this.connection.inputView.getUint32(payload + ACCESS_COUNT, true);
    const data = Math.min(count, this.limits.maxDataTransfer);
    this.room = Math.max(SMALL_REPLY, HEADER + ACCESS_BYTES + data);
    return this.room;
  }

  message(header: Header, payload: number, length: number, descriptors: number[]): void {
    if ((header.flags & RESERVED) !== 0 && !this.sawReserved) this.noteReserved(header);
    if (header.type === REPLY) {
      if (descriptors.length > 0) this.refuseDescriptors(header, descriptors);
      else if (this.twin !== undefined) this.connection.close('reply on the wrong stream', { id: header.id });
      else this.dma.reply(header, payload, length);
      return;
    }
    this.counters.count(header.command);
    if (!this.negotiated && header.command !== Command.version) {
      for (const descriptor of descriptors) closeDescriptor(descriptor);
      this.connection.close('command before VERSION', { command: commandName(header.command) });
      return;
    }
    const handler = commandHandlers[header.command];
    if (descriptors.length > 0 && handler?.takesDescriptors === false) {
      this.refuseDescriptors(header, descriptors);
      return;
    }
    const { request } = this;
    request.command = header.command;
    request.at = payload;
    request.length = length;
    request.descriptors = descriptors;
    this.answer(header, handler);
    this.sink.flush();
    if (request.descriptors.length > 0) request.closeDescriptors();
  }

  closed(reason: string, detail: Detail): void {
    const { trace, name, counters, ended } = this.options;
    trace.note('client.closed', name, { reason, ...detail });
    counters.absorb(this);
    this.dma.abandon();
    if (this.negotiated) this.model.dma.unmapAll();
    this.model.dma.log?.stop();
    this.interrupts.close();
    this.ioEventFds.close();
    if (this.twin !== undefined) counters.absorb({ dmaMessages: 0, connection: this.twin.connection });
    this.twin?.close();
    if (this.negotiated) this.model.disconnected();
    this.migration?.reset();
    ended(reason);
  }

  private answer(header: Header, handler: CommandHandler | undefined): void {
    const { connection, reply } = this;
    const { id, command, flags } = header;
    const at = connection.reserve(this.room);
    this.header = header;
    reply.at = at + HEADER;
    reply.length = 0;
    reply.descriptors = NO_DESCRIPTORS;
    const errno = this.serve(handler);
    if (connection.closed) return;
    const posted = (flags & NO_REPLY) !== 0;
    if (errno !== OK) {
      if (errno === LATER) return;
      this.noteRefusal(command, errno, posted);
    }
    if (posted) return;
    const size = HEADER + (errno === OK ? reply.length : 0);
    writeHeader(connection.outputView, at, id, command, size, errno === OK ? REPLY : FAILED, errno);
    connection.commit(size, reply.takeDescriptors());
    // What has gone out holds the client's end by itself; while ours is open, its end could not be seen.
    if (this.twin !== undefined && connection.drained) this.twin.handedOver();
  }

  /** In a job. */
  private answerLater(id: number, command: number, posted: boolean, errno: number, compose: () => void): void {
    const { connection, limits, reply } = this;
    if (connection.closed) return;
    if (errno !== OK) this.noteRefusal(command, errno, posted);
    if (posted) return;
    this.options.loop.waitUntil(() => connection.closed || connection.hasRoom(SMALL_REPLY), limits.dmaTimeout);
    const at = connection.reserve(SMALL_REPLY);
    if (at < 0) {
      connection.close('answers are not read', { command: commandName(command) });
      return;
    }
    reply.at = at + HEADER;
    reply.length = 0;
    if (errno === OK) compose();
    const size = HEADER + reply.length;
    writeHeader(connection.outputView, at, id, command, size, errno === OK ? REPLY : FAILED, errno);
    connection.commit(size);
  }

  private otherRoom(command: number, payload: number, length: number): number {
    const { connection, limits } = this;
    let bytes = 0;
    if (command === Command.deviceFeature) {
      bytes = featureReplyBytes(this, connection.inputView, payload, length);
    } else if (command === Command.migrationDataRead && length >= MigrationData.bytes) {
      const size = connection.inputView.getUint32(payload + MigrationData.size, true);
      bytes = MigrationData.bytes + Math.min(size, limits.maxDataTransfer);
    } else if (command === Command.deviceGetRegionInfo || command === Command.deviceGetRegionIoFds) {
      bytes = REGION_REPLY_BYTES;
    }
    this.room = Math.max(SMALL_REPLY, HEADER + bytes);
    return this.room;
  }

  private serve(handler: CommandHandler | undefined): number {
    const { request } = this;
    if (handler === undefined) return Errno.ENOTSUP;
    if (request.length < handler.payload) return Errno.EINVAL;
    try {
      return handler.serve(this, request, this.reply);
    } catch (error) {
      // A fault of ours must not leave the client without an answer; the loop's own error handler gets to hear of it.
      this.options.loop.push(() => {
        throw error;
      });
      return Errno.EIO;
    }
  }

  note(kind: string, detail: Detail): void {
    this.options.trace.note(kind, this.options.name, detail);
  }

  private noteRefusal(command: number, errno: number, posted: boolean): void {
    const { trace, name, counters } = this.options;
    counters.refused++;
    trace.note('message.refused', name, { command: commandName(command), errno, posted });
  }

  private noteReserved(header: Header): void {
    this.sawReserved = true;
    const { trace, name } = this.options;
    trace.note('message.reserved-flags', name, { command: commandName(header.command), flags: header.flags >>> 0 });
  }

  private refuseDescriptors(header: Header, descriptors: readonly number[]): void {
    for (const descriptor of descriptors) closeDescriptor(descriptor);
    this.connection.close('descriptors where none belong', {
      command: commandName(header.command),
      count: descriptors.length,
    });
  }
}

/** Many writes in one message are one access: they are answered together. */
const ACCESSES: ReadonlySet<number> = new Set([Command.regionRead, Command.regionWrite, Command.regionWriteMulti]);

/** In front of a client while somebody wants to know of every access: so that nobody pays for it otherwise. */
class AccessObserver implements MessageHandler {
  constructor(
    private readonly client: ServedClient,
    private readonly accessed: () => void,
  ) {}

  replyRoom(header: Header, payload: number, length: number): number {
    return this.client.replyRoom(header, payload, length);
  }

  message(header: Header, payload: number, length: number, descriptors: number[]): void {
    const { type, command } = header;
    this.client.message(header, payload, length, descriptors);
    if (type === HeaderFlag.typeCommand && ACCESSES.has(command) && this.client.negotiated) this.accessed();
  }

  closed(reason: string, detail: Detail): void {
    this.client.closed(reason, detail);
  }
}
