/** What the server does with clients that do not behave, and how sessions end. */
import { request } from 'node:http';
import type { Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import type { LinkLimits } from '../../../src/vfio-user/websocket/limits.ts';
import { rawClient } from './raw-client.ts';
import { message, messages, Rig } from './rig.ts';

let rig: Rig;

async function start(limits: Partial<LinkLimits> = {}): Promise<Rig> {
  rig = await Rig.start(limits);
  return rig;
}

afterEach(() => rig.close());

describe('the welcome', () => {
  test('tells the session, the grace, what was received and the window', async () => {
    await start({ windowBytes: 2_000_000, windowFrames: 77 });
    const { welcome } = await rawClient(rig.url());
    expect(welcome).toEqual({
      type: 'welcome',
      session: expect.stringMatching(/^[0-9a-f]{32}$/),
      grace: 4000,
      received: 0,
      window: { bytes: 2_000_000, frames: 77 },
    });
  });

  test.each([
    ['?grace=100', 100],
    ['?grace=0', 0],
    ['?grace=999999', 25_000],
    ['', 4000],
  ])('with %s agrees to a grace of %i ms', async (query, grace) => {
    await start();
    expect((await rawClient(rig.url(), { query })).welcome.grace).toBe(grace);
  });

  test('gives each session an id of its own', async () => {
    await start();
    const ids = await Promise.all(['a', 'b', 'c'].map(async name => (await rawClient(rig.url(name))).welcome.session));
    expect(new Set(ids).size).toBe(3);
  });
});

describe('a handshake is refused', () => {
  test('without the subprotocol', async () => {
    await start();
    await expect(rawClient(rig.url(), { protocols: ['viommu.v1'] })).rejects.toThrow(
      '400 offer the subprotocol vfio-user.v1',
    );
  });

  test.each(['?grace=x', '?grace=-1', '?session=1&received=0', `?session=${'0'.repeat(32)}&received=x`])(
    'with %s',
    async query => {
      await start();
      await expect(rawClient(rig.url(), { query })).rejects.toThrow('400 the query is');
    },
  );

  test('at another path', async () => {
    await start();
    await expect(rawClient(`${rig.url()}/more`)).rejects.toThrow('404 the path is /vfio-user/MACHINE/FUNCTION');
  });

  test('with an unknown session', async () => {
    await start();
    const query = `?session=${'0'.repeat(32)}&received=0`;
    await expect(rawClient(rig.url(), { query })).rejects.toThrow('410 there is no such session any more');
    expect(rig.opened).toEqual([]);
  });

  test('where the function cannot be opened, with the reason', async () => {
    await start();
    rig.onOpen = async () => {
      throw new Error('no function edu7: iommu, edu0');
    };
    await expect(rig.connect()).rejects.toThrow(/refused: 409 no function edu7: iommu, edu0$/);
    expect((await rig.heardOf('link.refused')).detail).toMatchObject({ machine: 'm1', name: 'edu0', status: 409 });
    expect(rig.acceptor.statistics).toMatchObject({ sessions: 0, refused: 1 });
  });

  test('where the machine does not answer, and a late stream is closed', async () => {
    await start({ openMilliseconds: 20 });
    let answer: () => void = () => {};
    const asked = new Promise<void>(resolve => {
      answer = resolve;
    });
    rig.onOpen = async (machine, name) => {
      await asked;
      return rig.openStream(machine, name);
    };
    await expect(rig.connect()).rejects.toThrow('504 the machine did not answer for 20 ms');
    answer();
    await rig.until(() => rig.machine.length === 1);
    await rig.machine[0]!.ended;
  });

  test('where there are too many sessions', async () => {
    await start({ maxSessions: 2 });
    await rawClient(rig.url('a'));
    await rawClient(rig.url('b'));
    await expect(rawClient(rig.url('c'))).rejects.toThrow('503 the limit of 2 sessions is reached');
  });

  test('where there would be too many sessions with those that are being opened', async () => {
    await start({ maxSessions: 1 });
    let answer: () => void = () => {};
    const answered = new Promise<void>(resolve => {
      answer = resolve;
    });
    const asked = new Promise<void>(resolve => {
      rig.onOpen = async (machine, name) => {
        resolve();
        await answered;
        return rig.openStream(machine, name);
      };
    });
    const first = rawClient(rig.url('a'));
    await asked;
    await expect(rawClient(rig.url('b'))).rejects.toThrow('503 the limit of 1 sessions is reached');
    answer();
    expect((await first).welcome.received).toBe(0);
  });

  test('while the server stops', async () => {
    await start();
    await rig.acceptor.close();
    await expect(rawClient(rig.url())).rejects.toThrow('503 the server stops');
  });

  test('that is no WebSocket handshake, and the stream is closed again', async () => {
    await start();
    const status = await new Promise(resolve => {
      const headers = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Protocol': 'vfio-user.v1' };
      const path = '/vfio-user/m1/edu0';
      request({ port: rig.port, path, headers }, response => resolve(response.statusCode)).end();
    });
    expect(status).toBe(400);
    await rig.machine[0]!.ended;
    expect(rig.acceptor.statistics.sessions).toBe(0);
  });
});

test('a client that goes while its stream is opened leaves nothing behind', async () => {
  await start();
  let asked: () => void = () => {};
  const gone = new Promise<void>(resolve => {
    asked = () => {
      client.once('close', () => resolve());
      client.socket!.resetAndDestroy();
    };
  });
  rig.onOpen = async (machine, name) => {
    asked();
    await gone;
    return rig.openStream(machine, name);
  };
  const headers = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Protocol': 'vfio-user.v1',
    'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    'Sec-WebSocket-Version': '13',
  };
  const client = request({ port: rig.port, path: '/vfio-user/m1/edu0?grace=20', headers });
  client.on('error', () => {});
  client.end();
  await rig.until(() => rig.machine.length === 1);
  await rig.machine[0]!.ended;
  expect(rig.acceptor.statistics.sessions).toBe(0);
});

describe('a client is closed, and its stream too,', () => {
  const wrongSize = message(1);
  wrongSize.writeUInt32LE(4096, 4);

  test.each<[string, (send: (data: string | Buffer) => void) => void, number, string]>([
    ['after a frame that is no message', send => send(wrongSize), 1002, 'a frame of 24 bytes with a message of 4096'],
    ['after a frame without a header', send => send(Buffer.alloc(3)), 1002, 'a frame of 3 bytes holds no header'],
    ['after an empty frame', send => send(Buffer.alloc(0)), 1002, 'a frame of 0 bytes holds no header'],
    ['after two messages in a frame', send => send(Buffer.concat(messages(2))), 1002, 'a frame of 48 bytes'],
    ['after a text that is no control message', send => send('hello'), 1002, 'a text frame that is no control message'],
    ['after a welcome', send => send('{"type":"welcome"}'), 1002, 'a text frame that is no control message'],
    ['after an acknowledgement of what was not sent', send => send('{"type":"ack","received":1}'), 1002, '1 frames'],
  ])('%s', async (_what, misbehave, code, reason) => {
    await start();
    const client = await rawClient(rig.url());
    misbehave(data => client.socket.send(data));
    expect(await client.closed).toEqual({ code, reason: expect.stringContaining(reason) });
    await rig.machine[0]!.ended;
    expect(rig.kinds()).toEqual(['link.opened', 'link.malformed', 'link.closed']);
    expect(client.controls).toEqual([{ type: 'bye', reason: expect.stringContaining(reason) }]);
    expect(rig.acceptor.statistics.sessions).toBe(0);
  });

  test('after a frame longer than any message', async () => {
    await start();
    const client = await rawClient(rig.url());
    client.socket.send(Buffer.alloc(1048576 + 33));
    expect((await client.closed).code).toBe(1009);
    await rig.machine[0]!.ended;
    expect((await rig.heardOf('link.malformed')).detail.reason).toBe('Max payload size exceeded');
  });

  test('after bytes that are no WebSocket frame', async () => {
    await start();
    const client = await rawClient(rig.url());
    (client.socket as unknown as { _socket: Socket })._socket.write(Buffer.alloc(100, 0xff));
    expect((await client.closed).code).toBe(1002);
    await rig.machine[0]!.ended;
    expect((await rig.heardOf('link.malformed')).detail.reason).toContain('Invalid WebSocket frame');
    expect(rig.acceptor.statistics).toMatchObject({ sessions: 0, lost: 0 });
  });

  test('after more than the window ahead of its acknowledgement', async () => {
    await start({ windowFrames: 20 });
    const client = await rawClient(rig.url());
    rig.machine[0]!.socket.pause();
    // The kernel and the stream's own buffer take some.
    for (const one of messages(200, 60_000)) client.socket.send(one);
    expect(await client.closed).toEqual({ code: 1002, reason: expect.stringContaining('more than 20 frames') });
  });

  test('where it is silent, its own pings and answers included', async () => {
    await start({ keepAliveMilliseconds: 20, silentIntervals: 2 });
    const client = await rawClient(rig.url(), { query: '?grace=50', autoPong: false });
    expect((await client.closed).code).toBe(1006);
    expect((await rig.heardOf('link.lost')).detail.reason).toBe('silent for 40 ms');
    await rig.machine[0]!.ended;
  });
});

describe('a client stays', () => {
  test('while it answers pings, though its stream takes nothing', async () => {
    await start({ keepAliveMilliseconds: 10, silentIntervals: 2, windowFrames: 1000 });
    const client = await rawClient(rig.url());
    rig.machine[0]!.socket.pause();
    for (const one of messages(100, 20_000)) client.socket.send(one);
    let pings = 0;
    await new Promise<void>(resolve => client.socket.on('ping', () => ++pings === 10 && resolve()));
    expect(rig.acceptor.statistics).toMatchObject({ sessions: 1, lost: 0 });
    rig.machine[0]!.socket.resume();
    const all = Buffer.concat(messages(100, 20_000));
    expect((await rig.machine[0]!.take(all.length)).equals(all)).toBe(true);
    await client.until(() => client.controls.at(-1)?.received === 100);
  });
});

describe('an end', () => {
  test('of the client, with bye, ends the stream after all that it has sent', async () => {
    await start();
    const client = await rawClient(rig.url());
    for (const one of messages(3)) client.socket.send(one);
    client.send({ type: 'bye', reason: 'done' });
    await rig.machine[0]!.ended;
    expect(rig.machine[0]!.received).toEqual(Buffer.concat(messages(3)));
    expect((await client.closed).code).toBe(1000);
    expect((await rig.heardOf('link.closed')).detail).toEqual({
      machine: 'm1',
      name: 'edu0',
      reason: 'the peer took its leave: done',
    });
  });

  test('of the client, with a close frame alone, ends the stream', async () => {
    await start();
    const client = await rawClient(rig.url());
    client.socket.close(1000);
    await rig.machine[0]!.ended;
    expect(rig.acceptor.statistics).toMatchObject({ sessions: 0, lost: 0 });
  });

  test('of the stream waits for the acknowledgement of what came before it', async () => {
    await start();
    const client = await rawClient(rig.url());
    rig.machine[0]!.socket.end(Buffer.concat(messages(3)));
    await client.until(() => client.frames.length === 3);
    client.socket.send(message(9));
    await client.until(() => client.controls.length > 0);
    expect(client.controls).toEqual([{ type: 'ack', received: 1 }]);
    client.send({ type: 'ack', received: 3 });
    expect(await client.closed).toEqual({ code: 1000, reason: 'the local stream ended' });
    expect(client.controls.at(-1)).toEqual({ type: 'bye', reason: 'the local stream ended' });
  });

  test('of the stream comes without that acknowledgement after a while', async () => {
    await start({ lingerMilliseconds: 20 });
    const client = await rawClient(rig.url());
    rig.machine[0]!.socket.end(message(1));
    expect(await client.closed).toEqual({ code: 1000, reason: 'the local stream ended' });
    expect(client.frames).toEqual([message(1)]);
  });

  test('of the client gives the stream all that has come, however slowly it takes it', async () => {
    await start({ windowFrames: 100 });
    const client = await rawClient(rig.url());
    rig.machine[0]!.socket.pause();
    for (const one of messages(50, 60_000)) client.socket.send(one);
    client.send({ type: 'bye', reason: 'done' });
    await client.closed;
    rig.machine[0]!.socket.resume();
    await rig.machine[0]!.ended;
    expect(rig.machine[0]!.received.equals(Buffer.concat(messages(50, 60_000)))).toBe(true);
  });

  test('of the stream inside a message is told', async () => {
    await start();
    const client = await rawClient(rig.url());
    rig.machine[0]!.socket.end(message(1).subarray(0, 20));
    expect(await client.closed).toEqual({ code: 1001, reason: 'the local stream ended inside a message' });
  });

  test('comes where the stream holds no messages', async () => {
    await start();
    const client = await rawClient(rig.url());
    rig.machine[0]!.socket.write(Buffer.alloc(100));
    expect(await client.closed).toEqual({ code: 1001, reason: expect.stringContaining('a message of 0 bytes') });
    await rig.machine[0]!.ended;
  });

  test('of the server is told to every client, with 1001', async () => {
    await start();
    const { link, client } = await rig.connect();
    const raw = await rawClient(rig.url('edu1'));
    await rig.acceptor.close();
    expect(await raw.closed).toEqual({ code: 1001, reason: 'the server stops' });
    expect(await link.closed).toBe('the peer took its leave: the server stops');
    await client.ended;
    await Promise.all(rig.machine.map(({ ended }) => ended));
  });

  test('of the server does not wait for clients that do not close', async () => {
    await start({ closeMilliseconds: 20 });
    const raw = await rawClient(rig.url());
    raw.socket.pause();
    await rig.acceptor.close();
    raw.socket.resume();
    await raw.closed;
  });

  test('of the server does not wait for streams that nobody reads', async () => {
    await start({ windowFrames: 100 });
    const client = await rawClient(rig.url());
    rig.machine[0]!.socket.pause();
    for (const one of messages(50, 60_000)) client.socket.send(one);
    client.send({ type: 'bye', reason: 'done' });
    await client.closed;
    expect(rig.acceptor.statistics.sessions).toBe(0);
    await rig.acceptor.close();
    rig.machine[0]!.socket.resume();
    await rig.machine[0]!.ended;
    expect(rig.machine[0]!.receivedBytes).toBeLessThan(50 * 60_000);
  });

  test('of the server does not wait for a machine that does not answer', async () => {
    await start();
    const asked = new Promise<void>(resolve => {
      rig.onOpen = () => {
        resolve();
        return new Promise(() => {});
      };
    });
    const refused = expect(rawClient(rig.url())).rejects.toThrow('503 the server stops');
    await asked;
    await rig.acceptor.close();
    await refused;
  });
});

test('an open that gives something else than a stream ends the session with a reason', async () => {
  await start();
  const { openSync } = await import('node:fs');
  rig.onOpen = async () => openSync('/dev/null', 'r');
  await expect(rig.connect()).rejects.toThrow(/refused: the machine gave no stream/);
  expect(rig.acceptor.statistics.sessions).toBe(0);
});
