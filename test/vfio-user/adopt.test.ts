import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEventFd } from '../../src/posix/eventfd.ts';
import { createMemfd } from '../../src/posix/memfd.ts';
import { closeDescriptor, socketPair } from '../../src/posix/socket.ts';
import { INTERRUPTS_KEPT, type VfioUserClient } from '../../src/vfio-user/client.ts';
import { Command, HeaderFlag, IrqSet, NO_TRIGGER } from '../../src/vfio-user/spec.ts';
import { BAR0, errnoOf, LARGE_BAR, message, openDescriptors, RawPeer, Rig, words } from './rig.ts';

const EINVAL = 22;
const INTX = 0;
const MSI = 1;
const MSIX = 2;
const { dataNone: NONE, dataBool: BOOL, dataEventfd: EVENTFD } = IrqSet;
const { actionMask: MASK, actionUnmask: UNMASK, actionTrigger: TRIGGER } = IrqSet;

let rig: Rig;
let client: VfioUserClient;

beforeEach(() => {
  rig = new Rig();
  client = rig.adopted();
});
afterEach(() => rig.close());

function arm(index: number, start: number, count: number): void {
  client.setIrqs(EVENTFD | TRIGGER, index, start, count, { triggers: new Array(count).fill(7) });
}

function trigger(index: number, vector: number): boolean {
  return rig.model.client!.trigger(index, vector);
}

/** Every interrupt that has come. */
function interrupts(): string[] {
  rig.settle();
  return client.interrupts.map(({ index, vector }) => `${index}.${vector}`);
}

describe('a client over a stream without descriptors', () => {
  it('is promised that it may send none', () => {
    client.close();
    rig.until(() => !rig.server.connected);
    const { data } = rig.adopt().negotiate();
    expect(JSON.parse(data).capabilities.max_msg_fds).toBe(0);
  });

  it('reads and writes regions', () => {
    client.regionWrite(BAR0, 16, Uint8Array.of(1, 2, 3));
    expect(client.regionRead(BAR0, 16, 3)).toEqual(Uint8Array.of(1, 2, 3));
    expect(client.regionRead(LARGE_BAR, 0, 1048576)).toHaveLength(1048576);
  });

  it('announces memory, which has no descriptor', () => {
    client.dmaMap({ address: 0x1000n, size: 4096n, offset: 0n, readable: true, writable: true, descriptor: -1 });
    expect(rig.model.dma.mapped).toEqual([expect.objectContaining({ address: 0x1000n, descriptor: -1 })]);
  });

  it.each(['mmap', 'fileIo'] as const)('announces no memory for %s, which needs a descriptor', access => {
    const region = { address: 0n, size: 4096n, offset: 0n, readable: true, writable: true, descriptor: -1, access };
    expect(errnoOf(() => client.dmaMap(region))).toBe(EINVAL);
    expect(rig.model.dma.mapped).toEqual([]);
  });

  it('is asked for up to a whole message of memory at once', () => {
    const counts: number[] = [];
    client.onDmaRead = ({ count }) => {
      counts.push(count);
      return new Uint8Array(count).fill(9);
    };
    const target = new Uint8Array(1048576);
    expect(rig.job(() => rig.model.client!.dmaRead(0, 0, target, 0, target.length))).toBe(0);
    expect(counts).toEqual([1048576]);
    expect(target.every(byte => byte === 9)).toBe(true);
  });

  it('gets memory written', () => {
    const written: number[] = [];
    client.onDmaWrite = ({ data }) => {
      written.push(...data);
      return 0;
    };
    expect(rig.job(() => rig.model.client!.dmaWrite(0, 8, Uint8Array.of(4, 5), 0, 2))).toBe(0);
    expect(written).toEqual([4, 5]);
  });

  it('is the one client: another on the socket is refused, and another stream too', () => {
    const before = openDescriptors();
    const [mine, theirs] = socketPair();
    expect(rig.server.adopt(theirs)).toBe(false);
    closeDescriptor(mine);
    expect(openDescriptors()).toBe(before);
    const other = rig.connect();
    rig.until(() => other.connection.closed);
    expect(rig.trace.kinds().filter(kind => kind === 'client.refused')).toHaveLength(2);
    expect(client.getDeviceInfo().regions).toBe(9);
  });

  it('takes the place of one that has hung up, noticed or not', () => {
    client.close();
    client = rig.adopted();
    expect(client.getDeviceInfo().regions).toBe(9);
    client.close();
    client = rig.client();
    expect(client.getDeviceInfo().regions).toBe(9);
  });

  it('ends with its connection like any other', () => {
    arm(MSI, 0, 1);
    client.close();
    rig.until(() => !rig.server.connected);
    expect(rig.model.calls.slice(-1)).toEqual(['disconnected']);
    expect(rig.model.dma.unmapAlls).toBe(1);
  });

  it('gets its stream closed by a server that is closed', () => {
    rig.server.close();
    const [mine, theirs] = socketPair();
    const before = openDescriptors();
    expect(rig.server.adopt(theirs)).toBe(false);
    expect(openDescriptors()).toBe(before - 1);
    closeDescriptor(mine);
  });

  it('is closed when a descriptor comes, which is closed too', () => {
    client.close();
    rig.until(() => !rig.server.connected);
    const memory = createMemfd('memory', 4096);
    const before = openDescriptors();
    const [mine, theirs] = socketPair();
    const peer = new RawPeer(rig, mine);
    expect(rig.server.adopt(theirs)).toBe(true);
    peer.send(message(Command.version, words(0)), [memory]);
    rig.until(() => {
      peer.drain();
      return peer.ended;
    });
    expect(rig.closeReason()).toBe('too many descriptors');
    peer.close();
    expect(openDescriptors()).toBe(before);
    closeDescriptor(memory);
  });

  it('cannot be made to send descriptors by its caller', () => {
    const descriptor = createEventFd();
    expect(() => client.setIrqs(EVENTFD | TRIGGER, MSI, 0, 1, { descriptors: [descriptor] })).toThrow(
      /carries no descriptors/,
    );
    closeDescriptor(descriptor);
  });
});

describe('interrupts as messages', () => {
  it('come one for each signal, in order', () => {
    arm(MSIX, 0, 4);
    for (const vector of [2, 0, 2]) expect(trigger(MSIX, vector)).toBe(true);
    expect(interrupts()).toEqual(['2.2', '2.0', '2.2']);
  });

  it('are told to who listens', () => {
    const heard: number[] = [];
    client.onInterrupt = ({ vector }) => heard.push(vector);
    arm(MSI, 0, 2);
    trigger(MSI, 1);
    rig.settle();
    expect(heard).toEqual([1]);
  });

  it('expect no answer', () => {
    arm(MSI, 0, 1);
    const seen: number[] = [];
    const peer = client.message.bind(client);
    client.connection.handTo({
      replyRoom: header => client.replyRoom(header),
      message: (header, payload, length, descriptors) => {
        seen.push(header.command, header.flags, length);
        peer(header, payload, length, descriptors);
      },
      closed: (reason, detail) => client.closed(reason, detail),
    });
    trigger(MSI, 0);
    rig.settle();
    expect(seen).toEqual([0x8001, HeaderFlag.noReply, 8]);
  });

  it('do not come for vectors that are not armed', () => {
    client.setIrqs(EVENTFD | TRIGGER, MSIX, 0, 3, { triggers: [0, NO_TRIGGER, 12345] });
    const { client: port } = rig.model;
    expect([0, 1, 2, 3].map(vector => port!.isArmed(MSIX, vector))).toEqual([true, false, true, false]);
    expect([0, 1, 2, 3].map(vector => trigger(MSIX, vector))).toEqual([true, false, true, false]);
    expect(interrupts()).toEqual(['2.0', '2.2']);
  });

  it('end where -1 is given, or the whole index is disabled', () => {
    arm(MSIX, 0, 2);
    client.setIrqs(EVENTFD | TRIGGER, MSIX, 0, 1, { triggers: [NO_TRIGGER] });
    expect([trigger(MSIX, 0), trigger(MSIX, 1)]).toEqual([false, true]);
    client.setIrqs(NONE | TRIGGER, MSIX, 0, 0);
    expect(trigger(MSIX, 1)).toBe(false);
  });

  it('tell the model which index changed', () => {
    arm(MSI, 0, 2);
    expect(rig.model.calls).toEqual(['connected', 'armed 1']);
  });

  it('are masked and automasked as with eventfds', () => {
    arm(INTX, 0, 1);
    expect(trigger(INTX, 0)).toBe(true);
    expect(trigger(INTX, 0)).toBe(false);
    client.setIrqs(NONE | UNMASK, INTX, 0, 1);
    expect(rig.model.calls).toContain('unmasked 0 0');
    client.setIrqs(NONE | MASK, INTX, 0, 1);
    expect(trigger(INTX, 0)).toBe(false);
  });

  it('can be caused by the client: DATA_BOOL with a trigger', () => {
    arm(MSI, 0, 3);
    client.setIrqs(BOOL | TRIGGER, MSI, 0, 3, { bools: [true, false, true] });
    expect(interrupts()).toEqual(['1.0', '1.2']);
  });

  it('that are raised while an access is served come behind its answer', () => {
    arm(MSI, 0, 2);
    rig.model.memory.get(BAR0)!.fill(0x5a);
    rig.model.onWrite = () => {
      trigger(MSI, 1);
      trigger(MSI, 0);
      trigger(MSI, 1);
    };
    const order: string[] = [];
    client.onInterrupt = ({ vector }) => order.push(`interrupt ${vector}`);
    client.regionWrite(BAR0, 0, Uint8Array.of(1));
    order.unshift('answer');
    rig.settle();
    expect(order).toEqual(['answer', 'interrupt 0', 'interrupt 1']);
  });

  it('that a posted write raises come too', () => {
    arm(MSI, 0, 1);
    rig.model.onWrite = () => trigger(MSI, 0);
    client.regionWrite(BAR0, 0, Uint8Array.of(1), { posted: true });
    expect(interrupts()).toEqual(['1.0']);
  });

  it('wait for a client that does not read, one for each vector, and then come', () => {
    client.close();
    rig.close();
    rig = new Rig({ maxQueuedMessages: 4 });
    client = rig.adopted();
    arm(MSIX, 0, 32);
    client.connection.pause();
    // Far more than the stream takes.
    for (let i = 0; i < 100_000; i++) expect(trigger(MSIX, i % 32)).toBe(true);
    rig.settle();
    client.connection.resume();
    rig.settle();
    const before = client.interrupts.length;
    expect(before).toBeLessThanOrEqual(INTERRUPTS_KEPT);
    // The last word on every vector arrived after what the stream had taken.
    expect(new Set(client.interrupts.slice(-32).map(({ vector }) => vector)).size).toBe(32);
    trigger(MSIX, 5);
    rig.settle();
    expect(client.interrupts.at(-1)).toEqual({ index: MSIX, vector: 5 });
    expect(client.getDeviceInfo().regions).toBe(9);
  });

  it('of a client that has gone do not reach the next one', () => {
    arm(MSI, 0, 1);
    client.close();
    const next = rig.adopted();
    expect(trigger(MSI, 0)).toBe(false);
    rig.settle();
    expect(next.interrupts).toEqual([]);
  });
});

describe('DEVICE_SET_IRQS in the messages profile', () => {
  const set = (flags: number, index: number, start: number, count: number, triggers: number[]) =>
    errnoOf(() => client.setIrqs(flags, index, start, count, { triggers }));

  it('is refused with fewer numbers than vectors', () => {
    expect(set(EVENTFD | TRIGGER, MSIX, 0, 3, [1, 2])).toBe(EINVAL);
    expect(set(EVENTFD | TRIGGER, MSIX, 0, 3, [])).toBe(EINVAL);
    expect(set(EVENTFD | TRIGGER, MSIX, 0, 0xffffffff, [1])).toBe(EINVAL);
    expect(rig.model.client!.isArmed(MSIX, 0)).toBe(false);
  });

  it('is refused with a number below -1', () => {
    expect(set(EVENTFD | TRIGGER, MSIX, 0, 2, [1, -2])).toBe(EINVAL);
    expect(rig.model.client!.isArmed(MSIX, 0)).toBe(false);
  });

  it('is refused beyond the vectors that there are', () => {
    expect(set(EVENTFD | TRIGGER, MSI, 3, 2, [1, 1])).toBe(EINVAL);
    expect(set(EVENTFD | TRIGGER, 7, 0, 1, [1])).toBe(EINVAL);
  });

  it('with eventfds that mask and unmask is checked, and left to the side that holds them', () => {
    expect(set(EVENTFD | UNMASK, INTX, 0, 1, [3])).toBe(0);
    expect(set(EVENTFD | MASK, MSI, 0, 1, [3])).toBe(EINVAL);
    arm(INTX, 0, 1);
    expect(trigger(INTX, 0)).toBe(true);
  });

  it('may leave the numbers out of argsz', () => {
    const payload = words(IrqSet.bytes, EVENTFD | TRIGGER, MSI, 0, 1, 0);
    expect(client.request(Command.deviceSetIrqs, payload).errno).toBe(0);
    expect(trigger(MSI, 0)).toBe(true);
  });
});

describe('pausing', () => {
  it('leaves what a stream’s client sends until it goes on', () => {
    rig.server.pause();
    client.regionWrite(BAR0, 1, Uint8Array.of(1), { posted: true });
    rig.settle();
    expect(rig.model.calls).toEqual(['connected']);
    rig.server.resume();
    rig.until(() => rig.model.calls.length > 1);
    expect(rig.model.calls).toEqual(['connected', `write ${BAR0} 1 1`]);
  });

  it('sends interrupts meanwhile', () => {
    arm(MSI, 0, 1);
    rig.server.pause();
    trigger(MSI, 0);
    expect(interrupts()).toEqual(['1.0']);
    rig.server.resume();
  });

  it('lets one stream wait, and takes it when the one before it has gone', () => {
    rig.server.pause();
    client.close();
    const next = rig.adopt();
    const [mine, theirs] = socketPair();
    expect(rig.server.adopt(theirs)).toBe(false);
    closeDescriptor(mine);
    rig.settle();
    rig.server.resume();
    next.negotiate();
    expect(rig.server.connected).toBe(true);
  });

  it('takes the next stream in place of one that waited and has hung up', () => {
    rig.server.pause();
    client.close();
    rig.adopt().close();
    const next = rig.adopt();
    rig.server.resume();
    next.negotiate();
    expect(rig.server.connected).toBe(true);
  });

  it('closes a stream that waited where the one before it is still there', () => {
    rig.server.pause();
    const next = rig.adopt();
    rig.server.resume();
    rig.until(() => next.connection.closed);
    expect(client.getDeviceInfo().regions).toBe(9);
  });

  it('closes a stream that waits when the server ends', () => {
    rig.server.pause();
    const next = rig.adopt();
    rig.server.close();
    rig.until(() => next.connection.closed);
    expect(rig.server.connected).toBe(false);
  });
});

it('an interrupt of another length ends the client’s side', () => {
  const [mine, theirs] = socketPair();
  client.close();
  const peer = new RawPeer(rig, mine);
  const other = rig.clientOver(theirs);
  peer.send(message(Command.interrupt, words(1), { flags: HeaderFlag.noReply }));
  rig.until(() => other.connection.closed);
  expect(other.endReason).toMatch(/^interrupt of another length/);
  peer.close();
});
