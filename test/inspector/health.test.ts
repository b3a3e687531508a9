import { connect as connectTcp } from 'node:net';
import { describe, expect, it } from 'vitest';
import { newToken } from '../../src/inspector/access.ts';
import { Health } from '../../src/inspector/health.ts';
import { HostPort } from '../../src/inspector/host-port.ts';
import type { MachinePort } from '../../src/inspector/machine-port.ts';
import type { MachineHost } from '../../src/machine/host.ts';
import { FakePort, serve } from './support.ts';

function machine(alive: () => Promise<void>): MachinePort {
  return Object.assign(new FakePort(), { alive }).port;
}

const well = () => machine(async () => {});
const stuck = () => machine(() => new Promise(() => {}));
const broken = () => machine(() => Promise.reject(new Error('it ended')));

async function health(machines: Record<string, MachinePort>, options: object = {}) {
  const { url } = await serve({ machines: new Map(Object.entries(machines)), healthMilliseconds: 50, ...options });
  const response = await fetch(`${url.replace('ws', 'http')}/healthz`);
  return { status: response.status, body: await response.json() };
}

describe('/healthz', () => {
  it.each([
    ['no machine', {}, 200, 'ok'],
    ['machines that answer', { a: well(), b: well() }, 200, 'ok'],
    ['a machine without a device thread', { a: new FakePort().port }, 200, 'ok'],
    ['one that does not answer', { a: well(), b: stuck() }, 503, 'failing'],
    ['one that has ended', { a: broken(), b: well() }, 503, 'failing'],
  ])('with %s', async (_what, machines, status, word) => {
    expect(await health(machines)).toEqual({
      status,
      body: { status: word, machines: Object.keys(machines).length },
    });
  });

  it('needs no token, and tells nothing else without it', async () => {
    const token = newToken();
    const { url } = await serve({ token, machines: new Map([['secret-name', well()]]) });
    const place = url.replace('ws', 'http');
    const response = await fetch(`${place}/healthz?anything`);
    expect([response.status, await response.text()]).toEqual([200, '{"status":"ok","machines":1}']);
    expect((await fetch(`${place}/healthz/more`)).status).toBe(426);
  });

  it('may be asked for its head, and nothing be sent to it', async () => {
    const { url } = await serve();
    const place = `${url.replace('ws', 'http')}/healthz`;
    const head = await fetch(place, { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([200, '']);
    const post = await fetch(place, { method: 'POST', body: 'x'.repeat(100_000) });
    expect([post.status, post.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
  });

  it('goes on where who asked has gone', async () => {
    const { url } = await serve({ machines: new Map([['a', stuck()]]), healthMilliseconds: 20 });
    const { hostname, port } = new URL(url);
    const socket = connectTcp(Number(port), hostname);
    socket.end('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await new Promise(resolve => socket.once('connect', resolve));
    socket.destroy();
    expect((await fetch(`${url.replace('ws', 'http')}/healthz`)).status).toBe(503);
  });
});

describe('Health', () => {
  it('asks a machine once however many want to know, and not again before it has answered', async () => {
    let asked = 0;
    let answer = () => {};
    const port = machine(() => {
      asked++;
      return new Promise(resolve => {
        answer = resolve;
      });
    });
    const one = new Health(new Map([['a', port]]), 10);
    const both = await Promise.all([one.check(), one.check()]);
    expect(both.map(({ status }) => status)).toEqual(['failing', 'failing']);
    await one.check();
    expect(asked).toBe(1);
    answer();
    await expect.poll(async () => (await Promise.race([one.check(), one.check()])) && asked).toBe(2);
  });

  it('takes a machine that a finding stopped for one that did what it was told', async () => {
    const host = (stoppedByFinding: boolean) =>
      ({
        on: () => {},
        ended: Promise.resolve(),
        stoppedByFinding,
        statistics: () => Promise.reject(new Error('it ended')),
      }) as unknown as MachineHost;
    await expect(new HostPort(host(true)).alive()).resolves.toBeUndefined();
    await expect(new HostPort(host(false)).alive()).rejects.toThrow('it ended');
    expect(await new HostPort(host(true)).ended).toMatchObject({ stoppedByFinding: true });
  });
});
