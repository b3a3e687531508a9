import { ftruncateSync, openSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryStatus } from '../../src/memory/guest-memory.ts';
import { POSITIONED_REGION_LIMIT, type RegionMemory } from '../../src/memory/region-memory.ts';
import { createMemfd, readAt } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import type { TraceLog } from '../../src/trace/trace.ts';
import { openDescriptors } from '../posix/support.ts';
import { at, byteAt, FakeRemote, PAGE, pagesFile, setUp, unmap } from './support.ts';

const unsealable = { sealable: false };
const EIO = 5;

let memory: RegionMemory;
let trace: TraceLog;
let remote: FakeRemote;

beforeEach(() => {
  ({ memory, trace } = setUp());
  remote = new FakeRemote();
  memory.remote = remote;
});

afterEach(() => memory.dispose());

/** A second descriptor for the same file. */
function again(fd: number, mode = 'r+'): number {
  return openSync(`/proc/self/fd/${fd}`, mode);
}

describe('RegionMemory, mapped regions', () => {
  it('are coherent with the guest, both ways', () => {
    const fd = pagesFile(1);
    memory.map(at(0, 1, { descriptor: again(fd) }));
    memory.write(0, 10, Uint8Array.of(42), 0, 1);
    memory.store32(0, 20, 0x01020304);
    const seen = new Uint8Array(16);
    readAt(fd, seen, 0, 16, 10);
    expect([seen[0], ...seen.subarray(10, 14)]).toEqual([42, 4, 3, 2, 1]);
    closeDescriptor(fd);
  });

  it('appear twice where they are mapped twice', () => {
    const fd = pagesFile(1);
    memory.map(at(0, 1, { descriptor: again(fd) }));
    memory.map(at(100, 1, { descriptor: fd }));
    memory.write(0, 0, Uint8Array.of(42), 0, 1);
    expect(byteAt(memory, 100)).toBe(42);
  });

  it('load words, also the last of a page', () => {
    memory.map(at(3, 1, { descriptor: pagesFile(1, 0x81) }));
    expect(memory.load64(3, 4088)).toBe(MemoryStatus.ok);
    expect([memory.low, memory.high]).toEqual([0x81818181 | 0, 0x81818181 | 0]);
  });

  it('that are read-only deny writes and keep their bytes', () => {
    memory.map(at(0, 1, { descriptor: pagesFile(1), writable: false }));
    expect(memory.write(0, 0, Uint8Array.of(9), 0, 1)).toBe(MemoryStatus.denied);
    expect(memory.store32(0, 0, 9)).toBe(MemoryStatus.denied);
    expect(byteAt(memory, 0)).toBe(1);
    expect(memory.load64(0, 0)).toBe(MemoryStatus.ok);
  });

  it('that are read-only may come with a descriptor for reading', () => {
    const fd = pagesFile(1);
    expect(memory.map(at(0, 1, { descriptor: again(fd, 'r'), writable: false }))).toBe(0);
    closeDescriptor(fd);
    expect(byteAt(memory, 0)).toBe(1);
    expect(trace.events).toEqual([]);
  });

  it('go to messages where a descriptor for reading comes for a writable one', () => {
    const fd = pagesFile(1);
    expect(memory.map(at(0, 1, { descriptor: again(fd, 'r') }))).toBe(0);
    closeDescriptor(fd);
    expect(trace.events[0]).toMatchObject({ kind: 'memory.not-mapped', detail: { instead: 'messages' } });
    expect(memory.write(0, 0, Uint8Array.of(9), 0, 1)).toBe(MemoryStatus.ok);
    expect(remote.messages).toEqual(['write 0+0 1']);
  });

  it('get the seal where it can be added', () => {
    const fd = pagesFile(2, 1, {});
    memory.map(at(0, 2, { descriptor: again(fd) }));
    expect(memory.windows[0]!.bytes[PAGE]).toBe(2);
    expect(() => ftruncateSync(fd, PAGE)).toThrow(/EPERM/);
    closeDescriptor(fd);
  });
});

describe('RegionMemory, regions that must not be mapped', () => {
  it('a file that could shrink is read and written by position', () => {
    const fd = pagesFile(3, 1, unsealable);
    memory.map(at(5, 2, { descriptor: again(fd), offset: PAGE }));
    expect(trace.events[0]).toMatchObject({ kind: 'memory.not-mapped', detail: { instead: 'file' } });
    expect(memory.windows).toHaveLength(0);
    expect([byteAt(memory, 5), byteAt(memory, 6, PAGE - 1)]).toEqual([2, 3]);
    expect(memory.write(6, 4, Uint8Array.of(7, 8), 1, 1)).toBe(MemoryStatus.ok);
    expect(memory.store32(6, 8, -2)).toBe(MemoryStatus.ok);
    expect(memory.load64(6, 0)).toBe(MemoryStatus.ok);
    expect([memory.low, memory.high]).toEqual([0x03030303, 0x03030308]);
    const seen = new Uint8Array(12);
    readAt(fd, seen, 0, 12, 2 * PAGE);
    expect([...seen]).toEqual([3, 3, 3, 3, 8, 3, 3, 3, 0xfe, 0xff, 0xff, 0xff]);
    closeDescriptor(fd);
  });

  it('a file cut short under us fails, and the process lives', () => {
    const fd = pagesFile(2, 1, unsealable);
    memory.map(at(0, 2, { descriptor: again(fd) }));
    expect(byteAt(memory, 1)).toBe(2);
    ftruncateSync(fd, 100);
    expect(byteAt(memory, 1)).toBe('failed');
    expect(byteAt(memory, 0)).toBe(1);
    expect(memory.load64(0, 96)).toBe(MemoryStatus.failed);
    expect(memory.load64(1, 0)).toBe(MemoryStatus.failed);
    ftruncateSync(fd, 2 * PAGE);
    expect(byteAt(memory, 1)).toBe(0);
    closeDescriptor(fd);
  });

  it('a failure is noted once, and again after a success', () => {
    const fd = pagesFile(1, 1, unsealable);
    memory.map(at(0, 1, { descriptor: again(fd) }));
    const failures = (): number => trace.kinds().filter(kind => kind === 'memory.failed').length;
    ftruncateSync(fd, 0);
    byteAt(memory, 0);
    byteAt(memory, 0);
    expect(failures()).toBe(1);
    ftruncateSync(fd, PAGE);
    byteAt(memory, 0);
    ftruncateSync(fd, 0);
    byteAt(memory, 0);
    expect(failures()).toBe(2);
    closeDescriptor(fd);
  });

  it('a device that has positions is used by position', () => {
    expect(memory.map(at(0, 1, { descriptor: openSync('/dev/zero', 'r+') }))).toBe(0);
    expect(byteAt(memory, 0)).toBe(0);
    expect(memory.write(0, 0, Uint8Array.of(1), 0, 1)).toBe(MemoryStatus.ok);
  });

  it('what may not be read is in no window, and denies reading', () => {
    const fd = pagesFile(1);
    memory.map(at(0, 1, { descriptor: again(fd), readable: false }));
    expect(memory.windows).toHaveLength(0);
    expect(byteAt(memory, 0)).toBe('denied');
    expect(memory.load64(0, 0)).toBe(MemoryStatus.denied);
    expect(memory.write(0, 0, Uint8Array.of(9), 0, 1)).toBe(MemoryStatus.ok);
    const seen = new Uint8Array(1);
    readAt(fd, seen, 0, 1, 0);
    expect(seen[0]).toBe(9);
    closeDescriptor(fd);
  });

  it('read-only ones deny writes', () => {
    memory.map(at(0, 1, { descriptor: pagesFile(1, 1, unsealable), writable: false }));
    expect(memory.write(0, 0, Uint8Array.of(9), 0, 1)).toBe(MemoryStatus.denied);
    expect(byteAt(memory, 0)).toBe(1);
  });

  it('keep no more descriptors than their limit; the rest goes to messages', () => {
    const fd = createMemfd('many', PAGE, unsealable);
    const before = openDescriptors();
    for (let i = 0; i < POSITIONED_REGION_LIMIT + 3; i++) {
      expect(memory.map(at(i, 1, { descriptor: again(fd) }))).toBe(0);
    }
    expect(openDescriptors()).toBe(before + POSITIONED_REGION_LIMIT);
    byteAt(memory, POSITIONED_REGION_LIMIT);
    expect(remote.messages).toHaveLength(1);
    closeDescriptor(fd);
  });
});

describe('RegionMemory, regions reached by messages', () => {
  it('are read and written through the client', () => {
    memory.map(at(0x10, 4));
    remote.page(0x11)[PAGE - 1] = 5;
    remote.page(0x12)[0] = 6;
    const buffer = new Uint8Array(6);
    expect(memory.read(0x11, PAGE - 1, buffer, 2, 2)).toBe(MemoryStatus.ok);
    expect([...buffer]).toEqual([0, 0, 5, 6, 0, 0]);
    expect(memory.write(0x13, 8, Uint8Array.of(1, 2, 3), 1, 2)).toBe(MemoryStatus.ok);
    expect([...remote.page(0x13).subarray(8, 11)]).toEqual([2, 3, 0]);
    expect(remote.messages).toEqual(['read 11+4095 2', 'write 13+8 2']);
  });

  it('take one message for a transfer within the region, however many chunks it spans', () => {
    memory.map(at(0, 2000));
    expect(memory.read(3, 5, new Uint8Array(1500 * PAGE), 0, 1500 * PAGE)).toBe(MemoryStatus.ok);
    expect(remote.messages).toEqual([`read 3+5 ${1500 * PAGE}`]);
  });

  it('take a message each', () => {
    memory.map(at(0, 1));
    memory.map(at(1, 1));
    memory.read(0, 0, new Uint8Array(2 * PAGE), 0, 2 * PAGE);
    expect(remote.messages).toEqual([`read 0+0 ${PAGE}`, `read 1+0 ${PAGE}`]);
  });

  it('load and store words', () => {
    memory.map(at(0, 1));
    remote.page(0).set([1, 0, 0, 0, 2, 0, 0, 0x80], 16);
    expect(memory.load64(0, 16)).toBe(MemoryStatus.ok);
    expect([memory.low, memory.high]).toEqual([1, 0x80000002 | 0]);
    expect(memory.store32(0, 16, 0x01020304)).toBe(MemoryStatus.ok);
    expect([...remote.page(0).subarray(16, 20)]).toEqual([4, 3, 2, 1]);
  });

  it('fail where the client refuses, and this is noted with what it answered', () => {
    memory.map(at(0, 1));
    remote.answer = EIO;
    expect(byteAt(memory, 0)).toBe('failed');
    expect(memory.write(0, 0, Uint8Array.of(1), 0, 1)).toBe(MemoryStatus.failed);
    expect(memory.load64(0, 0)).toBe(MemoryStatus.failed);
    expect(memory.store32(0, 0, 0)).toBe(MemoryStatus.failed);
    expect(trace.events).toHaveLength(1);
    expect(trace.events[0]).toMatchObject({ kind: 'memory.failed', source: 'memory' });
    expect(String(trace.events[0]!.detail.why)).toContain('errno 5');
  });

  it('fail without a client', () => {
    memory.map(at(0, 1));
    memory.remote = undefined;
    expect(byteAt(memory, 0)).toBe('failed');
  });

  it('deny what they do not allow, without a message', () => {
    memory.map(at(0, 1, { writable: false }));
    memory.map(at(1, 1, { readable: false }));
    expect(memory.write(0, 0, Uint8Array.of(1), 0, 1)).toBe(MemoryStatus.denied);
    expect(byteAt(memory, 1)).toBe('denied');
    expect(remote.messages).toEqual([]);
  });

  it('notice regions that go while a message is out', () => {
    memory.map(at(0, 1));
    memory.map(at(1, 1, { descriptor: pagesFile(1) }));
    remote.before = () => memory.unmapAll();
    const buffer = new Uint8Array(2 * PAGE).fill(0xee);
    expect(memory.read(0, 0, buffer, 0, 2 * PAGE)).toBe(MemoryStatus.unmapped);
    expect(buffer[PAGE]).toBe(0xee);
  });
});

describe('RegionMemory, interrupt messages', () => {
  it('go to the client where no region is', () => {
    expect(memory.store32(0xfee00, 0, 0x31)).toBe(MemoryStatus.ok);
    expect(memory.write(0xfeeff, PAGE - 4, Uint8Array.of(1, 2, 3, 4), 0, 4)).toBe(MemoryStatus.ok);
    expect(remote.messages).toEqual(['write fee00+0 4', 'write feeff+4092 4']);
    expect(remote.page(0xfee00)[0]).toBe(0x31);
  });

  it('end where their address range ends', () => {
    const buffer = new Uint8Array(8);
    expect(memory.write(0xfedff, PAGE - 4, buffer, 0, 4)).toBe(MemoryStatus.unmapped);
    expect(memory.write(0xfef00, 0, buffer, 0, 4)).toBe(MemoryStatus.unmapped);
    expect(memory.write(0xfeeff, PAGE - 4, buffer, 0, 8)).toBe(MemoryStatus.unmapped);
    expect(remote.messages).toEqual(['write feeff+4092 4']);
  });

  it('are not read', () => {
    expect(byteAt(memory, 0xfee00)).toBe('unmapped');
    expect(memory.load64(0xfee00, 0)).toBe(MemoryStatus.unmapped);
    expect(remote.messages).toEqual([]);
  });

  it('give way to a region', () => {
    memory.map(at(0xfee00, 1, { descriptor: pagesFile(1) }));
    memory.store32(0xfee00, 0, 0x31);
    expect(remote.messages).toEqual([]);
    expect(byteAt(memory, 0xfee00)).toBe(0x31);
  });

  it('fail where the client refuses them', () => {
    remote.answer = 19;
    expect(memory.store32(0xfee00, 0, 0x31)).toBe(MemoryStatus.failed);
    expect(trace.kinds()).toEqual(['memory.failed']);
  });
});

describe('RegionMemory, ranges over several regions', () => {
  it('split where the kind changes', () => {
    memory.map(at(0, 1, { descriptor: pagesFile(1, 10) }));
    memory.map(at(1, 1, { descriptor: pagesFile(1, 11, unsealable) }));
    memory.map(at(2, 1));
    memory.map(at(3, 1, { descriptor: pagesFile(1, 13) }));
    remote.page(2).fill(12);
    const buffer = new Uint8Array(4 * PAGE);
    expect(memory.read(0, 0, buffer, 0, 4 * PAGE)).toBe(MemoryStatus.ok);
    expect([0, 1, 2, 3].map(page => [buffer[page * PAGE], buffer[(page + 1) * PAGE - 1]])).toEqual([
      [10, 10],
      [11, 11],
      [12, 12],
      [13, 13],
    ]);
    expect(memory.write(0, PAGE - 1, new Uint8Array(2 * PAGE + 2).fill(99), 0, 2 * PAGE + 2)).toBe(MemoryStatus.ok);
    expect([byteAt(memory, 0, PAGE - 2), byteAt(memory, 0, PAGE - 1), byteAt(memory, 1, 5)]).toEqual([10, 99, 99]);
    expect([byteAt(memory, 2, PAGE - 1), byteAt(memory, 3, 0), byteAt(memory, 3, 1)]).toEqual([99, 99, 13]);
  });

  it('do the pages before the one that fails, and not those behind', () => {
    memory.map(at(0, 1, { descriptor: pagesFile(1) }));
    memory.map(at(1, 1, { descriptor: pagesFile(1), writable: false }));
    memory.map(at(2, 1, { descriptor: pagesFile(1) }));
    expect(memory.write(0, 0, new Uint8Array(3 * PAGE).fill(9), 0, 3 * PAGE)).toBe(MemoryStatus.denied);
    expect([0, 1, 2].map(frame => byteAt(memory, frame, 7))).toEqual([9, 1, 1]);
    unmap(memory, 1, 1);
    expect(memory.read(0, 0, new Uint8Array(3 * PAGE), 0, 3 * PAGE)).toBe(MemoryStatus.unmapped);
  });

  it('cross the border of two windows', () => {
    memory.map(at(0x3ffff, 2, { descriptor: pagesFile(2) }));
    const buffer = new Uint8Array(4);
    expect(memory.read(0x3ffff, PAGE - 2, buffer, 0, 4)).toBe(MemoryStatus.ok);
    expect([...buffer]).toEqual([1, 1, 2, 2]);
  });

  it('cross whole chunks', () => {
    memory.map(at(0, 1600, { descriptor: pagesFile(1600, 0) }));
    const buffer = new Uint8Array(1500 * PAGE);
    expect(memory.read(50, 0, buffer, 0, 1500 * PAGE)).toBe(MemoryStatus.ok);
    expect([0, 511, 512, 1499].map(page => buffer[page * PAGE])).toEqual([50, 561 & 255, 562 & 255, 1549 & 255]);
  });
});

describe('RegionMemory, regions of whole chunks', () => {
  const CHUNK = 512;

  beforeEach(() => {
    // Makes the window, so that a wrong way to it is not noticed by its absence.
    memory.map(at(0, 1, { descriptor: pagesFile(1) }));
  });

  it('by messages are not taken from the window', () => {
    memory.map(at(CHUNK, CHUNK));
    remote.page(CHUNK + 3).fill(7);
    expect(byteAt(memory, CHUNK + 3)).toBe(7);
    expect(memory.write(CHUNK + 3, 0, Uint8Array.of(8), 0, 1)).toBe(MemoryStatus.ok);
    expect(memory.store32(CHUNK + 3, 4, 9)).toBe(MemoryStatus.ok);
    expect(memory.load64(CHUNK + 3, 0)).toBe(MemoryStatus.ok);
    expect([memory.low, memory.high]).toEqual([0x07070708, 9]);
    expect(memory.windows[0]!.bytes[(CHUNK + 3) * PAGE]).toBe(0);
  });

  it('in a file that could shrink are not taken from the window', () => {
    const fd = pagesFile(CHUNK, 0, unsealable);
    memory.map(at(CHUNK, CHUNK, { descriptor: again(fd) }));
    expect(byteAt(memory, CHUNK + 3)).toBe(3);
    expect(memory.write(CHUNK + 3, 0, Uint8Array.of(8), 0, 1)).toBe(MemoryStatus.ok);
    const seen = new Uint8Array(1);
    readAt(fd, seen, 0, 1, 3 * PAGE);
    expect(seen[0]).toBe(8);
    closeDescriptor(fd);
  });

  it('that are read-only deny writes', () => {
    memory.map(at(CHUNK, CHUNK, { descriptor: pagesFile(CHUNK, 0), writable: false }));
    expect(byteAt(memory, CHUNK + 3)).toBe(3);
    expect(memory.write(CHUNK + 3, 0, Uint8Array.of(8), 0, 1)).toBe(MemoryStatus.denied);
    expect(memory.store32(CHUNK + 3, 0, 8)).toBe(MemoryStatus.denied);
    expect(byteAt(memory, CHUNK + 3)).toBe(3);
  });

  it('that may not be read deny reads', () => {
    memory.map(at(CHUNK, CHUNK, { descriptor: pagesFile(CHUNK, 0), readable: false }));
    expect(byteAt(memory, CHUNK + 3)).toBe('denied');
    expect(memory.write(CHUNK + 3, 0, Uint8Array.of(8), 0, 1)).toBe(MemoryStatus.ok);
  });

  it('answer no more once they are unmapped', () => {
    memory.map(at(CHUNK, CHUNK, { descriptor: pagesFile(CHUNK, 0) }));
    expect(byteAt(memory, CHUNK + 3)).toBe(3);
    unmap(memory, CHUNK, CHUNK);
    expect(byteAt(memory, CHUNK + 3)).toBe('unmapped');
    expect(memory.write(CHUNK + 3, 0, Uint8Array.of(8), 0, 1)).toBe(MemoryStatus.unmapped);
  });
});
