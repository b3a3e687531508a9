/** What a rule has at hand: connections to the server, what the device offers, and things to pass along. */
import { readdirSync } from 'node:fs';
import type { EventLoop } from '../../posix/event-loop.ts';
import { createEventFd, drainEventFd } from '../../posix/eventfd.ts';
import { createMemfd } from '../../posix/memfd.ts';
import { closeDescriptor, duplicateDescriptor } from '../../posix/socket.ts';
import { Command, DeviceInfo, IrqInfo, IrqSet, RegionInfo } from '../spec.ts';
import { connectOnce, connectPatiently, Peer, type SendOptions } from './peer.ts';
import { equal, fail, isTrue, skip } from './rule.ts';
import { accessPayload, type IrqSetFields, irqSetPayload, versionPayload, viewOf, words } from './wire.ts';

/** linux/vfio.h, VFIO_PCI_CONFIG_REGION_INDEX. */
export const CONFIG = 7;
/** The Interrupt Line register: eight bits that software may write and that nobody acts on (PCI Local Bus 3.0, 6.2.4). */
export const SCRATCH = 0x3c;
const COMMAND_REGISTER = 4;
const ABSENT_VENDOR = 0xffff;
/** Regions or interrupt types that are looked at. */
const MOST_INDEXES = 64;

export interface Target {
  /** Where the server listens. */
  readonly path: string;
  /** The server's own where it runs in this thread. */
  readonly loop: EventLoop;
  /** Milliseconds after which silence is a violation. */
  readonly patience: number;
  /** The server's process, where its descriptors may be counted. */
  readonly pid?: number | undefined;
}

export interface RegionFacts {
  readonly index: number;
  readonly flags: number;
  readonly size: bigint;
}

export interface IrqFacts {
  readonly index: number;
  readonly flags: number;
  readonly count: number;
}

export interface DeviceFacts {
  readonly flags: number;
  readonly regions: readonly RegionFacts[];
  readonly irqs: readonly IrqFacts[];
}

/** What most clients propose. */
export const PROPOSAL = {
  capabilities: { max_msg_fds: 16, max_data_xfer_size: 1048576, max_dma_maps: 65535, pgsizes: 4096 },
} as const;

export class Context {
  private readonly peers: Peer[] = [];
  private readonly descriptors: number[] = [];

  constructor(
    readonly target: Target,
    /** What the server says of its device. */
    readonly device: DeviceFacts,
  ) {}

  /** A connection before its handshake. */
  connect(): Peer {
    const { loop, path, patience } = this.target;
    return this.peer(connectPatiently(loop, path, patience));
  }

  /** One beside another; undefined where the server does not take a second one. */
  connectSecond(): Peer | undefined {
    const fd = connectOnce(this.target.path);
    return fd < 0 ? undefined : this.peer(fd);
  }

  /** A connection after its handshake. */
  session(proposal: object | string | undefined = PROPOSAL): Peer {
    const peer = this.connect();
    peer.succeed(Command.version, versionPayload(proposal));
    return peer;
  }

  /** What the server answered to a proposal; its capabilities as they are. */
  negotiated(proposal: object = PROPOSAL): Readonly<Record<string, unknown>> {
    const peer = this.connect();
    const capabilities = capabilitiesOf(peer.succeed(Command.version, versionPayload(proposal)).payload);
    peer.close();
    return capabilities;
  }

  /** Its own word, or what its silence means. */
  limit(name: 'max_msg_fds' | 'max_data_xfer_size' | 'max_dma_maps'): number {
    const value = this.negotiated()[name];
    if (typeof value === 'number') return value;
    return { max_msg_fds: 1, max_data_xfer_size: 1048576, max_dma_maps: 65535 }[name];
  }

  /** The first region that fits; skips the rule where there is none. */
  region(what: string, fits: (region: RegionFacts) => boolean): RegionFacts {
    return this.device.regions.find(fits) ?? skip(`the device has no ${what}`);
  }

  /** The first interrupt index that fits; skips the rule where there is none. */
  irq(what: string, fits: (irq: IrqFacts) => boolean): IrqFacts {
    return this.device.irqs.find(fits) ?? skip(`the device has no ${what}`);
  }

  /** One that eventfds can be set for, with at least so many vectors. */
  signalled(vectors = 1): IrqFacts {
    return this.irq(
      `interrupt index with ${vectors === 1 ? 'a vector' : `${vectors} vectors`} and eventfds`,
      irq => irq.count >= vectors && (irq.flags & IrqInfo.eventfd) !== 0,
    );
  }

  maskable(): IrqFacts {
    return this.irq(
      'interrupt index that can be masked',
      irq => irq.count > 0 && (irq.flags & IrqInfo.maskable) !== 0 && (irq.flags & IrqInfo.eventfd) !== 0,
    );
  }

  /** The device keeps what is written to the Interrupt Line register; skips the rule where not. */
  scratch(peer: Peer): void {
    write(peer, CONFIG, SCRATCH, Uint8Array.of(0x5a));
    const held = read(peer, CONFIG, SCRATCH, 1)[0];
    write(peer, CONFIG, SCRATCH, Uint8Array.of(0));
    if (held !== 0x5a) skip('the device has no Interrupt Line register that can be written');
  }

  /** Memory to pass along; closed at the end of the rule. */
  memory(bytes: number): number {
    return this.keep(createMemfd('conformance', bytes));
  }

  eventFd(): number {
    return this.keep(createEventFd());
  }

  eventFds(count: number): number[] {
    return Array.from({ length: count }, () => this.eventFd());
  }

  setIrqs(peer: Peer, fields: IrqSetFields, descriptors: readonly number[] = []): void {
    peer.succeed(Command.deviceSetIrqs, irqSetPayload(fields), { descriptors });
  }

  refuseIrqs(peer: Peer, fields: IrqSetFields, why: string, options: SendOptions = {}): number {
    return peer.refuse(Command.deviceSetIrqs, irqSetPayload(fields), why, options);
  }

  /** Sets eventfds for the first vectors of an index; returns them. */
  arm(peer: Peer, index: number, count = 1, start = 0): number[] {
    const descriptors = this.eventFds(count);
    const flags = IrqSet.dataEventfd | IrqSet.actionTrigger;
    this.setIrqs(peer, { flags, index, start, count }, descriptors);
    return descriptors;
  }

  /** How often it was signalled since the last look. */
  signals(eventFd: number): number {
    return drainEventFd(eventFd);
  }

  /** A server in another thread may signal a moment after it has answered. */
  awaitSignal(peer: Peer, eventFd: number, what: string): void {
    let seen = 0;
    const watch = this.target.loop.watch(eventFd, 1, () => {
      seen += drainEventFd(eventFd);
    });
    try {
      peer.until(() => seen > 0, what);
    } finally {
      watch.stop();
    }
  }

  /** How many descriptors the server has open; skips the rule where they cannot be counted. */
  openDescriptors(): number {
    const { pid } = this.target;
    if (pid === undefined) skip("the server's process is not known (--pid)");
    return readdirSync(`/proc/${pid}/fd`).length;
  }

  /** Waits until the server has so many descriptors open again, by new connections that it has to serve meanwhile. */
  awaitDescriptors(expected: number, what: string): void {
    const { loop, patience } = this.target;
    const end = performance.now() + patience;
    for (;;) {
      const open = this.openDescriptors();
      if (open <= expected) return;
      if (performance.now() > end) fail(`${what}: ${open - expected} descriptors more than before are open`);
      loop.runOnce(1);
    }
  }

  /** A new client is served from the beginning. */
  serves(): void {
    const peer = this.session();
    peer.alive();
    peer.close();
  }

  /** May be called again. */
  closePeers(): void {
    for (const peer of this.peers.splice(0)) peer.close();
  }

  close(): void {
    this.closePeers();
    for (const descriptor of this.descriptors.splice(0)) closeDescriptor(descriptor);
  }

  /** A stream that the server passed along; the descriptor stays its owner's. */
  over(fd: number): Peer {
    return this.peer(duplicateDescriptor(fd));
  }

  private peer(fd: number): Peer {
    const peer = new Peer(this.target.loop, fd, this.target.patience);
    this.peers.push(peer);
    return peer;
  }

  private keep(descriptor: number): number {
    this.descriptors.push(descriptor);
    return descriptor;
  }
}

export function read(peer: Peer, region: number, offset: number | bigint, count: number): Uint8Array {
  const { payload } = peer.succeed(Command.regionRead, accessPayload(region, offset, count));
  equal(payload.length, 16 + count, `length of the reply to a read of ${count} bytes`);
  return payload.subarray(16);
}

export function write(peer: Peer, region: number, offset: number | bigint, data: Uint8Array): void {
  peer.succeed(Command.regionWrite, accessPayload(region, offset, data.length, data));
}

/** Lets the function do DMA. */
export function enableBusMaster(peer: Peer): void {
  write(peer, CONFIG, COMMAND_REGISTER, Uint8Array.of(4, 0));
}

export function identity(peer: Peer): { vendor: number; device: number } {
  const view = viewOf(read(peer, CONFIG, 0, 4));
  return { vendor: view.getUint16(0, true), device: view.getUint16(2, true) };
}

export function isPresent(vendor: number): boolean {
  return vendor !== ABSENT_VENDOR;
}

/** Of a VERSION reply. */
export function capabilitiesOf(payload: Uint8Array): Readonly<Record<string, unknown>> {
  const top = versionData(payload);
  const { capabilities = {} } = top;
  isTrue(isObject(capabilities), 'the capabilities of the VERSION reply are not an object');
  return capabilities;
}

export function versionData(payload: Uint8Array): Readonly<Record<string, unknown>> {
  const data = payload.subarray(4);
  if (data.length === 0) return {};
  equal(data.at(-1), 0, 'the last byte of the version data');
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data.subarray(0, -1)));
  } catch (error) {
    fail(`the version data of the reply is no JSON: ${(error as Error).message}`);
  }
  isTrue(isObject(value), 'the version data of the reply is not an object');
  return value;
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Asked on a connection of its own. What the server refuses counts as absent; rules look at the refusals themselves. */
export function readFacts(target: Target): DeviceFacts {
  const { loop, path, patience } = target;
  const peer = new Peer(loop, connectPatiently(loop, path, patience), patience);
  try {
    peer.succeed(Command.version, versionPayload(PROPOSAL));
    const info = viewOf(peer.succeed(Command.deviceGetInfo, words(DeviceInfo.bytes, 0, 0, 0)).payload);
    const count = (at: number) => Math.min(info.getUint32(at, true), MOST_INDEXES);
    return {
      flags: info.getUint32(DeviceInfo.flags, true),
      regions: Array.from({ length: count(DeviceInfo.regions) }, (_, index) => regionFacts(peer, index)),
      irqs: Array.from({ length: count(DeviceInfo.irqs) }, (_, index) => irqFacts(peer, index)),
    };
  } finally {
    peer.close();
  }
}

function regionFacts(peer: Peer, index: number): RegionFacts {
  const { payload } = peer.ask(Command.deviceGetRegionInfo, regionInfoRequest(index));
  if (payload.length < RegionInfo.bytes) return { index, flags: 0, size: 0n };
  const view = viewOf(payload);
  return { index, flags: view.getUint32(RegionInfo.flags, true), size: view.getBigUint64(RegionInfo.size, true) };
}

function irqFacts(peer: Peer, index: number): IrqFacts {
  const { payload } = peer.ask(Command.deviceGetIrqInfo, words(IrqInfo.bytes, 0, index, 0));
  if (payload.length < IrqInfo.bytes) return { index, flags: 0, count: 0 };
  const view = viewOf(payload);
  return { index, flags: view.getUint32(IrqInfo.flags, true), count: view.getUint32(IrqInfo.count, true) };
}

export function regionInfoRequest(index: number, argsz: number = RegionInfo.bytes): Uint8Array {
  return words(argsz, 0, index, 0, 0, 0, 0, 0);
}
