import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEventFd, signalEventFd } from '../../src/posix/eventfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import type { VfioUserClient } from '../../src/vfio-user/client.ts';
import { Command, IrqSet } from '../../src/vfio-user/spec.ts';
import { BAR0, LARGE_BAR, openDescriptors, RawPeer, Rig } from './rig.ts';

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});
afterEach(() => rig.close());

const byte = Uint8Array.of(1);

/** A write at this offset, without waiting for its answer. */
function post(client: VfioUserClient, offset: number): void {
  client.regionWrite(BAR0, offset, byte, { posted: true });
}

function accesses(): string[] {
  return rig.model.calls.filter(call => /^(read|write)/.test(call));
}

const write = (offset: number) => `write ${BAR0} ${offset} 1`;

describe('a paused server', () => {
  it('serves nothing that comes, and all of it in order when it goes on', () => {
    const client = rig.client();
    rig.server.pause();
    for (const offset of [1, 2, 3]) post(client, offset);
    rig.settle();
    expect(accesses()).toEqual([]);
    rig.server.resume();
    rig.until(() => accesses().length === 3);
    expect(accesses()).toEqual([write(1), write(2), write(3)]);
  });

  it('leaves an access without its answer until it goes on', () => {
    const client = rig.client();
    rig.server.pause();
    let offered = 0;
    rig.loop.after(20, () => {
      offered = accesses().length;
      rig.server.resume();
    });
    expect(client.regionRead(BAR0, 0, 4)).toHaveLength(4);
    expect(offered).toBe(0);
  });

  it('may be paused in the middle of a batch, and does not handle the rest of it', () => {
    const client = rig.client();
    rig.model.onWrite = () => rig.server.pause();
    for (const offset of [1, 2, 3]) post(client, offset);
    rig.until(() => accesses().length === 1);
    rig.settle();
    expect(accesses()).toEqual([write(1)]);
    rig.server.resume();
    expect(accesses()).toEqual([write(1), write(2)]);
    rig.model.onWrite = undefined;
    rig.server.resume();
    expect(accesses()).toEqual([write(1), write(2), write(3)]);
  });

  it('accepts nobody, and those who waited when it goes on', () => {
    rig.server.pause();
    const client = rig.connect();
    rig.settle();
    expect(rig.trace.kinds()).not.toContain('client.connected');
    rig.server.resume();
    client.negotiate();
    expect(rig.server.connected).toBe(true);
  });

  it('notices the end of a client when it goes on, after all that the client had sent', () => {
    const client = rig.client();
    rig.server.pause();
    post(client, 7);
    client.close();
    rig.settle();
    expect(rig.server.connected).toBe(true);
    expect(rig.model.calls).not.toContain('disconnected');
    rig.server.resume();
    rig.until(() => !rig.server.connected);
    expect(rig.model.calls.slice(-2)).toEqual([write(7), 'disconnected']);
  });

  it('does not keep the loop busy while a client that is gone waits to be noticed', () => {
    const client = rig.client();
    rig.server.pause();
    client.close();
    rig.settle();
    let over = false;
    let rounds = 0;
    rig.loop.after(30, () => {
      over = true;
    });
    rig.until(() => {
      rounds++;
      return over;
    });
    // A loop that is woken for it again and again makes thousands.
    expect(rounds).toBeLessThan(10);
    expect(rig.server.connected).toBe(true);
  });

  it('takes over the next client after the end of the one before it, both while paused', () => {
    const first = rig.client();
    rig.server.pause();
    post(first, 1);
    first.close();
    const second = rig.connect();
    rig.settle();
    rig.server.resume();
    second.negotiate();
    post(second, 2);
    rig.until(() => accesses().length === 2);
    expect(accesses()).toEqual([write(1), write(2)]);
    expect(rig.trace.kinds()).not.toContain('client.refused');
  });

  it('still sends what was to be sent', () => {
    const bytes = 1 << 20;
    const client = rig.client({ maxDataTransfer: bytes });
    const asked = 4;
    for (let i = 0; i < asked; i++) {
      client.sendCommand(Command.regionRead, regionAccess(LARGE_BAR, bytes));
    }
    // The client reads nothing meanwhile: its socket takes less than that.
    rig.loop.runOnce(0);
    rig.server.pause();
    const served = accesses().length;
    expect(served).toBeGreaterThan(0);
    rig.until(() => client.connection.bytesReceived >= served * bytes);
    expect(accesses()).toHaveLength(served);
    rig.server.resume();
    rig.until(() => client.connection.bytesReceived >= asked * bytes);
  });

  it('ends as any other', () => {
    const open = openDescriptors();
    const client = rig.client();
    rig.server.pause();
    const late = new RawPeer(rig);
    rig.server.close();
    rig.until(() => client.endReason !== undefined);
    late.close();
    expect(rig.model.calls).toContain('disconnected');
    // The listener is gone as well.
    expect(openDescriptors()).toBe(open - 1);
  });

  it('hears the client unmask an interrupt when it goes on', () => {
    const client = rig.client();
    const trigger = createEventFd();
    const unmask = createEventFd();
    client.setIrqs(IrqSet.dataEventfd | IrqSet.actionTrigger, 0, 0, 1, { descriptors: [trigger] });
    client.setIrqs(IrqSet.dataEventfd | IrqSet.actionUnmask, 0, 0, 1, { descriptors: [unmask] });
    client.setIrqs(IrqSet.dataNone | IrqSet.actionMask, 0, 0, 1);
    rig.server.pause();
    signalEventFd(unmask);
    rig.settle();
    expect(rig.model.calls).not.toContain('unmasked 0 0');
    rig.server.resume();
    rig.until(() => rig.model.calls.includes('unmasked 0 0'));
    for (const fd of [trigger, unmask]) closeDescriptor(fd);
  });

  it('may be told twice', () => {
    const client = rig.client();
    rig.server.pause();
    rig.server.pause();
    rig.server.resume();
    rig.server.resume();
    expect(client.regionRead(BAR0, 0, 1)).toHaveLength(1);
  });
});

describe('a server that is watched', () => {
  it('tells each access when it is answered, and nothing else', () => {
    const client = rig.client();
    let told = 0;
    rig.server.pause();
    rig.server.resume(() => {
      told++;
    });
    client.getDeviceInfo();
    expect(told).toBe(0);
    client.regionRead(BAR0, 0, 4);
    expect(told).toBe(1);
    client.regionWrite(BAR0, 0, byte);
    expect(told).toBe(2);
    rig.server.pause();
    rig.server.resume();
    client.regionRead(BAR0, 0, 4);
    expect(told).toBe(2);
  });

  it('stops right after an access where it is paused then, and serves what came before it', () => {
    const client = rig.client();
    rig.server.pause();
    client.sendCommand(Command.deviceGetInfo, new Uint8Array(16));
    client.sendCommand(Command.deviceReset, new Uint8Array(0));
    post(client, 1);
    post(client, 2);
    rig.server.resume(() => rig.server.pause());
    rig.until(() => accesses().length === 1);
    rig.settle();
    expect(rig.model.calls.slice(-2)).toEqual(['reset', write(1)]);
  });

  it('also watches a client that comes meanwhile', () => {
    let told = 0;
    rig.server.pause();
    rig.server.resume(() => {
      told++;
    });
    rig.client().regionRead(BAR0, 0, 4);
    expect(told).toBe(1);
  });

  it('loses no client that comes when the last access of the one before it ends the round', () => {
    const first = rig.client();
    rig.server.pause();
    post(first, 1);
    post(first, 2);
    first.close();
    const second = rig.connect();
    const step = () => rig.server.resume(() => rig.server.pause());
    step();
    rig.until(() => accesses().length === 1);
    step();
    rig.until(() => accesses().length === 2);
    rig.server.resume();
    second.negotiate();
    expect(second.regionRead(BAR0, 0, 1)).toHaveLength(1);
  });
});

describe('a job that waits for a client', () => {
  it('tells the loop when it begins and ends to wait', () => {
    const told: string[] = [];
    rig.loop.jobWaits = { begin: () => told.push('begin'), end: () => told.push('end') };
    const client = rig.client();
    client.onDmaRead = () => Uint8Array.of(9);
    const target = new Uint8Array(1);
    expect(rig.job(() => rig.model.client!.dmaRead(1, 0, target, 0, 1))).toBe(0);
    expect([...target]).toEqual([9]);
    expect([told[0], told.at(-1)]).toEqual(['begin', 'end']);
    expect(told.filter(one => one === 'end')).toHaveLength(told.length / 2);
  });
});

function regionAccess(region: number, count: number): Uint8Array {
  const payload = new Uint8Array(16);
  const view = new DataView(payload.buffer);
  view.setUint32(8, region, true);
  view.setUint32(12, count, true);
  return payload;
}
