import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEventFd, drainEventFd } from '../../src/posix/eventfd.ts';
import { createMemfd, readAt } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import type { VfioUserClient } from '../../src/vfio-user/client.ts';
import { Command, DmaUnmap, HeaderFlag, IrqSet } from '../../src/vfio-user/spec.ts';
import { openDescriptors } from '../vfio-user/rig.ts';
import { BridgeRig, dmaPayload, PATIENCE } from './rig.ts';

const MIB = 1048576;
const EFAULT = 14;
const ETIMEDOUT = 110;
const MSIX = 2;
/** Only QEMU reaches it. */
const REMOTE = 0x8000_0000n;
/** Mapped at the bridge. */
const MAPPED = 0n;
const POSTED = { flags: HeaderFlag.noReply };

describe('the order of DMA, interrupts and DMA_UNMAP at the bridge', () => {
  let before: number;
  let rig: BridgeRig;
  let qemu: VfioUserClient;
  let memory: number;
  let eventfd: number;
  /** DMA that QEMU was asked for: ids to answer, and where. */
  let asked: { id: number; command: number; address: bigint; count: number }[];
  /** Run once while the bridge waits for QEMU: everything here shares one thread and one loop. */
  let during: (() => void) | undefined;

  beforeEach(() => {
    before = openDescriptors();
    start();
  });

  afterEach(() => {
    closeDescriptor(memory);
    closeDescriptor(eventfd);
    rig.close();
    expect(openDescriptors()).toBe(before);
  });

  function start(limits = {}): void {
    rig = new BridgeRig(limits);
    qemu = rig.qemu();
    memory = createMemfd('guest', MIB);
    eventfd = createEventFd();
    const region = { size: BigInt(MIB), offset: 0n, readable: true, writable: true };
    qemu.dmaMap({ ...region, address: MAPPED, descriptor: memory });
    qemu.dmaMap({ ...region, address: REMOTE, descriptor: -1 });
    qemu.setIrqs(IrqSet.dataEventfd | IrqSet.actionTrigger, MSIX, 0, 1, { descriptors: [eventfd] });
    asked = [];
    during = undefined;
    const { loop } = rig;
    const wait = loop.waitUntil.bind(loop);
    loop.waitUntil = (done, milliseconds) => {
      const look = () => {
        const run = asked.length > 0 ? during : undefined;
        if (run !== undefined) during = undefined;
        run?.();
        return done();
      };
      return wait(look, milliseconds);
    };
    qemu.onDmaRead = ({ id, address, count }) => {
      asked.push({ id, command: Command.dmaRead, address, count });
      return undefined;
    };
    qemu.onDmaWrite = ({ id, address, data }) => {
      asked.push({ id, command: Command.dmaWrite, address, count: data.length });
      return undefined;
    };
  }

  function restart(limits: object): void {
    closeDescriptor(memory);
    closeDescriptor(eventfd);
    rig.close();
    start(limits);
  }

  function write(address: bigint, value: number, options = {}): number {
    return rig.server.send(Command.dmaWrite, dmaPayload(address, 4, new Uint8Array(4).fill(value)), options);
  }

  /** QEMU answers what it was asked for first. */
  function answerNext(): void {
    const { id, command, address, count } = asked.shift()!;
    const data = command === Command.dmaRead ? new Uint8Array(count) : new Uint8Array(0);
    qemu.sendReply(id, command, 0, dmaPayload(address, count, data));
  }

  function valueAt(offset: number): number {
    const bytes = new Uint8Array(1);
    readAt(memory, bytes, 0, 1, offset);
    return bytes[0]!;
  }

  function unmapPayload(address: bigint, size: bigint, flags = 0): Uint8Array {
    const payload = new Uint8Array(DmaUnmap.bytes);
    const view = new DataView(payload.buffer);
    view.setUint32(DmaUnmap.argsz, DmaUnmap.bytes, true);
    view.setUint32(DmaUnmap.flags, flags, true);
    view.setBigUint64(DmaUnmap.address, address, true);
    view.setBigUint64(DmaUnmap.size, size, true);
    return payload;
  }

  /** QEMU answers everything at once. */
  function answerAll(): void {
    qemu.onDmaWrite = () => 0;
  }

  /** Sends DMA_UNMAP without waiting; says whether its answer has come, and tells when it comes. */
  function unmap(payload: Uint8Array, came: () => void = () => {}): () => boolean {
    let done = false;
    const original = qemu.message.bind(qemu);
    const id = qemu.sendCommand(Command.dmaUnmap, payload);
    qemu.message = (header, at, length, descriptors) => {
      const isAnswer = header.command === Command.dmaUnmap && header.id === id;
      original(header, at, length, descriptors);
      if (!isAnswer) return;
      done = true;
      came();
    };
    rig.until(() => rig.server.commands(Command.dmaUnmap).length === 1);
    rig.settle();
    return () => done;
  }

  it('does a write to mapped memory, and the interrupt after it, behind one that goes through QEMU', () => {
    write(REMOTE, 1, POSTED);
    write(MAPPED, 2, POSTED);
    rig.server.interrupt(MSIX, 0);
    let seen: number[] = [];
    during = () => {
      rig.settle();
      seen = [valueAt(0), drainEventFd(eventfd)];
      answerNext();
    };
    rig.until(() => rig.statistics.interrupts === 1);
    expect(seen).toEqual([0, 0]);
    expect([valueAt(0), drainEventFd(eventfd)]).toEqual([2, 1]);
    expect(rig.statistics).toMatchObject({ dmaBytesWritten: 4, dmaThroughClient: 1 });
  });

  it('answers in the order of asking, whichever way each goes', () => {
    answerAll();
    const ids = [write(REMOTE, 1), write(MAPPED, 2), write(REMOTE + 8n, 3), write(MAPPED + 8n, 4)];
    rig.until(() => rig.server.answers.length === 4);
    expect(rig.server.answers.map(({ id, error }) => [id, error])).toEqual(ids.map(id => [id, 0]));
  });

  it('refuses what waited and is not mapped, as it would have at once', () => {
    answerAll();
    write(REMOTE, 1);
    const id = write(0x4000_0000n, 2);
    expect(rig.server.answer(id).error).toBe(EFAULT);
  });

  it('reads mapped memory behind a write that goes through QEMU', () => {
    answerAll();
    write(REMOTE, 1, POSTED);
    write(MAPPED, 7, POSTED);
    const id = rig.server.send(Command.dmaRead, dmaPayload(MAPPED, 4));
    expect([...rig.server.answer(id).payload.subarray(16)]).toEqual([7, 7, 7, 7]);
  });

  it('raises an interrupt once that came many times while another one waited', () => {
    write(REMOTE, 1, POSTED);
    for (let i = 0; i < 1000; i++) rig.server.interrupt(MSIX, 0);
    during = () => {
      rig.settle();
      answerNext();
    };
    rig.until(() => rig.statistics.interrupts > 0);
    rig.settle();
    expect(drainEventFd(eventfd)).toBe(1);
  });

  it('serves at once again when nothing waits any more', () => {
    answerAll();
    write(REMOTE, 1);
    rig.until(() => rig.server.answers.length === 1);
    rig.settle();
    write(MAPPED, 9, POSTED);
    rig.server.interrupt(MSIX, 0);
    rig.until(() => drainEventFd(eventfd) === 1);
    expect(valueAt(0)).toBe(9);
  });

  it.each([
    ['one region', () => unmapPayload(REMOTE, BigInt(MIB))],
    ['everything', () => unmapPayload(0n, 0n, DmaUnmap.all)],
  ])('asks QEMU for nothing in memory that it has taken away: DMA_UNMAP of %s', (what, payload) => {
    const under = write(REMOTE, 1);
    const waiting = [write(REMOTE + 8n, 2), write(REMOTE + 0x1000n, 3)];
    let done = () => false;
    let early: boolean | undefined;
    during = () => {
      done = unmap(payload());
      // What QEMU was asked for may still touch that memory.
      early = done();
      answerNext();
    };
    for (const id of waiting) expect(rig.server.answer(id).error).toBe(EFAULT);
    rig.until(done);
    expect(early).toBe(false);
    expect(rig.server.answer(under).error).toBe(0);
    expect(asked).toEqual([]);
    expect(rig.statistics.memory.regions).toBe(what === 'everything' ? 0 : 1);
  });

  it('refuses what waited for memory that was taken away, also where other memory is there by its turn', () => {
    write(REMOTE, 1);
    const id = write(REMOTE + 8n, 2);
    during = () => {
      unmap(unmapPayload(REMOTE, BigInt(MIB)));
      const region = { size: BigInt(MIB), offset: 0n, readable: true, writable: true };
      qemu.dmaMap({ ...region, address: REMOTE, descriptor: -1 });
      answerNext();
    };
    expect(rig.server.answer(id).error).toBe(EFAULT);
    expect(asked).toEqual([]);
    answerAll();
    expect(rig.server.answer(write(REMOTE, 3)).error).toBe(0);
  });

  it('sends no further piece of what is under way there', () => {
    restart({ maxDmaMessages: 1 });
    const id = rig.server.send(Command.dmaRead, dmaPayload(REMOTE, 200_000));
    let done = () => false;
    during = () => {
      done = unmap(unmapPayload(REMOTE, BigInt(MIB)));
      answerNext();
    };
    expect(rig.server.answer(id).error).toBe(EFAULT);
    rig.until(done);
    expect(asked).toEqual([]);
  });

  it('asks nothing after a posted DMA_UNMAP', () => {
    write(REMOTE, 1);
    const id = write(REMOTE + 8n, 2);
    during = () => {
      qemu.sendCommand(Command.dmaUnmap, unmapPayload(REMOTE, BigInt(MIB)), { posted: true });
      rig.until(() => rig.server.commands(Command.dmaUnmap).length === 1);
      answerNext();
    };
    expect(rig.server.answer(id).error).toBe(EFAULT);
    expect(asked).toEqual([]);
  });

  it('answers DMA_UNMAP at once where nothing under way is there', () => {
    write(REMOTE, 1);
    during = () => {
      qemu.dmaUnmap(MAPPED, BigInt(MIB));
      answerNext();
    };
    rig.until(() => rig.server.answers.length === 1);
    expect(rig.server.answers[0]!.error).toBe(0);
  });

  it('answers DMA_UNMAP where QEMU answers no DMA before it', () => {
    const id = write(REMOTE, 1);
    during = () => {
      unmap(unmapPayload(REMOTE, BigInt(MIB)), answerNext);
    };
    expect(rig.server.answer(id).error).toBe(0);
  });

  it('does not carry out what waited for so long that the server has given it up', () => {
    restart({ dmaTimeout: 40, streamDmaTimeout: 20 });
    const ids = [write(REMOTE, 1), write(MAPPED, 2), write(REMOTE, 3)];
    expect(ids.map(id => rig.server.answer(id).error)).toEqual([ETIMEDOUT, ETIMEDOUT, ETIMEDOUT]);
    expect([valueAt(0), asked.length]).toEqual([0, 1]);
    expect(qemu.connection.closed).toBe(false);
  });

  it('ends a QEMU that answers nothing', () => {
    restart({ dmaTimeout: 20, streamDmaTimeout: PATIENCE });
    for (let i = 0; i < 5; i++) write(REMOTE, i);
    rig.until(() => qemu.endReason !== undefined);
    expect(rig.closeReason()).toBe('QEMU does not answer DMA');
    expect(asked).toHaveLength(3);
    expect(rig.gone).toBe(1);
  });
});
