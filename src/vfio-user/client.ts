/**
 * The other end: a vfio-user client for tests and for driving a device without a guest. Its calls wait on the event loop,
 * so that client and server can share one loop and one thread.
 */
import type { EventLoop } from '../posix/event-loop.ts';
import { closeDescriptor, connectUnix } from '../posix/socket.ts';
import { Connection, type Detail, type MessageHandler } from './connection.ts';
import { type DmaRegion, Errno, type InterruptDescription, type RegionDescription } from './device-model.ts';
import { dmaMapPayload } from './dma-map-payload.ts';
import { type Header, writeHeader } from './header.ts';
import { defaultLimits, type Limits, streamLimits } from './limits.ts';
import {
  Command,
  commandName,
  DeviceInfo,
  DmaAccess,
  DmaUnmap,
  HEADER_BYTES,
  HeaderFlag,
  Interrupt,
  IrqInfo,
  IrqSet,
  PAGE_BYTES,
  RegionAccess,
  RegionInfo,
  Version,
} from './spec.ts';

const ID_COUNT = 0x10000;
/** Interrupts that `interrupts` keeps; the oldest go first. */
export const INTERRUPTS_KEPT = 4096;

/** The server answered a command with an error. */
export class VfioUserError extends Error {
  constructor(
    readonly command: string,
    readonly errno: number,
  ) {
    super(`${command} failed with errno ${errno}`);
  }
}

export interface Answer {
  /** Zero on success. */
  readonly errno: number;
  readonly payload: Uint8Array;
}

/** One DMA_READ or DMA_WRITE of the server; `data` is empty on a read, and valid until the handler returns. */
export interface DmaRequest {
  readonly id: number;
  readonly address: bigint;
  readonly count: number;
  readonly data: Uint8Array;
}

/** The bytes read, an errno (zero is success of a write), or nothing where no answer shall be sent. */
export type DmaHandler = (request: DmaRequest) => Uint8Array | number | undefined;

export interface Handshake {
  readonly major: number;
  readonly minor: number;
  /** The version data as it came, without its NUL. */
  readonly data: string;
}

/** An interrupt that came as a message. */
export interface InterruptMessage {
  readonly index: number;
  readonly vector: number;
}

export interface ClientOptions {
  /** The stream carries no descriptors: the messages profile is spoken (see spec.ts, `Interrupt`). Default: false. */
  readonly messages?: boolean;
}

interface Waiting {
  readonly command: number;
  answer: Answer | undefined;
}

export class VfioUserClient implements MessageHandler {
  readonly connection: Connection;
  /** Why the connection ended; undefined while it lives. */
  endReason: string | undefined;
  onDmaRead: DmaHandler = () => Errno.EINVAL;
  onDmaWrite: DmaHandler = () => Errno.EINVAL;
  /** Owns what comes with an answer, and is told of it before. */
  onDescriptors: (descriptors: readonly number[]) => void = closeAll;

  /** Messages profile: the last interrupts that came, and who is told of each. */
  readonly interrupts: InterruptMessage[] = [];
  onInterrupt: ((interrupt: InterruptMessage) => void) | undefined;

  private readonly limits: Limits;
  private readonly messages: boolean;
  private readonly waiting = new Map<number, Waiting>();
  private lastId = 0;

  /** Connects to the socket at a path, or takes over a connected descriptor. */
  constructor(
    private readonly loop: EventLoop,
    where: string | number,
    limits: Partial<Limits> = {},
    { messages = false }: ClientOptions = {},
  ) {
    this.messages = messages;
    const all = { ...defaultLimits, ...limits };
    this.limits = messages ? streamLimits(all) : all;
    const fd = typeof where === 'string' ? connectUnix(where) : where;
    this.connection = new Connection(fd, loop, this.limits, this);
  }

  close(): void {
    this.connection.close('closed by this side');
  }

  /** Proposes 0.0 and these capabilities; what is not an object is sent as the version data as it is. */
  negotiate(proposal: Record<string, unknown> | string = defaultProposal(this.limits)): Handshake {
    const json = typeof proposal === 'string' ? proposal : JSON.stringify(proposal);
    const data = new TextEncoder().encode(`${json}\0`);
    const payload = new Uint8Array(Version.bytes + data.length);
    payload.set(data, Version.dataAt);
    const answer = this.ask(Command.version, payload);
    const view = viewOf(answer);
    return {
      major: view.getUint16(Version.majorAt, true),
      minor: view.getUint16(Version.minorAt, true),
      data: new TextDecoder().decode(answer.subarray(Version.dataAt, -1)),
    };
  }

  getDeviceInfo(): { flags: number; regions: number; irqs: number } {
    const view = viewOf(this.ask(Command.deviceGetInfo, words(DeviceInfo.bytes, 0, 0, 0)));
    return {
      flags: view.getUint32(DeviceInfo.flags, true),
      regions: view.getUint32(DeviceInfo.regions, true),
      irqs: view.getUint32(DeviceInfo.irqs, true),
    };
  }

  regionInfo(index: number): RegionDescription {
    const view = viewOf(this.ask(Command.deviceGetRegionInfo, words(RegionInfo.bytes, 0, index, 0, 0, 0, 0, 0)));
    const flags = view.getUint32(RegionInfo.flags, true);
    return {
      size: Number(view.getBigUint64(RegionInfo.size, true)),
      readable: (flags & RegionInfo.read) !== 0,
      writable: (flags & RegionInfo.write) !== 0,
    };
  }

  irqInfo(index: number): InterruptDescription {
    const view = viewOf(this.ask(Command.deviceGetIrqInfo, words(IrqInfo.bytes, 0, index, 0)));
    const flags = view.getUint32(IrqInfo.flags, true);
    return {
      count: view.getUint32(IrqInfo.count, true),
      eventfd: (flags & IrqInfo.eventfd) !== 0,
      maskable: (flags & IrqInfo.maskable) !== 0,
      automasked: (flags & IrqInfo.automasked) !== 0,
      noresize: (flags & IrqInfo.noresize) !== 0,
    };
  }

  /** `flags` are those of `IrqSet`. In the messages profile `triggers` stand for eventfds, one int32 for each vector. */
  setIrqs(
    flags: number,
    index: number,
    start: number,
    count: number,
    with_: { descriptors?: readonly number[]; bools?: readonly boolean[]; triggers?: readonly number[] } = {},
  ): void {
    const { bools = [], triggers = [] } = with_;
    const payload = new Uint8Array(IrqSet.bytes + bools.length + 4 * triggers.length);
    payload.set(words(IrqSet.bytes + bools.length, flags, index, start, count));
    payload.set(words(...triggers), IrqSet.data);
    bools.forEach((bool, i) => {
      payload[IrqSet.data + i] = bool ? 1 : 0;
    });
    this.ask(Command.deviceSetIrqs, payload, with_.descriptors);
  }

  regionRead(index: number, offset: number | bigint, count: number): Uint8Array {
    return this.ask(Command.regionRead, regionAccess(index, offset, count)).subarray(RegionAccess.data);
  }

  /** A posted write has no answer: neither its end nor its failure is known here. */
  regionWrite(index: number, offset: number | bigint, bytes: Uint8Array, { posted = false } = {}): void {
    const payload = new Uint8Array(RegionAccess.bytes + bytes.length);
    payload.set(regionAccess(index, offset, bytes.length));
    payload.set(bytes, RegionAccess.data);
    if (posted) this.sendCommand(Command.regionWrite, payload, { posted });
    else this.ask(Command.regionWrite, payload);
  }

  /**
   * The descriptor stays the caller's; -1 for a region that messages alone reach. `access` says how the server shall use it, in a flag
   * that older servers refuse (EINVAL).
   */
  dmaMap(region: DmaRegion): void {
    this.ask(Command.dmaMap, dmaMapPayload(region), region.descriptor < 0 ? [] : [region.descriptor]);
  }

  dmaUnmap(address: bigint, size: bigint, flags = 0): void {
    const payload = new Uint8Array(DmaUnmap.bytes);
    const view = viewOf(payload);
    view.setUint32(DmaUnmap.argsz, DmaUnmap.bytes, true);
    view.setUint32(DmaUnmap.flags, flags, true);
    view.setBigUint64(DmaUnmap.address, address, true);
    view.setBigUint64(DmaUnmap.size, size, true);
    this.ask(Command.dmaUnmap, payload);
  }

  reset(): void {
    this.ask(Command.deviceReset, new Uint8Array(0));
  }

  /** Sends a command and waits; errors are returned, not thrown. Throws an Error where the connection ends meanwhile. */
  request(command: number, payload: Uint8Array, descriptors: readonly number[] = []): Answer {
    if (this.messages && descriptors.length > 0) throw new Error('this stream carries no descriptors');
    const waiting: Waiting = { command, answer: undefined };
    const id = this.nextId();
    this.waiting.set(id, waiting);
    try {
      this.send(id, command, HeaderFlag.typeCommand, 0, payload, descriptors);
      const { replyTimeout } = this.limits;
      this.loop.waitUntil(() => waiting.answer !== undefined || this.connection.closed, replyTimeout);
    } finally {
      this.waiting.delete(id);
    }
    if (waiting.answer !== undefined) return waiting.answer;
    throw new Error(`no answer to ${commandName(command)}: ${this.endReason ?? 'the server is silent'}`);
  }

  /** Sends a command without waiting for its answer, which is dropped. Returns its id. */
  sendCommand(command: number, payload: Uint8Array, { posted = false } = {}): number {
    const id = this.nextId();
    if (!posted) this.waiting.set(id, { command, answer: undefined });
    this.send(id, command, posted ? HeaderFlag.noReply : HeaderFlag.typeCommand, 0, payload, []);
    return id;
  }

  /** Answers a DMA request by hand. */
  sendReply(id: number, command: number, errno: number, payload: Uint8Array): void {
    const flags = HeaderFlag.typeReply | (errno === 0 ? 0 : HeaderFlag.error);
    this.send(id, command, flags, errno, payload, []);
  }

  /** Any bytes, in one piece as far as the kernel takes them; for messages that nobody should send. */
  sendRaw(bytes: Uint8Array, descriptors: readonly number[] = []): void {
    const { connection } = this;
    this.loop.waitUntil(() => connection.closed || connection.hasRoom(bytes.length), this.limits.replyTimeout);
    const at = connection.reserve(bytes.length);
    if (at < 0) throw new Error(`cannot send: ${this.endReason ?? 'the server does not read'}`);
    connection.output.set(bytes, at);
    connection.commit(bytes.length, descriptors);
    if (descriptors.length === 0) return;
    this.loop.waitUntil(() => connection.closed || connection.drained, this.limits.replyTimeout);
  }

  replyRoom(header: Header): number {
    return header.type === HeaderFlag.typeReply ? 0 : HEADER_BYTES + DmaAccess.bytes + this.limits.maxDataTransfer;
  }

  message(header: Header, payload: number, length: number, descriptors: number[]): void {
    if (descriptors.length > 0) this.onDescriptors(descriptors);
    if (header.type === HeaderFlag.typeReply) this.takeAnswer(header, payload, length);
    else if (this.messages && header.command === Command.interrupt) this.takeInterrupt(payload, length);
    else this.serveDma(header, payload, length);
  }

  closed(reason: string, detail: Detail): void {
    const facts = Object.entries(detail).map(([name, value]) => ` ${name}=${value}`);
    this.endReason = reason + facts.join('');
  }

  private ask(command: number, payload: Uint8Array, descriptors: readonly number[] = []): Uint8Array {
    const answer = this.request(command, payload, descriptors);
    if (answer.errno !== 0) throw new VfioUserError(commandName(command), answer.errno);
    return answer.payload;
  }

  private takeAnswer(header: Header, payload: number, length: number): void {
    const waiting = this.waiting.get(header.id);
    if (waiting === undefined || waiting.command !== header.command) {
      this.connection.close('reply to no request', { id: header.id, command: commandName(header.command) });
      return;
    }
    this.waiting.delete(header.id);
    const failed = (header.flags & HeaderFlag.error) !== 0;
    waiting.answer = {
      errno: failed ? header.error || Errno.EIO : 0,
      payload: this.connection.input.slice(payload, payload + length),
    };
  }

  private takeInterrupt(at: number, length: number): void {
    if (length !== Interrupt.bytes) {
      this.connection.close('interrupt of another length', { length });
      return;
    }
    const { inputView } = this.connection;
    const interrupt = {
      index: inputView.getUint32(at + Interrupt.index, true),
      vector: inputView.getUint32(at + Interrupt.vector, true),
    };
    this.interrupts.push(interrupt);
    if (this.interrupts.length > INTERRUPTS_KEPT) this.interrupts.shift();
    this.onInterrupt?.(interrupt);
  }

  private serveDma(header: Header, at: number, length: number): void {
    const { id, command } = header;
    const { inputView, input } = this.connection;
    const known = command === Command.dmaRead || command === Command.dmaWrite;
    if (!known || length < DmaAccess.bytes) {
      this.sendReply(id, command, known ? Errno.EINVAL : Errno.ENOTSUP, new Uint8Array(0));
      return;
    }
    const request: DmaRequest = {
      id,
      address: inputView.getBigUint64(at + DmaAccess.address, true),
      count: Number(inputView.getBigUint64(at + DmaAccess.count, true)),
      data: input.subarray(at + DmaAccess.data, at + length),
    };
    const result = command === Command.dmaRead ? this.onDmaRead(request) : this.onDmaWrite(request);
    if (result === undefined || this.connection.closed) return;
    if (typeof result === 'number' && result !== 0) {
      this.sendReply(id, command, result, new Uint8Array(0));
      return;
    }
    const data = typeof result === 'number' ? new Uint8Array(0) : result;
    this.sendReply(id, command, 0, dmaPayload(request.address, request.count, data));
  }

  private send(
    id: number,
    command: number,
    flags: number,
    errno: number,
    payload: Uint8Array,
    descriptors: readonly number[],
  ): void {
    const message = new Uint8Array(HEADER_BYTES + payload.length);
    writeHeader(viewOf(message), 0, id, command, message.length, flags, errno);
    message.set(payload, HEADER_BYTES);
    this.sendRaw(message, descriptors);
  }

  private nextId(): number {
    do {
      this.lastId = (this.lastId + 1) % ID_COUNT;
    } while (this.waiting.has(this.lastId));
    return this.lastId;
  }
}

/** The payload of a DMA message or of its reply. */
export function dmaPayload(address: bigint, count: number, data: Uint8Array): Uint8Array {
  const payload = new Uint8Array(DmaAccess.bytes + data.length);
  const view = viewOf(payload);
  view.setBigUint64(DmaAccess.address, address, true);
  view.setBigUint64(DmaAccess.count, BigInt(count), true);
  payload.set(data, DmaAccess.data);
  return payload;
}

function regionAccess(index: number, offset: number | bigint, count: number): Uint8Array {
  const payload = new Uint8Array(RegionAccess.bytes);
  const view = viewOf(payload);
  view.setBigUint64(RegionAccess.offset, BigInt(offset), true);
  view.setUint32(RegionAccess.region, index, true);
  view.setUint32(RegionAccess.count, count, true);
  return payload;
}

function defaultProposal(limits: Limits): Record<string, unknown> {
  return {
    capabilities: {
      max_msg_fds: limits.maxDescriptors,
      max_data_xfer_size: limits.maxDataTransfer,
      max_dma_maps: limits.maxDmaMaps,
      pgsizes: PAGE_BYTES,
    },
  };
}

function closeAll(descriptors: readonly number[]): void {
  for (const descriptor of descriptors) closeDescriptor(descriptor);
}

function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
