/**
 * Machines with a VT-d unit and two `edu`, one after the other over the same guest memory: what one has saved, the next takes over. The
 * clients stand for QEMU, and everything is on one loop.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeMachine } from '../../src/machine/description.ts';
import { Machine } from '../../src/machine/machine.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { createEventFd, drainEventFd } from '../../src/posix/eventfd.ts';
import { createMemfd, readAt, writeAt } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { MigrationState } from '../../src/vfio-user/migration.ts';
import { MigrationClient } from '../../src/vfio-user/migration-client.ts';
import { Command, IrqSet } from '../../src/vfio-user/spec.ts';

export const PAGE = 4096;
export const GUEST_FRAMES = 128;
export const CONFIG = 7;
export const BAR0 = 0;
const MSI = 1;
const PATIENCE_MS = 20_000;

export const FUNCTIONS = ['iommu', 'edu0', 'edu1'] as const;
export type FunctionName = (typeof FUNCTIONS)[number];

/** Guest page frames. Each endpoint has its own data, so that no result depends on which of them goes first. */
export const Frame = {
  root: 1,
  contexts: [2, 3],
  tables: [4, 8],
  status: 12,
  queue: 16,
  data: [32, 64],
} as const;
/** Pages that an endpoint reaches, from IOVA zero on; behind them nothing is mapped. */
export const MAPPED_PAGES = 16;
export const QUEUE_ENTRIES = 1024;
const QUEUE_SIZE_ORDER = 2;

export const Vtd = {
  gcmd: 0x18,
  gsts: 0x1c,
  rtaddr: 0x20,
  ccmd: 0x28,
  fsts: 0x34,
  fectl: 0x38,
  iqh: 0x80,
  iqt: 0x88,
  iqa: 0x90,
  ics: 0x9c,
  iectl: 0xa0,
  iotlb: 0x108,
  records: 0x220,
  recordCount: 8,
} as const;

export const Edu = {
  factorial: 0x08,
  status: 0x20,
  raise: 0x60,
  acknowledge: 0x64,
  source: 0x80,
  destination: 0x88,
  count: 0x90,
  command: 0x98,
  pasid: 0xa0,
  buffer: 0x40000n,
} as const;

/** Of a control register of an event: the mask, and that a message waits. */
const EVENT_STATE = 3 << 30;
const EVENT_DUE = 1 << 30;

export class MigrationRig {
  readonly trace = new TraceLog();
  readonly errors: unknown[] = [];
  readonly loop = new EventLoop(error => this.errors.push(error));
  readonly memfd = createMemfd('guest', GUEST_FRAMES * PAGE, { seal: true });
  /** Interrupts so far: data of the unit's messages in their order, and signals of each endpoint. */
  readonly messages: number[] = [];
  readonly signals = { edu0: 0, edu1: 0 };
  clients!: Record<FunctionName, VfioUserClient>;
  machine!: Machine;
  private directory = '';
  private eventFds: Record<'edu0' | 'edu1', number> = { edu0: -1, edu1: -1 };

  constructor(
    readonly devices: readonly string[] = ['edu@01:00.0,dmaMask=64', 'edu@02:00.0,dmaMask=64'],
    readonly kind: 'vtd' | 'dma-iommu' = 'vtd',
  ) {
    this.start();
  }

  /** A new machine, with clients that have not configured anything. */
  start(): void {
    this.directory = mkdtempSync(join(tmpdir(), 'viommu-migration-'));
    const description = describeMachine(this.kind, this.devices);
    const { directory, loop, trace } = this;
    this.machine = new Machine({ description, directory, loop, trace });
    this.clients = { iommu: this.connect('iommu'), edu0: this.connect('edu0'), edu1: this.connect('edu1') };
    this.clients.iommu.onDmaWrite = ({ data }) => {
      this.messages.push(new DataView(data.buffer, data.byteOffset, 4).getUint32(0, true));
      return 0;
    };
    for (const name of ['edu0', 'edu1'] as const) {
      this.eventFds[name] = createEventFd();
      const flags = IrqSet.dataEventfd | IrqSet.actionTrigger;
      this.clients[name].setIrqs(flags, MSI, 0, 1, { descriptors: [this.eventFds[name]] });
    }
  }

  private connect(name: FunctionName): VfioUserClient {
    const client = new VfioUserClient(this.loop, this.machine.sockets[name]!);
    client.negotiate();
    const size = BigInt(GUEST_FRAMES * PAGE);
    client.dmaMap({ address: 0n, size, offset: 0n, descriptor: this.memfd, readable: true, writable: true });
    return client;
  }

  /** What the guest's firmware and drivers do once. */
  setUp(): void {
    this.buildTables();
    for (const name of FUNCTIONS) this.clients[name].regionWrite(CONFIG, 4, bytes16(0x0006));
    const { iommu } = this.clients;
    iommu.regionWrite(BAR0, Vtd.iqa, bytes64((BigInt(Frame.queue) << 12n) | BigInt(QUEUE_SIZE_ORDER)));
    iommu.regionWrite(BAR0, Vtd.gcmd, bytes32(1 << 26));
    iommu.regionWrite(BAR0, Vtd.rtaddr, bytes64(BigInt(Frame.root) << 12n));
    iommu.regionWrite(BAR0, Vtd.gcmd, bytes32((1 << 30) | (1 << 26)));
    this.eventAt(Vtd.fectl, 0x31);
    this.eventAt(Vtd.iectl, 0x32);
    iommu.regionWrite(BAR0, Vtd.gcmd, bytes32((1 << 31) | (1 << 26)));
    this.settle();
  }

  private eventAt(control: number, data: number): void {
    const { iommu } = this.clients;
    iommu.regionWrite(BAR0, control + 4, bytes32(data));
    iommu.regionWrite(BAR0, control + 8, bytes32(0xfee0_0000 | 0));
    iommu.regionWrite(BAR0, control, bytes32(0));
  }

  private buildTables(): void {
    for (const [index, tables] of Frame.tables.entries()) {
      const at = (frame: number) => BigInt(frame) << 12n;
      this.write64(Frame.root, 16 * (index + 1), at(Frame.contexts[index]!) | 1n);
      this.write64(Frame.contexts[index]!, 0, at(tables) | 1n);
      this.write64(Frame.contexts[index]!, 8, (BigInt(index + 1) << 8n) | 2n);
      for (let level = 0; level < 3; level++) this.write64(tables + level, 0, at(tables + level + 1) | 3n);
      for (let page = 0; page < MAPPED_PAGES; page++) this.map(index, page, Frame.data[index]! + page);
    }
  }

  /** The endpoint's page at that IOVA leads to this frame; the caches are the caller's. */
  map(index: number, page: number, frame: number): void {
    this.write64(Frame.tables[index]! + 3, page * 8, (BigInt(frame) << 12n) | 3n);
  }

  write64(frame: number, offset: number, value: bigint): void {
    writeAt(this.memfd, bytes64(value), 0, 8, frame * PAGE + offset);
  }

  memory(): Uint8Array {
    const bytes = new Uint8Array(GUEST_FRAMES * PAGE);
    readAt(this.memfd, bytes, 0, bytes.length, 0);
    return bytes;
  }

  /** A write that nobody waits for: the work that it causes comes after all that is sent in one go. */
  post(name: FunctionName, offset: number, bytes: Uint8Array): void {
    const payload = new Uint8Array(16 + bytes.length);
    const view = new DataView(payload.buffer);
    view.setUint32(0, offset, true);
    view.setUint32(12, bytes.length, true);
    payload.set(bytes, 16);
    this.clients[name].sendCommand(Command.regionWrite, payload, { posted: true });
  }

  read32(name: FunctionName, offset: number): number {
    const bytes = this.clients[name].regionRead(BAR0, offset, 4);
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getInt32(0, true);
  }

  /** Until everything that was asked for is done. */
  settle(): void {
    const idle = () =>
      this.read32('iommu', Vtd.iqh) === this.read32('iommu', Vtd.iqt) &&
      [Vtd.fectl, Vtd.iectl].every(at => (this.read32('iommu', at) & EVENT_STATE) !== EVENT_DUE) &&
      (['edu0', 'edu1'] as const).every(
        name => (this.read32(name, Edu.command) & 1) === 0 && (this.read32(name, Edu.status) & 1) === 0,
      );
    // Each question is a round of the loop.
    const deadline = performance.now() + PATIENCE_MS;
    while (!idle()) {
      if (performance.now() > deadline) throw new Error('the machine does not come to rest');
    }
    this.collect();
  }

  protected collect(): void {
    for (const name of ['edu0', 'edu1'] as const) this.signals[name] += Number(drainEventFd(this.eventFds[name]));
  }

  migration(name: FunctionName): MigrationClient {
    return new MigrationClient(this.clients[name]);
  }

  /** Stops the functions in this order and returns what they save. */
  save(order: readonly FunctionName[] = FUNCTIONS, piece?: number): Record<FunctionName, Uint8Array> {
    for (const name of order) this.migration(name).setState(MigrationState.stop);
    const saved = order.map((name): [FunctionName, Uint8Array] => {
      const client = this.migration(name);
      client.setState(MigrationState.stopCopy);
      return [name, client.readAll(piece)];
    });
    return Object.fromEntries(saved) as Record<FunctionName, Uint8Array>;
  }

  /** Into the machine that is there, which then runs. */
  restore(states: Record<FunctionName, Uint8Array>, order: readonly FunctionName[] = FUNCTIONS, piece?: number): void {
    for (const name of order) {
      const client = this.migration(name);
      client.setState(MigrationState.resuming);
      client.writeAll(states[name], piece);
      client.setState(MigrationState.stop);
    }
    for (const name of order) this.migration(name).setState(MigrationState.running);
  }

  /** Ends the machine that is there. */
  end(): void {
    this.collect();
    for (const client of Object.values(this.clients)) client.close();
    this.machine.close();
    for (const fd of Object.values(this.eventFds)) closeDescriptor(fd);
    rmSync(this.directory, { recursive: true, force: true });
  }

  close(): void {
    this.end();
    this.loop.close();
    closeDescriptor(this.memfd);
  }
}

export function bytes16(value: number): Uint8Array {
  return Uint8Array.of(value & 255, value >>> 8);
}

export function bytes32(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}

export function bytes64(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt.asUintN(64, value)).buffer);
}
