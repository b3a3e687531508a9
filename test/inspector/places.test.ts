/** Where a server listens: several places, unix sockets, TLS. */
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AccessError, newToken } from '../../src/inspector/access.ts';
import { ConnectionError, RemoteMachine } from '../../src/inspector/remote-client.ts';
import { closeDescriptor, listenUnix } from '../../src/posix/socket.ts';
import { selfSigned } from './certificate.ts';
import { connect, later, serve } from './support.ts';

const loopback = { host: '127.0.0.1', port: 0 };

function directory(prefix = 'viommu-places-'): string {
  const path = mkdtempSync(join(tmpdir(), prefix));
  later(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Status and body, by a unix socket and whatever name. */
async function getBySocket(socketPath: string, host: string, path = '/healthz') {
  const asked = request({ socketPath, path, headers: { host }, agent: false });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.setEncoding('utf8');
  let body = '';
  for await (const text of response) body += text;
  return { status: response.statusCode, body };
}

describe('a unix socket', () => {
  it('takes clients without a token, while addresses want it', async () => {
    const path = join(directory(), 'server.sock');
    const token = newToken();
    const { server } = await serve({ places: [{ path }, loopback], token });
    const [byFile, byAddress] = server.urls;
    expect(byFile).toBe(`ws+unix:${path}:/`);
    expect(server.url).toBe(byFile);
    expect(await (await connect(byFile!)).machines()).toEqual(['machine']);
    await expect(RemoteMachine.connect(byAddress!)).rejects.toThrow(/401/);
    expect(await (await connect(byAddress!, { token })).machines()).toEqual(['machine']);
  });

  it.each(['with space', 'a:b', 'a%20b', 'ümläut', '#?'])('may lie in a directory like %o', async name => {
    const path = join(directory(`viommu ${name}`), 's');
    const { url } = await serve({ places: [{ path }] });
    expect(await (await connect(url)).machines()).toEqual(['machine']);
  });

  it('is for its owner alone, and goes with the server', async () => {
    const path = join(directory(), 'server.sock');
    const { server } = await serve({ places: [{ path }] });
    const found = statSync(path);
    expect(found.isSocket()).toBe(true);
    expect(found.mode & 0o777).toBe(0o600);
    await server.close();
    expect(existsSync(path)).toBe(false);
  });

  it('does not mind the name by which it is called', async () => {
    const path = join(directory(), 'server.sock');
    await serve({ places: [{ path }] });
    for (const host of ['server', 'localhost', 'evil.example:80']) {
      expect(await getBySocket(path, host)).toMatchObject({ status: 200 });
    }
  });

  it('takes the place of one that a killed server left, and of nothing else', async () => {
    const path = join(directory(), 'server.sock');
    closeDescriptor(listenUnix(path));
    expect(existsSync(path)).toBe(true);
    await serve({ places: [{ path }] });
    await expect(serve({ places: [{ path }] })).rejects.toThrow(/another server answers/);
    const file = join(directory(), 'file');
    writeFileSync(file, 'mine');
    await expect(serve({ places: [{ path: file }] })).rejects.toThrow(/no socket/);
    expect(existsSync(path)).toBe(true);
  });

  it('frees the places that were to be had where one was not', async () => {
    const path = join(directory(), 'server.sock');
    await expect(serve({ places: [{ path }, { path: join(directory(), 'x'.repeat(120)) }] })).rejects.toThrow(/bytes/);
    expect(existsSync(path)).toBe(false);
  });

  it('that nobody listens on is told by its name', async () => {
    const url = `ws+unix:${join(directory(), 'none.sock')}:/`;
    await expect(RemoteMachine.connect(url)).rejects.toThrow(ConnectionError);
    await expect(RemoteMachine.connect(url)).rejects.toThrow(/none\.sock/);
  });
});

describe('TLS', () => {
  const identity = selfSigned();

  it('lets in who trusts the certificate', async () => {
    const { url } = await serve({ places: [loopback], tls: identity });
    expect(url).toMatch(/^wss:\/\/127\.0\.0\.1:\d+$/);
    const machine = await connect(url, { ca: identity.cert });
    expect(await machine.machines()).toEqual(['machine']);
    expect(await (await connect(url.replace('127.0.0.1', 'localhost'), { ca: identity.cert })).machines()).toEqual([
      'machine',
    ]);
  });

  it('is refused by who does not, or trusts another', async () => {
    const { url } = await serve({ places: [loopback], tls: identity });
    await expect(RemoteMachine.connect(url)).rejects.toThrow(/certificate/i);
    await expect(RemoteMachine.connect(url, { ca: selfSigned().cert })).rejects.toThrow(ConnectionError);
    await expect(RemoteMachine.connect(url.replace('wss', 'ws'))).rejects.toThrow(ConnectionError);
  });

  it('does not change what a token is for', async () => {
    const token = newToken();
    const { url } = await serve({ places: [loopback], tls: identity, token });
    await expect(RemoteMachine.connect(url, { ca: identity.cert })).rejects.toThrow(/401/);
    await connect(url, { ca: identity.cert, token });
  });

  it('is not for unix sockets', async () => {
    const path = join(directory(), 'server.sock');
    const { server } = await serve({ places: [{ path }, loopback], tls: identity });
    expect(server.urls.map(url => url.split(':')[0])).toEqual(['ws+unix', 'wss']);
    await connect(server.url);
  });

  it('needs a certificate and its key', async () => {
    const tls = { cert: 'nothing', key: identity.key };
    await expect(serve({ places: [loopback], tls })).rejects.toThrow(AccessError);
    await expect(serve({ places: [loopback], tls: { ...identity, key: selfSigned().key } })).rejects.toThrow(
      AccessError,
    );
  });
});
