import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  AccessError,
  checkToken,
  clientRefusal,
  isLoopback,
  newToken,
  parseListen,
  parsePlace,
  refusal,
  unixPathOf,
  unixUrl,
  webSocketUrl,
} from '../../src/inspector/access.ts';

const token = newToken();
const rules = { token: undefined, origins: [] };
const protectedRules = { token, origins: ['https://tools.example'] };

function request(headers: Readonly<Record<string, string>>): IncomingMessage {
  return { headers: { host: '127.0.0.1:8123', 'sec-websocket-protocol': 'viommu.v1', ...headers } } as never;
}

describe('parseListen', () => {
  it.each([
    ['0', { host: '127.0.0.1', port: 0 }],
    ['8123', { host: '127.0.0.1', port: 8123 }],
    ['localhost:8123', { host: 'localhost', port: 8123 }],
    ['0.0.0.0:65535', { host: '0.0.0.0', port: 65535 }],
    ['[::1]:1', { host: '::1', port: 1 }],
  ])('takes %s', (text, expected) => {
    expect(parseListen(text)).toEqual(expected);
  });

  it.each(['', 'localhost', ':1', '65536', '-1', '1.5', 'a:b', '::1:80', '[::1]', '[localhost]:1', '1 '])(
    'does not take %o',
    text => {
      expect(() => parseListen(text)).toThrow(AccessError);
    },
  );
});

describe('parsePlace', () => {
  it.each([
    ['8123', { host: '127.0.0.1', port: 8123 }],
    ['0.0.0.0:7180', { host: '0.0.0.0', port: 7180 }],
    ['unix', { path: '/run/m/server.sock' }],
    ['unix:/tmp/a b:c', { path: '/tmp/a b:c' }],
    ['unix:x', { path: join(process.cwd(), 'x') }],
  ])('takes %s', (text, expected) => {
    expect(parsePlace(text, '/run/m')).toEqual(expected);
  });

  it.each(['unix:', 'unixes', 'Unix', 'unix/x', ''])('does not take %o', text => {
    expect(() => parsePlace(text, '/run/m')).toThrow(AccessError);
  });

  it('needs a directory for a socket without a path', () => {
    expect(() => parsePlace('unix')).toThrow(/unix:PATH/);
  });
});

describe('unix sockets', () => {
  it.each(['/run/m/server.sock', '/a b/c', '/a:b/c', '/a%20b/#?', '/x'])('%s has a URL that gives it again', path => {
    expect(unixPathOf(unixUrl(path))).toBe(path);
  });

  it.each([
    ['ws+unix:/a/b', '/a/b'],
    ['ws+unix:/a/b:', '/a/b'],
    ['ws+unix:/a/b:/more', '/a/b'],
    ['ws+unix:///a/b:/', '/a/b'],
    ['ws://127.0.0.1:1', undefined],
    ['ws+unix:a', undefined],
    ['', undefined],
  ])('%o is at %o', (url, path) => {
    expect(unixPathOf(url)).toBe(path);
  });

  it('let anybody in who could open them, by whatever name', () => {
    const file = { token: undefined, origins: [], isFile: true };
    for (const host of ['server', 'evil.example:1', '']) expect(refusal(request({ host }), file)).toBeUndefined();
    expect(refusal(request({ origin: 'https://evil.example' }), file)?.status).toBe(403);
  });
});

describe('tokens', () => {
  it.each([newToken(), 'x', 'a.b~c+d-e_f', 'x'.repeat(256)])('%s can be one', text => {
    expect(checkToken(text)).toBe(text);
  });

  it.each(['', 'a b', 'a,b', 'a/b', 'ä', 'x'.repeat(257), 'a\n'])('%o cannot', text => {
    expect(() => checkToken(text)).toThrow(AccessError);
  });
});

describe('clients of another subprotocol', () => {
  it('are let in and refused by the same rules', () => {
    const other = { 'sec-websocket-protocol': 'vfio-user.v1' };
    expect(clientRefusal(request(other), rules)).toBeUndefined();
    expect(clientRefusal(request(other), protectedRules)?.status).toBe(401);
    const withToken = { 'sec-websocket-protocol': `vfio-user.v1, viommu.token.${token}` };
    expect(clientRefusal(request(withToken), protectedRules)).toBeUndefined();
  });
});

describe('addresses', () => {
  it.each(['127.0.0.1', '127.9.9.9', 'localhost', '::1', '[::1]'])('%s is of this machine alone', host => {
    expect(isLoopback(host)).toBe(true);
  });

  it.each(['0.0.0.0', '::', '192.168.0.1', 'example.org', '127.example.org', ''])('%o is not', host => {
    expect(isLoopback(host)).toBe(false);
  });

  it('become URLs', () => {
    expect(webSocketUrl('127.0.0.1', 1)).toBe('ws://127.0.0.1:1');
    expect(webSocketUrl('::1', 1)).toBe('ws://[::1]:1');
    expect(webSocketUrl('127.0.0.1', 1, 'wss')).toBe('wss://127.0.0.1:1');
  });

  it('have tokens that are never the same', () => {
    expect(newToken()).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(newToken()).not.toBe(newToken());
  });
});

describe('refusal', () => {
  it('lets programs in', () => {
    expect(refusal(request({}), rules)).toBeUndefined();
  });

  it('wants the subprotocol', () => {
    expect(refusal(request({ 'sec-websocket-protocol': 'chat, viommu.v2' }), rules)?.status).toBe(400);
    expect(refusal(request({ 'sec-websocket-protocol': 'chat,viommu.v1' }), rules)).toBeUndefined();
  });

  it("lets the server's own pages in, and no others", () => {
    expect(refusal(request({ origin: 'http://127.0.0.1:8123' }), rules)).toBeUndefined();
    for (const origin of ['http://127.0.0.1:80', 'https://evil.example', 'null', 'file://', '']) {
      expect(refusal(request({ origin }), rules)?.status).toBe(403);
    }
  });

  it('lets pages of origins in that were named', () => {
    const origin = 'https://tools.example';
    expect(refusal(request({ origin }), { token: undefined, origins: [origin] })).toBeUndefined();
    expect(refusal(request({ origin }), rules)?.status).toBe(403);
  });

  it('keeps out pages whose name was made to point here', () => {
    const headers = { host: 'evil.example:8123', origin: 'http://evil.example:8123' };
    expect(refusal(request(headers), rules)?.status).toBe(403);
  });

  it.each(['localhost:8123', '127.0.0.1:8123', '[::1]:8123', '192.168.0.1:1'])('lets in who says %s', host => {
    expect(refusal(request({ host }), rules)).toBeUndefined();
  });

  it('takes the token from a header', () => {
    expect(refusal(request({ authorization: `Bearer ${token}` }), protectedRules)).toBeUndefined();
  });

  it('takes the token from a subprotocol, for pages', () => {
    const headers = {
      'sec-websocket-protocol': `viommu.v1, viommu.token.${token}`,
      origin: 'https://tools.example',
      host: 'lab.example',
    };
    expect(refusal(request(headers), protectedRules)).toBeUndefined();
  });

  it.each([
    {},
    { authorization: 'Bearer' },
    { authorization: `Bearer ${token}x` },
    { authorization: `Bearer ${token.slice(1)}` },
    { authorization: `Basic ${token}` },
    { authorization: token },
    { 'sec-websocket-protocol': 'viommu.v1, viommu.token.' },
  ])('does not let in without the right token (%#)', headers => {
    expect(refusal(request(headers), protectedRules)).toMatchObject({ status: 401 });
  });

  it('wants the right origin even with the token', () => {
    const headers = { authorization: `Bearer ${token}`, origin: 'https://evil.example' };
    expect(refusal(request(headers), protectedRules)?.status).toBe(403);
  });
});
