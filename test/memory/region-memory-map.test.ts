import { ftruncateSync, openSync, unlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryStatus } from '../../src/memory/guest-memory.ts';
import { REGION_LIMIT, type RegionMemory } from '../../src/memory/region-memory.ts';
import { createEventFd } from '../../src/posix/eventfd.ts';
import { createMemfd } from '../../src/posix/memfd.ts';
import { closeDescriptor, socketPair } from '../../src/posix/socket.ts';
import { FILE_MAPPING_LIMIT, type WindowPool } from '../../src/posix/window-pool.ts';
import type { TraceLog } from '../../src/trace/trace.ts';
import { addressSpace, mappingsOf, openDescriptors } from '../posix/support.ts';
import { at, byteAt, FakeRemote, PAGE, pagesFile, setUp, unmap } from './support.ts';

const ENOENT = 2;
const ENOMEM = 12;
const EEXIST = 17;
const EINVAL = 22;

let memory: RegionMemory;
let trace: TraceLog;
let pool: WindowPool;
let descriptors: number;

beforeEach(() => {
  descriptors = openDescriptors();
  ({ memory, trace, pool } = setUp());
});

afterEach(() => {
  memory.dispose();
  expect(openDescriptors()).toBe(descriptors);
  expect(pool.lent).toBe(0);
  expect(pool.fileMappings).toBe(0);
  expect(mappingsOf('memfd:guest-memory')).toBe(0);
});

describe('RegionMemory.map', () => {
  it('shows the file in the window, and closes the descriptor', () => {
    expect(memory.map(at(0x100, 3, { descriptor: pagesFile(3) }))).toBe(0);
    expect(openDescriptors()).toBe(descriptors);
    expect([byteAt(memory, 0x100), byteAt(memory, 0x102, PAGE - 1)]).toEqual([1, 3]);
    expect(memory.windows[0]!.bytes[0x101 * PAGE]).toBe(2);
    expect(trace.events).toEqual([]);
  });

  it('takes the place in the file from the offset', () => {
    memory.map(at(5, 2, { descriptor: pagesFile(4), offset: 2 * PAGE }));
    expect([byteAt(memory, 5), byteAt(memory, 6)]).toEqual([3, 4]);
  });

  it('maps above 4 GiB and across window borders', () => {
    memory.map(at(0x13fffe, 4, { descriptor: pagesFile(4) }));
    expect([0x13fffd, 0x13fffe, 0x13ffff, 0x140000, 0x140001, 0x140002].map(f => byteAt(memory, f))).toEqual([
      'unmapped',
      1,
      2,
      3,
      4,
      'unmapped',
    ]);
    expect(memory.windows).toHaveLength(6);
    expect(memory.windows[3]).toBeUndefined();
    expect(memory.windows[5]!.bytes[PAGE]).toBe(4);
  });

  it('maps the last page of the address space it knows', () => {
    expect(memory.map(at(2 ** 31 - 1, 1, { descriptor: pagesFile(1) }))).toBe(0);
    expect(byteAt(memory, 2 ** 31 - 1)).toBe(1);
    const buffer = new Uint8Array(PAGE + 1);
    expect(memory.read(2 ** 31 - 1, 0, buffer, 0, PAGE + 1)).toBe(MemoryStatus.unmapped);
  });

  it('grows the generation', () => {
    const before = memory.generation;
    memory.map(at(0, 1));
    expect(memory.generation).toBeGreaterThan(before);
  });

  it.each([
    ['nothing', { size: 0 }, EINVAL],
    ['an address within a page', { address: 1 }, EINVAL],
    ['a size within a page', { size: 4097 }, EINVAL],
    ['more than 8 TiB', { size: 8 * 2 ** 40 + 4096 }, EINVAL],
    ['an end beyond 8 TiB', { address: 8 * 2 ** 40 }, EINVAL],
    ['an end that wraps', { address: 2 ** 64 - 4096, size: 0x2000 }, EINVAL],
    ['a file offset within a page', { offset: 1 }, EINVAL],
    ['an end beyond the file', { offset: 0x1000 }, EINVAL],
    ['a file offset that wraps', { offset: 2 ** 64 - 4096 }, EINVAL],
    ['an overlap', { address: 0x10_0000 }, EEXIST],
  ])('refuses %s, says so, and closes the descriptor', (_, wrong, errno) => {
    memory.map(at(0x100, 1));
    const before = memory.generation;
    expect(memory.map({ ...at(0x200, 4, { descriptor: pagesFile(4) }), ...wrong })).toBe(errno);
    expect(memory.generation).toBe(before);
    expect(trace.kinds()).toEqual(['memory.map-refused']);
    expect(trace.events[0]!.detail).toMatchObject({ errno });
    expect(memory.statistics.regions).toBe(1);
  });

  it.each([
    ['the same', 0x100, 0x10],
    ['its first page', 0x100, 1],
    ['its last page', 0x10f, 1],
    ['around it', 0xff, 0x12],
    ['over its start', 0xf8, 9],
    ['over its end', 0x10f, 9],
  ])('refuses an overlap: %s', (_, frame, frames) => {
    expect(memory.map(at(0x100, 0x10))).toBe(0);
    expect(memory.map(at(frame, frames))).toBe(EEXIST);
  });

  it('takes neighbours', () => {
    expect(memory.map(at(0x100, 0x10, { descriptor: pagesFile(16) }))).toBe(0);
    expect(memory.map(at(0xff, 1, { descriptor: pagesFile(1, 90) }))).toBe(0);
    expect(memory.map(at(0x110, 1, { descriptor: pagesFile(1, 91) }))).toBe(0);
    expect([0xff, 0x100, 0x10f, 0x110].map(frame => byteAt(memory, frame))).toEqual([90, 1, 16, 91]);
  });

  it('refuses a region more than it may have', () => {
    const small = setUp(2);
    expect([0, 1, 2].map(frame => small.memory.map(at(frame, 1)))).toEqual([0, 0, ENOMEM]);
    expect(unmap(small.memory, 0, 1)).toBe(0);
    expect(small.memory.map(at(2, 1))).toBe(0);
    expect(REGION_LIMIT).toBe(65535);
  });

  it('refuses a descriptor that can be no memory', () => {
    const [one, other] = socketPair();
    expect(memory.map(at(0, 1, { descriptor: one }))).toBe(EINVAL);
    closeDescriptor(other);
  });

  it.each([
    ['an eventfd, though it has a position', () => createEventFd()],
    ['a directory', () => openSync('/proc', 'r')],
    ['what only reads the system', () => openSync('/proc/self/fd', 'r')],
  ])('refuses %s', (_, open) => {
    expect(memory.map(at(0, 1, { descriptor: open() }))).toBe(EINVAL);
    expect(trace.events.at(-1)).toMatchObject({
      kind: 'memory.map-refused',
      detail: { why: 'a descriptor that cannot be memory' },
    });
  });

  it('takes a file in shared memory, which is one like any other', () => {
    const path = `/dev/shm/viommu-test-${process.pid}`;
    const fd = openSync(path, 'w+');
    unlinkSync(path);
    ftruncateSync(fd, PAGE);
    expect(memory.map(at(0, 1, { descriptor: fd }))).toBe(0);
    expect(memory.write(0, 0, Uint8Array.of(7), 0, 1)).toBe(MemoryStatus.ok);
    expect(byteAt(memory, 0)).toBe(7);
  });

  it('goes to messages where there are too many mappings for the process', () => {
    const remote = new FakeRemote();
    memory.remote = remote;
    const blocker = pool.acquire();
    const fd = createMemfd('blocker', PAGE, { seal: true });
    for (let i = 0; i < FILE_MAPPING_LIMIT - 1; i++) blocker.mapFile(i * PAGE, PAGE, fd, 0, true);
    closeDescriptor(fd);
    // The first window's part still fits, the second one's does not: neither may stay.
    expect(memory.map(at(0x3ffff, 2, { descriptor: pagesFile(2) }))).toBe(0);
    expect(trace.events[0]).toMatchObject({ kind: 'memory.not-mapped', detail: { instead: 'messages' } });
    expect(byteAt(memory, 0x3ffff)).toBe(0);
    expect(remote.messages).toEqual(['read 3ffff+0 1']);
    expect(memory.windows[0]!.bytes[2 ** 30 - 1]).toBe(0);
    pool.release(blocker);
  });
});

describe('RegionMemory.unmap', () => {
  it('takes the region out: nothing answers, and the window reads zero', () => {
    memory.map(at(0x100, 3, { descriptor: pagesFile(3) }));
    const window = memory.windows[0]!;
    const before = memory.generation;
    expect(unmap(memory, 0x100, 3)).toBe(0);
    expect(memory.generation).toBeGreaterThan(before);
    expect(byteAt(memory, 0x100)).toBe('unmapped');
    expect(window.bytes.subarray(0x100 * PAGE, 0x103 * PAGE).every(byte => byte === 0)).toBe(true);
    expect(memory.statistics).toMatchObject({ regions: 0, mappedBytes: 0 });
  });

  it('takes out one region, and not its neighbours in the same file', () => {
    for (const page of [0, 1, 2]) {
      memory.map(at(page, 1, { descriptor: pagesFile(3), offset: page * PAGE }));
    }
    expect(unmap(memory, 1, 1)).toBe(0);
    expect([0, 1, 2].map(frame => byteAt(memory, frame))).toEqual([1, 'unmapped', 3]);
  });

  it.each([
    ['where nothing is', 0x200, 3, ENOENT],
    ['from the middle of one', 0x101, 2, ENOENT],
    ['beyond what can be', 2 ** 40, 1, ENOENT],
    ['only the start of one', 0x100, 2, EINVAL],
    ['more than one', 0x100, 4, EINVAL],
    ['nothing', 0x100, 0, EINVAL],
  ])('refuses to unmap %s, and says so', (_, frame, frames, errno) => {
    memory.map(at(0x100, 3, { descriptor: pagesFile(3) }));
    expect(unmap(memory, frame, frames)).toBe(errno);
    expect(trace.kinds()).toEqual(['memory.unmap-refused']);
    expect(byteAt(memory, 0x100)).toBe(1);
  });

  it('refuses an address within a page', () => {
    memory.map(at(0x100, 1));
    expect(memory.unmap(0x100001, 4096)).toBe(ENOENT);
  });

  it('closes the file of a region that is not mapped', () => {
    memory.map(at(0, 1, { descriptor: pagesFile(1, 1, { sealable: false }) }));
    expect(openDescriptors()).toBe(descriptors + 1);
    unmap(memory, 0, 1);
    expect(openDescriptors()).toBe(descriptors);
  });

  it('lets firmware move ROM and RAM about', () => {
    const ram = pagesFile(64, 1);
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 16; i++) {
        const frame = 0xc0 + i * 4;
        const readOnly = (round + i) % 2 === 0;
        const copy = openSync(`/proc/self/fd/${ram}`, 'r+');
        const offset = i * 4 * PAGE;
        expect(memory.map(at(frame, 4, { descriptor: copy, offset, writable: !readOnly }))).toBe(0);
        expect(memory.write(frame, 0, Uint8Array.of(round), 0, 1)).toBe(
          readOnly ? MemoryStatus.denied : MemoryStatus.ok,
        );
      }
      for (let i = 0; i < 16; i++) expect(unmap(memory, 0xc0 + i * 4, 4)).toBe(0);
    }
    expect(mappingsOf('memfd:guest-memory')).toBe(0);
    closeDescriptor(ram);
  });
});

describe('RegionMemory.unmapAll', () => {
  it('takes everything out and gives the windows back', () => {
    memory.map(at(0, 2, { descriptor: pagesFile(2) }));
    memory.map(at(0x50000, 2, { descriptor: pagesFile(2) }));
    memory.map(at(10, 2, { descriptor: pagesFile(2, 1, { sealable: false }) }));
    memory.map(at(20, 2));
    const before = memory.generation;
    expect(pool.lent).toBe(2);
    memory.unmapAll();
    expect(memory.generation).toBeGreaterThan(before);
    expect([0, 0x50000, 10, 20].map(frame => byteAt(memory, frame))).toEqual(new Array(4).fill('unmapped'));
    expect(memory.windows).toHaveLength(0);
    expect(pool.lent).toBe(0);
    expect(memory.statistics).toMatchObject({ regions: 0, mappedBytes: 0 });
  });

  it('leaves a memory that takes regions again', () => {
    memory.map(at(0, 1, { descriptor: pagesFile(1) }));
    memory.unmapAll();
    expect(memory.map(at(0, 1, { descriptor: pagesFile(1, 7) }))).toBe(0);
    expect(byteAt(memory, 0)).toBe(7);
  });

  it('leaves nothing behind over two hundred clients', () => {
    const client = (): void => {
      const guest = setUp();
      guest.memory.map(at(0, 4, { descriptor: pagesFile(4) }));
      guest.memory.map(at(0x100000, 4, { descriptor: pagesFile(4) }));
      guest.memory.map(at(0x100, 1, { descriptor: pagesFile(1, 1, { sealable: false }) }));
      guest.memory.map(at(0xc0, 1));
      unmap(guest.memory, 0, 4);
      guest.memory.dispose();
    };
    client();
    const space = addressSpace();
    const open = openDescriptors();
    for (let i = 0; i < 200; i++) client();
    expect(openDescriptors()).toBe(open);
    expect(mappingsOf('memfd:guest-memory')).toBe(0);
    expect(addressSpace() - space).toBeLessThan(2 ** 30);
  });
});

describe('RegionMemory.statistics', () => {
  it('counts regions and bytes, by the way they went', () => {
    memory.remote = new FakeRemote();
    memory.map(at(0, 2, { descriptor: pagesFile(2) }));
    memory.map(at(2, 1, { descriptor: pagesFile(1, 1, { sealable: false }) }));
    memory.map(at(3, 1));
    const buffer = new Uint8Array(4 * PAGE);
    memory.read(0, 0, buffer, 0, 4 * PAGE);
    memory.write(0, 0, buffer, 0, 100);
    memory.store32(0, 0, 1);
    expect(memory.statistics).toEqual({
      regions: 3,
      mappedBytes: 2 * PAGE,
      directBytesRead: 2 * PAGE,
      directBytesWritten: 104,
      positionedBytes: PAGE,
      messageBytes: PAGE,
    });
  });
});
