import { afterEach, describe, expect, it } from 'vitest';
import { createMemfd, readAt, writeAt } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { FILE_MAPPING_LIMIT, type MappedWindow, WINDOW_BYTES, WindowPool } from '../../src/posix/window-pool.ts';
import { addressSpace, mappingsOf, openDescriptors } from './support.ts';

const PAGE = 4096;
const pool = new WindowPool();
let lent: MappedWindow[] = [];
let opened: number[] = [];

afterEach(() => {
  for (const window of lent) pool.release(window);
  for (const fd of opened) closeDescriptor(fd);
  lent = [];
  opened = [];
});

function acquire(): MappedWindow {
  const window = pool.acquire();
  lent.push(window);
  return window;
}

function file(pages: number, name = 'window-test'): number {
  const fd = createMemfd(name, pages * PAGE, { seal: true });
  opened.push(fd);
  return fd;
}

describe('MappedWindow', () => {
  it('is a gibibyte of zeros', () => {
    const window = acquire();
    expect(window.bytes.length).toBe(WINDOW_BYTES);
    expect(window.words.length).toBe(WINDOW_BYTES / 4);
    expect([window.bytes[0], window.bytes[WINDOW_BYTES / 2], window.bytes[WINDOW_BYTES - 1]]).toEqual([0, 0, 0]);
  });

  it('shows a mapped file in place, both views and both ways', () => {
    const window = acquire();
    const fd = file(2);
    writeAt(fd, Uint8Array.of(1, 2, 3, 4), 0, 4, PAGE);
    window.mapFile(16 * PAGE, 2 * PAGE, fd, 0, true);
    expect(window.words[(17 * PAGE) / 4]).toBe(0x04030201);
    window.bytes[16 * PAGE + 5] = 77;
    const buffer = new Uint8Array(1);
    readAt(fd, buffer, 0, 1, 5);
    expect(buffer[0]).toBe(77);
  });

  it('maps from an offset in the file, and to the last page of the window', () => {
    const window = acquire();
    const fd = file(3);
    writeAt(fd, Uint8Array.of(9), 0, 1, 3 * PAGE - 1);
    window.mapFile(WINDOW_BYTES - PAGE, PAGE, fd, 2 * PAGE, true);
    expect(window.bytes[WINDOW_BYTES - 1]).toBe(9);
  });

  it('shows two mappings of one file coherently', () => {
    const window = acquire();
    const other = acquire();
    const fd = file(1);
    window.mapFile(0, PAGE, fd, 0, true);
    window.mapFile(5 * PAGE, PAGE, fd, 0, true);
    other.mapFile(0, PAGE, fd, 0, false);
    window.bytes[10] = 1;
    expect([window.bytes[5 * PAGE + 10], other.bytes[10]]).toEqual([1, 1]);
    Atomics.store(window.words, (5 * PAGE) / 4, -5);
    expect([window.words[0], other.words[0]]).toEqual([-5, -5]);
  });

  it('keeps the file after its descriptor was closed', () => {
    const window = acquire();
    const fd = createMemfd('closed', PAGE, { seal: true });
    writeAt(fd, Uint8Array.of(3), 0, 1, 0);
    window.mapFile(0, PAGE, fd, 0, true);
    closeDescriptor(fd);
    expect(window.bytes[0]).toBe(3);
  });

  it('reads as zero after clear, and touches neither its neighbours nor the file', () => {
    const window = acquire();
    const fd = file(3);
    writeAt(fd, new Uint8Array(3 * PAGE).fill(5), 0, 3 * PAGE, 0);
    for (let page = 0; page < 3; page++) window.mapFile(page * PAGE, PAGE, fd, page * PAGE, true);
    window.clear(PAGE, PAGE);
    expect(window.bytes.subarray(PAGE, 2 * PAGE).every(byte => byte === 0)).toBe(true);
    expect([window.bytes[PAGE - 1], window.bytes[2 * PAGE]]).toEqual([5, 5]);
    const buffer = new Uint8Array(1);
    readAt(fd, buffer, 0, 1, PAGE);
    expect(buffer[0]).toBe(5);
  });

  it('takes another file where one was cleared', () => {
    const window = acquire();
    const first = file(1);
    const second = file(1);
    writeAt(second, Uint8Array.of(8), 0, 1, 0);
    window.mapFile(0, PAGE, first, 0, true);
    window.clear(0, PAGE);
    window.mapFile(0, PAGE, second, 0, true);
    expect(window.bytes[0]).toBe(8);
  });

  it.each([
    [1, PAGE],
    [0, 1],
    [-PAGE, PAGE],
    [0, 0],
    [WINDOW_BYTES, PAGE],
    [PAGE, WINDOW_BYTES],
    [0, Number.NaN],
    [2 ** 40, PAGE],
  ])('refuses to map or clear at %s, length %s', (at, length) => {
    const window = acquire();
    const fd = file(1);
    expect(() => window.mapFile(at, length, fd, 0, true)).toThrow(RangeError);
    expect(() => window.clear(at, length)).toThrow(RangeError);
  });

  it('throws where the file cannot be mapped, and stays as it was', () => {
    const window = acquire();
    window.mapFile(0, PAGE, file(1), 0, true);
    window.bytes[0] = 4;
    expect(() => window.mapFile(0, PAGE, 99999, 0, true)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => window.mapFile(0, PAGE, file(1), 1, true)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(window.bytes[0]).toBe(4);
  });
});

describe('WindowPool', () => {
  it('lends a released window again, with nothing left in it', () => {
    const window = pool.acquire();
    window.mapFile(0, PAGE, file(1), 0, true);
    window.bytes[0] = 4;
    pool.release(window);
    expect(window.bytes[0]).toBe(0);
    expect(acquire()).toBe(window);
    expect(window.bytes[0]).toBe(0);
  });

  it('shares what is released with every other pool of the thread', () => {
    const window = pool.acquire();
    pool.release(window);
    const other = new WindowPool();
    const again = other.acquire();
    expect(again).toBe(window);
    other.release(again);
  });

  it('does not take a window twice, nor from another pool', () => {
    const window = pool.acquire();
    expect(() => new WindowPool().release(window)).toThrow(/released/);
    pool.release(window);
    expect(() => pool.release(window)).toThrow(/released/);
    expect(pool.lent).toBe(0);
  });

  it('makes nobody use a window that was released', () => {
    const window = pool.acquire();
    pool.release(window);
    const fd = file(1);
    expect(() => window.mapFile(0, PAGE, fd, 0, true)).toThrow(/released/);
    expect(() => window.clear(0, PAGE)).toThrow(/released/);
  });

  it('counts the file mappings, and forgets those of a released window', () => {
    const window = pool.acquire();
    const fd = file(4);
    for (let page = 0; page < 4; page++) window.mapFile(2 * page * PAGE, PAGE, fd, 0, true);
    expect(pool.fileMappings).toBe(4);
    window.clear(0, PAGE);
    expect(pool.fileMappings).toBe(3);
    pool.release(window);
    expect(pool.fileMappings).toBe(0);
  });

  it('refuses more file mappings than its limit', () => {
    const window = acquire();
    const fd = file(1);
    for (let i = 0; i < FILE_MAPPING_LIMIT; i++) window.mapFile(i * PAGE, PAGE, fd, 0, true);
    expect(() => window.mapFile(FILE_MAPPING_LIMIT * PAGE, PAGE, fd, 0, true)).toThrow(
      expect.objectContaining({ code: 'ENOMEM' }),
    );
    window.clear(0, PAGE);
    window.mapFile(FILE_MAPPING_LIMIT * PAGE, PAGE, fd, 0, true);
  });

  it('grows by nothing over two hundred rounds', () => {
    const round = (): void => {
      const window = pool.acquire();
      const fd = createMemfd('round-test', 4 * PAGE, { seal: true });
      for (let page = 0; page < 4; page++) window.mapFile(page * 3 * PAGE, PAGE, fd, page * PAGE, page % 2 === 0);
      window.clear(0, PAGE);
      closeDescriptor(fd);
      pool.release(window);
    };
    round();
    const descriptors = openDescriptors();
    const space = addressSpace();
    for (let i = 0; i < 200; i++) round();
    expect(openDescriptors()).toBe(descriptors);
    expect(mappingsOf('round-test')).toBe(0);
    expect(addressSpace() - space).toBeLessThan(WINDOW_BYTES);
  });
});
