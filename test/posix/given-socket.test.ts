import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEventFd } from '../../src/posix/eventfd.ts';
import { GivenListener, givenSocket } from '../../src/posix/given-socket.ts';
import { AF_UNIX, F_GETFL, fcntl, O_NONBLOCK, SOCK_STREAM, socket, socketpair } from '../../src/posix/libc.ts';
import { closeDescriptor, connectUnix, listenUnix, socketPair } from '../../src/posix/socket.ts';
import { temporaryDirectory } from '../guest/support.ts';

const SOCK_DGRAM = 2;
const AF_INET = 2;

let directory: ReturnType<typeof temporaryDirectory>;
const open: number[] = [];

beforeEach(() => {
  directory = temporaryDirectory();
});
afterEach(() => {
  for (const fd of open.splice(0)) closeDescriptor(fd);
  directory.remove();
});

function kept(...fds: number[]): number {
  open.push(...fds);
  return fds[0]!;
}

const isNonBlocking = (fd: number) => (fcntl(fd, F_GETFL, 0) & O_NONBLOCK) !== 0;

describe('a socket that a process was given', () => {
  it('listens', () => {
    const fd = kept(listenUnix(join(directory.path, 'a')));
    expect(givenSocket(fd)).toEqual({ fd, isListening: true });
  });

  it('is connected, at either end', () => {
    const pair = socketPair();
    kept(...pair);
    for (const fd of pair) expect(givenSocket(fd)).toEqual({ fd, isListening: false });
    const listener = kept(listenUnix(join(directory.path, 'a')));
    const client = kept(connectUnix(join(directory.path, 'a')));
    expect([givenSocket(listener).isListening, givenSocket(client).isListening]).toEqual([true, false]);
  });

  it('is connected when the other end has gone since', () => {
    const [mine, theirs] = socketPair();
    kept(mine);
    closeDescriptor(theirs);
    expect(givenSocket(mine).isListening).toBe(false);
  });

  it('does not block from then on', () => {
    const pair = new Int32Array(2);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    const fd = kept(pair[0]!, pair[1]!);
    expect(isNonBlocking(fd)).toBe(false);
    givenSocket(fd);
    expect(isNonBlocking(fd)).toBe(true);
  });

  it.each([
    ['is not open', () => 1_000_000, /descriptor 1000000 is not open/],
    ['is an eventfd', () => kept(createEventFd()), /is no socket/],
    ['carries datagrams', () => kept(socket(AF_UNIX, SOCK_DGRAM, 0)), /is no stream socket/],
    ['is of the network', () => kept(socket(AF_INET, SOCK_STREAM, 0)), /is no unix socket/],
    ['is not connected', () => kept(socket(AF_UNIX, SOCK_STREAM, 0)), /neither listens nor is connected/],
  ])('is refused where it %s', (_, make, message) => {
    expect(() => givenSocket(make())).toThrow(message);
  });

  it('is left open where it is refused', () => {
    const fd = kept(createEventFd());
    expect(() => givenSocket(fd)).toThrow();
    expect(readdirSync('/proc/self/fd')).toContain(String(fd));
  });

  it('is closed once, its file left alone', () => {
    const path = join(directory.path, 'a');
    const listener = new GivenListener(listenUnix(path));
    listener.close();
    listener.close();
    expect(readdirSync(directory.path)).toContain('a');
    expect(() => connectUnix(path)).toThrow(/ECONNREFUSED/);
  });
});
