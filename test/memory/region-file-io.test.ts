/** Regions whose client asked for file I/O. */
import { closeSync, ftruncateSync, openSync, readSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryStatus } from '../../src/memory/guest-memory.ts';
import { POSITIONED_REGION_LIMIT, type RegionMemory } from '../../src/memory/region-memory.ts';
import { createEventFd } from '../../src/posix/eventfd.ts';
import { createMemfd, readAt } from '../../src/posix/memfd.ts';
import { allocateNative, freeNative, type NativeBlock } from '../../src/posix/native-memory.ts';
import { closeDescriptor, duplicateDescriptor, socketPair } from '../../src/posix/socket.ts';
import type { TraceLog } from '../../src/trace/trace.ts';
import type { AnnouncedRegion } from '../../src/vfio-user/device-model.ts';
import { openDescriptors } from '../posix/support.ts';
import { at, BatchedRemote, byteAt, digest, FakeRemote, PAGE, pagesFile, setUp, unmap } from './support.ts';

const EINVAL = 22;
const ENOMEM = 12;

let memory: RegionMemory;
let trace: TraceLog;
let remote: FakeRemote;
let before: number;

beforeEach(() => {
  before = openDescriptors();
  ({ memory, trace } = setUp());
  remote = new FakeRemote();
  memory.remote = remote;
});

afterEach(() => {
  memory.dispose();
  expect(openDescriptors()).toBe(before);
});

/** The memory owns what it is given; the test keeps `fd`. */
function fileIo(frame: number, frames: number, fd: number, more: Partial<AnnouncedRegion> = {}): number {
  return memory.map(at(frame, frames, { descriptor: duplicateDescriptor(fd), access: 'fileIo', ...more }));
}

function using<T>(fd: number, use: (fd: number) => T): T {
  try {
    return use(fd);
  } finally {
    closeDescriptor(fd);
  }
}

describe('a region by file I/O', () => {
  it('is never mapped, whatever the file, and nothing is noted', () => {
    using(pagesFile(2), fd => {
      expect(fileIo(0, 2, fd)).toBe(0);
      expect(memory.windows).toHaveLength(0);
      expect([byteAt(memory, 0), byteAt(memory, 1, PAGE - 1)]).toEqual([1, 2]);
      expect(memory.statistics).toMatchObject({ regions: 1, mappedBytes: 0, positionedBytes: 2, messageBytes: 0 });
      expect(trace.kinds()).not.toContain('memory.not-mapped');
      expect(remote.messages).toEqual([]);
    });
  });

  it('starts at its offset, which need not be at a page', () => {
    using(pagesFile(3), fd => {
      expect(fileIo(7, 1, fd, { offset: 2 * PAGE - 100 })).toBe(0);
      expect([byteAt(memory, 7, 99), byteAt(memory, 7, 100)]).toEqual([2, 3]);
    });
  });

  it('is read and written across pages and beyond what one call moves', () => {
    using(createMemfd('guest', 64 * PAGE), fd => {
      fileIo(0, 64, fd);
      const bytes = Uint8Array.from({ length: 50 * PAGE }, (_, i) => i ^ (i >> 8));
      expect(memory.write(1, 300, bytes, 0, bytes.length)).toBe(MemoryStatus.ok);
      const back = new Uint8Array(bytes.length);
      expect(memory.read(1, 300, back, 0, back.length)).toBe(MemoryStatus.ok);
      expect(digest(back)).toBe(digest(bytes));
      readSync(fd, back, 0, back.length, PAGE + 300);
      expect(digest(back)).toBe(digest(bytes));
    });
  });

  it('has words, for who walks page tables', () => {
    using(pagesFile(1, 0x11), fd => {
      fileIo(5, 1, fd);
      expect(memory.load64(5, 4088)).toBe(MemoryStatus.ok);
      expect([memory.low, memory.high]).toEqual([0x11111111, 0x11111111]);
      expect(memory.store32(5, 0, -3)).toBe(MemoryStatus.ok);
      expect(memory.compareExchange32(5, 0, -3, 77)).toBe(MemoryStatus.ok);
      expect(byteAt(memory, 5)).toBe(77);
    });
  });

  it('reaches offsets beyond 4 GiB', () => {
    const position = 2 ** 33 + 5 * PAGE;
    using(createMemfd('guest', position + 2 * PAGE), fd => {
      fileIo(0, 2, fd, { offset: position });
      expect(memory.write(1, 3, Uint8Array.of(42), 0, 1)).toBe(MemoryStatus.ok);
      const seen = new Uint8Array(1);
      readAt(fd, seen, 0, 1, position + PAGE + 3);
      expect(seen[0]).toBe(42);
    });
  });

  it.each([
    ['read', { writable: false }, [MemoryStatus.ok, MemoryStatus.denied]],
    ['written', { readable: false }, [MemoryStatus.denied, MemoryStatus.ok]],
  ])('is only %s where it says so', (_, permission, expected) => {
    using(pagesFile(1), fd => {
      fileIo(0, 1, fd, permission);
      const byte = Uint8Array.of(9);
      expect([memory.read(0, 0, byte, 0, 1), memory.write(0, 0, byte, 0, 1)]).toEqual(expected);
    });
  });

  it('marks the pages that are written in the log', () => {
    using(pagesFile(4), fd => {
      fileIo(0, 4, fd);
      memory.log.start([]);
      memory.write(1, PAGE - 1, Uint8Array.of(1, 2), 0, 2);
      const bitmap = new Uint8Array(8);
      memory.log.report(0n, BigInt(4 * PAGE), BigInt(PAGE), bitmap);
      expect(bitmap[0]).toBe(0b110);
      memory.log.stop();
    });
  });

  it('keeps its place in a row of accesses beside messages', () => {
    using(pagesFile(1), fd => {
      const batched = new BatchedRemote();
      memory.remote = batched;
      memory.map(at(0, 1));
      fileIo(1, 1, fd);
      const batch = memory.batch!;
      batch.begin();
      const byte = new Uint8Array(3);
      batch.write(0, 0, Uint8Array.of(7), 0, 1);
      batch.read(1, 0, byte, 0, 1);
      batch.read(0, 0, byte, 1, 1);
      expect(batch.end()).toBe(MemoryStatus.ok);
      expect([...byte]).toEqual([1, 7, 0]);
      expect(batched.messages).toEqual(['write 0+0 1', 'read 0+0 1']);
    });
  });

  it('closes its descriptor when it goes, and is not reached any more', () => {
    using(pagesFile(2), fd => {
      fileIo(0, 1, fd);
      fileIo(1, 1, fd);
      expect(openDescriptors()).toBe(before + 3);
      expect(unmap(memory, 0, 1)).toBe(0);
      expect(openDescriptors()).toBe(before + 2);
      expect(byteAt(memory, 0)).toBe('unmapped');
      memory.unmapAll();
      expect(openDescriptors()).toBe(before + 1);
    });
  });

  it('fails where the file has become shorter, is noted once, and works again when it has not', () => {
    using(createMemfd('guest', 2 * PAGE), fd => {
      fileIo(0, 2, fd);
      ftruncateSync(fd, PAGE + 10);
      expect([byteAt(memory, 1, 10), byteAt(memory, 1, 11)]).toEqual(['failed', 'failed']);
      expect(trace.kinds().filter(kind => kind === 'memory.failed')).toHaveLength(1);
      expect(byteAt(memory, 1, 9)).toBe(0);
    });
  });
});

describe('the memory of a process', () => {
  let block: NativeBlock;
  let process: number;
  beforeEach(() => {
    block = allocateNative(4 * PAGE);
    process = openSync('/proc/self/mem', 'r+');
  });
  afterEach(() => {
    closeSync(process);
    freeNative(block);
  });

  it('is read and written, both ways', () => {
    expect(fileIo(0, 4, process, { offset: block.address })).toBe(0);
    fc.assert(
      fc.property(
        fc.nat(4 * PAGE - 1),
        fc.uint8Array({ minLength: 1, maxLength: 3 * PAGE }),
        fc.boolean(),
        (position, data, writing) => {
          const bytes = data.subarray(0, 4 * PAGE - position);
          const [frame, offset] = [Math.floor(position / PAGE), position % PAGE];
          const back = new Uint8Array(bytes.length);
          if (writing) memory.write(frame, offset, bytes, 0, bytes.length);
          else block.bytes.set(bytes, position);
          if (writing) back.set(block.bytes.subarray(position, position + bytes.length));
          else memory.read(frame, offset, back, 0, back.length);
          expect(digest(back)).toBe(digest(bytes));
        },
      ),
    );
  });

  it('fails with a note where the process has nothing', () => {
    expect(fileIo(0, 1, process, { offset: 0 })).toBe(0);
    expect(byteAt(memory, 0)).toBe('failed');
    expect(memory.write(0, 0, Uint8Array.of(1), 0, 1)).toBe(MemoryStatus.failed);
    const failures = trace.events.filter(({ kind }) => kind === 'memory.failed');
    expect(failures.map(({ detail }) => detail)).toMatchObject([
      { access: 'read', why: 'pread: EIO' },
      { access: 'write', why: 'pwrite: EIO' },
    ]);
  });

  it('is no memory for who would map it', () => {
    expect(fileIo(0, 1, process, { offset: 0, access: 'mmap' })).toBe(EINVAL);
  });
});

describe('no region by file I/O is taken', () => {
  const refusals: [string, () => number, Partial<AnnouncedRegion>][] = [
    ['in a socket', () => halfOpenSocket(), {}],
    ['in an eventfd', () => createEventFd(), {}],
    ['in a directory', () => openSync('/proc/self', 'r'), { writable: false }],
    ['in a device that has no positions', () => openSync('/dev/ptmx', 'r+'), {}],
    ['to be written in a file opened for reading', () => openSync('/proc/self/mem', 'r'), {}],
    ['to be written in a file that only appends', () => appending(), { readable: false }],
    ['beyond the end of a file', () => createMemfd('guest', PAGE), { offset: 1 }],
    ['at an offset that is no number', () => createMemfd('guest', PAGE), { offset: 2 ** 53 }],
  ];
  it.each(refusals)('%s', (_, open, more) => {
    const fd = open();
    const opened = openDescriptors();
    expect(fileIo(0, 1, fd, more)).toBe(EINVAL);
    expect(trace.events.at(-1)).toMatchObject({ kind: 'memory.map-refused', detail: { errno: EINVAL } });
    expect(openDescriptors()).toBe(opened);
    closeDescriptor(fd);
  });

  it('where there are as many as one client may have', () => {
    using(pagesFile(1), fd => {
      for (let frame = 0; frame < POSITIONED_REGION_LIMIT; frame++) expect(fileIo(frame, 1, fd)).toBe(0);
      expect(fileIo(POSITIONED_REGION_LIMIT, 1, fd)).toBe(ENOMEM);
      unmap(memory, 0, 1);
      expect(fileIo(POSITIONED_REGION_LIMIT, 1, fd)).toBe(0);
    });
  });
});

describe('a file that only appends', () => {
  it('is left to messages where it cannot be mapped', () => {
    using(appending(), fd => {
      expect(memory.map(at(0, 1, { descriptor: duplicateDescriptor(fd), readable: false }))).toBe(0);
      expect(memory.write(0, 0, Uint8Array.of(5), 0, 1)).toBe(MemoryStatus.ok);
      expect(remote.messages).toEqual(['write 0+0 1']);
    });
  });
});

function appending(): number {
  return using(createMemfd('guest', PAGE), fd => openSync(`/proc/self/fd/${fd}`, 'a'));
}

function halfOpenSocket(): number {
  const [one, other] = socketPair();
  closeDescriptor(other);
  return one;
}
