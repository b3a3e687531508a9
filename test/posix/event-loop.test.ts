import { openSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EVENTS_PER_WAIT } from '../../src/posix/epoll.ts';
import { EventLoop, PollEvents } from '../../src/posix/event-loop.ts';
import { createEventFd, drainEventFd, signalEventFd } from '../../src/posix/eventfd.ts';
import { closeDescriptor, StreamSocket, socketPair } from '../../src/posix/socket.ts';

let loop: EventLoop;
let errors: { error: unknown; where: string }[];
let log: string[];
let opened: number[];

beforeEach(() => {
  errors = [];
  log = [];
  opened = [];
  loop = new EventLoop((error, where) => errors.push({ error, where }));
});

afterEach(() => {
  loop.close();
  for (const fd of opened) closeDescriptor(fd);
});

function bell(): number {
  const fd = createEventFd();
  opened.push(fd);
  return fd;
}

/** An eventfd whose watch drains it and logs its name. */
function watched(name: string, also: () => void = () => {}): number {
  const fd = bell();
  loop.watch(fd, PollEvents.in, () => {
    drainEventFd(fd);
    log.push(name);
    also();
  });
  return fd;
}

function logging(name: string): () => void {
  return () => log.push(name);
}

describe('EventLoop, watches', () => {
  it('calls what is ready, with the events, and nothing else', () => {
    const events: number[] = [];
    const ready = bell();
    loop.watch(bell(), PollEvents.in, logging('silent'));
    loop.watch(ready, PollEvents.in, seen => events.push(seen));
    signalEventFd(ready);
    loop.runOnce(-1);
    expect(events).toEqual([PollEvents.in]);
    expect(log).toEqual([]);
  });

  it('calls again as long as it is ready', () => {
    const fd = bell();
    loop.watch(fd, PollEvents.in, logging('ready'));
    signalEventFd(fd);
    loop.runOnce(-1);
    loop.runOnce(-1);
    expect(log).toEqual(['ready', 'ready']);
  });

  it('calls in the order of watching', () => {
    const fds = ['a', 'b', 'c'].map(name => watched(name));
    for (const fd of fds.reverse()) signalEventFd(fd);
    loop.runOnce(-1);
    expect(log).toEqual(['a', 'b', 'c']);
  });

  it('returns when the time is over and nothing is ready', () => {
    watched('never');
    loop.runOnce(1);
    loop.runOnce(0);
    expect(log).toEqual([]);
  });

  it('tells of room to write where that is asked for', () => {
    const events: number[] = [];
    const watch = loop.watch(bell(), PollEvents.in | PollEvents.out, seen => events.push(seen));
    loop.runOnce(-1);
    watch.interest = PollEvents.in;
    loop.runOnce(0);
    watch.interest = PollEvents.out;
    loop.runOnce(-1);
    watch.interest = 0;
    loop.runOnce(0);
    expect(events).toEqual([PollEvents.out, PollEvents.out]);
  });

  it('does not call for an event that nobody is interested in any more, in the same round', () => {
    const fd = bell();
    loop.watch(fd, PollEvents.in, () => {
      log.push('first');
      second.interest = 0;
    });
    const second = loop.watch(fd, PollEvents.in, logging('second'));
    signalEventFd(fd);
    loop.runOnce(-1);
    expect(log).toEqual(['first']);
  });

  it('tells of a hangup whatever the interest', () => {
    const [one, other] = socketPair();
    opened.push(one);
    const events: number[] = [];
    loop.watch(one, 0, seen => events.push(seen));
    closeDescriptor(other);
    loop.runOnce(-1);
    expect(events).toHaveLength(1);
    expect(events[0]! & PollEvents.hangup).toBe(PollEvents.hangup);
  });

  it('tells each of two watches of one descriptor of what it asked for', () => {
    const fd = bell();
    const seen: [string, number][] = [];
    const reads = loop.watch(fd, PollEvents.in, events => seen.push(['in', events]));
    const writes = loop.watch(fd, PollEvents.out, events => seen.push(['out', events]));
    loop.runOnce(-1);
    expect(seen).toEqual([['out', PollEvents.out]]);
    writes.stop();
    signalEventFd(fd);
    loop.runOnce(-1);
    expect(seen.slice(1)).toEqual([['in', PollEvents.in]]);
    reads.stop();
    loop.runOnce(0);
    expect(seen).toHaveLength(2);
  });

  it('watches one descriptor twice', () => {
    const fd = bell();
    loop.watch(fd, PollEvents.in, logging('one'));
    loop.watch(fd, PollEvents.in, logging('two'));
    signalEventFd(fd);
    loop.runOnce(-1);
    expect(log).toEqual(['one', 'two']);
  });

  it('serves hundreds of watches, added bit by bit', () => {
    const fds: number[] = [];
    for (let i = 0; i < 700; i++) {
      fds.push(watched(`${i}`));
      if (i % 100 === 0) loop.runOnce(0);
    }
    signalEventFd(fds[0]!);
    signalEventFd(fds[699]!);
    loop.runOnce(-1);
    expect(log).toEqual(['0', '699']);
  });

  it('tells once of a descriptor that is not open, then forgets it', () => {
    const fd = createEventFd();
    closeDescriptor(fd);
    const events: number[] = [];
    const watch = loop.watch(fd, PollEvents.in, seen => events.push(seen));
    const other = watched('other');
    loop.runOnce(-1);
    signalEventFd(other);
    loop.runOnce(-1);
    watch.stop();
    expect(events).toEqual([PollEvents.invalid]);
    expect(log).toEqual(['other']);
  });

  it('forgets a descriptor that is closed under its watch, without a word', () => {
    const fd = createEventFd();
    const watch = loop.watch(fd, PollEvents.in, logging('closed'));
    signalEventFd(fd);
    closeDescriptor(fd);
    loop.runOnce(0);
    watch.stop();
    expect(log).toEqual([]);
  });

  it('tells of it where it learns of it, because the interest changes', () => {
    const fd = createEventFd();
    const events: number[] = [];
    const watch = loop.watch(fd, PollEvents.in, seen => events.push(seen));
    closeDescriptor(fd);
    watch.interest = PollEvents.out;
    loop.runOnce(-1);
    loop.runOnce(0);
    expect(events).toEqual([PollEvents.invalid]);
  });

  it('takes a new descriptor for itself where one with its number was closed under its watch', () => {
    const fd = createEventFd();
    const events: number[] = [];
    loop.watch(fd, PollEvents.in, seen => events.push(seen));
    closeDescriptor(fd);
    const next = bell();
    expect(next).toBe(fd);
    loop.watch(next, PollEvents.in, logging('new'));
    signalEventFd(next);
    loop.runOnce(-1);
    loop.runOnce(0);
    expect(events).toEqual([PollEvents.invalid]);
    expect(log).toEqual(['new', 'new']);
  });

  it('gets rid of a file that was closed too early and lives on elsewhere', () => {
    const [one, other] = socketPair();
    const [carrier, receiver] = socketPair();
    opened.push(other, carrier, receiver);
    const watch = loop.watch(one, PollEvents.in, logging('gone'));
    const sender = new StreamSocket(carrier, 64, 64, 1);
    opened.splice(opened.indexOf(carrier), 1);
    // A message in flight keeps the file open.
    sender.send(0, 1, [one]);
    const writer = new StreamSocket(other, 64, 64, 0);
    opened.splice(opened.indexOf(other), 1);
    writer.send(0, 1);
    closeDescriptor(one);
    watch.stop();
    const bystander = watched('bystander');
    loop.runOnce(0);
    expect(log).toEqual([]);
    // Nothing is ready any more: only an instance that still reports the dead one would return before the time is over.
    let rounds = 0;
    loop.waitUntil(() => {
      rounds++;
      return false;
    }, 20);
    expect(rounds).toBeLessThan(10);
    signalEventFd(bystander);
    loop.runOnce(-1);
    expect(log).toEqual(['bystander']);
    writer.close();
    sender.close();
  });

  it('refuses what cannot be waited for', () => {
    const file = openSync('/proc/self/exe', 'r');
    opened.push(file);
    expect(() => loop.watch(file, PollEvents.in, () => {})).toThrow(expect.objectContaining({ code: 'EPERM' }));
    expect(() => loop.runOnce(-1)).toThrow(/never end/);
  });

  it('serves more that is ready at once than one wait brings', () => {
    const fds = Array.from({ length: 3 * EVENTS_PER_WAIT }, (_, i) => watched(`${i}`));
    for (const fd of fds) signalEventFd(fd);
    expect(loop.waitUntil(() => log.length === fds.length, -1)).toBe(true);
    expect(new Set(log).size).toBe(fds.length);
  });

  it('starves nobody where more stays ready than one wait brings', () => {
    const seen = new Set<number>();
    for (let i = 0; i < 2 * EVENTS_PER_WAIT; i++) {
      const fd = bell();
      signalEventFd(fd);
      loop.watch(fd, PollEvents.in, () => seen.add(fd));
    }
    for (let round = 0; round < 3; round++) loop.runOnce(-1);
    expect(seen.size).toBe(2 * EVENTS_PER_WAIT);
  });

  it('is woken by an eventfd', () => {
    const wake = watched('woken');
    watched('other');
    signalEventFd(wake);
    expect(loop.waitUntil(() => log.length > 0, -1)).toBe(true);
    expect(log).toEqual(['woken']);
  });
});

describe('EventLoop, what is put off', () => {
  it('is called in the next round, before anything is waited for', () => {
    loop.soon(logging('soon'));
    expect(log).toEqual([]);
    loop.runOnce(-1);
    expect(log).toEqual(['soon']);
  });

  it('to the next round again is called in that one', () => {
    loop.soon(() => {
      log.push('first');
      loop.soon(logging('second'));
    });
    loop.runOnce(-1);
    expect(log).toEqual(['first']);
    loop.runOnce(-1);
    expect(log).toEqual(['first', 'second']);
  });

  it('is called while a job waits, and jobs are not', () => {
    loop.push(() => {
      loop.soon(logging('soon'));
      loop.push(logging('job'));
      loop.waitUntil(() => log.length > 0, -1);
      log.push('waited');
    });
    loop.runOnce(-1);
    expect(log).toEqual(['soon', 'waited']);
    loop.runOnce(-1);
    expect(log).toEqual(['soon', 'waited', 'job']);
  });

  it('lets what is ready come as soon as nothing is put off any more', () => {
    const again = () => {
      log.push('soon');
      if (log.length < 3) loop.soon(again);
    };
    loop.soon(again);
    signalEventFd(watched('ready'));
    while (!log.includes('ready')) loop.runOnce(0);
    expect(log).toEqual(['soon', 'soon', 'soon', 'ready']);
  });

  it('is told of where it fails, and the others are called', () => {
    loop.soon(() => {
      throw new Error('failed');
    });
    loop.soon(logging('other'));
    loop.runOnce(-1);
    expect(errors).toMatchObject([{ error: { message: 'failed' } }]);
    expect(log).toEqual(['other']);
  });

  it('is forgotten when the loop is closed', () => {
    loop.soon(() => loop.close());
    loop.soon(logging('other'));
    loop.runOnce(-1);
    loop.soon(logging('late'));
    expect(log).toEqual([]);
  });
});

describe('EventLoop, changes from within callbacks', () => {
  it('does not call a watch that was stopped in the same round', () => {
    const first = watched('first', () => second.stop());
    const fd = bell();
    const second = loop.watch(fd, PollEvents.in, logging('second'));
    signalEventFd(first);
    signalEventFd(fd);
    loop.runOnce(-1);
    loop.runOnce(0);
    expect(log).toEqual(['first']);
  });

  it('lets a watch stop itself, twice', () => {
    const fd = bell();
    const watch = loop.watch(fd, PollEvents.in, () => {
      log.push('once');
      watch.stop();
      watch.stop();
    });
    watched('other');
    signalEventFd(fd);
    loop.runOnce(-1);
    loop.runOnce(0);
    expect(log).toEqual(['once']);
  });

  it('calls a watch that was added in a callback from the next round on', () => {
    const added = bell();
    signalEventFd(added);
    const first = watched('first', () => loop.watch(added, PollEvents.in, logging('added')));
    signalEventFd(first);
    loop.runOnce(-1);
    expect(log).toEqual(['first']);
    loop.runOnce(-1);
    expect(log).toEqual(['first', 'added']);
  });

  it('does not take a new descriptor for the old one that had its number', () => {
    const first = watched('first', () => {
      old.stop();
      closeDescriptor(oldFd);
      const fd = bell();
      expect(fd).toBe(oldFd);
      loop.watch(fd, PollEvents.in, logging('new'));
    });
    const oldFd = createEventFd();
    const old = loop.watch(oldFd, PollEvents.in, logging('old'));
    signalEventFd(first);
    signalEventFd(oldFd);
    loop.runOnce(-1);
    loop.runOnce(0);
    expect(log).toEqual(['first']);
  });

  it('does not act on old events after a callback has itself polled', () => {
    const first = watched('first', () => loop.waitUntil(() => log.includes('second'), -1));
    const second = watched('second');
    const third = watched('third');
    for (const fd of [first, second, third]) signalEventFd(fd);
    loop.runOnce(-1);
    expect(log).toEqual(['first', 'second', 'third']);
  });

  it('may be closed', () => {
    const first = watched('first', () => loop.close());
    const second = watched('second');
    loop.push(logging('job'));
    signalEventFd(first);
    signalEventFd(second);
    loop.runOnce(0);
    expect(log).toEqual(['first']);
    expect(() => loop.runOnce(0)).toThrow(/closed/);
    expect(() => loop.watch(first, PollEvents.in, () => {})).toThrow(/closed/);
  });
});

describe('EventLoop, jobs', () => {
  it('runs them after the callbacks of the round, in order', () => {
    const first = watched('first', () => loop.push(logging('job 1')));
    const second = watched('second', () => loop.push(logging('job 2')));
    signalEventFd(first);
    signalEventFd(second);
    loop.runOnce(-1);
    expect(log).toEqual(['first', 'second', 'job 1', 'job 2']);
  });

  it('does not wait while one is queued', () => {
    watched('silent');
    loop.push(logging('job'));
    loop.runOnce(-1);
    expect(log).toEqual(['job']);
  });

  it('needs no watch for them', () => {
    loop.push(logging('job'));
    loop.runOnce(-1);
    expect(log).toEqual(['job']);
  });

  it('leaves what a job queues for the next round, behind the callbacks', () => {
    const fd = watched('callback');
    loop.push(() => {
      log.push('job');
      loop.push(logging('its job'));
      signalEventFd(fd);
    });
    loop.runOnce(-1);
    expect(log).toEqual(['job']);
    loop.runOnce(-1);
    expect(log).toEqual(['job', 'callback', 'its job']);
  });

  it('keeps the order over many rounds', () => {
    let count = 0;
    const again = (): void => {
      log.push(`${count++}`);
      if (count < 10) loop.push(again);
    };
    loop.push(again);
    loop.push(logging('other'));
    expect(loop.waitUntil(() => count === 10, -1)).toBe(true);
    expect(log).toEqual(['0', 'other', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
  });

  it('knows whether it is in one', () => {
    const seen: boolean[] = [];
    const fd = watched('callback', () => seen.push(loop.inJob));
    signalEventFd(fd);
    loop.push(() => seen.push(loop.inJob));
    seen.push(loop.inJob);
    loop.runOnce(-1);
    seen.push(loop.inJob);
    expect(seen).toEqual([false, false, true, false]);
  });

  it('serves callbacks but no jobs while one waits', () => {
    const request = watched('request', () => {
      loop.push(logging('job of the request'));
      signalEventFd(reply);
    });
    let answered = false;
    const reply = watched('reply', () => {
      answered = true;
    });
    loop.push(() => {
      log.push('job begins');
      signalEventFd(request);
      expect(loop.waitUntil(() => answered, -1)).toBe(true);
      expect(loop.inJob).toBe(true);
      log.push('job ends');
    });
    loop.push(logging('next job'));
    loop.runOnce(-1);
    expect(log).toEqual(['job begins', 'request', 'reply', 'job ends', 'next job']);
    loop.runOnce(-1);
    expect(log.at(-1)).toBe('job of the request');
    expect(errors).toEqual([]);
  });

  it('leaves jobs alone while a callback waits', () => {
    const outer = watched('outer', () => {
      loop.push(logging('job'));
      signalEventFd(inner);
      loop.waitUntil(() => log.includes('inner'), -1);
      log.push('outer ends');
    });
    const inner = watched('inner');
    signalEventFd(outer);
    loop.runOnce(-1);
    expect(log).toEqual(['outer', 'inner', 'outer ends', 'job']);
  });

  it('drops those that are left when it is closed', () => {
    loop.push(() => loop.close());
    loop.push(logging('late'));
    loop.runOnce(-1);
    loop.push(logging('later'));
    expect(log).toEqual([]);
  });
});

describe('EventLoop.after', () => {
  it('runs the job when the time is over, and not before', () => {
    const start = performance.now();
    let ran = 0;
    loop.after(20, () => {
      ran = performance.now();
    });
    expect(loop.waitUntil(() => ran !== 0, -1)).toBe(true);
    expect(ran - start).toBeGreaterThanOrEqual(20);
  });

  it('shortens a wait, and needs no watch', () => {
    loop.after(0, logging('at once'));
    loop.runOnce(-1);
    expect(log).toEqual(['at once']);
  });

  it('leaves a shorter wait as it is', () => {
    loop.after(100_000, logging('never'));
    loop.runOnce(0);
    loop.runOnce(1);
    expect(log).toEqual([]);
  });

  it('keeps the order of time, behind jobs that are queued already', () => {
    loop.after(2, logging('second'));
    loop.after(1, logging('first'));
    loop.push(logging('queued'));
    expect(loop.waitUntil(() => log.length === 3, -1)).toBe(true);
    expect(log).toEqual(['queued', 'first', 'second']);
  });

  it('runs nothing that was called off', () => {
    const callOff = loop.after(0, logging('called off'));
    loop.after(0, logging('kept'));
    callOff();
    callOff();
    loop.runOnce(-1);
    expect(log).toEqual(['kept']);
  });

  it('waits with its job while another job waits', () => {
    let seen = false;
    loop.push(() => {
      loop.after(0, logging('timer'));
      loop.runOnce(1);
      seen = log.length === 0;
    });
    expect(loop.waitUntil(() => log.length === 1, -1)).toBe(true);
    expect(seen).toBe(true);
  });

  it('is dropped when the loop is closed', () => {
    loop.after(0, logging('late'));
    loop.close();
    loop.after(0, logging('later'))();
    expect(log).toEqual([]);
  });
});

describe('EventLoop.waitUntil', () => {
  it('asks first, and polls only if need be', () => {
    const fd = watched('callback');
    signalEventFd(fd);
    expect(loop.waitUntil(() => true, -1)).toBe(true);
    expect(log).toEqual([]);
  });

  it('returns false when the time is over', () => {
    watched('never');
    expect(loop.waitUntil(() => false, 5)).toBe(false);
  });

  it('looks once, even with no time at all', () => {
    const fd = watched('callback');
    signalEventFd(fd);
    expect(loop.waitUntil(() => log.length > 0, 0)).toBe(true);
  });

  it('runs jobs when called from outside', () => {
    loop.push(() => loop.push(logging('second')));
    expect(loop.waitUntil(() => log.length > 0, -1)).toBe(true);
  });

  it('returns false when the loop is closed meanwhile', () => {
    const fd = watched('callback', () => loop.close());
    signalEventFd(fd);
    expect(loop.waitUntil(() => false, -1)).toBe(false);
  });

  it('refuses to wait for ever for nothing', () => {
    expect(() => loop.waitUntil(() => false, -1)).toThrow(/never end/);
    const watch = loop.watch(bell(), PollEvents.in, () => {});
    watch.stop();
    expect(() => loop.runOnce(-1)).toThrow(/never end/);
  });

  it('lets a reply through between two ends on one thread', () => {
    const [one, other] = socketPair();
    const client = new StreamSocket(one, 64, 64, 0);
    const server = new StreamSocket(other, 64, 64, 0);
    loop.watch(server.fd, PollEvents.in, () => {
      const count = server.receive(0, 64);
      server.output.set(server.input.subarray(0, count));
      server.send(0, count);
    });
    let received = 0;
    loop.watch(client.fd, PollEvents.in, () => {
      received += client.receive(received, 64 - received);
    });
    client.output.fill(7, 0, 10);
    client.send(0, 10);
    expect(loop.waitUntil(() => received === 10, -1)).toBe(true);
    expect(client.input[9]).toBe(7);
    loop.close();
    client.close();
    server.close();
  });
});

describe('EventLoop, errors', () => {
  it('tells of an exception in a callback, and calls the others', () => {
    const failure = new Error('callback failed');
    const fd = watched('first', () => {
      throw failure;
    });
    const second = watched('second');
    signalEventFd(fd);
    signalEventFd(second);
    loop.runOnce(-1);
    expect(errors).toEqual([{ error: failure, where: `watch of descriptor ${fd}` }]);
    expect(log).toEqual(['first', 'second']);
  });

  it('tells of an exception in a job, runs the others, and is in no job afterwards', () => {
    const failure = new Error('job failed');
    loop.push(() => {
      throw failure;
    });
    loop.push(logging('next'));
    loop.runOnce(-1);
    expect(errors).toEqual([{ error: failure, where: 'job' }]);
    expect(log).toEqual(['next']);
    expect(loop.inJob).toBe(false);
  });

  it('keeps the jobs behind one whose exception nobody wanted to hear', () => {
    const strict = new EventLoop(error => {
      throw error;
    });
    strict.push(() => {
      throw new Error('unheard');
    });
    strict.push(logging('second'));
    strict.push(logging('third'));
    expect(() => strict.runOnce(0)).toThrow('unheard');
    expect(strict.inJob).toBe(false);
    strict.runOnce(0);
    expect(log).toEqual(['second', 'third']);
    strict.close();
  });

  it('lets an exception of the condition through, out of the job that waits', () => {
    watched('silent');
    loop.push(() => {
      loop.waitUntil(() => {
        throw new Error('condition failed');
      }, -1);
    });
    loop.runOnce(-1);
    expect(errors.map(({ error }) => String(error))).toEqual(['Error: condition failed']);
  });
});

describe('EventLoop, busy-polling', () => {
  it('finds what is ready', () => {
    loop.busyPoll.nanoseconds = 1_000_000;
    const fd = watched('ready');
    signalEventFd(fd);
    loop.runOnce(-1);
    expect(log).toEqual(['ready']);
  });

  it('blocks in the end, and goes on finding events after it was given up', () => {
    loop.busyPoll.nanoseconds = 1000;
    const fd = watched('ready');
    for (let i = 0; i < 20; i++) loop.runOnce(1);
    expect(log).toEqual([]);
    for (let i = 0; i < 100; i++) {
      signalEventFd(fd);
      loop.runOnce(-1);
    }
    expect(log).toHaveLength(100);
  });

  /** Waits that find something at once, until it polls busily again. */
  function pauseLength(fd: number): number {
    let waits = 0;
    for (; !loop.busyPoll.isOn; waits++) {
      signalEventFd(fd);
      loop.runOnce(-1);
    }
    return waits;
  }

  function miss(times: number): void {
    for (let i = 0; i < times; i++) loop.runOnce(1);
  }

  it('is off unless asked for', () => {
    expect(loop.busyPoll.isOn).toBe(false);
    loop.busyPoll.nanoseconds = 1000;
    expect(loop.busyPoll.isOn).toBe(true);
  });

  it('is given up after so many misses in a row and not before', () => {
    loop.busyPoll.nanoseconds = 1000;
    watched('ready');
    miss(7);
    expect(loop.busyPoll.isOn).toBe(true);
    miss(1);
    expect(loop.busyPoll.isOn).toBe(false);
  });

  it('is given up for twice as long each time that it finds nothing again', () => {
    loop.busyPoll.nanoseconds = 1000;
    const fd = watched('ready');
    miss(8);
    const lengths = [pauseLength(fd)];
    for (let i = 0; i < 9; i++) {
      miss(1);
      lengths.push(pauseLength(fd));
    }
    expect(lengths).toEqual([64, 128, 256, 512, 1024, 2048, 4096, 8192, 8192, 8192]);
  });

  it('takes what is there at once neither for a success nor for a miss', () => {
    loop.busyPoll.nanoseconds = 1000;
    const fd = watched('ready');
    miss(7);
    signalEventFd(fd);
    loop.runOnce(-1);
    miss(1);
    expect(loop.busyPoll.isOn).toBe(false);
  });

  it('is not done where a wait may not last', () => {
    loop.busyPoll.nanoseconds = 1_000_000;
    watched('ready');
    for (let i = 0; i < 20; i++) loop.runOnce(0);
    expect(loop.busyPoll.isOn).toBe(true);
  });
});
