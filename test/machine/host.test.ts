import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
// The device thread is a worker, which runs compiled code.
import { MachineHost } from '../../dist/src/machine/host.js';
import { describeMachine } from '../../src/machine/description.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { temporaryDirectory } from '../guest/support.ts';

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

  it('says why a socket cannot be made', async () => {
    await expect(MachineHost.start(description, '/nonexistent/directory')).rejects.toThrow(/nonexistent/);
  });
});
