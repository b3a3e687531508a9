import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createEventFd } from '../../src/posix/eventfd.ts';
import { createMemfd, fileStatus, isSeekable, readAt, sealAgainstShrink, writeAt } from '../../src/posix/memfd.ts';
import { closeDescriptor, socketPair } from '../../src/posix/socket.ts';

const opened: number[] = [];

afterEach(() => {
  for (const fd of opened.splice(0)) closeDescriptor(fd);
});

function keep(fd: number): number {
  opened.push(fd);
  return fd;
}

describe('createMemfd', () => {
  it('makes a file of that many zeros', () => {
    const fd = keep(createMemfd('zeros', 5000));
    const buffer = new Uint8Array(6000).fill(9);
    expect(fileStatus(fd).bytes).toBe(5000);
    expect(readAt(fd, buffer, 0, 6000, 0)).toBe(5000);
    expect(buffer.subarray(0, 5000).every(byte => byte === 0)).toBe(true);
    expect(buffer[5000]).toBe(9);
  });

  it('makes one that can be cut short by default', () => {
    const fd = keep(createMemfd('open', 8192));
    ftruncateSync(fd, 4096);
    expect(fileStatus(fd).bytes).toBe(4096);
  });

  it('makes one that cannot be cut short or grow when sealed', () => {
    const fd = keep(createMemfd('sealed', 8192, { seal: true }));
    expect(() => ftruncateSync(fd, 4096)).toThrow(/EPERM/);
    expect(() => ftruncateSync(fd, 16384)).toThrow(/EPERM/);
    expect(fileStatus(fd).bytes).toBe(8192);
  });

  it('makes files larger than 4 GiB', () => {
    expect(fileStatus(keep(createMemfd('large', 5 * 2 ** 30))).bytes).toBe(5 * 2 ** 30);
  });
});

describe('sealAgainstShrink', () => {
  it('is content with a file that is sealed already', () => {
    expect(sealAgainstShrink(keep(createMemfd('f', 4096, { seal: true })))).toBe(true);
  });

  it('adds the seal where it is allowed', () => {
    const fd = keep(createMemfd('f', 8192));
    expect(sealAgainstShrink(fd)).toBe(true);
    expect(() => ftruncateSync(fd, 4096)).toThrow(/EPERM/);
    ftruncateSync(fd, 16384);
    expect(fileStatus(fd).bytes).toBe(16384);
  });

  it('is false where seals are not allowed', () => {
    const fd = keep(createMemfd('f', 8192, { sealable: false }));
    expect(sealAgainstShrink(fd)).toBe(false);
    ftruncateSync(fd, 4096);
    expect(fileStatus(fd).bytes).toBe(4096);
  });

  it('is false for files on a disk', () => {
    const folder = mkdtempSync(join(tmpdir(), 'memfd-'));
    const fd = openSync(join(folder, 'f'), 'w+');
    expect(sealAgainstShrink(fd)).toBe(false);
    closeSync(fd);
    rmSync(folder, { recursive: true });
  });
});

describe('readAt and writeAt', () => {
  it('move bytes between any place of the buffer and any place of the file', () => {
    const fd = keep(createMemfd('f', 8192));
    expect(writeAt(fd, Uint8Array.of(0, 1, 2, 3, 4), 1, 3, 4095n)).toBe(3);
    const buffer = new Uint8Array(6);
    expect(readAt(fd, buffer, 2, 3, 4095)).toBe(3);
    expect([...buffer]).toEqual([0, 0, 1, 2, 3, 0]);
  });

  it('find positions beyond 4 GiB, as bigint and as number', () => {
    const fd = keep(createMemfd('f', 5 * 2 ** 30));
    expect(writeAt(fd, Uint8Array.of(42), 0, 1, (4n << 30n) + 17n)).toBe(1);
    const buffer = new Uint8Array(1);
    expect(readAt(fd, buffer, 0, 1, 4 * 2 ** 30 + 17)).toBe(1);
    expect(buffer[0]).toBe(42);
  });

  it('read nothing beyond the end', () => {
    const fd = keep(createMemfd('f', 4096));
    expect(readAt(fd, new Uint8Array(8), 0, 8, 4096)).toBe(0);
    expect(readAt(fd, new Uint8Array(8), 0, 8, 4092)).toBe(4);
  });

  it('throw a SystemError where the descriptor does not allow it', () => {
    const fd = keep(openSync('/dev/null', 'r'));
    expect(() => writeAt(fd, new Uint8Array(1), 0, 1, 0)).toThrow(
      expect.objectContaining({ name: 'SystemError', call: 'pwrite', code: 'EBADF' }),
    );
    expect(() => readAt(99999, new Uint8Array(1), 0, 1, 0)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  it.each([-1, 0.5, 2n ** 60n])('refuse the position %s', position => {
    const fd = keep(createMemfd('f', 4096));
    expect(() => readAt(fd, new Uint8Array(1), 0, 1, position)).toThrow(RangeError);
    expect(() => writeAt(fd, new Uint8Array(1), 0, 1, position)).toThrow(RangeError);
  });
});

describe('what a descriptor is', () => {
  it('tells files from what has no positions', () => {
    const file = keep(createMemfd('f', 4096));
    const [one, other] = socketPair();
    keep(one);
    keep(other);
    const device = keep(openSync('/dev/zero', 'r'));
    const status = [file, one, device, keep(createEventFd())].map(fd => fileStatus(fd));
    expect(status.map(({ isRegular }) => isRegular)).toEqual([true, false, false, false]);
    expect([file, one, device].map(isSeekable)).toEqual([true, false, true]);
    expect(status.map(({ isDevice }) => isDevice)).toEqual([false, false, true, false]);
  });

  it('throws for a descriptor that is not open', () => {
    expect(() => fileStatus(99999)).toThrow(expect.objectContaining({ call: 'statx', code: 'EBADF' }));
  });
});
