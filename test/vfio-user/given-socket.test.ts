import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { givenSocket } from '../../src/posix/given-socket.ts';
import { closeDescriptor, listenUnix, socketPair } from '../../src/posix/socket.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { VfioUserServer } from '../../src/vfio-user/server.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { BAR0, FakeModel, openDescriptors, PATIENCE } from './rig.ts';

let loop: EventLoop;
let model: FakeModel;
let trace: TraceLog;
let abandoned: string[];
let directory: ReturnType<typeof temporaryDirectory>;
let server: VfioUserServer | undefined;

beforeEach(() => {
  loop = new EventLoop(error => {
    throw error;
  });
  model = new FakeModel();
  trace = new TraceLog();
  abandoned = [];
  directory = temporaryDirectory();
});
afterEach(() => {
  server?.close();
  server = undefined;
  loop.close();
  directory.remove();
});

function serve(fd: number): VfioUserServer {
  server = new VfioUserServer({
    path: givenSocket(fd),
    name: 'dev',
    model,
    loop,
    trace,
    abandoned: reason => abandoned.push(reason),
  });
  return server;
}

function until(condition: () => boolean): void {
  const end = performance.now() + PATIENCE;
  while (!condition()) {
    if (performance.now() > end) throw new Error('it did not come about');
    loop.runOnce(1);
  }
}

describe('a server on a connection that it was given', () => {
  it('serves its client, descriptors and all', () => {
    const [mine, theirs] = socketPair();
    serve(theirs);
    const client = new VfioUserClient(loop, mine);
    expect(JSON.parse(client.negotiate({ capabilities: { max_msg_fds: 4 } }).data)).toMatchObject({
      capabilities: { max_msg_fds: 4 },
    });
    client.regionWrite(BAR0, 8, Uint8Array.of(7));
    expect(client.regionRead(BAR0, 8, 1)).toEqual(Uint8Array.of(7));
    expect(server!.connected).toBe(true);
    client.close();
    until(() => !server!.connected);
  });

  it('says that it is abandoned when the client has gone, once, and why', () => {
    const [mine, theirs] = socketPair();
    serve(theirs);
    const client = new VfioUserClient(loop, mine);
    client.negotiate();
    expect(abandoned).toEqual([]);
    client.close();
    until(() => abandoned.length > 0);
    server!.close();
    expect(abandoned).toEqual(['end of stream']);
    expect(model.calls).toContain('disconnected');
  });

  it('says so, too, where the client was gone before', () => {
    const [mine, theirs] = socketPair();
    closeDescriptor(mine);
    serve(theirs);
    until(() => abandoned.length > 0);
    expect(abandoned).toEqual(['end of stream']);
  });

  it('does not say so where it ends by itself', () => {
    const [mine, theirs] = socketPair();
    serve(theirs);
    const client = new VfioUserClient(loop, mine);
    client.negotiate();
    server!.close();
    expect(abandoned).toEqual([]);
    until(() => client.endReason !== undefined);
  });

  it('lets it wait while paused', () => {
    const [mine, theirs] = socketPair();
    serve(theirs).pause();
    loop.runOnce(0);
    expect(trace.events).toEqual([]);
    server!.resume();
    const client = new VfioUserClient(loop, mine);
    client.negotiate();
    client.close();
  });

  it('closes it where it ends before it has looked', () => {
    const before = openDescriptors();
    const [mine, theirs] = socketPair();
    serve(theirs).close();
    loop.runOnce(0);
    closeDescriptor(mine);
    expect(openDescriptors()).toEqual(before);
    expect(abandoned).toEqual([]);
  });
});

describe('a server on a listening socket that it was given', () => {
  it('serves one client after the other, and leaves the file at its end', () => {
    const path = join(directory.path, 'given');
    serve(listenUnix(path));
    for (let i = 0; i < 2; i++) {
      const client = new VfioUserClient(loop, path);
      client.negotiate();
      client.close();
      until(() => !server!.connected);
    }
    server!.close();
    expect(existsSync(path)).toBe(true);
    expect(abandoned).toEqual([]);
    expect(() => new VfioUserClient(loop, path)).toThrow(/ECONNREFUSED/);
  });
});
