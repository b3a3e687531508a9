import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type MemoryBatch, MemoryStatus } from '../../src/memory/guest-memory.ts';
import type { RegionMemory } from '../../src/memory/region-memory.ts';
import type { TraceLog } from '../../src/trace/trace.ts';
import { at, BatchedRemote, digest, FakeRemote, PAGE, pagesFile, setUp, unmap } from './support.ts';

const { ok, unmapped, denied, failed } = MemoryStatus;
const EIO = 5;

let memory: RegionMemory;
let trace: TraceLog;
let remote: BatchedRemote;
let open: MemoryBatch;

beforeEach(() => {
  ({ memory, trace } = setUp());
  remote = new BatchedRemote();
  memory.remote = remote;
});
afterEach(() => memory.dispose());

/** A batch of one access after the other, up to the first that is known to have failed: its status and what it moved. */
function batch(...accesses: (() => MemoryStatus)[]): [status: MemoryStatus, moved: number] {
  open = memory.batch!;
  open.begin();
  for (const access of accesses) if (access() !== ok) break;
  return [open.end(), open.moved];
}

const read = (frame: number, target = new Uint8Array(PAGE), offset = 0, length = target.length) => {
  return () => open.read(frame, offset, target, 0, length);
};
const write = (frame: number, byte: number, length = PAGE) => {
  return () => open.write(frame, 0, new Uint8Array(length).fill(byte), 0, length);
};

describe('whether there is a batch', () => {
  it('depends on whether messages reach any of the memory', () => {
    expect(memory.batch).toBeUndefined();
    memory.map(at(0, 4, { descriptor: pagesFile(4) }));
    expect(memory.batch).toBeUndefined();
    memory.map(at(8, 4));
    expect(memory.batch).toBeDefined();
    unmap(memory, 8, 4);
    expect(memory.batch).toBeUndefined();
    memory.map(at(8, 4));
    memory.unmapAll();
    expect(memory.batch).toBeUndefined();
  });
});

describe('a batch', () => {
  beforeEach(() => {
    memory.map(at(0, 100));
    memory.map(at(200, 100));
  });

  it('waits once for many accesses', () => {
    for (let frame = 0; frame < 10; frame++) remote.page(frame).fill(frame + 1);
    const targets = Array.from({ length: 10 }, () => new Uint8Array(PAGE));
    const status = batch(...targets.map((target, i) => read(9 - i, target)));
    expect(status).toEqual([ok, 10 * PAGE]);
    expect(targets.map(target => target[17])).toEqual([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    expect(remote.waits).toEqual([10]);
    expect(memory.statistics.messageBytes).toBe(10 * PAGE);
  });

  it('waits once for several regions', () => {
    expect(batch(read(1), read(201), read(2), read(202))).toEqual([ok, 4 * PAGE]);
    expect(remote.waits).toEqual([4]);
  });

  it('of nothing is ok', () => {
    expect(batch()).toEqual([ok, 0]);
    expect(remote.messages).toEqual([]);
  });

  it('says how the first access that failed did, and what was moved before it', () => {
    remote.answers.set(3, EIO).set(5, 13);
    expect(batch(read(1), read(2), read(3), read(4), read(5))).toEqual([failed, 2 * PAGE]);
    expect(memory.statistics.messageBytes).toBe(2 * PAGE);
    expect(trace.events.at(-1)).toMatchObject({
      kind: 'memory.failed',
      detail: { region: 0n, access: 'read', why: 'the client answered errno 5' },
    });
  });

  it('tells a failure that lasts once, and a new one after a success', () => {
    const failures = () => trace.kinds().filter(kind => kind === 'memory.failed').length;
    remote.answers.set(3, EIO);
    for (let i = 0; i < 3; i++) expect(batch(read(3), read(4))[0]).toBe(failed);
    expect(failures()).toBe(1);
    remote.answers.clear();
    expect(batch(read(3), read(4))).toEqual([ok, 2 * PAGE]);
    remote.answers.set(3, EIO);
    expect(batch(read(3))[0]).toBe(failed);
    expect(failures()).toBe(2);
  });

  it('ends where nothing is mapped, and what was sent before is done', () => {
    const target = new Uint8Array(PAGE);
    remote.page(1).fill(7);
    expect(batch(read(1, target), read(150), read(2))).toEqual([unmapped, PAGE]);
    expect(target[0]).toBe(7);
    expect(remote.messages).toEqual(['read 1+0 4096']);
  });

  it('prefers the failure of what was sent before to that of what cannot be sent', () => {
    remote.answers.set(1, EIO);
    expect(batch(read(1), read(150))).toEqual([failed, 0]);
  });

  it('denies what the region does not allow', () => {
    memory.map(at(400, 1, { writable: false }));
    expect(batch(write(1, 1), write(400, 1), write(2, 1))).toEqual([denied, PAGE]);
    expect(remote.page(2)[0]).toBe(0);
  });

  it('waits for what was written before it writes where the guest sees it at once', () => {
    memory.map(at(500, 2, { descriptor: pagesFile(2) }));
    const seen: number[] = [];
    remote.before = () => seen.push(memory.windows[0]!.bytes[500 * PAGE]!);
    expect(batch(write(1, 9), write(2, 9), write(500, 9), write(3, 9))).toEqual([ok, 4 * PAGE]);
    expect(remote.waits).toEqual([2, 1]);
    expect(seen).toEqual([1, 1, 9]);
  });

  it('does at once what lies across two regions', () => {
    memory.map(at(300, 1));
    remote.page(299).fill(5);
    remote.page(300).fill(6);
    const target = new Uint8Array(8);
    expect(batch(read(299, target, PAGE - 4, 8))).toEqual([ok, 8]);
    expect([...target]).toEqual([5, 5, 5, 5, 6, 6, 6, 6]);
    expect(remote.waits).toEqual([]);
  });

  it('sends interrupts in order with writes', () => {
    const access = () => memory.batch!.write(0xfee00, 0, new Uint8Array(4), 0, 4);
    expect(batch(write(1, 1, 8), access)).toEqual([ok, 12]);
    expect(remote.messages).toEqual(['write 1+0 8', 'write fee00+0 4']);
  });

  it('starts anew, whatever the one before it left behind', () => {
    open = memory.batch!;
    open.begin();
    write(1, 1)();
    expect(batch(write(2, 1))).toEqual([ok, PAGE]);
    expect([remote.page(1)[0], remote.page(2)[0]]).toEqual([1, 1]);
  });

  it('leaves other accesses in the middle alone', () => {
    remote.page(7).fill(3);
    const word = new Uint8Array(8);
    const status = batch(
      read(1),
      () => memory.read(7, 0, word, 0, 8),
      () => memory.load64(7, 8),
      read(2),
    );
    expect(status).toEqual([ok, 2 * PAGE]);
    expect(word[0]).toBe(3);
    expect(memory.low).toBe(0x03030303);
  });

  it('finds out what the client unmapped while it waited', () => {
    remote = new BatchedRemote(2);
    memory.remote = remote;
    remote.before = () => {
      remote.before = () => {};
      unmap(memory, 0, 100);
      remote.answer = EIO;
    };
    expect(batch(read(1), read(2), read(3))).toEqual([unmapped, 0]);
  });

  it('does not read after the client took the memory away in the middle', () => {
    remote = new BatchedRemote(2);
    memory.remote = remote;
    remote.before = () => {
      remote.before = () => {};
      unmap(memory, 0, 100);
    };
    expect(batch(read(1), read(2), read(3))).toEqual([unmapped, 2 * PAGE]);
    expect(remote.messages).toHaveLength(2);
  });

  it('fails where the client went in the middle', () => {
    remote = new BatchedRemote(2);
    memory.remote = remote;
    remote.before = () => {
      remote.before = () => {};
      remote.answer = 19;
      memory.remote = undefined;
      memory.unmapAll();
    };
    expect(batch(read(1), read(2), read(3))).toEqual([failed, 0]);
  });

  it('without a client fails', () => {
    memory.remote = undefined;
    expect(batch(read(1), read(2))).toEqual([failed, 0]);
  });

  it('with a client that knows no batches does one after the other', () => {
    memory.remote = new FakeRemote();
    expect(batch(read(1), write(2, 1))).toEqual([ok, 2 * PAGE]);
  });

  it('of reads and writes waits between them', () => {
    const target = new Uint8Array(PAGE);
    expect(batch(write(1, 8), read(1, target))).toEqual([ok, 2 * PAGE]);
    expect(target[5]).toBe(8);
  });
});

describe('beside accesses one by one', () => {
  const access = fc.record({
    frame: fc.integer({ min: 0, max: 45 }),
    offset: fc.integer({ min: 0, max: PAGE - 1 }),
    length: fc.integer({ min: 1, max: 2 * PAGE }),
  });

  it('is the same in status, bytes and what is counted', () => {
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.array(access, { maxLength: 12 }),
        fc.uniqueArray(fc.integer({ min: 0, max: 45 }), { maxLength: 2 }),
        fc.integer({ min: 1, max: 6 }),
        (writing, accesses, broken, window) => {
          const [one, other] = [run(new FakeRemote(), false), run(new BatchedRemote(window), true)];
          expect(other).toEqual(one);

          function run(client: FakeRemote, batched: boolean) {
            const { memory } = setUp();
            memory.remote = client;
            memory.map(at(0, 10));
            memory.map(at(10, 5));
            memory.map(at(16, 5, { writable: false }));
            memory.map(at(21, 4, { descriptor: pagesFile(4) }));
            memory.map(at(25, 15));
            for (const frame of broken) client.answers.set(frame, EIO);
            for (let frame = 0; frame < 50; frame++) client.page(frame).fill(frame + 100);
            const ways = batched ? memory.batch! : memory;
            let status: MemoryStatus = ok;
            let moved = 0;
            const buffers: Uint8Array[] = [];
            if (batched) memory.batch!.begin();
            for (const [i, { frame, offset, length }] of accesses.entries()) {
              const buffer = new Uint8Array(length).fill(writing ? i + 1 : 0);
              const is = writing
                ? ways.write(frame, offset, buffer, 0, length)
                : ways.read(frame, offset, buffer, 0, length);
              status = is;
              if (is !== ok) break;
              moved += length;
              buffers.push(buffer);
            }
            if (batched) {
              status = memory.batch!.end();
              moved = memory.batch!.moved;
            }
            // Those behind the first failure may have been made too.
            let bytes = 0;
            const through = buffers.filter(buffer => {
              bytes += buffer.length;
              return bytes <= moved;
            });
            const pages = status === ok ? Array.from({ length: 45 }, (_, frame) => digest(client.page(frame))) : [];
            const messageBytes = status === ok ? memory.statistics.messageBytes : 0;
            memory.dispose();
            return { status, moved, pages, messageBytes, through: writing ? [] : through.map(digest) };
          }
        },
      ),
      { numRuns: 120 },
    );
  });
});
