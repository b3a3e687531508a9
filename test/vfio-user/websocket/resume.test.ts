/** Links whose TCP connections are lost, over real sockets. */
import { afterEach, describe, expect, test } from 'vitest';
import type { LinkLimits } from '../../../src/vfio-user/websocket/limits.ts';
import type { LinkOptions } from '../../../src/vfio-user/websocket/link.ts';
import { rawClient } from './raw-client.ts';
import { message, messages, Rig, type Stream } from './rig.ts';

let rig: Rig;

async function start(limits: Partial<LinkLimits> = {}, options: Partial<LinkOptions> = {}) {
  rig = await Rig.start(limits, { proxy: true });
  const { link, client, notes } = await rig.connect(options);
  return { link, client, notes, proxy: rig.proxy!, machine: rig.machine[0]! };
}

afterEach(() => rig.close());

const resumed = (times: number) => rig.until(() => rig.acceptor.statistics.resumed >= times);

describe('a lost connection', () => {
  test('is made again at once, and nobody on the streams sees it', async () => {
    const { link, client, proxy, machine, notes } = await start();
    await client.write(message(0));
    await machine.take(24);
    proxy.cut();
    await resumed(1);
    await client.write(message(1));
    expect(await machine.take(48)).toEqual(Buffer.concat(messages(2)));
    await machine.write(message(2));
    expect(await client.take(24)).toEqual(message(2));
    expect(link.state).toBe('open');
    expect(link.statistics).toMatchObject({ lost: 1, resumed: 1 });
    expect(notes.map(({ kind }) => kind)).toEqual(['link.lost', 'link.resumed']);
    expect(rig.opened).toHaveLength(1);
  });

  test('keeps what is sent while it is away, both ways', async () => {
    const { link, client, proxy, machine } = await start();
    proxy.refuse();
    proxy.cut();
    await rig.until(() => link.state === 'waiting' && rig.kinds().includes('link.lost'));
    const all = Buffer.concat(messages(50, i => 16 + i));
    await client.write(all);
    await machine.write(all);
    proxy.allow();
    expect(await machine.take(all.length)).toEqual(all);
    expect(await client.take(all.length)).toEqual(all);
    expect(link.statistics.resumed).toBe(1);
  });

  test('loses nothing and doubles nothing, wherever it breaks, again and again', async () => {
    const limits = { windowBytes: 1048576 + 4096, windowFrames: 300, ackFrames: 16, ackBytes: 65536 };
    const { link, client, proxy, machine } = await start({ ...limits, graceMilliseconds: 20_000 });
    const up = messages(4000, i => 16 + ((i * 7919) % 3000));
    const down = messages(4000, i => 16 + ((i * 104729) % 5000));
    const sending = [sendAll(client, up), sendAll(machine, down)];
    // Each cut comes when some more has arrived, and so in the middle of what follows.
    for (let i = 1; i <= 12; i++) {
      await machine.take((i * Buffer.concat(up).length) / 14);
      proxy.cut();
      await resumed(i);
    }
    await Promise.all(sending);
    expect((await machine.take(Buffer.concat(up).length)).equals(Buffer.concat(up))).toBe(true);
    expect((await client.take(Buffer.concat(down).length)).equals(Buffer.concat(down))).toBe(true);
    expect(link.statistics.lost).toBeGreaterThanOrEqual(12);
    expect(link.statistics.framesSent).toBe(4000 + link.statistics.framesResent);
  });

  test('is found when nothing comes through any more, though nobody closed it', async () => {
    const { link, client, proxy, machine } = await start({ keepAliveMilliseconds: 50, redialMilliseconds: 300 });
    proxy.swallow();
    await client.write(message(0));
    await rig.until(() => link.state === 'waiting');
    proxy.swallow(false);
    expect(await machine.take(24)).toEqual(message(0));
    expect(link.statistics.framesResent).toBe(1);
  });

  test('that stays away ends the link on both sides, and both streams', async () => {
    const { link, client, proxy, machine } = await start({}, { graceMilliseconds: 100 });
    proxy.refuse();
    proxy.cut();
    expect(await link.closed).toMatch(/^the connection is lost, and did not come back within 100 ms: /);
    await client.ended;
    await machine.ended;
    expect(link.state).toBe('closed');
    expect(rig.acceptor.statistics).toMatchObject({ sessions: 0, expired: 1 });
    expect((await rig.heardOf('link.closed')).detail.reason).toBe('the client did not come back within 100 ms');
  });

  test('of a session that the server has given up is not made again', async () => {
    const { link, client, proxy, machine } = await start({ maxGraceMilliseconds: 50 }, { graceMilliseconds: 10_000 });
    expect(link.graceMilliseconds).toBe(50);
    proxy.refuse();
    proxy.cut();
    await machine.ended;
    proxy.allow();
    await link.closed;
    await client.ended;
  });

  test('of a restarted server ends the link with what that server says', async () => {
    const { link, proxy } = await start();
    proxy.refuse();
    proxy.cut();
    await rig.until(() => link.state === 'waiting');
    await rig.restart();
    proxy.allow();
    expect(await link.closed).toContain('410 there is no such session any more');
  });

  test('lets a session end in order when it is back', async () => {
    const { link, client, proxy, machine } = await start();
    proxy.refuse();
    proxy.cut();
    await rig.until(() => link.state === 'waiting');
    client.socket.end(message(5));
    proxy.allow();
    expect(await machine.take(24)).toEqual(message(5));
    expect(await link.closed).toBe('the local stream ended');
    await machine.ended;
  });

  test('does not make close wait', async () => {
    const { link, client, proxy } = await start();
    proxy.refuse();
    proxy.cut();
    await rig.until(() => link.state === 'waiting');
    await link.close();
    expect(await link.closed).toBe('closed by this side');
    await client.ended;
  });

  test('bounds what is taken from the local stream meanwhile', async () => {
    const limits = { windowBytes: 1048576 + 4096, graceMilliseconds: 10_000 };
    const { link, client, proxy, machine } = await start(limits);
    proxy.refuse();
    proxy.cut();
    await rig.until(() => link.state === 'waiting');
    const all = messages(200, 60_000);
    let done = false;
    const sent = sendAll(client, all).then(() => {
      done = true;
    });
    // Far more turns than reading everything would take.
    for (let i = 0; i < 2000; i++) await new Promise(resolve => setImmediate(resolve));
    expect(done).toBe(false);
    expect(client.socket.bytesWritten).toBeLessThan(1_000_000);
    proxy.allow();
    await sent;
    const whole = Buffer.concat(all);
    expect((await machine.take(whole.length)).equals(whole)).toBe(true);
  });
});

describe('a session', () => {
  test('goes on over a new connection while the old one looks alive, which is cut', async () => {
    rig = await Rig.start();
    const first = await rawClient(rig.url());
    first.socket.send(message(0));
    await rig.machine[0]!.take(24);
    const second = await rawClient(rig.url(), { query: `?session=${first.welcome.session}&received=0` });
    expect(second.welcome).toEqual({ ...first.welcome, received: 1 });
    expect((await first.closed).code).toBe(1006);
    second.socket.send(message(1));
    expect(await rig.machine[0]!.take(48)).toEqual(Buffer.concat(messages(2)));
    expect(rig.acceptor.statistics).toMatchObject({ sessions: 1, opened: 1, resumed: 1, lost: 0 });
  });

  test('that goes on has no grace time running any more', async () => {
    rig = await Rig.start({ keepAliveMilliseconds: 20 });
    const first = await rawClient(rig.url(), { query: '?grace=50' });
    first.socket.terminate();
    await rig.heardOf('link.lost');
    const second = await rawClient(rig.url(), { query: `?session=${first.welcome.session}&received=0` });
    // Five intervals are longer than the grace.
    let pings = 0;
    await new Promise<void>(resolve => second.socket.on('ping', () => ++pings === 5 && resolve()));
    second.socket.send(message(0));
    expect(await rig.machine[0]!.take(24)).toEqual(message(0));
    expect(rig.acceptor.statistics).toMatchObject({ sessions: 1, expired: 0 });
  });

  test('sends again what the client says it has not received', async () => {
    rig = await Rig.start();
    const first = await rawClient(rig.url());
    for (const one of messages(5)) await rig.machine[0]!.write(one);
    await first.until(() => first.frames.length === 5);
    const second = await rawClient(rig.url(), { query: `?session=${first.welcome.session}&received=3` });
    await second.until(() => second.frames.length === 2);
    expect(second.frames).toEqual(messages(5).slice(3));
  });

  test.each([
    ['less than it had acknowledged', 1],
    ['more than was sent', 6],
  ])('refuses a client that says that it has received %s, and goes on', async (_what, received) => {
    rig = await Rig.start();
    const first = await rawClient(rig.url());
    for (const one of messages(5)) await rig.machine[0]!.write(one);
    await first.until(() => first.frames.length === 5);
    first.send({ type: 'ack', received: 2 });
    first.socket.send(message(0));
    await rig.machine[0]!.take(24);
    const query = `?session=${first.welcome.session}&received=${received}&attempt=1`;
    await expect(rawClient(rig.url(), { query })).rejects.toThrow(/^409 .* 2 to 5 are possible$/);
    first.socket.send(message(1));
    expect(await rig.machine[0]!.take(48)).toEqual(Buffer.concat(messages(2)));
    expect(rig.acceptor.statistics).toMatchObject({ sessions: 1, lost: 0, resumed: 0 });
  });

  test.each([1, 2])('is not taken over by attempt %i, which comes after attempt 2', async attempt => {
    rig = await Rig.start();
    const { socket, welcome } = await rawClient(rig.url());
    socket.terminate();
    const query = `?session=${welcome.session}&received=0`;
    const second = await rawClient(rig.url(), { query: `${query}&attempt=2` });
    await expect(rawClient(rig.url(), { query: `${query}&attempt=${attempt}` })).rejects.toThrow(
      `409 attempt ${attempt} comes after attempt 2`,
    );
    second.socket.send(message(0));
    expect(await rig.machine[0]!.take(24)).toEqual(message(0));
    const third = await rawClient(rig.url(), { query: `${query}&attempt=3` });
    expect(third.welcome.received).toBe(1);
    expect(rig.acceptor.statistics).toMatchObject({ sessions: 1, resumed: 2 });
  });

  test.each([
    ['another function', 'edu1', 'm1'],
    ['another machine', 'edu0', 'm2'],
  ])('is not for %s', async (_what, name, machine) => {
    rig = await Rig.start();
    const { welcome } = await rawClient(rig.url());
    const query = `?session=${welcome.session}&received=0`;
    await expect(rawClient(rig.url(name, machine), { query })).rejects.toThrow('410 there is no such session any more');
    expect(rig.acceptor.statistics).toMatchObject({ sessions: 1, refused: 1 });
  });

  test('of a client that may come back for long refuses the one in its place, and says so', async () => {
    rig = await Rig.start();
    const dead = await rawClient(rig.url(), { query: '?grace=20000' });
    dead.socket.terminate();
    await rig.heardOf('link.lost');
    await expect(rawClient(rig.url())).rejects.toThrow(/^409 its last client may come back for (1\d{4}|20000) ms$/);
    expect(rig.opened).toHaveLength(1);
  });

  test('of a client that died is waited for by the one that comes in its place', async () => {
    rig = await Rig.start();
    const dead = await rawClient(rig.url(), { query: '?grace=200' });
    dead.socket.terminate();
    await rig.heardOf('link.lost');
    const { link } = await rig.connect();
    expect(link.state).toBe('open');
    await rig.machine[0]!.ended;
    expect(rig.kinds()).toEqual(['link.opened', 'link.lost', 'link.closed', 'link.opened']);
  });
});

async function sendAll(to: Stream, all: readonly Buffer[]): Promise<void> {
  for (const one of all) await to.write(one);
}
