import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEventFd } from '../../src/posix/eventfd.ts';
import { closeDescriptor, connectUnix, StreamSocket } from '../../src/posix/socket.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { defaultLimits, largestMessage } from '../../src/vfio-user/limits.ts';
import { VfioUserServer } from '../../src/vfio-user/server.ts';
import { Command, HeaderFlag } from '../../src/vfio-user/spec.ts';
import { BAR0, concat, FakeModel, LARGE_BAR, message, openDescriptors, Rig, words } from './rig.ts';

const NOTHING = new Uint8Array(0);

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});
afterEach(() => rig.close());

describe('messages in a stream', () => {
  it('serves a hundred that arrive in one piece, in order', () => {
    const client = rig.client();
    const writes = Array.from({ length: 100 }, (_, i) =>
      message(Command.regionWrite, words(4 * i, 0, BAR0, 4, i), { id: i, flags: HeaderFlag.noReply }),
    );
    client.sendRaw(concat(...writes));
    expect(client.regionRead(BAR0, 396, 4)[0]).toBe(99);
    const order = rig.model.calls.filter(call => call.startsWith('write'));
    expect(order).toEqual(Array.from({ length: 100 }, (_, i) => `write 0 ${4 * i} 4`));
  });

  it('answers a hundred reads that nobody waits for', () => {
    const client = rig.client();
    const before = client.connection.bytesReceived;
    for (let id = 0; id < 100; id++) client.sendCommand(Command.regionRead, words(id, 0, BAR0, 1));
    rig.until(() => client.connection.bytesReceived - before === 100 * 33);
  });

  it('serves one that arrives byte by byte', () => {
    const client = rig.client();
    rig.model.memory.get(BAR0)!.set([1, 2, 3, 4], 8);
    const id = client.sendCommand(Command.regionRead, words(8, 0, BAR0, 4));
    rig.settle();
    const before = rig.model.calls.length;
    const bytes = message(Command.regionWrite, words(0, 0, BAR0, 4, 0xabcd), { id: id + 1, flags: HeaderFlag.noReply });
    for (let i = 0; i < bytes.length; i++) {
      client.sendRaw(bytes.subarray(i, i + 1));
      rig.settle();
      expect(rig.model.calls.length - before).toBe(i === bytes.length - 1 ? 1 : 0);
    }
    expect(rig.model.memory.get(BAR0)!.subarray(0, 2)).toEqual(Uint8Array.of(0xcd, 0xab));
  });

  it('serves a message whose end comes with the start of the next', () => {
    const client = rig.client();
    const both = concat(
      message(Command.regionWrite, words(0, 0, BAR0, 4, 1), { flags: HeaderFlag.noReply }),
      message(Command.regionWrite, words(4, 0, BAR0, 4, 2), { flags: HeaderFlag.noReply }),
    );
    client.sendRaw(both.subarray(0, 45));
    rig.settle();
    client.sendRaw(both.subarray(45));
    rig.until(() => rig.model.memory.get(BAR0)![4] === 2);
  });

  it('moves the largest messages both ways', () => {
    const client = rig.client();
    const bytes = new Uint8Array(1048576);
    for (let i = 0; i < bytes.length; i++) bytes[i] = i % 251;
    client.regionWrite(LARGE_BAR, 1048576, bytes);
    expect(Buffer.compare(client.regionRead(LARGE_BAR, 1048576, 1048576), bytes)).toBe(0);
  });

  it('takes many large messages in a row through one buffer', () => {
    const client = rig.client();
    for (let i = 0; i < 8; i++) {
      client.regionWrite(LARGE_BAR, i, new Uint8Array(700_000).fill(i), { posted: true });
      client.regionWrite(BAR0, 0, Uint8Array.of(i), { posted: true });
    }
    expect(client.regionRead(BAR0, 0, 1)[0]).toBe(7);
    expect(client.regionRead(LARGE_BAR, 7, 1)[0]).toBe(7);
  });

  it('accepts a header whose reserved flags are set, and says so once', () => {
    const client = rig.client();
    for (let id = 0; id < 2; id++) client.sendRaw(message(Command.deviceReset, NOTHING, { id, flags: 0x10010 }));
    rig.until(() => rig.model.calls.filter(call => call === 'reset').length === 2);
    expect(rig.trace.kinds().filter(kind => kind === 'message.reserved-flags')).toHaveLength(1);
  });
});

describe('a peer that does not read', () => {
  const READ_REPLY = 32 + 4096;
  let socket: StreamSocket;

  /** Sends requests to read 4 KiB until neither side takes any more; returns how many went out whole. */
  function sendUntilStuck(): number {
    const request = message(Command.regionRead, words(0, 0, BAR0, 4096));
    let bytes = 0;
    let stuck = 0;
    while (stuck < 3) {
      const from = bytes % request.length;
      socket.output.set(request.subarray(from));
      const sent = socket.send(0, request.length - from);
      if (sent < 0) rig.settle();
      stuck = sent < 0 ? stuck + 1 : 0;
      bytes += Math.max(sent, 0);
    }
    // The rest of the last one, so that the stream ends between messages, is sent once there is room.
    return Math.ceil(bytes / request.length);
  }

  function receiveAll(bytes: number): number {
    let received = 0;
    rig.until(() => {
      for (let got = 1; got > 0; received += Math.max(got, 0)) got = socket.receive(0, socket.input.length);
      return received >= bytes;
    });
    return received;
  }

  beforeEach(() => {
    rig.close();
    rig = new Rig({ maxQueuedBytes: 65536, maxDataTransfer: 4096 });
    socket = new StreamSocket(connectUnix(rig.path), 65536, 4096, 0);
    const version = message(Command.version, words(0));
    socket.output.set(version);
    socket.send(0, version.length);
    rig.until(() => rig.server.connected);
    rig.settle();
    while (socket.receive(0, 4096) > 0);
  });
  afterEach(() => socket.close());

  it('is not read from while its answers fill the output', () => {
    const sent = sendUntilStuck();
    const served = rig.model.calls.length;
    rig.settle();
    expect(rig.model.calls.length).toBe(served);
    expect(served).toBeLessThan(sent);
    expect(rig.server.connected).toBe(true);
  });

  it('gets every answer once it reads, and is served again', () => {
    const sent = sendUntilStuck();
    receiveAll((sent - 1) * READ_REPLY);
    const served = rig.model.calls.filter(call => call.startsWith('read')).length;
    expect(served).toBeGreaterThanOrEqual(sent - 1);
    expect(served).toBeLessThanOrEqual(sent);
  });

  it('goes on when its answers leave just as another client knocks', () => {
    sendUntilStuck();
    while (socket.receive(0, socket.input.length) > 0);
    const second = rig.connect();
    rig.until(() => second.connection.closed);
    const served = rig.model.calls.length;
    while (socket.receive(0, socket.input.length) > 0);
    rig.until(() => rig.model.calls.length > served || socket.send(0, 1) > 0);
    rig.settle();
    expect(rig.model.calls.length).toBeGreaterThan(served);
  });

  it('is served where the output holds one largest answer and no more', () => {
    rig.close();
    rig = new Rig({ maxQueuedBytes: 1 });
    const client = rig.client();
    expect(client.regionRead(LARGE_BAR, 0, 1048576)).toHaveLength(1048576);
  });

  it('does not keep another server on the loop from its work', () => {
    sendUntilStuck();
    const path = `${rig.directory}/other.sock`;
    const model = new FakeModel();
    const server = new VfioUserServer({ path, name: 'other', model, loop: rig.loop, trace: rig.trace });
    const client = new VfioUserClient(rig.loop, path);
    client.negotiate();
    expect(client.regionRead(BAR0, 0, 4)).toHaveLength(4);
    client.close();
    server.close();
  });

  it('is let go when it hangs up', () => {
    sendUntilStuck();
    socket.close();
    rig.until(() => !rig.server.connected);
    expect(rig.closeReason()).toMatch(/hung up with answers unread|send failed/);
    expect(rig.client().getDeviceInfo().regions).toBe(9);
  });
});

describe('malformed streams end the connection', () => {
  const cases: [string, Uint8Array, string][] = [
    ['a size below the header', message(Command.deviceReset, NOTHING, { size: 15 }), 'message size out of range'],
    ['a size of zero', message(Command.deviceReset, NOTHING, { size: 0 }), 'message size out of range'],
    [
      'a size beyond the largest message',
      message(Command.regionWrite, NOTHING, { size: largestMessage(defaultLimits) + 1 }),
      'message size out of range',
    ],
    ['a size of 4 GiB', message(Command.regionWrite, NOTHING, { size: 0xffffffff }), 'message size out of range'],
    ['an unknown type', message(Command.deviceReset, NOTHING, { flags: 2 }), 'unknown message type'],
    ['every flag set', message(Command.deviceReset, NOTHING, { flags: 0xffffffff }), 'unknown message type'],
    ['a reply to nothing', message(Command.deviceReset, NOTHING, { flags: 1 }), 'reply to no request'],
    ['text', new TextEncoder().encode('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'), 'message size out of range'],
  ];
  it.each(cases)('%s', (_, bytes, reason) => {
    const client = rig.client();
    client.sendRaw(bytes);
    rig.until(() => client.connection.closed);
    expect(rig.closeReason()).toBe(reason);
    expect(rig.model.calls).toEqual(['connected', 'disconnected']);
    expect(rig.client().getDeviceInfo().regions).toBe(9);
  });

  it('does not serve what follows a malformed message', () => {
    const client = rig.client();
    client.sendRaw(concat(message(Command.deviceReset, NOTHING, { size: 3 }), message(Command.deviceReset, NOTHING)));
    rig.until(() => client.connection.closed);
    expect(rig.model.calls).not.toContain('reset');
  });

  it('serves what came before it', () => {
    const client = rig.client();
    client.sendRaw(concat(message(Command.deviceReset, NOTHING), message(Command.deviceReset, NOTHING, { size: 3 })));
    rig.until(() => client.connection.closed);
    expect(rig.model.calls.filter(call => call === 'reset')).toHaveLength(1);
  });
});

describe('a client that goes away', () => {
  it('between messages', () => {
    rig.client().close();
    rig.until(() => !rig.server.connected);
    expect(rig.closeReason()).toBe('end of stream');
  });

  it('inside a header', () => {
    const client = rig.client();
    client.sendRaw(message(Command.deviceReset, NOTHING).subarray(0, 7));
    client.close();
    rig.until(() => !rig.server.connected);
    expect(rig.closeReason()).toBe('end of stream inside a message');
    expect(rig.model.calls).not.toContain('reset');
  });

  it('inside a payload', () => {
    const client = rig.client();
    client.sendRaw(message(Command.regionWrite, words(0, 0, BAR0, 4, 1)).subarray(0, 33));
    client.close();
    rig.until(() => !rig.server.connected);
    expect(rig.closeReason()).toBe('end of stream inside a message');
    expect(rig.model.memory.get(BAR0)![0]).toBe(0);
  });

  it('after posted writes, which still take effect', () => {
    const client = rig.client();
    client.regionWrite(BAR0, 0, Uint8Array.of(7), { posted: true });
    client.close();
    rig.until(() => !rig.server.connected);
    expect(rig.model.memory.get(BAR0)![0]).toBe(7);
  });

  it('with answers unread', () => {
    const client = rig.client();
    for (let i = 0; i < 50; i++) client.sendCommand(Command.regionRead, words(0, 0, BAR0, 4096));
    client.close();
    rig.until(() => !rig.server.connected);
    expect(rig.client().getDeviceInfo().irqs).toBe(5);
  });
});

describe('descriptors', () => {
  function eventFds(count: number): number[] {
    return Array.from({ length: count }, () => createEventFd());
  }

  const takesNone: [string, number, Uint8Array][] = [
    ['DEVICE_RESET', Command.deviceReset, NOTHING],
    ['DEVICE_GET_INFO', Command.deviceGetInfo, words(16, 0, 0, 0)],
    ['REGION_READ', Command.regionRead, words(0, 0, BAR0, 4)],
    ['REGION_WRITE', Command.regionWrite, words(0, 0, BAR0, 4, 1)],
    ['DMA_UNMAP', Command.dmaUnmap, words(24, 0, 0, 0, 4096, 0)],
  ];
  it.each(takesNone)('on %s close the connection and are closed', (_, command, payload) => {
    const client = rig.client();
    const open = openDescriptors();
    const [one] = eventFds(1);
    client.sendRaw(message(command, payload), [one!]);
    closeDescriptor(one!);
    rig.until(() => client.connection.closed && !rig.server.connected);
    expect(rig.closeReason()).toBe('descriptors where none belong');
    expect(openDescriptors()).toBe(open - 2);
  });

  it('on VERSION close the connection', () => {
    const client = rig.connect();
    const [one] = eventFds(1);
    client.sendRaw(message(Command.version, words(0)), [one!]);
    closeDescriptor(one!);
    rig.until(() => client.connection.closed);
    expect(rig.closeReason()).toBe('descriptors where none belong');
  });

  it('on a reply close the connection', () => {
    const client = rig.client();
    const [one] = eventFds(1);
    client.sendRaw(message(Command.dmaRead, NOTHING, { flags: 1 }), [one!]);
    closeDescriptor(one!);
    rig.until(() => client.connection.closed);
    expect(rig.closeReason()).toBe('descriptors where none belong');
  });

  it('on an unknown command are closed, and the command is refused', () => {
    const client = rig.client();
    const open = openDescriptors();
    const [one] = eventFds(1);
    expect(client.request(Command.dirtyPages, words(8, 0), [one!]).errno).toBe(95);
    closeDescriptor(one!);
    expect(openDescriptors()).toBe(open);
  });

  it('beyond sixteen close the connection, and none stays open', () => {
    const client = rig.client({ maxDescriptors: 17 });
    const open = openDescriptors();
    const many = eventFds(17);
    client.sendRaw(message(Command.deviceSetIrqs, words(20, 0x24, 2, 0, 17)), many);
    for (const descriptor of many) closeDescriptor(descriptor);
    rig.until(() => client.connection.closed && !rig.server.connected);
    expect(rig.closeReason()).toBe('too many descriptors');
    expect(openDescriptors()).toBe(open - 2);
  });

  it('beyond sixteen in the pieces of one message close the connection', () => {
    const client = rig.client();
    const many = eventFds(10);
    const bytes = message(Command.deviceSetIrqs, words(20, 0x24, 2, 0, 20));
    client.sendRaw(bytes.subarray(0, 20), many);
    rig.settle();
    client.sendRaw(bytes.subarray(20, 30), many);
    for (const descriptor of many) closeDescriptor(descriptor);
    rig.until(() => client.connection.closed);
    expect(rig.closeReason()).toBe('too many descriptors');
  });

  it('of a message that never ends are closed with the connection', () => {
    const client = rig.client();
    const open = openDescriptors();
    const [one] = eventFds(1);
    client.sendRaw(message(Command.deviceSetIrqs, words(20, 0x24, 2, 0, 1)).subarray(0, 20), [one!]);
    closeDescriptor(one!);
    rig.settle();
    client.close();
    rig.until(() => !rig.server.connected);
    expect(openDescriptors()).toBe(open - 2);
  });

  it('belong to the message they were sent with, also behind others', () => {
    const client = rig.client();
    const [one] = eventFds(1);
    client.sendRaw(message(Command.deviceReset, NOTHING, { flags: HeaderFlag.noReply }));
    client.sendRaw(message(Command.deviceReset, NOTHING, { flags: HeaderFlag.noReply }));
    client.setIrqs(0x24, 2, 5, 1, { descriptors: [one!] });
    client.reset();
    closeDescriptor(one!);
    expect(rig.model.client!.isArmed(2, 5)).toBe(true);
  });

  it('stay with their message when the input buffer is moved up', () => {
    rig.close();
    rig = new Rig({ maxDataTransfer: 4096, receiveAhead: 64 });
    const client = rig.client();
    const [one] = eventFds(1);
    const bytes = message(Command.deviceSetIrqs, words(20, 0x24, 2, 7, 1), { flags: HeaderFlag.noReply });
    client.regionWrite(BAR0, 0, new Uint8Array(200), { posted: true });
    client.sendRaw(bytes.subarray(0, 20), [one!]);
    rig.settle();
    client.sendRaw(bytes.subarray(20));
    closeDescriptor(one!);
    rig.settle();
    expect(rig.model.client!.isArmed(2, 7)).toBe(true);
  });

  it('belong to a message that arrives in pieces', () => {
    const client = rig.client();
    const [one] = eventFds(1);
    const bytes = message(Command.deviceSetIrqs, words(20, 0x24, 2, 3, 1), { flags: HeaderFlag.noReply });
    client.sendRaw(bytes.subarray(0, 1), [one!]);
    for (let i = 1; i < bytes.length; i++) {
      rig.settle();
      client.sendRaw(bytes.subarray(i, i + 1));
    }
    closeDescriptor(one!);
    rig.until(() => rig.model.client!.isArmed(2, 3));
  });

  it('of one that arrives in pieces do not go to the next, which brings its own', () => {
    const client = rig.client();
    const [one, other] = eventFds(2);
    const bytes = (vector: number) =>
      message(Command.deviceSetIrqs, words(20, 0x24, 2, vector, 1), { flags: HeaderFlag.noReply });
    client.sendRaw(bytes(3).subarray(0, 20), [one!]);
    rig.settle();
    // The rest and the next message come in one receive.
    rig.server.pause();
    client.sendRaw(bytes(3).subarray(20));
    client.sendRaw(bytes(4), [other!]);
    rig.server.resume();
    closeDescriptor(one!);
    closeDescriptor(other!);
    rig.until(() => rig.model.client!.isArmed(2, 3) && rig.model.client!.isArmed(2, 4));
  });

  it('are counted by message: one that arrives in pieces takes nothing from the next', () => {
    const client = rig.client();
    const [one] = eventFds(1);
    const many = eventFds(16);
    const bytes = (vector: number, count: number) =>
      message(Command.deviceSetIrqs, words(20, 0x24, 2, vector, count), { flags: HeaderFlag.noReply });
    client.sendRaw(bytes(0, 1).subarray(0, 20), [one!]);
    rig.settle();
    // The rest and the next message come in one receive.
    rig.server.pause();
    client.sendRaw(bytes(0, 1).subarray(20));
    client.sendRaw(bytes(1, 16), many);
    rig.server.resume();
    for (const descriptor of [one!, ...many]) closeDescriptor(descriptor);
    rig.until(() => rig.model.client!.isArmed(2, 0) && rig.model.client!.isArmed(2, 16));
  });
});
