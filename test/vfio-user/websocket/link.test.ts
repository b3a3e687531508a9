import { afterEach, describe, expect, test } from 'vitest';
import type { LinkLimits } from '../../../src/vfio-user/websocket/limits.ts';
import { message, messages, Rig } from './rig.ts';

let rig: Rig;

async function start(limits: Partial<LinkLimits> = {}): Promise<Rig> {
  rig = await Rig.start(limits);
  return rig;
}

afterEach(() => rig.close());

describe('a link', () => {
  test('opens the function that its path names', async () => {
    await start();
    const { link } = await rig.connect({ url: rig.url('edu 0/%', 'm:1') });
    expect(rig.opened).toEqual(['m:1/edu 0/%']);
    expect(link.state).toBe('open');
    expect(rig.acceptor.statistics).toMatchObject({ sessions: 1, waiting: 0, opened: 1 });
  });

  test('carries messages both ways', async () => {
    await start();
    const { client } = await rig.connect();
    const [machine] = rig.machine;
    await client.write(message(1));
    expect(await machine!.take(24)).toEqual(message(1));
    await machine!.write(message(2, 16));
    expect(await client.take(16)).toEqual(message(2, 16));
  });

  test('carries the largest message', async () => {
    await start();
    const { client } = await rig.connect();
    const largest = message(7, 1048576 + 32);
    void client.write(largest);
    expect((await rig.machine[0]!.take(largest.length)).equals(largest)).toBe(true);
    void rig.machine[0]!.write(largest);
    expect((await client.take(largest.length)).equals(largest)).toBe(true);
  });

  test('keeps the order of many messages of many sizes, both ways at once', async () => {
    await start();
    const { client, link } = await rig.connect();
    const all = Buffer.concat(messages(3000, i => 16 + ((i * 7919) % 20000)));
    void client.write(all);
    void rig.machine[0]!.write(all);
    expect((await rig.machine[0]!.take(all.length)).equals(all)).toBe(true);
    expect((await client.take(all.length)).equals(all)).toBe(true);
    expect(link.statistics).toMatchObject({
      framesSent: 3000,
      framesReceived: 3000,
      bytesSent: all.length,
      framesResent: 0,
    });
  });
});
