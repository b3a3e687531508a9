/** A server, its loop and a device model that remembers what was done to it; all in the test's own thread. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemError } from '../../src/posix/errors.ts';
import { EventLoop, PollEvents } from '../../src/posix/event-loop.ts';
import { createEventFd, signalEventFd } from '../../src/posix/eventfd.ts';
import { closeDescriptor, connectUnix, StreamSocket, socketPair } from '../../src/posix/socket.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import {
  type AnnouncedRegion,
  type ClientPort,
  type DeviceModel,
  type DmaRegion,
  type DmaRegions,
  Errno,
  type InterruptDescription,
  type RegionDescription,
} from '../../src/vfio-user/device-model.ts';
import { writeHeader } from '../../src/vfio-user/header.ts';
import type { Limits } from '../../src/vfio-user/limits.ts';
import { VfioUserServer } from '../../src/vfio-user/server.ts';
import { HEADER_BYTES } from '../../src/vfio-user/spec.ts';

/** Milliseconds after which a condition that should come about counts as failed. */
export const PATIENCE = 20_000;

const ABSENT: RegionDescription = { size: 0, readable: false, writable: false };
const NO_INTERRUPT: InterruptDescription = {
  count: 0,
  eventfd: false,
  maskable: false,
  automasked: false,
  noresize: false,
};

export class FakeRegions implements DmaRegions {
  readonly mapped: DmaRegion[] = [];
  unmapAlls = 0;
  /** What `map` answers next, once. */
  refuse = 0;

  map(announced: AnnouncedRegion): number {
    const { address, size, offset, access, ...rest } = announced;
    const region: DmaRegion = {
      address: BigInt(address),
      size: BigInt(size),
      offset: BigInt(offset),
      ...rest,
      ...(access === undefined ? {} : { access }),
    };
    const overlaps = this.mapped.some(
      one => region.address < one.address + one.size && one.address < region.address + region.size,
    );
    const errno = this.refuse !== 0 ? this.refuse : overlaps ? Errno.EEXIST : Errno.ok;
    this.refuse = 0;
    if (errno === Errno.ok) this.mapped.push(region);
    else if (region.descriptor !== -1) closeDescriptor(region.descriptor);
    return errno;
  }

  unmap(address: number, size: number): number {
    const index = this.mapped.findIndex(one => one.address === BigInt(address) && one.size === BigInt(size));
    if (index === -1) return Errno.EINVAL;
    this.drop(this.mapped.splice(index, 1));
    return Errno.ok;
  }

  unmapAll(): void {
    this.unmapAlls++;
    this.drop(this.mapped.splice(0));
  }

  private drop(regions: DmaRegion[]): void {
    for (const { descriptor } of regions) if (descriptor !== -1) closeDescriptor(descriptor);
  }
}

export const BAR0 = 0;
export const READ_ONLY_BAR = 2;
export const WRITE_ONLY_BAR = 3;
export const LARGE_BAR = 4;
export const CONFIG = 7;

export class FakeModel implements DeviceModel {
  readonly memory = new Map<number, Uint8Array>([
    [BAR0, new Uint8Array(4096)],
    [READ_ONLY_BAR, new Uint8Array(64).fill(0x5a)],
    [WRITE_ONLY_BAR, new Uint8Array(64)],
    [LARGE_BAR, new Uint8Array(2 * 1048576)],
    [CONFIG, new Uint8Array(256)],
  ]);
  readonly regions: readonly RegionDescription[] = Array.from({ length: 9 }, (_, index) => {
    const bytes = this.memory.get(index);
    if (!bytes) return ABSENT;
    return { size: bytes.length, readable: index !== WRITE_ONLY_BAR, writable: index !== READ_ONLY_BAR };
  });
  readonly interrupts: readonly InterruptDescription[] = [
    { count: 1, eventfd: true, maskable: true, automasked: true, noresize: false },
    { count: 4, eventfd: true, maskable: false, automasked: false, noresize: true },
    { count: 32, eventfd: true, maskable: true, automasked: false, noresize: false },
    NO_INTERRUPT,
    NO_INTERRUPT,
  ];
  readonly dma = new FakeRegions();
  /** `read 0 16 4`, `write 0 16 4`, `reset`, `connected`, `disconnected`, `armed 2`, `unmasked 0 0`. */
  readonly calls: string[] = [];
  client: ClientPort | undefined;
  /** What the next access answers, once. */
  refuse = 0;
  /** Run within a region write. */
  onWrite: (() => void) | undefined;

  read(region: number, offset: number, target: Uint8Array, at: number, length: number): number {
    this.calls.push(`read ${region} ${offset} ${length}`);
    if (this.refuse !== 0) return this.takeRefusal();
    target.set(this.memory.get(region)!.subarray(offset, offset + length), at);
    return Errno.ok;
  }

  write(region: number, offset: number, source: Uint8Array, at: number, length: number): number {
    this.calls.push(`write ${region} ${offset} ${length}`);
    if (this.refuse !== 0) return this.takeRefusal();
    this.memory.get(region)!.set(source.subarray(at, at + length), offset);
    this.onWrite?.();
    return Errno.ok;
  }

  unmasked(index: number, vector: number): void {
    this.calls.push(`unmasked ${index} ${vector}`);
  }

  armed(index: number): void {
    this.calls.push(`armed ${index}`);
  }

  reset(): void {
    this.calls.push('reset');
  }

  connected(client: ClientPort): void {
    this.calls.push('connected');
    this.client = client;
  }

  disconnected(): void {
    this.calls.push('disconnected');
    this.client = undefined;
  }

  private takeRefusal(): number {
    const errno = this.refuse;
    this.refuse = 0;
    return errno;
  }
}

export class Rig {
  readonly directory = mkdtempSync(join(tmpdir(), 'vfio-user-test-'));
  readonly path = join(this.directory, 'device.sock');
  readonly errors: unknown[] = [];
  readonly loop = new EventLoop(error => this.errors.push(error));
  readonly trace = new TraceLog();
  readonly model = new FakeModel();
  readonly server: VfioUserServer;
  private readonly clients: VfioUserClient[] = [];

  constructor(limits: Partial<Limits> = {}) {
    const { path, model, loop, trace } = this;
    this.server = new VfioUserServer({ path, name: 'device', model, loop, trace, limits });
  }

  /** A connected client, before its handshake. */
  connect(limits: Partial<Limits> = {}): VfioUserClient {
    const client = new VfioUserClient(this.loop, this.path, { replyTimeout: PATIENCE, ...limits });
    this.clients.push(client);
    return client;
  }

  /** A client that has got through the handshake. */
  client(limits: Partial<Limits> = {}): VfioUserClient {
    const client = this.connect(limits);
    client.negotiate();
    return client;
  }

  /** A client over a stream without descriptors, before its handshake. */
  adopt(limits: Partial<Limits> = {}): VfioUserClient {
    const [mine, theirs] = socketPair();
    const client = this.clientOver(mine, limits);
    if (!this.server.adopt(theirs)) throw new Error('the server has a client');
    return client;
  }

  /** A client without descriptors on a stream of somebody else. */
  clientOver(fd: number, limits: Partial<Limits> = {}): VfioUserClient {
    const client = new VfioUserClient(this.loop, fd, { replyTimeout: PATIENCE, ...limits }, { messages: true });
    this.clients.push(client);
    return client;
  }

  /** The same, through the handshake. */
  adopted(limits: Partial<Limits> = {}): VfioUserClient {
    const client = this.adopt(limits);
    client.negotiate();
    return client;
  }

  /** Runs the loop until the condition holds; throws where it does not come about. */
  until(condition: () => boolean): void {
    if (!this.loop.waitUntil(condition, PATIENCE)) throw new Error(`still not true: ${condition}`);
  }

  /** Runs the loop until nothing more is ready. */
  settle(): void {
    for (let i = 0; i < 8; i++) this.loop.runOnce(0);
  }

  /** Runs `work` once everything that is ready now has been served, also while a job waits. */
  later(work: () => void): void {
    const descriptor = createEventFd();
    let rounds = 3;
    const watch = this.loop.watch(descriptor, PollEvents.in, () => {
      rounds--;
      if (rounds > 0) return;
      watch.stop();
      closeDescriptor(descriptor);
      work();
    });
    signalEventFd(descriptor);
  }

  /** Why the server closed the last connection that it closed. */
  closeReason(): string | undefined {
    return this.trace.events.findLast(event => event.kind === 'client.closed')?.detail.reason as string | undefined;
  }

  /** Runs `work` as a job and waits for what it returns. */
  job<T>(work: () => T): T {
    let result: { value: T } | undefined;
    this.loop.push(() => {
      result = { value: work() };
    });
    this.until(() => result !== undefined);
    return result!.value;
  }

  close(): void {
    for (const client of this.clients) client.close();
    this.server.close();
    this.loop.close();
    rmSync(this.directory, { recursive: true, force: true });
    if (this.errors.length > 0) throw this.errors[0];
  }
}

/** A socket to the server that knows nothing of the protocol: it sends what it is told and keeps all that comes back. */
export class RawPeer {
  received: Uint8Array = new Uint8Array(0);
  /** The server ended the connection. */
  ended = false;
  private readonly socket: StreamSocket;

  constructor(
    private readonly rig: Rig,
    fd: number = connectUnix(rig.path),
  ) {
    this.socket = new StreamSocket(fd, 65536, 65536, 16);
  }

  /** Sends all of it, unless the server has ended the connection. */
  send(bytes: Uint8Array, descriptors: readonly number[] = []): void {
    this.socket.output.set(bytes);
    for (let at = 0; at < bytes.length && !this.ended; ) {
      const sent = this.attempt(() => this.socket.send(at, bytes.length - at, at === 0 ? descriptors : []));
      if (sent > 0) at += sent;
      else this.rig.settle();
    }
  }

  /** Takes what is there. */
  drain(): void {
    while (!this.ended) {
      const count = this.attempt(() => this.socket.receive(0, this.socket.input.length));
      if (count < 0) return;
      if (count === 0) this.ended = true;
      this.received = concat(this.received, this.socket.input.subarray(0, count));
    }
  }

  close(): void {
    this.socket.close();
  }

  private attempt(call: () => number): number {
    try {
      return call();
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.ended = true;
      return -1;
    }
  }
}

/** One whole message. */
export function message(command: number, payload: Uint8Array, { id = 1, flags = 0, size = -1 } = {}): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  writeHeader(new DataView(bytes.buffer), 0, id, command, size < 0 ? bytes.length : size, flags, 0);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

export function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap(part => [...part]));
}

/** How many descriptors this process has open. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** The errno that the call fails with; 0 where it does not. */
export function errnoOf(call: () => unknown): number {
  try {
    call();
    return 0;
  } catch (error) {
    if (error instanceof Error && 'errno' in error) return error.errno as number;
    throw error;
  }
}
