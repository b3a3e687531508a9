import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
// The device thread is a worker, which runs compiled code.
import { MachineHost } from '../../dist/src/machine/host.js';
import { describeMachine } from '../../src/machine/description.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { openDescriptors } from '../vfio-user/rig.ts';

const description = describeMachine('vtd', ['edu@01:00.0']);

describe('MachineHost', () => {
  const directory = temporaryDirectory();

  afterAll(() => directory.remove());

  it('serves on a thread of its own, tells events and statistics, and stops without leaving sockets', async () => {
    const { path } = directory;
    const host = await MachineHost.start(description, path);
    expect(host.sockets).toEqual({ iommu: join(path, 'iommu.sock'), edu0: join(path, 'edu0.sock') });
    const connected = host.waitFor(event => event.kind === 'client.connected');
    const loop = new EventLoop(error => {
      throw error;
    });
    const client = new VfioUserClient(loop, host.sockets.edu0!);
    client.negotiate();
    expect(client.getDeviceInfo().regions).toBe(9);
    expect((await connected).source).toBe('edu0');
    const statistics = await host.statistics();
    expect(statistics.functions.edu0).toMatchObject({ connected: true, server: { clients: 1 } });
    await host.stop();
    expect(Object.values(host.sockets).filter(socket => existsSync(socket))).toEqual([]);
    client.close();
    loop.close();
    await expect(host.statistics()).rejects.toThrow(/stopped/);
  });

  describe('openStream', () => {
    const loop = new EventLoop(error => {
      throw error;
    });
    const talk = (fd: number) => new VfioUserClient(loop, fd, {}, { messages: true });
    let host: MachineHost;

    beforeAll(async () => {
      host = await MachineHost.start(description, directory.path);
    });
    afterAll(async () => {
      await host.stop();
      loop.close();
    });

    it('connects a client without descriptors, whose end is the server’s to notice', async () => {
      const client = talk(await host.openStream('edu0'));
      client.negotiate();
      expect(client.getDeviceInfo().regions).toBe(9);
      expect((await host.statistics()).functions.edu0).toMatchObject({ connected: true });
      const closed = host.waitFor(event => event.kind === 'client.closed');
      client.close();
      expect((await closed).detail).toEqual({ reason: 'end of stream' });
    });

    it('says who is there already, and leaves no descriptor behind', async () => {
      const client = talk(await host.openStream('iommu'));
      client.negotiate();
      const before = openDescriptors();
      await expect(host.openStream('iommu')).rejects.toThrow(/another client is connected to iommu/);
      // The device thread, which is in this process, closes its end when it likes.
      await expect.poll(openDescriptors).toBeLessThanOrEqual(before);
      expect(client.getDeviceInfo().regions).toBe(9);
      client.close();
    });

    it('says which functions there are', async () => {
      await expect(host.openStream('edu7')).rejects.toThrow(/no function edu7: there are iommu, edu0/);
    });

    it('works while the machine is paused: the stream waits', async () => {
      await host.pause();
      const client = talk(await host.openStream('edu0'));
      await host.resume();
      client.negotiate();
      expect(client.getDeviceInfo().regions).toBe(9);
      client.close();
    });

    it('ends its clients when the machine ends, and then says that it has', async () => {
      const client = talk(await host.openStream('edu0'));
      client.negotiate();
      await host.stop();
      loop.waitUntil(() => client.connection.closed, 5000);
      expect(client.endReason).toBe('end of stream');
      const before = openDescriptors();
      await expect(host.openStream('edu0')).rejects.toThrow(/stopped/);
      await expect.poll(openDescriptors).toBeLessThanOrEqual(before);
    });
  });

  it('says why a socket cannot be made', async () => {
    await expect(MachineHost.start(description, '/nonexistent/directory')).rejects.toThrow(/nonexistent/);
  });
});
