import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { createConnection } from 'node:net';
import { describe, expect, it } from 'vitest';
import type { PageFile } from '../../src/inspector/page-files.ts';
import { pageHandler } from '../../src/inspector/page-server.ts';
import { connect, later, refusedStatus, serve } from './support.ts';

const index: PageFile = { type: 'text/html; charset=utf-8', bytes: Buffer.from('<!doctype html>'), hashed: false };
const script: PageFile = { type: 'text/javascript; charset=utf-8', bytes: Buffer.from('start()'), hashed: true };
const files = new Map([
  ['/', index],
  ['/index.html', index],
  ['/assets/index-12345678.js', script],
]);

async function page(token?: string): Promise<string> {
  const onRequest = pageHandler(files);
  const { url } = await serve({ onRequest, token });
  return url;
}

interface Response {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** The path goes out as it is written here. */
async function get(url: string, path = '/', { method = 'GET', headers = {} } = {}): Promise<Response> {
  const { hostname, port } = new URL(url);
  const asked = request({ hostname, port, path, method, headers, agent: false });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.setEncoding('utf8');
  let body = '';
  for await (const text of response) body += text;
  return { status: response.statusCode!, headers: response.headers, body };
}

describe('the page', () => {
  it('is served at the address of the remote API', async () => {
    const url = await page();
    expect(await get(url)).toMatchObject({
      status: 200,
      body: '<!doctype html>',
      headers: { 'content-type': 'text/html; charset=utf-8', 'content-length': '15', 'cache-control': 'no-store' },
    });
    expect(await (await connect(url)).machines()).toEqual(['machine']);
  });

  it('keeps files whose names change with their content for good', async () => {
    const { headers, body } = await get(await page(), '/assets/index-12345678.js?v=1');
    expect(body).toBe('start()');
    expect(headers['cache-control']).toBe('public, max-age=31536000, immutable');
  });

  it('may load nothing from elsewhere, and be shown nowhere else', async () => {
    const url = await page();
    for (const path of ['/', '/nothing']) {
      const { headers } = await get(url, path);
      const policy = String(headers['content-security-policy']);
      expect(policy).toContain("default-src 'self';");
      expect(policy).toContain(`connect-src 'self' ${url};`);
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).not.toContain('unsafe');
      expect(headers).toMatchObject({
        'x-content-type-options': 'nosniff',
        'x-frame-options': 'DENY',
        'referrer-policy': 'no-referrer',
        'cross-origin-opener-policy': 'same-origin',
        'cross-origin-embedder-policy': 'require-corp',
        'cross-origin-resource-policy': 'same-origin',
      });
    }
  });

  it('is told about without its body by HEAD', async () => {
    expect(await get(await page(), '/', { method: 'HEAD' })).toMatchObject({
      status: 200,
      body: '',
      headers: { 'content-length': '15' },
    });
  });

  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE'])('does not take %s', async method => {
    const { status, headers } = await get(await page(), '/', { method });
    expect(status).toBe(405);
    expect(headers.allow).toBe('GET, HEAD');
  });

  it.each([
    '/../../package.json',
    '/assets/../index.html',
    '/%2e%2e/%2e%2e/etc/passwd',
    '/..%2f..%2fetc/passwd',
    '//etc/passwd',
    '/assets/',
    '/assets',
    '/index.html/',
    '/INDEX.HTML',
    '/%00',
    '/__proto__',
    'http://127.0.0.1/index.html',
    '*',
  ])('has nothing at %s', async path => {
    expect((await get(await page(), path)).status).toBe(404);
  });

  it('says no more about a path that is not there than that', async () => {
    expect((await get(await page(), '/<script>')).body).toBe('there is no such page\n');
  });
});

describe('a request for the page', () => {
  it.each(['evil.example', 'evil.example:8123', '127.0.0.1.evil.example'])('by the name %s is refused', async host => {
    expect((await get(await page(), '/', { headers: { host } })).status).toBe(403);
  });

  it.each(['http://evil.example', 'null', 'http://127.0.0.1:1'])('of the origin %s is refused', async origin => {
    expect((await get(await page(), '/', { headers: { origin } })).status).toBe(403);
  });

  it('of its own origin is not', async () => {
    const url = await page();
    expect((await get(url, '/', { headers: { origin: url.replace('ws', 'http') } })).status).toBe(200);
  });

  it('cannot put anything into the policy', async () => {
    const url = await page('secret');
    const { headers } = await get(url, '/', { headers: { host: "x; script-src 'unsafe-inline'" } });
    expect(headers['content-security-policy']).not.toContain('unsafe');
  });

  it('may have a body that nobody reads', async () => {
    const url = await page();
    const { hostname, port } = new URL(url);
    const socket = createConnection(Number(port), hostname);
    later(() => socket.destroy());
    socket.write(`POST / HTTP/1.1\r\nHost: ${hostname}\r\nContent-Length: 5\r\n\r\nhello`);
    socket.write(`GET / HTTP/1.1\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`);
    let text = '';
    for await (const chunk of socket.setEncoding('utf8')) text += chunk;
    expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 405', 'HTTP/1.1 200']);
  });
});

describe('where a token is set', () => {
  it('the page may be loaded without it, by any name', async () => {
    const url = await page('secret');
    expect((await get(url)).status).toBe(200);
    expect((await get(url, '/', { headers: { host: 'lab.example' } })).status).toBe(200);
  });

  it('the page holds it nowhere', async () => {
    const url = await page('secret');
    const { headers, body } = await get(url);
    expect(JSON.stringify(headers) + body).not.toContain('secret');
  });

  it('nothing else works without it, or with another', async () => {
    const url = await page('secret');
    expect(await refusedStatus(url, ['viommu.v1'])).toBe(401);
    expect(await refusedStatus(url, ['viommu.v1', 'viommu.token.wrong'])).toBe(401);
    const machine = await connect(url, { token: 'secret' });
    expect(await machine.machines()).toEqual(['machine']);
  });

  it('pages of other origins are refused all the same', async () => {
    const url = await page('secret');
    const headers = { origin: 'http://evil.example' };
    expect((await get(url, '/', { headers })).status).toBe(403);
    expect(await refusedStatus(url, ['viommu.v1', 'viommu.token.secret'], { headers })).toBe(403);
  });
});
