/** A store that is connected to a fake server, and ways to wait for what must come. */
import { afterEach } from 'vitest';
import { WebSocket } from 'ws';
import { Connection, type Socket } from '../../../src/inspector/page/connection.ts';
import { parseRoute } from '../../../src/inspector/page/route.ts';
import { InspectorStore } from '../../../src/inspector/page/store/inspector-store.ts';
import { RecordStore } from '../../../src/inspector/page/store/record-store.ts';
import { batchOf, type SampleRecord, slotsOf } from '../../trace/records.ts';
import { FakeServer, type FakeServerOptions } from './fake-server.ts';

const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

export const openSocket = (url: string, protocols: string[]): Socket => {
  const socket = new WebSocket(url, protocols);
  // The close that follows an error tells enough.
  socket.on('error', () => {});
  return socket as unknown as Socket;
};

export async function serve(options: FakeServerOptions = {}): Promise<FakeServer> {
  const server = await FakeServer.start(options);
  cleanups.push(() => server.close());
  return server;
}

export function storeOf(server: FakeServer, hash = '#/overview', token?: string): InspectorStore {
  const store = new InspectorStore({ url: server.url, open: openSocket, token });
  cleanups.push(() => store.stop());
  store.show(parseRoute(hash));
  store.start();
  return store;
}

export function connect(server: FakeServer, token?: string): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const connection: Connection = new Connection({
      url: server.url,
      token,
      open: openSocket,
      onOpen: () => resolve(connection),
      onClose: reason => reject(new Error(reason)),
    });
    cleanups.push(() => connection.close());
  });
}

export function storeWith(records: readonly SampleRecord[], limit?: number): RecordStore {
  const store = new RecordStore(limit);
  store.append(batchOf(...records.map(slotsOf)));
  return store;
}

/** Numbers of all records that are kept. */
export function numbersOf(store: RecordStore): number[] {
  return Array.from({ length: store.count }, (_, index) => store.first + index);
}
