import { closeSync, openSync, readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SystemError } from '../../src/posix/errors.ts';
import { createEventFd } from '../../src/posix/eventfd.ts';
import { createMemfd, readAt, writeAt } from '../../src/posix/memfd.ts';
import { allocateNative, freeNative } from '../../src/posix/native-memory.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import type { VfioUserClient } from '../../src/vfio-user/client.ts';
import type { DmaRegion } from '../../src/vfio-user/device-model.ts';
import { Command, DmaMap, DmaUnmap, HeaderFlag } from '../../src/vfio-user/spec.ts';
import { errnoOf, openDescriptors } from '../vfio-user/rig.ts';
import { BridgeRig, dmaPayload, PATIENCE } from './rig.ts';

const MIB = 1048576;
const EFAULT = 14;

describe('guest memory at the bridge', () => {
  let before: number;
  let rig: BridgeRig;
  let qemu: VfioUserClient;
  const files: number[] = [];

  beforeEach(() => {
    before = openDescriptors();
    rig = new BridgeRig();
    qemu = rig.qemu();
  });

  afterEach(() => {
    for (const file of files.splice(0)) closeDescriptor(file);
    rig.close();
    expect(openDescriptors()).toBe(before);
  });

  function file(bytes: number): number {
    const descriptor = createMemfd('guest', bytes);
    files.push(descriptor);
    return descriptor;
  }

  function map(address: bigint, bytes: number, more: Partial<DmaRegion> = {}): number {
    const descriptor = more.descriptor ?? file(bytes);
    const region = { address, size: BigInt(bytes), offset: 0n, readable: true, writable: true };
    qemu.dmaMap({ ...region, ...more, descriptor });
    return descriptor;
  }

  /** QEMU serves its event loop, not a wait for an answer. */
  function serverDma(command: number, payload: Uint8Array) {
    return rig.server.answer(rig.server.send(command, payload));
  }

  it('maps what QEMU maps, tells the server without the descriptor, and serves its DMA by itself', () => {
    const descriptor = map(0x10_0000n, MIB);
    const [announced] = rig.server.commands(Command.dmaMap);
    expect(new DataView(announced!.payload.buffer).getBigUint64(DmaMap.address, true)).toBe(0x10_0000n);
    writeAt(descriptor, Uint8Array.of(1, 2, 3, 4), 0, 4, 0x1000);
    const read = rig.server.dmaRead(0x10_1000n, 4);
    expect([...read.payload]).toEqual([...dmaPayload(0x10_1000n, 4, Uint8Array.of(1, 2, 3, 4))]);
    const write = rig.server.dmaWrite(0x10_2001n, Uint8Array.of(9, 8, 7));
    expect([...write.payload]).toEqual([...dmaPayload(0x10_2001n, 3)]);
    const back = new Uint8Array(3);
    readAt(descriptor, back, 0, 3, 0x2001);
    expect([...back]).toEqual([9, 8, 7]);
    expect(rig.statistics).toMatchObject({ dmaBytesRead: 4, dmaBytesWritten: 3, dmaThroughClient: 0 });
  });

  it.each(['mmap', 'fileIo'] as const)('keeps the wish for %s to itself, and serves DMA in that way', access => {
    const descriptor = map(0x10_0000n, MIB, { access });
    const [announced] = rig.server.commands(Command.dmaMap);
    expect(new DataView(announced!.payload.buffer).getUint32(DmaMap.flags, true)).toBe(3);
    expect(rig.server.dmaWrite(0x10_2001n, Uint8Array.of(9, 8, 7)).error).toBe(0);
    const back = new Uint8Array(3);
    readAt(descriptor, back, 0, 3, 0x2001);
    expect([...back]).toEqual([9, 8, 7]);
  });

  it('reaches the memory of a process, which cannot be mapped', () => {
    const block = allocateNative(4096);
    const memory = openSync('/proc/self/mem', 'r+');
    map(0n, 4096, { descriptor: memory, offset: BigInt(block.address), access: 'fileIo' });
    expect(rig.server.dmaWrite(100n, Uint8Array.of(1, 2, 3)).error).toBe(0);
    expect([...block.bytes.subarray(99, 104)]).toEqual([0, 1, 2, 3, 0]);
    qemu.dmaUnmap(0n, 4096n);
    closeSync(memory);
    freeNative(block);
  });

  it.each(['mmap', 'fileIo'] as const)('refuses %s without a descriptor', access => {
    const region = { address: 0n, size: 4096n, offset: 0n, readable: true, writable: true, descriptor: -1, access };
    expect(errnoOf(() => qemu.dmaMap(region))).toBe(22);
    expect(rig.server.commands(Command.dmaMap)).toEqual([]);
  });

  it('serves DMA while QEMU waits for a register read', () => {
    const descriptor = map(0n, MIB);
    writeAt(descriptor, Uint8Array.of(0x5a), 0, 1, 0);
    rig.server.script = message => {
      if (message.command !== Command.regionRead) return new Uint8Array(0);
      rig.server.send(Command.dmaRead, dmaPayload(0n, 1), { id: 7 });
      return undefined;
    };
    const id = qemu.sendCommand(Command.regionRead, new Uint8Array(16));
    expect(rig.server.answer(7).payload.at(-1)).toBe(0x5a);
    rig.server.reply({ id, command: Command.regionRead }, new Uint8Array(16));
    rig.settle();
  });

  it('serves a megabyte in one message, either way, across regions', () => {
    map(0n, MIB);
    map(BigInt(MIB), MIB);
    const data = Uint8Array.from({ length: MIB }, (_, i) => i * 7 + (i >> 8));
    expect(rig.server.dmaWrite(0x8_0000n, data).error).toBe(0);
    expect(Buffer.compare(rig.server.dmaRead(0x8_0000n, MIB).payload.subarray(16), data)).toBe(0);
  });

  it.each([
    ['nobody has mapped', 0x4000_0000n, 16],
    ['is mapped in part', BigInt(MIB) - 8n, 16],
    ['lies beyond every frame', 1n << 43n, 16],
    ['would wrap around', (1n << 64n) - 8n, 16],
  ])('answers DMA to memory that %s with an error', (_, address, count) => {
    map(0n, MIB);
    expect(rig.server.dmaRead(address, count).error).toBe(EFAULT);
    expect(rig.server.dmaWrite(address, new Uint8Array(count)).error).toBe(EFAULT);
    expect(rig.trace.kinds()).toContain('dma.refused');
  });

  it('answers DMA that the region does not allow with an error', () => {
    const descriptor = map(0n, MIB, { writable: false });
    expect(rig.server.dmaWrite(0n, Uint8Array.of(1)).error).toBe(13);
    expect(rig.server.dmaRead(0n, 1).error).toBe(0);
    const back = new Uint8Array(1);
    readAt(descriptor, back, 0, 1, 0);
    expect(back[0]).toBe(0);
  });

  it.each([
    ['no address', Command.dmaRead, new Uint8Array(3), 22],
    ['a read with data', Command.dmaRead, new Uint8Array(20), 22],
    ['a write with less than it says', Command.dmaWrite, dmaPayload(0n, 8, new Uint8Array(4)), 22],
    ['more than a message holds', Command.dmaRead, dmaPayload(0n, 2 * MIB), 7],
    ['a count of 64 bits', Command.dmaRead, dmaPayload(0n, 2 ** 40), 7],
  ])('refuses DMA with %s', (_, command, payload, errno) => {
    map(0n, MIB);
    expect(serverDma(command, payload).error).toBe(errno);
  });

  it('takes nothing and gives nothing for a count of zero', () => {
    map(0n, MIB);
    expect(rig.server.dmaRead(0n, 0)).toMatchObject({ error: 0, payload: dmaPayload(0n, 0) });
  });

  it('does not answer posted writes', () => {
    map(0n, MIB);
    rig.server.send(Command.dmaWrite, dmaPayload(4n, 1, Uint8Array.of(0x77)), { flags: HeaderFlag.noReply });
    expect(rig.server.dmaRead(4n, 1).payload.at(-1)).toBe(0x77);
    expect(rig.server.answers).toHaveLength(1);
  });

  it('refuses a map that this host cannot do, and does not tell the server', () => {
    const eventfd = createEventFd();
    files.push(eventfd);
    expect(errnoOf(() => map(0n, MIB, { descriptor: eventfd }))).toBe(22);
    expect(errnoOf(() => map(0n, MIB, { descriptor: file(4096) }))).toBe(22);
    expect(errnoOf(() => map(0n, MIB, { readable: false, writable: false }))).toBe(22);
    map(0n, MIB);
    expect(errnoOf(() => map(0n, MIB))).toBe(17);
    expect(qemu.request(Command.dmaMap, new Uint8Array(8)).errno).toBe(22);
    expect(qemu.request(Command.dmaUnmap, new Uint8Array(8)).errno).toBe(22);
    expect(rig.server.commands(Command.dmaMap)).toHaveLength(1);
    expect(rig.statistics).toMatchObject({ refused: 6, memory: { regions: 1 } });
  });

  it('forgets a region that the server refuses', () => {
    rig.server.script = () => 28;
    expect(errnoOf(() => map(0n, MIB))).toBe(28);
    expect(rig.statistics.memory).toMatchObject({ regions: 0, mappedBytes: 0 });
    rig.server.script = ({ payload }) => payload;
    map(0n, MIB);
    expect(rig.server.dmaRead(0n, 1).error).toBe(0);
  });

  it('keeps a region until the server has let it go, and not one moment longer', () => {
    map(0n, MIB);
    const { server } = rig;
    server.script = () => undefined;
    const payload = new Uint8Array(DmaUnmap.bytes);
    new DataView(payload.buffer).setUint32(DmaUnmap.argsz, DmaUnmap.bytes, true);
    new DataView(payload.buffer).setBigUint64(DmaUnmap.size, BigInt(MIB), true);
    qemu.sendCommand(Command.dmaUnmap, payload);
    rig.until(() => server.commands(Command.dmaUnmap).length === 1);
    expect(server.dmaRead(0n, 1).error).toBe(0);
    // The answer and, right behind it, DMA: the region is gone by then.
    server.reply(server.commands(Command.dmaUnmap)[0]!, payload);
    expect(server.dmaRead(0n, 1).error).toBe(EFAULT);
    expect(rig.statistics.memory.regions).toBe(0);
  });

  it('keeps a region that the server does not let go', () => {
    map(0n, MIB);
    rig.server.script = () => 5;
    expect(errnoOf(() => qemu.dmaUnmap(0n, BigInt(MIB)))).toBe(5);
    expect(rig.server.dmaRead(0n, 1).error).toBe(0);
  });

  it('lets everything go at once', () => {
    map(0n, MIB);
    map(0x1000_0000n, MIB);
    qemu.dmaUnmap(0n, 0n, DmaUnmap.all);
    expect(rig.statistics.memory.regions).toBe(0);
  });

  it('takes a map that follows an unmap of the same place without waiting', () => {
    map(0n, MIB);
    const { server } = rig;
    server.script = () => undefined;
    const unmap = new Uint8Array(DmaUnmap.bytes);
    new DataView(unmap.buffer).setUint32(DmaUnmap.argsz, DmaUnmap.bytes, true);
    new DataView(unmap.buffer).setBigUint64(DmaUnmap.size, BigInt(MIB), true);
    const mapping = new Uint8Array(DmaMap.bytes);
    const view = new DataView(mapping.buffer);
    view.setUint32(DmaMap.argsz, DmaMap.bytes, true);
    view.setUint32(DmaMap.flags, 3, true);
    view.setBigUint64(DmaMap.size, BigInt(MIB), true);
    qemu.sendCommand(Command.dmaUnmap, unmap);
    qemu.sendCommand(Command.dmaMap, mapping);
    rig.until(() => server.commands(Command.dmaUnmap).length === 1);
    rig.settle();
    expect(server.commands(Command.dmaMap)).toHaveLength(1);
    server.script = ({ payload }) => payload;
    server.reply(server.commands(Command.dmaUnmap)[0]!, unmap);
    rig.until(() => server.commands(Command.dmaMap).length === 2);
    rig.settle();
    expect(rig.statistics).toMatchObject({ refused: 0, memory: { regions: 1, mappedBytes: 0 } });
  });

  it('reaches memory without a descriptor through QEMU, piece by piece', () => {
    const memory = Uint8Array.from({ length: MIB }, (_, i) => i * 3);
    map(0x8000_0000n, MIB, { descriptor: -1 });
    const counts: number[] = [];
    qemu.onDmaRead = ({ address, count }) => {
      counts.push(count);
      const at = Number(address - 0x8000_0000n);
      return memory.slice(at, at + count);
    };
    qemu.onDmaWrite = ({ address, data }) => {
      memory.set(data, Number(address - 0x8000_0000n));
      return 0;
    };
    const read = rig.server.dmaRead(0x8000_1000n, 100_000);
    expect(Buffer.compare(read.payload.subarray(16), memory.subarray(0x1000, 0x1000 + 100_000))).toBe(0);
    expect(Math.max(...counts)).toBe(32768);
    const data = new Uint8Array(200_000).fill(0x42);
    expect(rig.server.dmaWrite(0x8000_0000n, data).error).toBe(0);
    expect(memory.subarray(0, 200_001).lastIndexOf(0x42)).toBe(199_999);
    expect(rig.statistics).toMatchObject({ dmaThroughClient: 2, dmaBytesRead: 0 });
  });

  it("passes QEMU's refusal on", () => {
    map(0x8000_0000n, MIB, { descriptor: -1 });
    qemu.onDmaRead = () => 19;
    expect(rig.server.dmaRead(0x8000_0000n, 8).error).toBe(19);
  });

  it('gives interrupt messages to QEMU, which has the interrupt controller', () => {
    const written: [bigint, number[]][] = [];
    qemu.onDmaWrite = ({ address, data }) => {
      written.push([address, [...data]]);
      return 0;
    };
    expect(rig.server.dmaWrite(0xfee0_0000n, Uint8Array.of(0x21, 0, 0, 0)).error).toBe(0);
    expect(written).toEqual([[0xfee0_0000n, [0x21, 0, 0, 0]]]);
    expect(rig.server.dmaRead(0xfee0_0000n, 4).error).toBe(EFAULT);
  });

  it('answers register reads while QEMU has not answered DMA', () => {
    map(0x8000_0000n, MIB, { descriptor: -1 });
    let asked = -1;
    qemu.onDmaRead = ({ id }) => {
      asked = id;
      qemu.sendCommand(Command.regionRead, new Uint8Array(16));
      return undefined;
    };
    // QEMU answers only once the register read that it waits for has been answered.
    let answered = false;
    const original = qemu.message.bind(qemu);
    qemu.message = (header, payload, length, descriptors) => {
      const isRead = header.command === Command.regionRead;
      original(header, payload, length, descriptors);
      if (!isRead) return;
      answered = true;
      qemu.sendReply(asked, Command.dmaRead, 0, dmaPayload(0x8000_0000n, 4, Uint8Array.of(1, 2, 3, 4)));
    };
    expect([...rig.server.dmaRead(0x8000_0000n, 4).payload.subarray(16)]).toEqual([1, 2, 3, 4]);
    expect(answered).toBe(true);
  });

  it('ends with DMA under way and waiting', () => {
    map(0x8000_0000n, MIB, { descriptor: -1 });
    let asked = 0;
    qemu.onDmaRead = () => {
      asked++;
      qemu.close();
      return undefined;
    };
    for (let i = 0; i < 10; i++) rig.server.send(Command.dmaRead, dmaPayload(0x8000_0000n, 4));
    rig.until(() => rig.server.endReason !== undefined);
    rig.settle();
    expect(rig.statistics).toMatchObject({ connected: false, memory: { regions: 0 } });
    expect(asked).toBe(1);
  });

  it('lets the memory and the descriptors of a QEMU go with it', () => {
    map(0n, MIB);
    map(0x8000_0000n, MIB, { descriptor: createPlainFile(files) });
    expect(readFileSync('/proc/self/maps', 'utf8')).toContain('memfd:guest');
    qemu.close();
    rig.until(() => !rig.statistics.connected);
    expect(readFileSync('/proc/self/maps', 'utf8')).not.toContain('memfd:guest');
    qemu = rig.qemu();
    expect(rig.server.dmaRead(0n, 1).error).toBe(EFAULT);
  });

  it('reaches a file that could shrink by its position', () => {
    const descriptor = createPlainFile(files);
    map(0n, MIB, { descriptor });
    writeAt(descriptor, Uint8Array.of(5), 0, 1, 100);
    expect(rig.server.dmaRead(100n, 1).payload.at(-1)).toBe(5);
    expect(rig.statistics.memory.positionedBytes).toBe(1);
  });

  it('waits no longer than it says for a QEMU that does not answer', () => {
    rig.close();
    rig = new BridgeRig({ dmaTimeout: 20 });
    qemu = rig.qemu({ replyTimeout: PATIENCE });
    map(0x8000_0000n, MIB, { descriptor: -1 });
    qemu.onDmaRead = () => undefined;
    expect(rig.server.dmaRead(0x8000_0000n, 4).error).toBe(110);
  });
});

/** A file in memory that can be made shorter at any time. */
function createPlainFile(files: number[]): number {
  const descriptor = createMemfd('shrinks', MIB, { sealable: false });
  files.push(descriptor);
  if (descriptor < 0) throw new SystemError('memfd_create', 0);
  return descriptor;
}
