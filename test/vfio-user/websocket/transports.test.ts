/** The same over a unix socket, and over TLS. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { socketPair } from '../../../src/posix/socket.ts';
import { VfioUserAcceptor } from '../../../src/vfio-user/websocket/acceptor.ts';
import { connectVfioUser } from '../../../src/vfio-user/websocket/link.ts';
import { vfioUserUrl } from '../../../src/vfio-user/websocket/protocol.ts';
import { message, Stream } from './rig.ts';

let directory: string;
const ends: (() => unknown)[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'viommu-websocket-'));
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  rmSync(directory, { recursive: true, force: true });
});

async function serve(http: Server, ...where: unknown[]): Promise<Stream[]> {
  const machine: Stream[] = [];
  const acceptor = new VfioUserAcceptor({
    open: async () => {
      const [mine, theirs] = socketPair();
      machine.push(new Stream(mine));
      return theirs;
    },
  });
  http.on('upgrade', (request, socket, head) => acceptor.upgrade(request, socket, head));
  (http.listen as (...where: unknown[]) => void)(...where);
  await once(http, 'listening');
  ends.push(
    () => new Promise(resolve => http.close(resolve)),
    () => acceptor.close(),
    () => {
      for (const stream of machine) stream.close();
    },
  );
  return machine;
}

async function exchange(machine: Stream[], server: string, ca?: Buffer): Promise<void> {
  const [mine, theirs] = socketPair();
  const url = vfioUserUrl(server, { machine: 'm 1', name: 'edu:0' });
  const link = await connectVfioUser({ url, descriptor: theirs, ca });
  const client = new Stream(mine);
  ends.push(
    () => client.close(),
    () => link.close(),
  );
  await client.write(message(1));
  expect(await machine[0]!.take(24)).toEqual(message(1));
  await machine[0]!.write(message(2));
  expect(await client.take(24)).toEqual(message(2));
}

test('a link over a unix socket', async () => {
  const path = join(directory, 'server.sock');
  await exchange(await serve(createServer(), path), `ws+unix:${path}:/`);
});

test('a link over TLS trusts the certificate that it is given, and no other', async () => {
  const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  const subject = ['-subj', '/CN=viommu', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', cert];
  execFileSync('openssl', ['req', '-x509', '-days', '1', ...made, ...subject], { stdio: 'ignore' });
  const https = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) });
  const machine = await serve(https, 0, '127.0.0.1');
  const server = `wss://127.0.0.1:${(https.address() as AddressInfo).port}`;
  await expect(exchange(machine, server)).rejects.toThrow('self-signed certificate');
  await exchange(machine, server, readFileSync(cert));
});
