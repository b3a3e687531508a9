import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { QmpClient, QmpClosed, QmpError, type QmpEvent } from '../../qemu/qmp.ts';
import { temporaryDirectory } from './support.ts';

const directory = temporaryDirectory();
const PATIENCE_MS = 10_000;
const GREETING = { QMP: { version: { qemu: { major: 11, minor: 1, micro: 3 }, package: '' }, capabilities: ['oob'] } };

interface Request {
  execute: string;
  id: number;
  arguments?: Record<string, unknown>;
}

let count = 0;
const open: { server: Server; sockets: Socket[] }[] = [];

/** A QEMU that greets and then does with each request what the test says. */
async function fake(answer: (request: Request, socket: Socket) => void, greeting: unknown = GREETING): Promise<string> {
  const path = join(directory, `${count++}.sock`);
  const sockets: Socket[] = [];
  const server = createServer(socket => {
    sockets.push(socket);
    socket.on('error', () => {});
    let text = '';
    socket.write(typeof greeting === 'string' ? greeting : `${JSON.stringify(greeting)}\r\n`);
    socket.on('data', chunk => {
      text += chunk;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const request = JSON.parse(text.slice(0, end)) as Request;
        text = text.slice(end + 1);
        if (request.execute === 'qmp_capabilities') reply(socket, { return: {}, id: request.id });
        else answer(request, socket);
      }
    });
  });
  open.push({ server, sockets });
  await new Promise<void>(resolve => server.listen(path, resolve));
  return path;
}

const reply = (socket: Socket, message: unknown) => void socket.write(`${JSON.stringify(message)}\r\n`);

afterEach(() => {
  for (const { server, sockets } of open.splice(0)) {
    server.close();
    for (const socket of sockets) socket.destroy();
  }
});

describe('a QMP client', () => {
  it('greets and negotiates', async () => {
    const client = await QmpClient.connect(await fake(() => {}));
    expect(client.version).toEqual({ major: 11, minor: 1, micro: 3 });
    client.close();
  });

  it('passes arguments and gives back what is returned', async () => {
    const path = await fake((request, socket) => reply(socket, { return: request.arguments ?? null, id: request.id }));
    const client = await QmpClient.connect(path);
    expect(await client.execute('echo', { value: 7 })).toEqual({ value: 7 });
    expect(await client.execute('echo')).toBeNull();
    client.close();
  });

  it('matches answers to commands by their ids, in whatever order they come', async () => {
    const waiting: Request[] = [];
    const path = await fake((request, socket) => {
      waiting.push(request);
      if (waiting.length < 2) return;
      for (const { execute, id } of waiting.reverse()) reply(socket, { return: execute, id });
    });
    const client = await QmpClient.connect(path);
    expect(await Promise.all([client.execute('one'), client.execute('two')])).toEqual(['one', 'two']);
    client.close();
  });

  it('puts lines together from pieces and takes several out of one', async () => {
    const path = await fake((request, socket) => {
      const event = JSON.stringify({ event: 'É', data: {}, timestamp: {} });
      const bytes = Buffer.from(`${event}\r\n${event}\r\n${JSON.stringify({ return: 1, id: request.id })}\r\n`);
      socket.setNoDelay(true);
      const send = (at: number) => {
        if (at < bytes.length) socket.write(bytes.subarray(at, at + 7), () => setImmediate(send, at + 7));
      };
      send(0);
    });
    const client = await QmpClient.connect(path);
    const events: QmpEvent[] = [];
    client.on('event', event => events.push(event));
    expect(await client.execute('x')).toBe(1);
    expect(events).toEqual([
      { event: 'É', data: {} },
      { event: 'É', data: {} },
    ]);
    client.close();
  });

  it('reports events while a command waits', async () => {
    const path = await fake((request, socket) => {
      reply(socket, { event: 'RESET', data: { guest: true }, timestamp: { seconds: 1, microseconds: 2 } });
      reply(socket, { return: {}, id: request.id });
    });
    const client = await QmpClient.connect(path);
    const event = new Promise(resolve => client.once('event', resolve));
    await client.execute('system_reset');
    expect(await event).toEqual({ event: 'RESET', data: { guest: true } });
    client.close();
  });

  describe('waiting for an event', () => {
    const isDeleted = ({ event, data }: QmpEvent) => event === 'DEVICE_DELETED' && data.device === 'edu0';

    it('gives the one that is meant', async () => {
      const path = await fake((request, socket) => {
        reply(socket, { event: 'DEVICE_DELETED', data: { path: '/x' } });
        reply(socket, { event: 'RESET', data: { device: 'edu0' } });
        reply(socket, { event: 'DEVICE_DELETED', data: { device: 'edu0', path: '/y' } });
        reply(socket, { return: {}, id: request.id });
      });
      const client = await QmpClient.connect(path);
      const deleted = client.nextEvent('its end', isDeleted, PATIENCE_MS);
      await client.execute('x');
      expect((await deleted).data).toEqual({ device: 'edu0', path: '/y' });
      expect([client.listenerCount('event'), client.listenerCount('close')]).toEqual([0, 0]);
      client.close();
    });

    it('says what did not come in time', async () => {
      const client = await QmpClient.connect(await fake(() => {}));
      await expect(client.nextEvent('its end', isDeleted, 10)).rejects.toThrow('its end did not come within 0.01 s');
      expect([client.listenerCount('event'), client.listenerCount('close')]).toEqual([0, 0]);
      client.close();
    });

    it('fails when QEMU goes away, and at once when it has gone', async () => {
      const client = await QmpClient.connect(await fake((_, socket) => socket.destroy()));
      const waiting = client.nextEvent('its end', isDeleted, PATIENCE_MS);
      await expect(Promise.all([waiting, client.execute('x')])).rejects.toThrow(QmpClosed);
      await expect(waiting).rejects.toThrow(QmpClosed);
      await expect(client.nextEvent('its end', isDeleted, PATIENCE_MS)).rejects.toThrow(QmpClosed);
    });
  });

  it('throws what QEMU refuses, and goes on', async () => {
    const path = await fake((request, socket) => {
      if (request.execute === 'ok') reply(socket, { return: 'yes', id: request.id });
      else reply(socket, { error: { class: 'CommandNotFound', desc: 'no such thing' }, id: request.id });
    });
    const client = await QmpClient.connect(path);
    const refused = await client.execute('nonsense').catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(QmpError);
    expect(refused).toMatchObject({ errorClass: 'CommandNotFound', message: 'QMP nonsense: no such thing' });
    expect(await client.execute('ok')).toBe('yes');
    client.close();
  });

  it('fails commands that wait when QEMU goes away, and those that come later', async () => {
    const client = await QmpClient.connect(await fake((_, socket) => socket.destroy()));
    const closed = new Promise(resolve => client.once('close', resolve));
    await expect(client.execute('x')).rejects.toThrow(QmpClosed);
    expect(await closed).toBeInstanceOf(QmpClosed);
    await expect(client.execute('y')).rejects.toThrow(QmpClosed);
  });

  it('fails commands that wait when it is closed', async () => {
    const client = await QmpClient.connect(await fake(() => {}));
    const waiting = client.execute('x');
    client.close();
    client.close();
    await expect(waiting).rejects.toThrow('by this side');
  });

  it('does not connect where nobody listens', async () => {
    await expect(QmpClient.connect(join(directory, 'nobody'))).rejects.toThrow(QmpClosed);
  });

  it.each([
    ['no JSON', 'HTTP/1.1 400 Bad Request\r\n', /not JSON/],
    ['no object', '[1]\r\n', /not an object/],
    ['a greeting without a version', '{"QMP": {}}\r\n', /names no version/],
    ['an answer that nobody asked for', '{"return": {}, "id": 99}\r\n', /answer to nothing/],
    ['a line without end', 'x'.repeat(5 * 1024 * 1024), /a line is longer than/],
  ])('does not take %s', async (_, greeting, message) => {
    await expect(QmpClient.connect(await fake(() => {}, greeting))).rejects.toThrow(message);
  });
});
