import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { flock, LOCK_EX, LOCK_NB } from '../../src/posix/libc.ts';
import {
  acceptUnix,
  closeDescriptor,
  connectUnix,
  duplicateDescriptor,
  LISTEN_BACKLOG,
  listenUnix,
  SOCKET_PATH_LIMIT,
  StreamSocket,
  socketPair,
  UnixListener,
} from '../../src/posix/socket.ts';
import { openDescriptors } from './support.ts';

let folder: string;
let path: string;
let opened: number[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'socket-'));
  path = join(folder, 's');
  opened = [];
});

afterEach(() => {
  for (const fd of opened) closeDescriptor(fd);
  rmSync(folder, { recursive: true });
});

function keep(fd: number): number {
  opened.push(fd);
  return fd;
}

function isCloseOnExec(fd: number): boolean {
  const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))![1]!;
  return (Number.parseInt(flags, 8) & 0o2000000) !== 0;
}

describe('UnixListener', () => {
  it('removes its file at the end, and may be closed again', () => {
    const listener = new UnixListener(path);
    listener.close();
    expect(existsSync(path)).toBe(false);
    listener.close();
  });

  it('leaves the file of a successor alone', () => {
    const first = new UnixListener(path);
    unlinkSync(path);
    const second = new UnixListener(path);
    first.close();
    keep(connectUnix(path));
    expect(keep(acceptUnix(second.fd))).toBeGreaterThan(0);
    second.close();
    expect(existsSync(path)).toBe(false);
  });

  it('leaves something else alone that has its path by now', () => {
    const listener = new UnixListener(path);
    unlinkSync(path);
    writeFileSync(path, 'precious');
    listener.close();
    expect(readFileSync(path, 'latin1')).toBe('precious');
  });

  it('takes it that its file, or the folder, is gone', () => {
    const inner = join(folder, 'inner');
    mkdirSync(inner);
    const [one, other] = [new UnixListener(join(inner, 'one')), new UnixListener(join(inner, 'other'))];
    unlinkSync(join(inner, 'one'));
    one.close();
    renameSync(inner, join(folder, 'moved'));
    other.close();
    expect(existsSync(join(folder, 'moved/other'))).toBe(true);
  });

  it('removes its file without closing, for those whose descriptor is closed by somebody else', () => {
    const listener = new UnixListener(path);
    keep(listener.fd);
    listener.removeFile();
    expect(existsSync(path)).toBe(false);
  });

  it('waits for another server of its folder, and says so when that takes too long', () => {
    const holder = keep(openSync(folder, 'r'));
    expect(flock(holder, LOCK_EX | LOCK_NB)).toBe(0);
    const before = openDescriptors();
    expect(() => new UnixListener(path)).toThrow(`${path}: another program holds the lock`);
    expect(openDescriptors()).toBe(before);
    expect(existsSync(path)).toBe(false);
  });

  it('holds the lock while it starts only', () => {
    const listener = new UnixListener(path);
    const holder = keep(openSync(folder, 'r'));
    expect(flock(holder, LOCK_EX | LOCK_NB)).toBe(0);
    closeDescriptor(opened.pop()!);
    listener.close();
  });
});

describe('listenUnix', () => {
  it('makes a socket file for its owner only', () => {
    keep(listenUnix(path));
    expect(statSync(path).isSocket()).toBe(true);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('replaces a socket file that nobody answers on', () => {
    closeDescriptor(listenUnix(path));
    expect(existsSync(path)).toBe(true);
    keep(listenUnix(path));
    keep(connectUnix(path));
  });

  it('refuses a path on which a server answers, and leaves that server alone', () => {
    const server = keep(listenUnix(path));
    expect(() => listenUnix(path)).toThrow(`${path}: another server answers there`);
    keep(connectUnix(path));
    keep(acceptUnix(server));
    keep(acceptUnix(server));
    expect(acceptUnix(server)).toBe(-1);
  });

  it('refuses a path where a file is, and leaves the file alone', () => {
    writeFileSync(path, 'precious');
    expect(() => listenUnix(path)).toThrow(/no socket/);
    expect(readFileSync(path, 'latin1')).toBe('precious');
  });

  it('refuses a link, also one to a stale socket', () => {
    closeDescriptor(listenUnix(path));
    const link = join(folder, 'link');
    symlinkSync(path, link);
    expect(() => listenUnix(link)).toThrow(/no socket/);
  });

  it('says which folder is missing', () => {
    expect(() => listenUnix(join(folder, 'missing/s'))).toThrow(/missing\/s: ENOENT/);
  });

  it('takes a path of exactly the longest length', () => {
    const longest = path + 'x'.repeat(SOCKET_PATH_LIMIT - path.length);
    keep(listenUnix(longest));
    expect(statSync(longest).isSocket()).toBe(true);
  });

  it('refuses a longer path, counted in bytes', () => {
    const tooLong = `${path}${'x'.repeat(SOCKET_PATH_LIMIT - path.length - 1)}ü`;
    expect(() => listenUnix(tooLong)).toThrow(`at most ${SOCKET_PATH_LIMIT}`);
  });

  it.each(['', 'a\0b'])('refuses the path %j', bad => {
    expect(() => listenUnix(bad)).toThrow(/socket/);
  });

  it('leaves no descriptor behind when it fails', () => {
    writeFileSync(path, '');
    const before = openDescriptors();
    expect(() => listenUnix(path)).toThrow();
    expect(openDescriptors()).toBe(before);
  });
});

describe('acceptUnix', () => {
  it('returns -1 where no client is waiting', () => {
    expect(acceptUnix(keep(listenUnix(path)))).toBe(-1);
  });

  it('returns one client after another', () => {
    const server = keep(listenUnix(path));
    keep(connectUnix(path));
    keep(connectUnix(path));
    const first = keep(acceptUnix(server));
    const second = keep(acceptUnix(server));
    expect(first).toBeGreaterThanOrEqual(0);
    expect(second).not.toBe(first);
    expect(acceptUnix(server)).toBe(-1);
  });

  it('does not hand its descriptors to child processes', () => {
    const server = keep(listenUnix(path));
    const client = keep(connectUnix(path));
    expect([server, client, keep(acceptUnix(server))].map(isCloseOnExec)).toEqual([true, true, true]);
  });

  it('throws on something that does not listen', () => {
    const [one, other] = socketPair();
    keep(one);
    keep(other);
    expect(() => acceptUnix(one)).toThrow(expect.objectContaining({ call: 'accept4', code: 'EINVAL' }));
  });
});

describe('connectUnix', () => {
  it('throws ENOENT where nothing is', () => {
    expect(() => connectUnix(path)).toThrow(expect.objectContaining({ call: 'connect', code: 'ENOENT' }));
  });

  it('throws ECONNREFUSED where nobody answers', () => {
    closeDescriptor(listenUnix(path));
    expect(() => connectUnix(path)).toThrow(expect.objectContaining({ code: 'ECONNREFUSED' }));
  });

  it('throws EAGAIN rather than wait where the queue of clients is full', () => {
    keep(listenUnix(path));
    expect(() => {
      for (let i = 0; i < 2 * LISTEN_BACKLOG; i++) keep(connectUnix(path));
    }).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
  });
});

describe('duplicateDescriptor', () => {
  it('is a second descriptor of the same stream, which lives on when the first is closed', () => {
    const [one, other] = socketPair();
    const copy = keep(duplicateDescriptor(one));
    closeDescriptor(one);
    const socket = new StreamSocket(other, 16, 16, 0);
    expect(socket.receive(0, 16)).toBe(-1);
    closeDescriptor(opened.splice(opened.indexOf(copy), 1)[0]!);
    expect(socket.receive(0, 16)).toBe(0);
    socket.close();
  });

  it('throws EBADF for what is not open', () => {
    expect(() => duplicateDescriptor(99999)).toThrow(expect.objectContaining({ call: 'fcntl', code: 'EBADF' }));
  });
});

describe('socketPair', () => {
  it('is close-on-exec and non-blocking on both ends', () => {
    for (const fd of socketPair()) {
      const flags = Number.parseInt(
        /flags:\t(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${keep(fd)}`, 'utf8'))![1]!,
        8,
      );
      expect(flags & 0o2004000).toBe(0o2004000);
    }
  });
});

describe('closeDescriptor', () => {
  it('throws EBADF for a descriptor that is not open', () => {
    const [one, other] = socketPair();
    keep(other);
    closeDescriptor(one);
    expect(() => closeDescriptor(one)).toThrow(expect.objectContaining({ call: 'close', code: 'EBADF' }));
  });
});
