import { once } from 'node:events';
import { createConnection } from 'node:net';
import { describe, expect, it } from 'vitest';
import { AccessError, newToken } from '../../src/inspector/access.ts';
import { encodeMessage } from '../../src/inspector/codec.ts';
import { MAX_REQUEST_BYTES } from '../../src/inspector/limits.ts';
import { RemoteServer } from '../../src/inspector/remote-server.ts';
import { NtStatus } from '../../src/iommu/dma-iommu/ntstatus.ts';
import { operationNames } from '../../src/iommu/dma-iommu/opcodes.ts';
import { sampleArguments } from '../machine/sample-arguments.ts';
import { FakePort, rawClient, refusedStatus, serve } from './support.ts';

describe('requests', () => {
  it.each(operationNames)('%s reaches the machine with typed arguments', async operation => {
    const { fake, url } = await serve();
    fake.answers[operation] = { status: NtStatus.NOT_FOUND, size: 0x1000n };
    const client = await rawClient(url);
    client.send({ id: 5, operation, args: sampleArguments[operation] });
    expect(await client.receive()).toEqual({
      id: 5,
      status: NtStatus.NOT_FOUND,
      statusName: 'STATUS_NOT_FOUND',
      size: 0x1000n,
    });
    expect(fake.asked).toEqual([{ name: operation, args: sampleArguments[operation] }]);
  });

  it.each([
    ['interface', { version: 3, ex: true, flags: 0n }, { status: 0, size: 0xe8 }, { size: 0xe8 }],
    ['probe', { requesterId: 1, logicalAddress: 5n, access: 1 }, { translated: true }, { probe: { translated: true } }],
    ['statistics', undefined, { functions: {} }, { statistics: { functions: {} } }],
    ['snapshot', undefined, { domains: [] }, { snapshot: { domains: [] } }],
  ])('%s is answered', async (operation, args, answer, expected) => {
    const { fake, url } = await serve();
    fake.answers[operation] = answer;
    const client = await rawClient(url);
    client.send({ id: 1, operation, args });
    expect(await client.receive()).toEqual({ id: 1, status: 0, statusName: 'STATUS_SUCCESS', ...expected });
    expect(fake.asked).toEqual([{ name: operation, args }]);
  });

  it('many in flight are begun in their order, and each gets its own answer', async () => {
    const { fake, url } = await serve({ limits: { requestsInFlight: 7 } });
    const client = await rawClient(url);
    const count = 1000;
    for (let id = 0; id < count; id++) client.send({ id, operation: 'deleteDomain', args: { domain: id } });
    const ids = [];
    for (let index = 0; index < count; index++) ids.push((await client.receive()).id);
    expect(ids.sort((a, b) => Number(a) - Number(b))).toEqual(Array.from({ length: count }, (_, id) => id));
    expect(fake.asked.map(({ args }) => (args as { domain: number }).domain)).toEqual(ids);
  });

  it('beyond the limit are not begun before others have ended', async () => {
    const { fake, url } = await serve({ limits: { requestsInFlight: 2 } });
    const client = await rawClient(url);
    let release = () => {};
    fake.answers.flushDomain = new Promise(resolve => {
      release = () => resolve({ status: 0 });
    });
    for (let id = 0; id < 4; id++) client.send({ id, operation: 'flushDomain', args: { domain: id } });
    const other = await rawClient(url);
    other.send({ id: 0, operation: 'statistics' });
    await other.receive();
    expect(fake.asked.filter(({ name }) => name === 'flushDomain')).toHaveLength(2);
    release();
    for (let id = 0; id < 4; id++) expect(await client.receive()).toMatchObject({ status: 0 });
    expect(fake.asked.filter(({ name }) => name === 'flushDomain')).toHaveLength(4);
  });

  it('answers may overtake each other', async () => {
    const { fake, url } = await serve();
    const client = await rawClient(url);
    let release = () => {};
    fake.answers.flushDomain = new Promise(resolve => {
      release = () => resolve({ status: 0 });
    });
    client.send({ id: 1, operation: 'flushDomain', args: { domain: 1 } });
    client.send({ id: 2, operation: 'deleteDomain', args: { domain: 1 } });
    expect((await client.receive()).id).toBe(2);
    release();
    expect((await client.receive()).id).toBe(1);
  });
});

describe('requests that are wrong', () => {
  const ask = async (message: object | Uint8Array) => {
    const { fake, url } = await serve();
    const client = await rawClient(url);
    client.send(message);
    const { id, error } = (await client.receive()) as { id: unknown; error: { code: string; message: string } };
    expect(fake.asked).toEqual([]);
    // The connection lives on.
    client.send({ id: 99, operation: 'machines' });
    expect(await client.receive()).toMatchObject({ id: 99, machines: ['machine'] });
    return { id, code: error.code, message: error.message };
  };

  it.each([
    ['nothing', new Uint8Array()],
    ['garbage', Uint8Array.of(0xc1, 0xc1)],
    ['a list', Uint8Array.of(0x90)],
    ['bytes', Uint8Array.of(0xc4, 1, 1)],
    ['half a message', encodeMessage({ id: 1, operation: 'machines' }).subarray(0, 5)],
    ['two messages', Buffer.concat([encodeMessage({ id: 1 }), encodeMessage({ id: 2 })])],
  ])('%s', async (_what, bytes) => {
    expect(await ask(bytes)).toMatchObject({ id: null, code: 'malformed' });
  });

  it.each([
    [{ operation: 'machines' }, null],
    [{ id: -1, operation: 'machines' }, null],
    [{ id: 'a', operation: 'machines' }, null],
    [{ id: 1.5, operation: 'machines' }, null],
    [{ id: 3 }, 3],
    [{ id: 3, operation: 7 }, 3],
    [{ id: 3, operation: 'x'.repeat(65) }, 3],
    [{ id: 3, operation: 'machines', machine: 1 }, 3],
    [{ id: 3, operation: 'machines', more: 1 }, 3],
  ])('without what a request needs (%#)', async (message, id) => {
    expect(await ask(message)).toMatchObject({ id, code: 'malformed' });
  });

  it.each(['nothing', 'toString', '__proto__', 'constructor', ''])('unknown operation %o', async operation => {
    expect(await ask({ id: 1, operation })).toMatchObject({ id: 1, code: 'unknown-operation' });
  });

  it.each(operationNames)('%s with bad arguments', async operation => {
    expect(await ask({ id: 1, operation, args: { ...sampleArguments[operation], suprise: 1 } })).toMatchObject({
      id: 1,
      code: 'bad-arguments',
      message: "'args' has no member 'suprise'",
    });
  });

  it.each([
    ['machines', { a: 1 }],
    ['interface', {}],
    ['probe', undefined],
    ['statistics', { a: 1 }],
    ['snapshot', []],
    ['subscribe', undefined],
    ['subscribe', { kinds: 'all' }],
    ['subscribe', { kinds: [7] }],
    ['subscribe', { kinds: new Array(33).fill('*') }],
    ['subscribe', { kinds: ['*'], context: {} }],
    ['unsubscribe', {}],
    ['unsubscribe', { subscription: 1 }],
  ])('%s with bad arguments (%#)', async (operation, args) => {
    expect(await ask({ id: 1, operation, args })).toMatchObject({ id: 1, code: 'bad-arguments' });
  });

  it('in text instead of bytes', async () => {
    const { url } = await serve();
    const client = await rawClient(url);
    client.socket.send('{"id":1}');
    expect(await client.receive()).toMatchObject({ id: null, error: { code: 'malformed' } });
  });

  it('longer than a request may be end the connection, and no other', async () => {
    const { url } = await serve();
    const [client, other] = [await rawClient(url), await rawClient(url)];
    client.send(new Uint8Array(MAX_REQUEST_BYTES + 1));
    expect(await client.closed).toBe(1009);
    other.send({ id: 1, operation: 'machines' });
    expect(await other.receive()).toMatchObject({ id: 1 });
  });

  it('as no WebSocket frame end the connection', async () => {
    const { url, server } = await serve();
    const client = await rawClient(url);
    (client.socket as unknown as { _socket: { write(bytes: Uint8Array): void } })._socket.write(
      new Uint8Array(20).fill(0xff),
    );
    expect(await client.closed).toBe(1002);
    expect(server.clients).toBe(0);
  });
});

describe('machines', () => {
  const two = async () => {
    const [a, b] = [new FakePort(), new FakePort()];
    const { url } = await serve({
      machines: new Map([
        ['a', a.port],
        ['b', b.port],
      ]),
    });
    return { a, b, client: await rawClient(url) };
  };

  it('are told apart by name', async () => {
    const { a, b, client } = await two();
    client.send({ id: 1, machine: 'b', operation: 'statistics' });
    expect(await client.receive()).toMatchObject({ id: 1, status: 0 });
    expect([a.asked.length, b.asked.length]).toEqual([0, 1]);
  });

  it('must be named where there are several', async () => {
    const { client } = await two();
    client.send({ id: 1, operation: 'statistics' });
    expect(await client.receive()).toMatchObject({
      error: { code: 'unknown-machine', message: 'say which machine is meant: one of a, b' },
    });
  });

  it.each(['c', '', 'toString'])('there is none called %o', async machine => {
    const { client } = await two();
    client.send({ id: 1, machine, operation: 'statistics' });
    expect(await client.receive()).toMatchObject({ error: { code: 'unknown-machine' } });
  });

  it('that ended say so', async () => {
    const { fake, url } = await serve();
    const gone = Promise.reject(new Error('the machine has been stopped'));
    gone.catch(() => {});
    fake.answers.flushDomain = gone;
    const client = await rawClient(url);
    client.send({ id: 1, operation: 'flushDomain', args: { domain: 1 } });
    expect(await client.receive()).toEqual({
      id: 1,
      error: { code: 'failed', message: 'the machine has been stopped' },
    });
  });

  it('that answer what cannot be sent cost an answer, not the connection', async () => {
    const errors: unknown[] = [];
    const { fake, url } = await serve({ onInternalError: error => errors.push(error) });
    fake.answers.flushDomain = { status: 0, handler: () => {} };
    const client = await rawClient(url);
    client.send({ id: 1, operation: 'flushDomain', args: { domain: 1 } });
    expect(await client.receive()).toMatchObject({ id: 1, error: { code: 'failed' } });
    expect(errors).toHaveLength(1);
  });
});

describe('access', () => {
  const token = newToken();

  it('to other than loopback addresses needs a token', async () => {
    await expect(RemoteServer.start({ machines: new Map(), host: '0.0.0.0' })).rejects.toThrow(AccessError);
    const { url } = await serve({ host: '0.0.0.0', token });
    const local = url.replace('0.0.0.0', '127.0.0.1');
    expect(await refusedStatus(local, ['viommu.v1'])).toBe(401);
    const client = await rawClient(local, { headers: { Authorization: `Bearer ${token}` } });
    client.send({ id: 1, operation: 'machines' });
    expect(await client.receive()).toMatchObject({ id: 1 });
  });

  it.each([
    [401, ['viommu.v1'], {}],
    [401, ['viommu.v1'], { headers: { Authorization: 'Bearer wrong' } }],
    [401, ['viommu.v1', 'viommu.token.wrong'], {}],
    [403, ['viommu.v1', `viommu.token.${token}`], { origin: 'https://evil.example' }],
    [400, [`viommu.token.${token}`], {}],
  ])('is refused with %i (%#)', async (status, protocols, options) => {
    const { url, server } = await serve({ token });
    expect(await refusedStatus(url, protocols, options)).toBe(status);
    expect(server.clients).toBe(0);
  });

  it('is refused to pages from elsewhere, without a token too', async () => {
    const { url } = await serve();
    expect(await refusedStatus(url, ['viommu.v1'], { origin: 'https://evil.example' })).toBe(403);
    expect(await refusedStatus(url, ['viommu.v1'], { headers: { Host: 'evil.example' } })).toBe(403);
    const client = await rawClient(url, { origin: url.replace('ws:', 'http:') });
    expect(client.socket.protocol).toBe('viommu.v1');
  });

  it('is refused to more clients than there is room for', async () => {
    const { url, server } = await serve({ limits: { connections: 1 } });
    const first = await rawClient(url);
    expect(await refusedStatus(url, ['viommu.v1'])).toBe(503);
    first.socket.close();
    await first.closed;
    await expect.poll(() => server.clients).toBe(0);
    await rawClient(url);
  });

  it('by plain HTTP tells what this is', async () => {
    const { url } = await serve();
    const response = await fetch(url.replace('ws:', 'http:'));
    expect(response.status).toBe(426);
    expect(await response.text()).toContain('viommu.v1');
  });

  it('of those who go away in their handshake hurts nobody', async () => {
    const { url } = await serve({ token });
    const { hostname, port } = new URL(url);
    const socket = createConnection(Number(port), hostname);
    await once(socket, 'connect');
    socket.write('GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    socket.resetAndDestroy();
    const client = await rawClient(url, { headers: { Authorization: `Bearer ${token}` } });
    expect(client.socket.readyState).toBe(client.socket.OPEN);
  });
});

describe('the end', () => {
  it('of a client in the middle of a request hurts nobody', async () => {
    const { fake, url, server } = await serve();
    let release = () => {};
    fake.answers.flushDomain = new Promise(resolve => {
      release = () => resolve({ status: 0 });
    });
    const client = await rawClient(url);
    client.send({ id: 1, operation: 'subscribe', args: { kinds: ['*'] } });
    client.send({ id: 2, operation: 'flushDomain', args: { domain: 1 } });
    await expect.poll(() => fake.asked.length).toBe(1);
    client.socket.terminate();
    await expect.poll(() => server.clients).toBe(0);
    release();
    fake.emit('late');
    const other = await rawClient(url);
    other.send({ id: 3, operation: 'machines' });
    expect(await other.receive()).toMatchObject({ id: 3 });
  });

  it('of the server is told to its clients, and frees the address', async () => {
    const { fake, url, server } = await serve();
    const client = await rawClient(url);
    await server.close();
    expect(await client.closed).toBe(1001);
    expect(fake.events.listenerCount('event')).toBe(0);
    const { port } = new URL(url);
    await serve({ port: Number(port) });
  });

  it('of the server does not wait for clients that do not answer', async () => {
    const { url, server } = await serve({ limits: { closeMilliseconds: 50 } });
    const client = await rawClient(url);
    client.socket.pause();
    await server.close();
    expect(server.clients).toBe(0);
  });

  it('comes to those who do not answer pings, and not to others', async () => {
    const { url, server } = await serve({ limits: { keepAliveMilliseconds: 40 } });
    const [deaf, alive] = [await rawClient(url, { autoPong: false }), await rawClient(url)];
    expect(await deaf.closed).toBe(1006);
    let pings = 0;
    await new Promise<void>(resolve => alive.socket.on('ping', () => ++pings === 3 && resolve()));
    expect(server.clients).toBe(1);
  });

  it('comes at once where the address is taken', async () => {
    const { url } = await serve();
    await expect(serve({ port: Number(new URL(url).port) })).rejects.toThrow('EADDRINUSE');
  });
});
