import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EVENTS_PER_WAIT } from '../../src/posix/epoll.ts';
import { PollEvents } from '../../src/posix/event-loop.ts';
import { createEventFd, drainEventFd, signalEventFd } from '../../src/posix/eventfd.ts';
import { Poller } from '../../src/posix/poller.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';

/** More than it takes until a descriptor is waited for by poll(2), and until it is not any more. */
const MANY = 200;

let poller: Poller;
let opened: number[];

beforeEach(() => {
  poller = new Poller();
  opened = [];
});

afterEach(() => {
  poller.close();
  for (const fd of opened) closeDescriptor(fd);
});

function bell(): number {
  const fd = createEventFd();
  opened.push(fd);
  return fd;
}

/** Watched for being readable, under its own number as tag. */
function watched(): number {
  const fd = bell();
  expect(poller.add(fd, PollEvents.in, fd)).toBe(true);
  return fd;
}

function close(fd: number): void {
  opened.splice(opened.indexOf(fd), 1);
  closeDescriptor(fd);
}

/** What one wait without patience brings: descriptor, events, tag. */
function ready(): number[][] {
  const count = poller.wait(0);
  return Array.from({ length: count }, (_, i) => [poller.descriptor(i), poller.events(i), poller.tag(i)]).sort(
    ([a], [b]) => a! - b!,
  );
}

function event(fd: number, tag = fd): number[] {
  return [fd, PollEvents.in, tag];
}

/** One event after the other of this one alone. */
function heat(fd: number): void {
  for (let i = 0; i < MANY; i++) {
    signalEventFd(fd);
    expect(ready()).toEqual([event(fd)]);
    drainEventFd(fd);
  }
}

/** Descriptors that the kernel's epoll instances of this process hold (proc(5), fdinfo). */
function inEpoll(): number[] {
  const found: number[] = [];
  for (const fd of readdirSync('/proc/self/fdinfo')) {
    let text: string;
    try {
      text = readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1');
    } catch {
      continue; // The one that the listing itself had open.
    }
    for (const [, target] of text.matchAll(/^tfd:\s*(\d+)/gm)) found.push(Number(target));
  }
  return found;
}

describe('Poller', () => {
  it('takes a descriptor out of epoll whose events are all that come, and puts it back when others come instead', () => {
    const [busy, other] = [watched(), watched()];
    expect(inEpoll()).toEqual(expect.arrayContaining([busy, other]));
    heat(busy);
    expect(inEpoll()).not.toContain(busy);
    expect(inEpoll()).toContain(other);
    heat(other);
    expect(inEpoll()).toContain(busy);
    expect(inEpoll()).not.toContain(other);
  });

  it('leaves those that are busy alike where they are', () => {
    const pair = [watched(), watched()];
    for (let i = 0; i < MANY; i++) {
      const fd = pair[i % 2]!;
      signalEventFd(fd);
      expect(ready()).toEqual([event(fd)]);
      drainEventFd(fd);
    }
    expect(inEpoll()).toEqual(expect.arrayContaining(pair));
  });

  it('brings what is ready at once, the hot one among it', () => {
    const [busy, other] = [watched(), watched()];
    heat(busy);
    signalEventFd(busy);
    signalEventFd(other);
    expect(ready()).toEqual([event(busy), event(other)]);
    drainEventFd(busy);
    expect(ready()).toEqual([event(other)]);
  });

  it('is woken by others out of a wait without end', () => {
    const [busy, other] = [watched(), watched()];
    heat(busy);
    signalEventFd(other);
    expect(poller.wait(-1)).toBe(1);
    expect(poller.descriptor(0)).toBe(other);
  });

  it('brings the hot one the next time where others fill a whole wait', () => {
    const others = Array.from({ length: EVENTS_PER_WAIT }, watched);
    const busy = watched();
    heat(busy);
    for (const fd of [...others, busy]) signalEventFd(fd);
    expect(ready()).toEqual(others.map(fd => event(fd)));
    for (const fd of others) drainEventFd(fd);
    expect(ready()).toEqual([event(busy)]);
  });

  it('goes by the interest and the tag that the hot one has by now', () => {
    const busy = watched();
    heat(busy);
    expect(poller.modify(busy, 0, busy)).toBe(true);
    signalEventFd(busy);
    expect(ready()).toEqual([]);
    expect(poller.modify(busy, PollEvents.in, 77)).toBe(true);
    expect(ready()).toEqual([event(busy, 77)]);
  });

  it('keeps the interest of a hot one that is not any more', () => {
    const [busy, other] = [watched(), watched()];
    heat(busy);
    poller.modify(busy, PollEvents.in | PollEvents.out, 5);
    poller.modify(busy, 0, 6);
    heat(other);
    signalEventFd(busy);
    expect(ready()).toEqual([]);
    poller.modify(busy, PollEvents.in, 6);
    expect(ready()).toEqual([event(busy, 6)]);
  });

  it('forgets a hot one that is removed', () => {
    const busy = watched();
    heat(busy);
    expect(poller.remove(busy)).toBe(true);
    signalEventFd(busy);
    expect(ready()).toEqual([]);
    expect(poller.add(busy, PollEvents.in, 3)).toBe(true);
    expect(ready()).toEqual([event(busy, 3)]);
  });

  it('forgets a hot one that is closed, without a word', () => {
    const [busy, other] = [watched(), watched()];
    heat(busy);
    close(busy);
    expect(ready()).toEqual([]);
    signalEventFd(other);
    expect(ready()).toEqual([event(other)]);
  });

  it('counts from the start for a new one with the number of one that was removed', () => {
    const fd = watched();
    for (let i = 0; i < 60; i++) {
      signalEventFd(fd);
      ready();
      drainEventFd(fd);
    }
    poller.remove(fd);
    poller.add(fd, PollEvents.in, fd);
    for (let i = 0; i < 60; i++) {
      signalEventFd(fd);
      ready();
      drainEventFd(fd);
    }
    expect(inEpoll()).toContain(fd);
  });

  it('brings what a list of what is watched and signalled says, whatever was done before', () => {
    const descriptors = [bell(), bell(), bell()];
    const one = fc.integer({ min: 0, max: 2 });
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ name: fc.constant('heat' as const), one }) },
      fc.record({ name: fc.constantFrom('signal' as const, 'drain' as const, 'watch' as const, 'deaf' as const), one }),
      fc.record({ name: fc.constant('remove' as const), one }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), steps => {
        const interests = new Map<number, number>();
        const signalled = new Set<number>();
        const tags = new Map<number, number>();
        let tag = 0;
        const expected = () =>
          descriptors
            .filter(fd => signalled.has(fd) && interests.get(fd) === PollEvents.in)
            .map(fd => event(fd, tags.get(fd)));
        const watch = (fd: number, interest: number) => {
          tags.set(fd, ++tag);
          if (interests.has(fd)) poller.modify(fd, interest, tag);
          else poller.add(fd, interest, tag);
          interests.set(fd, interest);
        };
        for (const { name, one } of steps) {
          const fd = descriptors[one]!;
          switch (name) {
            case 'heat':
              for (let i = 0; i < 70; i++) {
                signalEventFd(fd);
                signalled.add(fd);
                expect(ready()).toEqual(expected());
                drainEventFd(fd);
                signalled.delete(fd);
              }
              break;
            case 'signal':
              signalEventFd(fd);
              signalled.add(fd);
              break;
            case 'drain':
              drainEventFd(fd);
              signalled.delete(fd);
              break;
            case 'watch':
              watch(fd, PollEvents.in);
              break;
            case 'deaf':
              watch(fd, 0);
              break;
            case 'remove':
              if (interests.delete(fd)) poller.remove(fd);
              break;
          }
          expect(ready()).toEqual(expected());
        }
        for (const fd of descriptors) {
          if (interests.has(fd)) poller.remove(fd);
          drainEventFd(fd);
        }
      }),
      { numRuns: 60 },
    );
  });
});
