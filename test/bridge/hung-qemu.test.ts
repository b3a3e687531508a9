import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioUserClient } from '../../src/vfio-user/client.ts';
import { Command, DmaUnmap } from '../../src/vfio-user/spec.ts';
import { openDescriptors } from '../vfio-user/rig.ts';
import { BridgeRig, dmaPayload } from './rig.ts';

const MIB = 1048576;
const BASE = 0x8000_0000n;

function mapByMessages(qemu: VfioUserClient, address = BASE): void {
  qemu.dmaMap({ address, size: BigInt(MIB), offset: 0n, descriptor: -1, readable: true, writable: true });
}

describe('a QEMU that hangs, beside another function of the same bridge', () => {
  let before: number;
  let hung: BridgeRig;
  let well: BridgeRig;
  let hanging: VfioUserClient;
  let qemu: VfioUserClient;

  beforeEach(() => {
    before = openDescriptors();
    hung = new BridgeRig();
    well = new BridgeRig({}, hung);
    hanging = hung.qemu();
    qemu = well.qemu();
    mapByMessages(hanging);
    mapByMessages(qemu);
    qemu.onDmaRead = ({ count }) => new Uint8Array(count).fill(0x5a);
    qemu.onDmaWrite = () => 0;
  });
  afterEach(() => {
    well.close();
    hung.close();
    expect(openDescriptors()).toBe(before);
  });

  it('does not hold up its message DMA by answering none itself', () => {
    hanging.onDmaRead = () => undefined;
    const asked = hung.server.send(Command.dmaRead, dmaPayload(BASE, 8));
    hung.settle();
    for (let i = 0; i < 20; i++) {
      expect([...well.server.dmaRead(BASE, 4).payload.subarray(16)]).toEqual([0x5a, 0x5a, 0x5a, 0x5a]);
      expect(well.server.dmaWrite(BASE, Uint8Array.of(1)).error).toBe(0);
    }
    expect(hung.server.answers.find(({ id }) => id === asked)).toBeUndefined();
  });

  it('does not hold up its message DMA by not reading', () => {
    hanging.connection.pause();
    const data = new Uint8Array(MIB);
    for (let i = 0; i < 4; i++) {
      const { connection } = hung.server;
      hung.until(() => connection.drained);
      hung.server.send(Command.dmaWrite, dmaPayload(BASE, MIB, data));
    }
    hung.settle();
    expect(well.server.dmaRead(BASE, 4).payload.at(-1)).toBe(0x5a);
  });

  it('does not hold up its message DMA by a server that does not read', () => {
    hanging.onDmaRead = ({ count }) => new Uint8Array(count);
    hung.server.deaf = true;
    const asked: number[] = [];
    for (let i = 0; i < 16; i++) asked.push(hung.server.send(Command.dmaRead, dmaPayload(BASE, MIB)));
    hung.settle();
    expect(well.server.dmaRead(BASE, 4).payload.at(-1)).toBe(0x5a);
    expect(hung.server.answers).toEqual([]);
    hung.server.hear();
    for (const id of asked) expect(hung.server.answer(id).payload).toHaveLength(16 + MIB);
  });

  it('gets what it is asked for as soon as it goes on', () => {
    const held: number[] = [];
    hanging.onDmaRead = ({ id }) => {
      held.push(id);
      return undefined;
    };
    const asked = hung.server.send(Command.dmaRead, dmaPayload(BASE, 4));
    hung.until(() => held.length === 1);
    well.server.dmaRead(BASE, 4);
    hanging.sendReply(held[0]!, Command.dmaRead, 0, dmaPayload(BASE, 4, Uint8Array.of(1, 2, 3, 4)));
    expect([...hung.server.answer(asked).payload.subarray(16)]).toEqual([1, 2, 3, 4]);
  });
});

describe('a QEMU that goes while it is asked', () => {
  it('leaves nothing to wait for: the loop would not keep it for as long as it might have taken', () => {
    const rig = new BridgeRig({ dmaTimeout: 3000 });
    const qemu = rig.qemu();
    mapByMessages(qemu);
    let asked = 0;
    qemu.onDmaRead = () => {
      asked++;
      return undefined;
    };
    rig.server.send(Command.dmaRead, dmaPayload(BASE, 8));
    rig.until(() => asked === 1);
    const unmap = new Uint8Array(DmaUnmap.bytes);
    const view = new DataView(unmap.buffer);
    view.setUint32(DmaUnmap.argsz, DmaUnmap.bytes, true);
    view.setBigUint64(DmaUnmap.address, BASE, true);
    view.setBigUint64(DmaUnmap.size, BigInt(MIB), true);
    // Its answer waits for the DMA.
    qemu.sendCommand(Command.dmaUnmap, unmap);
    rig.until(() => rig.server.commands(Command.dmaUnmap).length === 1);
    rig.settle();
    rig.door.close();
    qemu.close();
    for (const server of rig.servers) server.connection.close('test over');
    expect(() => rig.loop.runOnce(-1)).toThrow('nothing is watched');
    rig.close();
  });
});

describe('a QEMU that leaves one request after the other unanswered', () => {
  let rig: BridgeRig;
  let qemu: VfioUserClient;

  beforeEach(() => {
    rig = new BridgeRig({ dmaTimeout: 20 });
    qemu = rig.qemu();
    mapByMessages(qemu);
  });
  afterEach(() => rig.close());

  it('is let go after three', () => {
    qemu.onDmaRead = () => undefined;
    for (let i = 0; i < 3; i++) rig.server.send(Command.dmaRead, dmaPayload(BASE, 8));
    rig.until(() => !rig.statistics.connected);
    expect(rig.closeReason()).toBe('QEMU does not answer DMA');
    const unanswered = rig.trace.events.filter(({ kind }) => kind === 'dma.unanswered');
    expect(unanswered.map(({ detail }) => [detail.address, detail.count, detail.messages])).toEqual(
      new Array(3).fill([BASE, 8, 1]),
    );
  });

  it('is kept where it answers in between, and its late answers are no mistake', () => {
    const held: number[] = [];
    qemu.onDmaRead = ({ id, count }) => {
      held.push(id);
      return held.length % 2 === 1 ? undefined : new Uint8Array(count);
    };
    for (let i = 0; i < 6; i++) expect(rig.server.dmaRead(BASE, 8).error).toBe(i % 2 === 0 ? 110 : 0);
    for (const id of held.filter((_, i) => i % 2 === 0)) {
      qemu.sendReply(id, Command.dmaRead, 0, dmaPayload(BASE, 8, new Uint8Array(8)));
    }
    rig.until(() => rig.trace.events.filter(({ kind }) => kind === 'dma.answered-late').length === 3);
    expect(rig.statistics.connected).toBe(true);
  });

  it('is asked on as long as it answers some message of a large transfer in time', () => {
    const asked: { id: number; address: bigint; count: number }[] = [];
    qemu.onDmaRead = ({ id, address, count }) => {
      asked.push({ id, address, count });
      return undefined;
    };
    const id = rig.server.send(Command.dmaRead, dmaPayload(BASE, 256 * 1024));
    let answered = 0;
    const data = (address: bigint, count: number) => new Uint8Array(count).fill(Number(address >> 15n) & 0xff);
    while (answered < 8) {
      rig.until(() => asked.length > answered);
      const { id: piece, address, count } = asked[answered++]!;
      qemu.sendReply(piece, Command.dmaRead, 0, dmaPayload(address, count, data(address, count)));
    }
    const { payload } = rig.server.answer(id);
    expect(payload.subarray(16).filter((_, i) => i % 32768 === 0)).toEqual(Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7));
    expect(asked.map(({ count }) => count)).toEqual(new Array(8).fill(32768));
  });

  it('fails with the error of the first piece that it refuses, whatever the order of its answers', () => {
    const held: { id: number; address: bigint; count: number }[] = [];
    qemu.onDmaRead = one => {
      held.push(one);
      return undefined;
    };
    const id = rig.server.send(Command.dmaRead, dmaPayload(BASE, 3 * 32768));
    rig.until(() => held.length === 3);
    for (const [at, errno] of [
      [2, 5],
      [1, 14],
      [0, 0],
    ] as const) {
      const { id: piece, address, count } = held[at]!;
      const payload = errno === 0 ? dmaPayload(address, count, new Uint8Array(count)) : new Uint8Array(0);
      qemu.sendReply(piece, Command.dmaRead, errno, payload);
    }
    expect(rig.server.answer(id).error).toBe(14);
  });
});
