import { spawnSync } from 'node:child_process';
import { constants, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createEventFd, drainEventFd, isEventFd, signalEventFd } from '../../src/posix/eventfd.ts';
import { EFD_CLOEXEC, eventfd } from '../../src/posix/libc.ts';
import { createMemfd } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';

const opened: number[] = [];

afterEach(() => {
  for (const fd of opened.splice(0)) closeDescriptor(fd);
});

function keep(fd: number): number {
  opened.push(fd);
  return fd;
}

function setCounter(fd: number, value: bigint): void {
  writeSync(fd, new BigUint64Array([value]));
}

describe('eventfd', () => {
  it('starts at zero', () => {
    expect(drainEventFd(keep(createEventFd()))).toBe(0);
  });

  it('counts signals, and starts again when drained', () => {
    const fd = keep(createEventFd());
    for (let i = 0; i < 3; i++) signalEventFd(fd);
    expect(drainEventFd(fd)).toBe(3);
    expect(drainEventFd(fd)).toBe(0);
  });

  it('counts beyond 32 bits', () => {
    const fd = keep(createEventFd());
    setCounter(fd, 0x1_ffff_ffffn);
    signalEventFd(fd);
    expect(drainEventFd(fd)).toBe(0x2_0000_0000);
  });

  it('is not waited for where it is blocking and empty', () => {
    const fd = keep(eventfd(0, EFD_CLOEXEC));
    expect(drainEventFd(fd)).toBe(0);
    signalEventFd(fd);
    expect(drainEventFd(fd)).toBe(1);
    expect(drainEventFd(fd)).toBe(0);
  });

  it('is not waited for where it is blocking and full', () => {
    const fd = keep(eventfd(0, EFD_CLOEXEC));
    setCounter(fd, 0xffff_ffff_ffff_fffen);
    signalEventFd(fd);
    expect(drainEventFd(fd)).toBe(Number(0xffff_ffff_ffff_fffen));
  });

  it('stays as it is when it is full', () => {
    const fd = keep(createEventFd());
    setCounter(fd, 0xffff_ffff_ffff_fffen);
    signalEventFd(fd);
    expect(drainEventFd(fd)).toBe(Number(0xffff_ffff_ffff_fffen));
  });

  it('is told apart from other descriptors', () => {
    expect(isEventFd(keep(createEventFd()))).toBe(true);
    expect(isEventFd(keep(createMemfd('no', 0)))).toBe(false);
    expect(isEventFd(keep(openSync('/dev/null', 'r')))).toBe(false);
  });

  it('throws for a descriptor that is not open', () => {
    expect(() => signalEventFd(99999)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => drainEventFd(99999)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => isEventFd(99999)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });

  it('does not wait for a full pipe that somebody passed off as one', () => {
    const folder = mkdtempSync(join(tmpdir(), 'eventfd-'));
    const path = join(folder, 'pipe');
    expect(spawnSync('mkfifo', [path]).status).toBe(0);
    const blocking = keep(openSync(path, constants.O_RDWR));
    const filler = keep(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
    rmSync(folder, { recursive: true });
    expect(() => {
      for (;;) writeSync(filler, new Uint8Array(4096));
    }).toThrow(/EAGAIN/);
    signalEventFd(blocking);
    expect(isEventFd(blocking)).toBe(false);
  });
});
