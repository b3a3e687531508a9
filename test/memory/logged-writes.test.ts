/** Each way in which a write gets to the guest's memory, and that the log of written pages hears of it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryStatus } from '../../src/memory/guest-memory.ts';
import type { RegionMemory } from '../../src/memory/region-memory.ts';
import { at, BatchedRemote, PAGE, pagesFile, setUp, unmap } from './support.ts';

const { ok, failed } = MemoryStatus;
const EIO = 5;
/** Pages of each kind of memory, from frame 0 on: mapped, through its file, by messages. */
const MAPPED = 2;
const POSITIONED = 12;
const REMOTE = 22;

let memory: RegionMemory;
let remote: BatchedRemote;

beforeEach(() => {
  ({ memory } = setUp());
  remote = new BatchedRemote();
  memory.remote = remote;
  memory.map(at(0, 10, { descriptor: pagesFile(10, 1, { seal: true }) }));
  memory.map(at(10, 10, { descriptor: pagesFile(10, 1, { sealable: false }) }));
  memory.map(at(20, 10));
});

afterEach(() => memory.dispose());

/** Pages that are told, of the first 64. */
function told(): number[] {
  const bitmap = new Uint8Array(8);
  memory.log.report(0n, BigInt(64 * PAGE), BigInt(PAGE), bitmap);
  return Array.from({ length: 64 }, (_, page) => page).filter(page => (bitmap[page >> 3]! >> (page % 8)) & 1);
}

function write(frame: number, length: number, offset = 0): MemoryStatus {
  return memory.write(frame, offset, new Uint8Array(length).fill(9), 0, length);
}

function batch(...frames: number[]): MemoryStatus {
  const open = memory.batch!;
  open.begin();
  for (const frame of frames) open.write(frame, 0, new Uint8Array(8), 0, 8);
  return open.end();
}

describe('while writes are logged', () => {
  beforeEach(() => {
    memory.log.start([]);
    const { positionedBytes } = memory.statistics;
    write(POSITIONED, 1);
    // What the names promise.
    expect(memory.statistics.positionedBytes).toBe(positionedBytes + 1);
    told();
  });

  it.each([
    ['mapped', MAPPED],
    ['positioned', POSITIONED],
    ['messages', REMOTE],
  ])('a write is: %s', (_how, frame) => {
    expect(write(frame, 1)).toBe(ok);
    expect(told()).toEqual([frame]);
    expect(write(frame, 2 * PAGE, PAGE - 1)).toBe(ok);
    expect(told()).toEqual([frame, frame + 1, frame + 2]);
  });

  it('a write across all kinds is', () => {
    expect(write(8, 14 * PAGE)).toBe(ok);
    expect(told()).toEqual(Array.from({ length: 14 }, (_, page) => 8 + page));
  });

  it.each([
    ['mapped', MAPPED],
    ['positioned', POSITIONED],
    ['messages', REMOTE],
  ])('a store of 32 bits is: %s', (_how, frame) => {
    expect(memory.store32(frame, 8, 5)).toBe(ok);
    expect(told()).toEqual([frame]);
  });

  it.each([
    ['mapped', MAPPED],
    ['positioned', POSITIONED],
    ['messages', REMOTE],
  ])('a compare and exchange is: %s', (_how, frame) => {
    memory.load64(frame, 0);
    const expected = memory.low;
    expect(memory.compareExchange32(frame, 0, expected, 77)).toBe(ok);
    expect(told()).toEqual([frame]);
  });

  it('a batch of writes is', () => {
    expect(batch(REMOTE, REMOTE + 3, MAPPED, POSITIONED)).toBe(ok);
    expect(told()).toEqual([MAPPED, POSITIONED, REMOTE, REMOTE + 3]);
  });

  it('reads are not', () => {
    const target = new Uint8Array(PAGE);
    for (const frame of [MAPPED, POSITIONED, REMOTE]) {
      expect(memory.read(frame, 0, target, 0, PAGE)).toBe(ok);
      expect(memory.load64(frame, 0)).toBe(ok);
    }
    const open = memory.batch!;
    open.begin();
    open.read(REMOTE, 0, target, 0, PAGE);
    expect(open.end()).toBe(ok);
    expect(told()).toEqual([]);
  });

  it('interrupt messages are not', () => {
    expect(write(0xfee00, 4)).toBe(ok);
    const bitmap = new Uint8Array(8);
    memory.log.report(0xfee0_0000n, BigInt(PAGE), BigInt(PAGE), bitmap);
    expect(bitmap[0]).toBe(0);
  });

  it.each([
    ['a write', () => write(REMOTE, 8)],
    ['a batch', () => batch(REMOTE, REMOTE)],
  ])('%s by messages is told as soon as the client has the data', (_what, work) => {
    const seen: number[][] = [];
    remote.before = () => seen.push(told());
    expect(work()).toBe(ok);
    expect(seen[0]).toEqual([REMOTE]);
  });

  it.each([
    ['a write', () => write(REMOTE, 2 * PAGE), [REMOTE, REMOTE + 1]],
    ['a store', () => memory.store32(REMOTE, 0, 1), [REMOTE]],
    ['a batch', () => batch(REMOTE, REMOTE + 4), [REMOTE, REMOTE + 4]],
  ])('%s is told again after a report while it was waited for', (_what, work, pages) => {
    remote.before = () => told();
    expect(work()).toBe(ok);
    expect(told()).toEqual(pages);
  });

  it.each([
    ['a write', () => write(REMOTE, 8), [REMOTE]],
    ['a batch', () => batch(REMOTE, REMOTE + 4), [REMOTE, REMOTE + 4]],
  ])('%s that failed is told too: nobody knows how far it got', (_what, work, pages) => {
    remote.before = () => told();
    remote.answer = EIO;
    expect(work()).toBe(failed);
    expect(told()).toEqual(pages);
  });

  it('every batch tells its own writes only', () => {
    batch(REMOTE);
    told();
    batch(REMOTE + 1);
    expect(told()).toEqual([REMOTE + 1]);
  });

  it('a batch whose region goes meanwhile is no matter', () => {
    remote.before = () => {
      remote.before = () => {};
      told();
      unmap(memory, 20, 10);
    };
    batch(REMOTE, REMOTE + 1);
    expect(told()).toEqual([]);
  });
});

describe('a log that begins while a write is waited for', () => {
  it.each([
    ['a write', () => write(REMOTE, 8), [REMOTE]],
    ['a batch', () => batch(REMOTE, REMOTE + 4), [REMOTE, REMOTE + 4]],
  ])('hears of %s', (_what, work, pages) => {
    remote.before = () => {
      if (!memory.log.active) memory.log.start([]);
    };
    expect(work()).toBe(ok);
    expect(told()).toEqual(pages);
  });

  it('hears of none where it ends meanwhile', () => {
    memory.log.start([]);
    remote.before = () => memory.log.stop();
    expect(write(REMOTE, 8)).toBe(ok);
    expect(batch(REMOTE)).toBe(ok);
    memory.log.start([]);
    expect(told()).toEqual([]);
  });
});

it('regions that come while writes are logged are logged', () => {
  memory.log.start([]);
  memory.map(at(40, 2, { descriptor: pagesFile(2) }));
  memory.map(at(50, 2));
  write(41, 1);
  write(51, 1);
  expect(told()).toEqual([41, 51]);
});
