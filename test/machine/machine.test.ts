import { closeSync, existsSync, mkdtempSync, openSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { describeMachine } from '../../src/machine/description.ts';
import { Machine } from '../../src/machine/machine.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { createEventFd, drainEventFd } from '../../src/posix/eventfd.ts';
import { flock, LOCK_EX, LOCK_NB } from '../../src/posix/libc.ts';
import { createMemfd, readAt, writeAt } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import type { DmaRegion } from '../../src/vfio-user/device-model.ts';
import { IrqSet } from '../../src/vfio-user/spec.ts';

const PATIENCE_MS = 20_000;
const PAGE = 4096;
const GUEST_BYTES = 64 * PAGE;
const CONFIG = 7;
const MSI = 1;
const BAR0 = 0;
const REQUESTER = 0x0100;
const OTHER_REQUESTER = 0x0200;

/** Guest page frames of the tables, and of data. */
const Frame = {
  root: 1,
  context1: 2,
  context2: 3,
  level4: 4,
  level3: 5,
  level2: 6,
  level1: 7,
  data: 16,
  other: 17,
} as const;
const IOVA = 0x0030_0000n;

const Vtd = {
  gcmd: 0x18,
  gsts: 0x1c,
  rtaddr: 0x20,
  ccmd: 0x28,
  fsts: 0x34,
  fectl: 0x38,
  fedata: 0x3c,
  feaddr: 0x40,
  iotlb: 0x108,
} as const;
const SET_ROOT = 1 << 30;
const ENABLE = 1 << 31;
const GLOBAL_CONTEXT_INVALIDATION = (1n << 63n) | (1n << 61n);
const GLOBAL_IOTLB_INVALIDATION = (1n << 63n) | (1n << 60n);

const Edu = { raise: 0x60, source: 0x80, destination: 0x88, count: 0x90, command: 0x98, buffer: 0x40000n } as const;

/** A machine and the clients that stand for QEMU, one for each function, all on one loop and with one memory. */
class Rig {
  readonly directory = mkdtempSync(join(tmpdir(), 'viommu-machine-'));
  readonly trace = new TraceLog();
  readonly errors: unknown[] = [];
  readonly loop = new EventLoop(error => this.errors.push(error));
  readonly memfd = createMemfd('guest', GUEST_BYTES, { seal: true });
  readonly machine: Machine;
  readonly clients: VfioUserClient[] = [];
  private readonly descriptors: number[] = [];

  constructor() {
    const description = describeMachine('vtd', ['edu@01:00.0', 'edu@02:00.0']);
    this.machine = new Machine({ description, directory: this.directory, loop: this.loop, trace: this.trace });
  }

  connect(name: string, access: Pick<DmaRegion, 'access'> = {}): VfioUserClient {
    const client = new VfioUserClient(this.loop, this.machine.sockets[name]!);
    client.negotiate();
    client.dmaMap({
      ...access,
      address: 0n,
      size: BigInt(GUEST_BYTES),
      offset: 0n,
      descriptor: this.memfd,
      readable: true,
      writable: true,
    });
    client.regionWrite(CONFIG, 4, bytes16(0x0006));
    this.clients.push(client);
    return client;
  }

  eventFd(): number {
    const fd = createEventFd();
    this.descriptors.push(fd);
    return fd;
  }

  write64(frame: number, offset: number, value: bigint): void {
    this.store(frame, offset, bytes64(value));
  }

  store(frame: number, offset: number, bytes: Uint8Array): void {
    writeAt(this.memfd, bytes, 0, bytes.length, frame * PAGE + offset);
  }

  load(frame: number, offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    readAt(this.memfd, bytes, 0, length, frame * PAGE + offset);
    return bytes;
  }

  /** One 4 KiB page at IOVA for the first endpoint, by four levels of tables; the second endpoint has no context entry. */
  buildTables(target: number, permissions = 3n): void {
    const at = (frame: number) => BigInt(frame) << 12n;
    this.write64(Frame.root, 16, at(Frame.context1) | 1n);
    this.write64(Frame.root, 32, at(Frame.context2) | 1n);
    this.write64(Frame.context1, 0, at(Frame.level4) | 1n);
    this.write64(Frame.context1, 8, (7n << 8n) | 2n);
    this.write64(Frame.level4, 0, at(Frame.level3) | 3n);
    this.write64(Frame.level3, 0, at(Frame.level2) | 3n);
    this.write64(Frame.level2, 8, at(Frame.level1) | 3n);
    this.write64(Frame.level1, 0x100 * 8, at(target) | permissions);
  }

  enableTranslation(iommu: VfioUserClient): void {
    iommu.regionWrite(BAR0, Vtd.rtaddr, bytes64(BigInt(Frame.root) << 12n));
    iommu.regionWrite(BAR0, Vtd.gcmd, bytes32(SET_ROOT));
    this.invalidate(iommu);
    iommu.regionWrite(BAR0, Vtd.gcmd, bytes32(ENABLE));
    expect(read32(iommu, Vtd.gsts) >>> 31).toBe(1);
  }

  /** Register-based, and polled as a driver polls. */
  invalidate(iommu: VfioUserClient): void {
    iommu.regionWrite(BAR0, Vtd.ccmd, bytes64(GLOBAL_CONTEXT_INVALIDATION));
    expect(this.loop.waitUntil(() => read32(iommu, Vtd.ccmd + 4) >>> 31 === 0, PATIENCE_MS)).toBe(true);
    iommu.regionWrite(BAR0, Vtd.iotlb, bytes64(GLOBAL_IOTLB_INVALIDATION));
    expect(this.loop.waitUntil(() => read32(iommu, Vtd.iotlb + 4) >>> 31 === 0, PATIENCE_MS)).toBe(true);
  }

  /** Memory at `iova` to the device's buffer, or back; ends when the device says so. */
  dma(edu: VfioUserClient, iova: bigint, count: number, toMemory: boolean): void {
    edu.regionWrite(BAR0, Edu.source, bytes64(toMemory ? Edu.buffer : iova));
    edu.regionWrite(BAR0, Edu.destination, bytes64(toMemory ? iova : Edu.buffer));
    edu.regionWrite(BAR0, Edu.count, bytes64(BigInt(count)));
    edu.regionWrite(BAR0, Edu.command, bytes64(toMemory ? 3n : 1n));
    expect(this.loop.waitUntil(() => (read32(edu, Edu.command) & 1) === 0, PATIENCE_MS)).toBe(true);
  }

  close(): void {
    for (const client of this.clients) client.close();
    this.machine.close();
    this.loop.close();
    closeDescriptor(this.memfd);
    for (const fd of this.descriptors) closeDescriptor(fd);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function bytes16(value: number): Uint8Array {
  return Uint8Array.of(value & 255, value >>> 8);
}

function bytes32(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}

function bytes64(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt.asUintN(64, value)).buffer);
}

function read32(client: VfioUserClient, offset: number): number {
  const bytes = client.regionRead(BAR0, offset, 4);
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}

const pattern = Uint8Array.from({ length: 256 }, (_, index) => (index * 7 + 3) & 255);

describe('a machine without a guest', () => {
  let rig: Rig;

  beforeEach(() => {
    rig = new Rig();
  });

  afterEach(() => {
    rig.close();
    expect(rig.errors).toEqual([]);
  });

  it('lets DMA through untranslated while the IOMMU is off', () => {
    rig.connect('iommu');
    const edu = rig.connect('edu0');
    rig.store(Frame.data, 0, pattern);
    rig.dma(edu, BigInt(Frame.data) << 12n, pattern.length, false);
    rig.dma(edu, (BigInt(Frame.other) << 12n) + 5n, pattern.length, true);
    expect(rig.load(Frame.other, 5, pattern.length)).toEqual(pattern);
  });

  it('moves bytes through the tables that the client programs', () => {
    const iommu = rig.connect('iommu');
    const edu = rig.connect('edu0');
    rig.buildTables(Frame.data);
    rig.enableTranslation(iommu);
    rig.store(Frame.data, 0x10, pattern);
    rig.dma(edu, IOVA + 0x10n, pattern.length, false);
    rig.dma(edu, IOVA + 0x800n, pattern.length, true);
    expect(rig.load(Frame.data, 0x800, pattern.length)).toEqual(pattern);
    expect(rig.machine.statistics().iommu).toMatchObject({ translations: 2, faultsRecorded: 0 });
  });

  it('reads tables and moves bytes by file I/O where the client wants that', () => {
    const iommu = rig.connect('iommu', { access: 'fileIo' });
    const edu = rig.connect('edu0', { access: 'fileIo' });
    rig.buildTables(Frame.data);
    rig.enableTranslation(iommu);
    rig.store(Frame.data, 0x10, pattern);
    rig.dma(edu, IOVA + 0x10n, pattern.length, false);
    rig.dma(edu, IOVA + 0x800n, pattern.length, true);
    expect(rig.load(Frame.data, 0x800, pattern.length)).toEqual(pattern);
    const { functions } = rig.machine.statistics();
    expect(functions.edu0!.memory).toMatchObject({ mappedBytes: 0, positionedBytes: 2 * pattern.length });
    // Six entries of 8 or 16 bytes: a root and a context entry, and four levels.
    expect(functions.iommu!.memory).toMatchObject({ mappedBytes: 0, messageBytes: 0 });
    expect(functions.iommu!.memory.positionedBytes).toBeGreaterThanOrEqual(6 * 8);
  });

  it('goes on using a changed entry until it is invalidated, then sees the change', () => {
    const iommu = rig.connect('iommu');
    const edu = rig.connect('edu0');
    rig.buildTables(Frame.data);
    rig.enableTranslation(iommu);
    rig.store(Frame.data, 0, pattern);
    rig.dma(edu, IOVA, pattern.length, false);
    rig.buildTables(Frame.other);
    rig.dma(edu, IOVA, pattern.length, true);
    expect(rig.load(Frame.other, 0, 4)).toEqual(new Uint8Array(4));
    rig.invalidate(iommu);
    rig.dma(edu, IOVA, pattern.length, true);
    expect(rig.load(Frame.other, 0, pattern.length)).toEqual(pattern);
  });

  it('refuses a write to a read-only page, records the fault and sends its message', () => {
    const iommu = rig.connect('iommu');
    const edu = rig.connect('edu0');
    const messages: { address: bigint; data: number[] }[] = [];
    iommu.onDmaWrite = ({ address, data }) => {
      messages.push({ address, data: [...data] });
      return 0;
    };
    rig.buildTables(Frame.data, 1n);
    rig.enableTranslation(iommu);
    iommu.regionWrite(BAR0, Vtd.fedata, bytes32(0x4021));
    iommu.regionWrite(BAR0, Vtd.feaddr, bytes32(0xfee0_1000 | 0));
    iommu.regionWrite(BAR0, Vtd.fectl, bytes32(0));
    rig.dma(edu, IOVA, pattern.length, true);
    expect(rig.load(Frame.data, 0, pattern.length)).toEqual(new Uint8Array(pattern.length));
    expect(messages).toEqual([{ address: 0xfee0_1000n, data: [0x21, 0x40, 0, 0] }]);
    expect(rig.trace.events.filter(event => event.kind === 'fault.recorded').map(event => event.detail)).toMatchObject([
      { requesterId: REQUESTER, iova: IOVA, reason: 5 },
    ]);
  });

  it('keeps an endpoint without a context entry out, whatever another may do', () => {
    const iommu = rig.connect('iommu');
    const edu = rig.connect('edu1');
    rig.buildTables(Frame.data);
    rig.enableTranslation(iommu);
    rig.dma(edu, IOVA, 16, true);
    expect(rig.load(Frame.data, 0, 16)).toEqual(new Uint8Array(16));
    expect(rig.trace.events.find(event => event.kind === 'fault.recorded')?.detail).toMatchObject({
      requesterId: OTHER_REQUESTER,
      reason: 2,
    });
  });

  it('signals the eventfd that the client sets for MSI', () => {
    const edu = rig.connect('edu0');
    const eventFd = rig.eventFd();
    const flags = IrqSet.dataEventfd | IrqSet.actionTrigger;
    edu.setIrqs(flags, MSI, 0, 1, { descriptors: [eventFd] });
    edu.regionWrite(BAR0, Edu.raise, bytes32(1));
    expect(drainEventFd(eventFd)).toBe(1);
  });

  it('does no DMA while bus mastering is off', () => {
    rig.connect('iommu');
    const edu = rig.connect('edu0');
    edu.regionWrite(CONFIG, 4, bytes16(0x0002));
    rig.dma(edu, BigInt(Frame.data) << 12n, 16, true);
    expect(rig.trace.events.find(event => event.kind === 'edu.dmaFailed')?.detail.status).toBe('notBusMaster');
  });

  it('hides the IOMMU once its BAR is placed, says where, and shows it again after reset', () => {
    const iommu = new VfioUserClient(rig.loop, rig.machine.sockets.iommu!);
    rig.clients.push(iommu);
    iommu.negotiate();
    expect([...iommu.regionRead(CONFIG, 0, 2)]).toEqual([0x34, 0x12]);
    iommu.regionWrite(CONFIG, 0x10, bytes32(0xfeb0_0000 | 0));
    iommu.regionWrite(CONFIG, 0x14, bytes32(0));
    iommu.regionWrite(CONFIG, 4, bytes16(2));
    expect([...iommu.regionRead(CONFIG, 0, 2)]).toEqual([255, 255]);
    expect(rig.trace.events.find(event => event.kind === 'iommu.placed')?.detail.address).toBe(0xfeb0_0000n);
    iommu.reset();
    expect([...iommu.regionRead(CONFIG, 0, 2)]).toEqual([0x34, 0x12]);
  });

  it('is as new for the next client: the IOMMU off, no memory of the last one', () => {
    const iommu = rig.connect('iommu');
    const edu = rig.connect('edu0');
    rig.buildTables(Frame.data);
    rig.enableTranslation(iommu);
    rig.dma(edu, IOVA, 16, false);
    for (const client of rig.clients.splice(0)) client.close();
    const { server } = rig.machine.functions.get('iommu')!;
    expect(rig.loop.waitUntil(() => !server.connected, PATIENCE_MS)).toBe(true);
    const next = rig.connect('iommu');
    expect(read32(next, Vtd.gsts)).toBe(0);
    const again = rig.connect('edu0');
    rig.store(Frame.data, 0, pattern);
    rig.dma(again, BigInt(Frame.data) << 12n, 16, false);
    expect(rig.machine.statistics().functions.edu0!.memory.regions).toBe(1);
  });

  it('makes its sockets readable by their owner only, and removes them', () => {
    const paths = Object.values(rig.machine.sockets);
    expect(paths.map(path => statSync(path).mode & 0o777)).toEqual([0o600, 0o600, 0o600]);
    rig.machine.close();
    expect(paths.filter(path => existsSync(path))).toEqual([]);
  });

  it('ends every function, whatever becomes of one', () => {
    const paths = Object.values(rig.machine.sockets);
    const [first, ...others] = [...rig.machine.functions.values()];
    const end = first!.server.close.bind(first!.server);
    first!.server.close = () => {
      end();
      throw new Error('on purpose');
    };
    rig.connect('edu0');
    rig.machine.close();
    expect(paths.filter(path => existsSync(path))).toEqual([]);
    expect(others.map(({ server, memory }) => [server.connected, memory.statistics.regions])).toEqual([
      [false, 0],
      [false, 0],
    ]);
    expect(rig.trace.events.filter(({ kind }) => kind === 'machine.closeFailed')).toMatchObject([
      { source: 'iommu', detail: { why: 'on purpose' } },
    ]);
  });

  it('ends at once while another program keeps its folder locked', () => {
    const paths = Object.values(rig.machine.sockets);
    const holder = openSync(rig.directory, 'r');
    expect(flock(holder, LOCK_EX | LOCK_NB)).toBe(0);
    rig.machine.close();
    closeSync(holder);
    expect(paths.filter(path => existsSync(path))).toEqual([]);
  });
});

describe('a machine whose IOMMU has lost its client', () => {
  let rig: Rig;
  let iommu: VfioUserClient;
  let edu: VfioUserClient;

  beforeEach(() => {
    rig = new Rig();
    rig.store(Frame.data, 0, pattern);
    iommu = rig.connect('iommu');
    edu = rig.connect('edu0');
  });

  afterEach(() => {
    rig.close();
    expect(rig.errors).toEqual([]);
  });

  const end = (name: string, client: VfioUserClient) => {
    rig.clients.splice(rig.clients.indexOf(client), 1);
    client.close();
    const { server } = rig.machine.functions.get(name)!;
    expect(rig.loop.waitUntil(() => !server.connected, PATIENCE_MS)).toBe(true);
  };

  /** Whether the endpoint's DMA arrives in memory at all, by the guest-physical address. */
  const reaches = (client: VfioUserClient): boolean => {
    rig.store(Frame.other, 0, new Uint8Array(pattern.length));
    rig.dma(client, BigInt(Frame.data) << 12n, pattern.length, false);
    rig.dma(client, BigInt(Frame.other) << 12n, pattern.length, true);
    const arrived = rig.load(Frame.other, 0, pattern.length);
    if (arrived.every((byte, index) => byte === pattern[index])) return true;
    // Not even what it read instead.
    expect(arrived).toEqual(new Uint8Array(pattern.length));
    return false;
  };

  const reset = (client: VfioUserClient) => {
    client.reset();
    client.regionWrite(CONFIG, 4, bytes16(0x0006));
  };

  it('lets no DMA of the endpoints that stay through, whether it translated or not, and says why once', () => {
    expect(reaches(edu)).toBe(true);
    end('iommu', iommu);
    expect(reaches(edu)).toBe(false);
    const told = rig.trace.events.filter(({ kind }) => kind === 'endpoint.cutOff');
    expect(told.map(({ source, detail }) => [source, detail])).toEqual([
      ['edu0', { reason: "the IOMMU's client is gone" }],
    ]);
    expect(rig.machine.statistics().functions.edu0!.dma!.byStatus[1]).toBe(2);
  });

  it('blocks what was translated before', () => {
    rig.buildTables(Frame.data);
    rig.enableTranslation(iommu);
    rig.dma(edu, IOVA, 16, false);
    end('iommu', iommu);
    rig.dma(edu, IOVA, 16, true);
    expect(reaches(edu)).toBe(false);
  });

  it('goes on blocking an endpoint that is reset while it is away', () => {
    end('iommu', iommu);
    reset(edu);
    expect(reaches(edu)).toBe(false);
  });

  it('goes on blocking, when it is back and off, until the endpoint is reset', () => {
    end('iommu', iommu);
    rig.connect('iommu');
    expect(reaches(edu)).toBe(false);
    reset(edu);
    expect(reaches(edu)).toBe(true);
  });

  it('blocks an endpoint that comes while others of the same guest are cut off', () => {
    end('iommu', iommu);
    expect(reaches(rig.connect('edu1'))).toBe(false);
  });

  it('blocks an endpoint that is taken out and put back while others stay', () => {
    const other = rig.connect('edu1');
    end('iommu', iommu);
    end('edu0', edu);
    expect(reaches(rig.connect('edu0'))).toBe(false);
    expect(reaches(other)).toBe(false);
  });

  it('blocks an endpoint that is the last one, taken out and put back', () => {
    end('iommu', iommu);
    end('edu0', edu);
    expect(reaches(rig.connect('edu0'))).toBe(false);
  });

  it('blocks endpoints that are all replaced while it is away', () => {
    const other = rig.connect('edu1');
    end('iommu', iommu);
    end('edu0', edu);
    end('edu1', other);
    expect(reaches(rig.connect('edu0'))).toBe(false);
    expect(reaches(rig.connect('edu1'))).toBe(false);
  });

  it('blocks endpoints that come after it, in whatever order the last guest ended', () => {
    end('edu0', edu);
    end('iommu', iommu);
    expect(reaches(rig.connect('edu0'))).toBe(false);
  });

  /** As QEMU does it: the guest, which makes them bus masters, runs when every function is connected. */
  const power = (name: string) => {
    const client = rig.connect(name);
    client.regionWrite(CONFIG, 4, bytes16(0x0002));
    return client;
  };

  it('lets the endpoints of the next guest in, which come before its IOMMU', () => {
    end('iommu', iommu);
    end('edu0', edu);
    const next = power('edu0');
    rig.connect('iommu');
    next.regionWrite(CONFIG, 4, bytes16(0x0006));
    expect(reaches(next)).toBe(true);
  });

  it('goes on blocking one that was a bus master before it was back, until the endpoint is reset', () => {
    end('iommu', iommu);
    end('edu0', edu);
    const next = rig.connect('edu0');
    rig.connect('iommu');
    expect(reaches(next)).toBe(false);
    reset(next);
    expect(reaches(next)).toBe(true);
  });

  it('lets an endpoint in that came when it was back, and blocks it when it goes again', () => {
    end('iommu', iommu);
    end('edu0', edu);
    const again = rig.connect('iommu');
    const next = rig.connect('edu0');
    expect(reaches(next)).toBe(true);
    end('iommu', again);
    expect(reaches(next)).toBe(false);
  });

  it('is let in once and not again by an IOMMU that came and went', () => {
    end('iommu', iommu);
    end('edu0', edu);
    const next = power('edu0');
    end('iommu', rig.connect('iommu'));
    rig.connect('iommu');
    next.regionWrite(CONFIG, 4, bytes16(0x0006));
    expect(reaches(next)).toBe(false);
  });

  it('does not hold it against an endpoint of the next guest while the last one still lingers', () => {
    const lingering = rig.connect('edu1');
    end('iommu', iommu);
    end('edu0', edu);
    rig.connect('iommu');
    expect(reaches(rig.connect('edu0'))).toBe(true);
    expect(reaches(lingering)).toBe(false);
  });

  it('ends a transfer that is under way as one that was refused', () => {
    end('edu0', edu);
    const slow = new VfioUserClient(rig.loop, rig.machine.sockets.edu0!);
    rig.clients.push(slow);
    slow.negotiate();
    const size = BigInt(GUEST_BYTES);
    slow.dmaMap({ address: 0n, size, offset: 0n, descriptor: -1, readable: true, writable: true });
    slow.regionWrite(CONFIG, 4, bytes16(0x0006));
    slow.onDmaWrite = () => {
      end('iommu', iommu);
      return 0;
    };
    rig.dma(slow, BigInt(Frame.data) << 12n, 16, true);
    expect(rig.machine.statistics().functions.edu0!.dma!.byStatus).toEqual(Float64Array.of(0, 1, 0, 0, 0));
  });
});

describe('a machine whose IOMMU never had a client', () => {
  it('lets DMA through, as before anybody has switched an IOMMU on', () => {
    const rig = new Rig();
    rig.store(Frame.data, 0, pattern);
    const edu = rig.connect('edu0');
    rig.dma(edu, BigInt(Frame.data) << 12n, pattern.length, false);
    rig.dma(edu, BigInt(Frame.other) << 12n, pattern.length, true);
    expect(rig.load(Frame.other, 0, pattern.length)).toEqual(pattern);
    rig.close();
  });
});
