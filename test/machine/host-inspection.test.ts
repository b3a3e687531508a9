import { once } from 'node:events';
import { createConnection } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
// The device thread is a worker, which runs compiled code.
import { MachineHost } from '../../dist/src/machine/host.js';
import { describeMachine } from '../../src/machine/description.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { Command } from '../../src/vfio-user/spec.ts';
import { temporaryDirectory } from '../guest/support.ts';

const BAR0 = 0;
const LIVENESS = 4;

describe('a machine on its device thread', () => {
  const directory = temporaryDirectory();
  let host: MachineHost;
  let loop: EventLoop;

  beforeAll(async () => {
    host = await MachineHost.start(describeMachine('vtd', ['edu@01:00.0']), directory.path);
    loop = new EventLoop(error => {
      throw error;
    });
  });

  afterAll(async () => {
    await host.stop();
    loop.close();
    directory.remove();
  });

  function connect(): VfioUserClient {
    const client = new VfioUserClient(loop, host.sockets.edu0!);
    client.negotiate();
    return client;
  }

  async function liveness(): Promise<number[]> {
    const { blocks } = await host.registers('edu0');
    return [...blocks[0]!.bytes.subarray(LIVENESS, LIVENESS + 4)];
  }

  it('answers what it is made of, and what its registers hold', async () => {
    const { functions, state } = await host.inspect();
    expect(functions.map(({ name }) => name)).toEqual(['iommu', 'edu0']);
    expect(state).toBe('running');
    expect(await host.walk(0x100, 0x1000n)).toMatchObject({ status: 'untranslated', address: 0x1000n });
    expect(await host.tlb(10)).toEqual({ entries: [], total: 0 });
    expect((await host.queue()).enabled).toBe(false);
    await expect(host.registers('nobody')).rejects.toThrow(/'nobody'/);
    await expect(host.step('dma')).rejects.toThrow(/pause it first/);
  });

  it('is paused, stepped and resumed under a client', async () => {
    const client = connect();
    expect(await host.pause()).toEqual({ state: 'paused' });
    for (const value of [1, 2]) client.regionWrite(BAR0, LIVENESS, Uint8Array.of(value, 0, 0, 0), { posted: true });
    expect(await liveness()).toEqual([0, 0, 0, 0]);
    expect(await host.step('register')).toEqual({ state: 'paused', stepped: true });
    expect(await liveness()).toEqual([254, 255, 255, 255]);
    expect(await host.step('register')).toEqual({ state: 'paused', stepped: true });
    expect(await liveness()).toEqual([253, 255, 255, 255]);
    expect(await host.step('dma')).toEqual({ state: 'paused', stepped: false });
    expect(await host.resume()).toEqual({ state: 'running' });
    expect([...client.regionRead(BAR0, LIVENESS, 4)]).toEqual([253, 255, 255, 255]);
    client.close();
  });

  it('answers a step when the guest gets to it, and other questions meanwhile', async () => {
    const client = connect();
    await host.pause();
    const step = host.step('register');
    expect((await host.inspect()).state).toBe('paused');
    client.sendCommand(Command.regionRead, readOf(BAR0, LIVENESS, 4));
    expect(await step).toEqual({ state: 'paused', stepped: true });
    const late = host.step('register');
    await expect(host.step('register')).rejects.toThrow(/under way/);
    expect(await host.resume()).toEqual({ state: 'running' });
    expect(await late).toMatchObject({ stepped: false });
    client.close();
  });

  it('does not lose who connects while it is paused', async () => {
    await host.pause();
    const waiting = createConnection(host.sockets.edu0!);
    await once(waiting, 'connect');
    const before = (await host.statistics()).functions.edu0!.server.clients;
    waiting.destroy();
    await host.resume();
    await expect.poll(async () => (await host.statistics()).functions.edu0!.server.clients).toBe(before + 1);
  });

  it('can be stopped while it is paused', async () => {
    const other = temporaryDirectory();
    const paused = await MachineHost.start(describeMachine('vtd', ['edu@01:00.0']), other.path);
    await paused.pause();
    const step = paused.step('register').catch((error: Error) => error.message);
    await paused.stop();
    expect(await step).toMatch(/stopped/);
    other.remove();
  });
});

function readOf(region: number, offset: number, count: number): Uint8Array {
  const payload = new Uint8Array(16);
  const view = new DataView(payload.buffer);
  view.setBigUint64(0, BigInt(offset), true);
  view.setUint32(8, region, true);
  view.setUint32(12, count, true);
  return payload;
}
