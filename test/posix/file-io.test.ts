import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEventFd } from '../../src/posix/eventfd.ts';
import { appendsAlways, FILE_IO_BYTES, probeFileAt, readFileAt, writeFileAt } from '../../src/posix/file-io.ts';
import { createMemfd, fileStatus } from '../../src/posix/memfd.ts';
import { allocateNative, freeNative } from '../../src/posix/native-memory.ts';
import { closeDescriptor, socketPair } from '../../src/posix/socket.ts';

const EIO = 5;
const EBADF = 9;
const EISDIR = 21;
const ESPIPE = 29;

let file: number;
beforeEach(() => {
  file = createMemfd('file', 8192);
});
afterEach(() => closeDescriptor(file));

function opened<T>(path: string, mode: string, use: (fd: number) => T): T {
  const fd = openSync(path, mode);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

describe('reads and writes at a position', () => {
  it.each([1, 8, 96, 97, 4096])('move %i bytes, and no others', length => {
    const source = Uint8Array.from({ length: length + 20 }, (_, i) => i * 7 + 1);
    expect(writeFileAt(file, source, 10, length, 1000)).toBe(length);
    const target = new Uint8Array(length + 20).fill(0xee);
    expect(readFileAt(file, target, 10, length, 1000)).toBe(length);
    expect(target.subarray(10, 10 + length)).toEqual(source.subarray(10, 10 + length));
    expect([...target.subarray(0, 10), ...target.subarray(10 + length)]).toEqual(new Array(20).fill(0xee));
    const around = new Uint8Array(2);
    readFileAt(file, around, 0, 1, 999);
    readFileAt(file, around, 1, 1, 1000 + length);
    expect([...around]).toEqual([0, 0]);
  });

  it('move as much as one call takes, and say so', () => {
    ftruncateSync(file, 3 * FILE_IO_BYTES);
    const bytes = new Uint8Array(2 * FILE_IO_BYTES).fill(5);
    expect(writeFileAt(file, bytes, 0, bytes.length, 0)).toBe(FILE_IO_BYTES);
    expect(readFileAt(file, bytes, 0, bytes.length, 0)).toBe(FILE_IO_BYTES);
  });

  it('read what there is before the end, and nothing behind it', () => {
    const target = new Uint8Array(100);
    expect(readFileAt(file, target, 0, 100, 8192 - 30)).toBe(30);
    expect(readFileAt(file, target, 0, 100, 8192)).toBe(0);
  });

  it('reach positions beyond 4 GiB', () => {
    const position = 2 ** 40 + 2 ** 32 + 5;
    expect(writeFileAt(file, Uint8Array.of(1, 2, 3), 0, 3, position)).toBe(3);
    expect(fileStatus(file).bytes).toBe(position + 3);
    const target = new Uint8Array(3);
    expect(readFileAt(file, target, 0, 3, position)).toBe(3);
    expect([...target]).toEqual([1, 2, 3]);
  });

  it("reach this process's own memory", () => {
    const block = allocateNative(4096);
    opened('/proc/self/mem', 'r+', memory => {
      expect(writeFileAt(memory, Uint8Array.of(9, 8, 7), 0, 3, block.address + 100)).toBe(3);
      expect([...block.bytes.subarray(99, 104)]).toEqual([0, 9, 8, 7, 0]);
      block.bytes[200] = 42;
      const target = new Uint8Array(1);
      expect(readFileAt(memory, target, 0, 1, block.address + 200)).toBe(1);
      expect(target[0]).toBe(42);
    });
    freeNative(block);
  });

  it('answer with the errno where nothing is', () => {
    opened('/proc/self/mem', 'r+', memory => {
      expect(readFileAt(memory, new Uint8Array(8), 0, 8, 0)).toBe(-EIO);
      expect(writeFileAt(memory, new Uint8Array(8), 0, 8, 0)).toBe(-EIO);
    });
  });

  it('leave the buffer alone where they fail', () => {
    const target = Uint8Array.of(1, 2, 3);
    expect(readFileAt(-1, target, 0, 3, 0)).toBe(-EBADF);
    expect([...target]).toEqual([1, 2, 3]);
  });
});

describe('what can be read and written at a position', () => {
  it('is a file, and the memory of a process', () => {
    expect([probeFileAt(file, false), probeFileAt(file, true)]).toEqual([0, 0]);
    opened('/proc/self/mem', 'r+', memory => {
      expect([probeFileAt(memory, false), probeFileAt(memory, true)]).toEqual([0, 0]);
    });
  });

  it('is no socket and no eventfd', () => {
    const ends = socketPair();
    const eventFd = createEventFd();
    expect([...ends, eventFd].map(fd => [probeFileAt(fd, false), probeFileAt(fd, true)])).toEqual(
      new Array(3).fill([ESPIPE, ESPIPE]),
    );
    for (const fd of [...ends, eventFd]) closeDescriptor(fd);
  });

  it('is no directory', () => {
    expect(opened('/proc/self', 'r', fd => probeFileAt(fd, false))).toBe(EISDIR);
  });

  it('depends on how it was opened', () => {
    const path = `/proc/self/fd/${file}`;
    expect(opened(path, 'r', fd => [probeFileAt(fd, false), probeFileAt(fd, true)])).toEqual([0, EBADF]);
  });

  it('is not changed by looking', () => {
    writeFileAt(file, Uint8Array.of(1, 2, 3), 0, 3, 0);
    probeFileAt(file, true);
    const target = new Uint8Array(3);
    readFileAt(file, target, 0, 3, 0);
    expect([...target]).toEqual([1, 2, 3]);
    expect(fileStatus(file).bytes).toBe(8192);
  });

  it('is told from what only appends', () => {
    expect(appendsAlways(file)).toBe(false);
    expect(opened(`/proc/self/fd/${file}`, 'a', appendsAlways)).toBe(true);
  });
});
