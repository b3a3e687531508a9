import { existsSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEventFd } from '../../src/posix/eventfd.ts';
import { createMemfd } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { defaultLimits } from '../../src/vfio-user/limits.ts';
import { VfioUserServer } from '../../src/vfio-user/server.ts';
import { Command, HeaderFlag } from '../../src/vfio-user/spec.ts';
import { BAR0, FakeModel, message, openDescriptors, PATIENCE, Rig, words } from './rig.ts';

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});
afterEach(() => rig.close());

describe('the socket', () => {
  it('is its owner’s only', () => {
    expect(statSync(rig.path).isSocket()).toBe(true);
    expect(statSync(rig.path).mode & 0o777).toBe(0o600);
  });

  it('is removed at the end', () => {
    rig.server.close();
    expect(existsSync(rig.path)).toBe(false);
  });

  it('may have been removed by somebody else', () => {
    const open = openDescriptors();
    const path = join(rig.directory, 'moved.sock');
    const server = serveAt(path);
    expect(openDescriptors()).toBe(open + 1);
    unlinkSync(path);
    server.close();
    server.close();
    expect(openDescriptors()).toBe(open);
  });

  it('cannot be taken from a server that lives', () => {
    expect(() => serveAt(rig.path)).toThrow(rig.path);
    expect(rig.client().getDeviceInfo().regions).toBe(9);
  });
});

function serveAt(path: string, model = new FakeModel()): VfioUserServer {
  return new VfioUserServer({ path, name: 'other', model, loop: rig.loop, trace: rig.trace });
}

describe('one client at a time', () => {
  it('is connected after its handshake', () => {
    expect(rig.server.connected).toBe(false);
    rig.client();
    expect(rig.server.connected).toBe(true);
  });

  it('a second one is turned away, with a reason, and the first goes on', () => {
    const first = rig.client();
    const second = rig.connect();
    rig.until(() => second.connection.closed);
    expect(rig.trace.events.at(-1)).toEqual({
      kind: 'client.refused',
      source: 'device',
      detail: { reason: 'another client is connected' },
    });
    expect(first.getDeviceInfo().regions).toBe(9);
    expect(rig.model.calls).toEqual(['connected']);
  });

  it('a second one is turned away also before the handshake of the first', () => {
    const first = rig.connect();
    rig.settle();
    const second = rig.connect();
    rig.until(() => second.connection.closed);
    first.negotiate();
    expect(rig.server.connected).toBe(true);
  });

  it('the next one is accepted when the first has hung up at the same moment', () => {
    const first = rig.client();
    first.close();
    const second = rig.connect();
    second.negotiate();
    expect(second.getDeviceInfo().regions).toBe(9);
    expect(rig.model.calls).toEqual(['connected', 'disconnected', 'connected']);
    expect(rig.trace.kinds()).not.toContain('client.refused');
  });

  it('what the first had sent before it hung up is served before the second comes', () => {
    const first = rig.client();
    first.regionWrite(BAR0, 0, Uint8Array.of(1), { posted: true });
    first.close();
    rig.client();
    expect(rig.model.calls).toEqual(['connected', 'write 0 0 1', 'disconnected', 'connected']);
  });

  it('however much it had sent: its successor is not turned away for that', () => {
    const memfd = createMemfd('guest', 4096);
    const first = rig.client();
    const count = 3 * defaultLimits.maxReceivesPerCheck;
    // Those with descriptors are received one by one.
    for (let i = 0; i < count; i++) {
      first.sendRaw(message(Command.dmaMap, words(32, 3, 0, 0, i * 4096, 0, 4096, 0), { flags: HeaderFlag.noReply }), [
        memfd,
      ]);
    }
    first.close();
    const second = rig.connect();
    second.negotiate();
    expect(rig.trace.kinds()).not.toContain('client.refused');
    expect(rig.trace.kinds().filter(kind => kind === 'client.closed')).toHaveLength(1);
    closeDescriptor(memfd);
  });

  it('of many that knock at once one is taken', () => {
    const knocking = Array.from({ length: 10 }, () => rig.connect());
    rig.settle();
    expect(knocking.filter(one => !one.connection.closed)).toHaveLength(1);
  });
});

describe('clients that come and go', () => {
  it('leave no descriptor behind', () => {
    const memfd = createMemfd('guest', 65536);
    const eventfd = createEventFd();
    const open = openDescriptors();
    for (let round = 0; round < 20; round++) {
      const client = rig.client();
      client.dmaMap({ address: 0n, size: 65536n, offset: 0n, descriptor: memfd, readable: true, writable: true });
      client.setIrqs(0x24, 2, 0, 1, { descriptors: [eventfd] });
      client.regionWrite(BAR0, 0, Uint8Array.of(round));
      client.close();
      rig.until(() => !rig.server.connected);
    }
    expect(openDescriptors()).toBe(open);
    expect(rig.server.statistics.clients).toBe(20);
    closeDescriptor(memfd);
    closeDescriptor(eventfd);
  });

  it('find the device as the one before left it', () => {
    const first = rig.client();
    first.regionWrite(BAR0, 0, Uint8Array.of(0x42));
    first.close();
    expect(rig.client().regionRead(BAR0, 0, 1)).toEqual(Uint8Array.of(0x42));
  });

  it('may go without a word', () => {
    rig.connect().close();
    rig.until(() => rig.closeReason() !== undefined);
    expect(rig.model.calls).toEqual([]);
    expect(rig.client().getDeviceInfo().regions).toBe(9);
  });

  it('are cleaned up after in order: memory, then the model hears of it', () => {
    const client = rig.client();
    client.dmaMap({ address: 0n, size: 4096n, offset: 0n, descriptor: -1, readable: true, writable: true });
    let mapped = -1;
    rig.model.disconnected = () => {
      mapped = rig.model.dma.mapped.length;
    };
    client.close();
    rig.until(() => mapped !== -1);
    expect(mapped).toBe(0);
  });
});

describe('close', () => {
  it('ends the connection of the client', () => {
    const client = rig.client();
    rig.server.close();
    rig.until(() => client.connection.closed);
    expect(rig.closeReason()).toBe('server closed');
    expect(rig.model.calls).toEqual(['connected', 'disconnected']);
  });

  it('from within a register write ends nothing but this server', () => {
    const client = rig.client();
    rig.model.onWrite = () => rig.server.close();
    expect(() => client.regionWrite(BAR0, 0, Uint8Array.of(1))).toThrow(/no answer/);
    expect(rig.errors).toEqual([]);
  });
});

describe('servers on one loop', () => {
  it('do not disturb each other', () => {
    const path = join(rig.directory, 'other.sock');
    const model = new FakeModel();
    const server = serveAt(path, model);
    const steady = new VfioUserClient(rig.loop, path, { replyTimeout: PATIENCE });
    steady.negotiate();
    const broken = rig.client();
    broken.sendRaw(new Uint8Array(64).fill(0xff));
    steady.regionWrite(BAR0, 0, Uint8Array.of(3));
    rig.until(() => broken.connection.closed);
    expect(steady.regionRead(BAR0, 0, 1)).toEqual(Uint8Array.of(3));
    expect(model.calls).not.toContain('disconnected');
    steady.close();
    server.close();
  });
});

describe('statistics', () => {
  it('count messages by command, refusals and bytes, over all clients', () => {
    const first = rig.client();
    first.getDeviceInfo();
    first.regionRead(BAR0, 0, 4);
    first.close();
    const second = rig.client();
    second.regionRead(BAR0, 4, 4);
    expect(() => second.regionRead(BAR0, 4096, 4)).toThrow();
    second.request(99, new Uint8Array(0));
    const { statistics } = rig.server;
    expect(statistics).toMatchObject({
      clients: 2,
      messages: { version: 2, deviceGetInfo: 1, regionRead: 3, unknown: 1 },
      refused: 2,
      dmaMessages: 0,
    });
    expect(statistics.bytesReceived).toBe(first.connection.bytesSent + second.connection.bytesSent);
    expect(statistics.bytesSent).toBe(first.connection.bytesReceived + second.connection.bytesReceived);
  });

  it('can be cloned', () => {
    expect(structuredClone(rig.server.statistics)).toEqual(rig.server.statistics);
  });
});
