/** The client against servers that are not there, refuse, or do not speak the protocol. */
import { once } from 'node:events';
import { fstatSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { closeDescriptor, socketPair } from '../../../src/posix/socket.ts';
import type { LinkLimits } from '../../../src/vfio-user/websocket/limits.ts';
import { connectVfioUser, type VfioUserLink } from '../../../src/vfio-user/websocket/link.ts';
import { message } from './rig.ts';

const ends: (() => unknown)[] = [];
const welcome = {
  type: 'welcome',
  session: 'a'.repeat(32),
  grace: 100,
  received: 0,
  window: { bytes: 4 * 1048576, frames: 100 },
};

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** A WebSocket server that does with each client what it is told to. */
async function server(onClient: (socket: WebSocket, number: number) => void): Promise<string> {
  const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'vfio-user.v1' });
  await once(sockets, 'listening');
  let number = 0;
  sockets.on('connection', socket => {
    socket.on('error', () => {});
    onClient(socket, number++);
  });
  ends.push(() => {
    for (const socket of sockets.clients) socket.terminate();
    return new Promise(resolve => sockets.close(resolve));
  });
  return `ws://127.0.0.1:${(sockets.address() as AddressInfo).port}/vfio-user/m1/edu0`;
}

async function connect(url: string, limits: Partial<LinkLimits> = {}, token?: string) {
  const [mine, theirs] = socketPair();
  ends.push(() => closeDescriptor(mine));
  const notes: { kind: string; detail: object }[] = [];
  const link: VfioUserLink = await connectVfioUser({
    url,
    token,
    descriptor: theirs,
    limits,
    note: (kind, detail) => notes.push({ kind, detail }),
  });
  ends.push(() => link.close());
  return { link, notes, descriptor: theirs };
}

const say = (socket: WebSocket, value: object) => socket.send(JSON.stringify(value));

describe('connecting fails', () => {
  test('where nobody listens, and the descriptor is closed', async () => {
    const listener = createTcpServer().listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const { port } = listener.address() as AddressInfo;
    listener.close();
    await once(listener, 'close');
    const [mine, theirs] = socketPair();
    const url = `ws://127.0.0.1:${port}/vfio-user/m1/edu0`;
    await expect(connectVfioUser({ url, descriptor: theirs })).rejects.toThrow(
      `cannot connect to ${url}: connect ECONNREFUSED`,
    );
    expect(() => fstatSync(theirs)).toThrow('EBADF');
    closeDescriptor(mine);
  });

  test.each(['', 'not an address', 'http://x y', 'ftp://127.0.0.1/'])('with the address %o', async url => {
    await expect(connect(url)).rejects.toThrow(`'${url}' is not an address`);
  });

  test('with what a server that refuses says, and its status', async () => {
    const http = createServer().listen(0, '127.0.0.1');
    await once(http, 'listening');
    http.on('upgrade', (_request, socket) => {
      socket.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\na token is needed\n');
    });
    ends.push(() => new Promise(resolve => http.close(resolve)));
    const url = `ws://127.0.0.1:${(http.address() as AddressInfo).port}/`;
    await expect(connect(url)).rejects.toMatchObject({
      name: 'LinkError',
      status: 401,
      message: `${url} refused: 401 a token is needed`,
    });
  });

  test('where a server takes the connection and says nothing', async () => {
    const tcp = createTcpServer(socket => {
      ends.push(() => socket.destroy());
    }).listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    ends.push(() => void tcp.close());
    const url = `ws://127.0.0.1:${(tcp.address() as AddressInfo).port}/`;
    await expect(connect(url, { dialMilliseconds: 30 })).rejects.toThrow(`${url} does not answer (waited 30 ms)`);
  });

  test.each(['two\nlines', 'a blank', ''])('where the token is %j, which is not repeated', async token => {
    const [mine, theirs] = socketPair();
    const failed = connectVfioUser({ url: 'ws://127.0.0.1:1/vfio-user/m1/edu0', token, descriptor: theirs });
    await expect(failed).rejects.toThrow(/^the token is empty, or has blanks/);
    closeDescriptor(mine);
  });

  test('where no welcome comes', async () => {
    const url = await server(() => {});
    await expect(connect(url, { dialMilliseconds: 30 })).rejects.toThrow('does not answer');
  });

  test.each<[string, (socket: WebSocket) => void, string]>([
    ['a message', socket => socket.send(message(1)), 'does not begin with a welcome'],
    ['another text', socket => socket.send('hello'), 'does not begin with a welcome'],
    ['an acknowledgement', socket => say(socket, { type: 'ack', received: 0 }), 'does not begin with a welcome'],
    ['a bye', socket => say(socket, { type: 'bye', reason: 'not today' }), 'refused: not today'],
    ['a close', socket => socket.close(1013, 'later'), 'closed the connection: later'],
    ['a break', socket => socket.terminate(), 'closed the connection: code 1006'],
    [
      'a window too small for a message',
      socket => say(socket, { ...welcome, window: { bytes: 1000, frames: 10 } }),
      'a window of 1000 bytes and 10 frames is not possible here',
    ],
    [
      'a window without frames',
      socket => say(socket, { ...welcome, window: { bytes: 4e6, frames: 0 } }),
      'a window of 4000000 bytes and 0 frames is not possible here',
    ],
    [
      'a window beyond all memory',
      socket => say(socket, { ...welcome, window: { bytes: 1e12, frames: 10 } }),
      'is not possible here',
    ],
  ])('where the first thing is %s', async (_what, begin, reason) => {
    const url = await server(begin);
    await expect(connect(url)).rejects.toThrow(reason);
  });

  test('where it is called off, whose connection ends then', async () => {
    const tcp = createTcpServer().listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    ends.push(() => void tcp.close());
    const url = `ws://127.0.0.1:${(tcp.address() as AddressInfo).port}/`;
    const [mine, theirs] = socketPair();
    ends.push(() => closeDescriptor(mine));
    const calledOff = new AbortController();
    const connecting = connectVfioUser({ url, descriptor: theirs, signal: calledOff.signal });
    connecting.catch(() => {});
    const [socket] = (await once(tcp, 'connection')) as [Socket];
    socket.on('error', () => {});
    const closed = new Promise(resolve => socket.once('close', resolve));
    // Else its end would not be seen.
    socket.resume();
    calledOff.abort();
    await expect(connecting).rejects.toMatchObject({
      name: 'LinkError',
      message: `the connection to ${url} was called off`,
    });
    expect(() => fstatSync(theirs)).toThrow('EBADF');
    await closed;
  });

  test('where it was called off before, and nothing is dialled', async () => {
    const [mine, theirs] = socketPair();
    ends.push(() => closeDescriptor(mine));
    let clients = 0;
    const url = await server(() => clients++);
    await expect(connectVfioUser({ url, descriptor: theirs, signal: AbortSignal.abort() })).rejects.toThrow(
      'was called off',
    );
    expect(() => fstatSync(theirs)).toThrow('EBADF');
    expect(clients).toBe(0);
  });

  test('not where it is called off when it has been made', async () => {
    const calledOff = new AbortController();
    const url = await server(socket => say(socket, welcome));
    const [mine, theirs] = socketPair();
    ends.push(() => closeDescriptor(mine));
    const link = await connectVfioUser({ url, descriptor: theirs, signal: calledOff.signal });
    calledOff.abort();
    expect(link.state).toBe('open');
    expect(fstatSync(theirs).isSocket()).toBe(true);
    await link.close();
  });

  test('with a descriptor that is no stream', async () => {
    const { openSync } = await import('node:fs');
    const url = await server(socket => say(socket, welcome));
    const descriptor = openSync('/dev/null', 'r');
    await expect(connectVfioUser({ url, descriptor })).rejects.toThrow('the descriptor is no stream socket');
    expect(() => fstatSync(descriptor)).toThrow('EBADF');
  });
});

describe('a link ends', () => {
  test.each<[string, (socket: WebSocket) => void, string]>([
    ['a frame that is no message', socket => socket.send(Buffer.alloc(20)), 'a frame of 20 bytes with a message of 0'],
    ['a text that is no control message', socket => socket.send('{}'), 'a text frame that is no control message'],
    ['a second welcome', socket => say(socket, welcome), 'a text frame that is no control message'],
    ['an impossible acknowledgement', socket => say(socket, { type: 'ack', received: 5 }), '5 frames acknowledged'],
  ])('where the server sends %s', async (_what, misbehave, reason) => {
    let code: number | undefined;
    let told: () => void = () => {};
    const closed = new Promise<void>(resolve => {
      told = resolve;
    });
    const url = await server(socket => {
      say(socket, welcome);
      misbehave(socket);
      socket.once('close', seen => {
        code = seen;
        told();
      });
    });
    const { link, notes } = await connect(url);
    expect(await link.closed).toContain(reason);
    expect(link.state).toBe('closed');
    expect(notes.map(({ kind }) => kind)).toEqual(['link.malformed', 'link.closed']);
    await closed;
    expect(code).toBe(1002);
  });

  test.each([1000, 1001, 1002, 1008])('where the server closes with %i', async code => {
    const url = await server(socket => {
      say(socket, welcome);
      socket.close(code, 'why not');
    });
    const { link } = await connect(url);
    expect(await link.closed).toBe('the peer closed the connection: why not');
    expect(link.statistics).toMatchObject({ lost: 0 });
  });

  test('where another session is resumed', async () => {
    const url = await server((socket, number) => {
      say(socket, { ...welcome, session: String(number).repeat(32) });
      if (number === 0) setImmediate(() => socket.terminate());
    });
    const { link } = await connect(url);
    expect(await link.closed).toBe('the server resumed another session');
  });

  test('where the token is no longer taken', async () => {
    let refuse = false;
    const http = createServer().listen(0, '127.0.0.1');
    await once(http, 'listening');
    const sockets = new WebSocketServer({ noServer: true });
    const seen: (string | undefined)[] = [];
    http.on('upgrade', (request, socket, head) => {
      seen.push(request.headers.authorization);
      if (refuse) socket.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\nno more\n');
      else {
        sockets.handleUpgrade(request, socket, head, client => {
          say(client, welcome);
          refuse = true;
          setImmediate(() => client.terminate());
        });
      }
    });
    ends.push(() => new Promise(resolve => http.close(resolve)));
    const { link } = await connect(`ws://127.0.0.1:${(http.address() as AddressInfo).port}/`, {}, 'secret');
    expect(await link.closed).toContain('refused: 401 no more');
    expect(seen).toEqual(['Bearer secret', 'Bearer secret']);
  });
});

test('a gateway that misses its server is asked again', async () => {
  const http = createServer().listen(0, '127.0.0.1');
  await once(http, 'listening');
  const sockets = new WebSocketServer({ noServer: true });
  let dials = 0;
  let query = '';
  const resumed = new Promise<void>(resolve => {
    http.on('upgrade', (request, socket, head) => {
      dials++;
      query = request.url!.split('?')[1]!;
      if (dials === 2 || dials === 3) {
        socket.end('HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n');
        return;
      }
      sockets.handleUpgrade(request, socket, head, client => {
        say(client, { ...welcome, grace: 20_000 });
        if (dials > 1) resolve();
      });
    });
  });
  ends.push(() => new Promise(resolve => http.close(resolve)));
  const url = `ws://127.0.0.1:${(http.address() as AddressInfo).port}/`;
  const { link } = await connect(url, { graceMilliseconds: 20_000 });
  for (const socket of sockets.clients) socket.terminate();
  await resumed;
  expect(dials).toBe(4);
  expect(query).toBe(`session=${welcome.session}&received=0&attempt=3`);
  ends.push(() => {
    for (const socket of sockets.clients) socket.terminate();
  });
  await link.close();
});
