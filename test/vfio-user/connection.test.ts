import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { StreamSocket, socketPair } from '../../src/posix/socket.ts';
import { Connection } from '../../src/vfio-user/connection.ts';
import type { Header } from '../../src/vfio-user/header.ts';
import { defaultLimits } from '../../src/vfio-user/limits.ts';
import { Command, HeaderFlag } from '../../src/vfio-user/spec.ts';
import { concat, message } from './rig.ts';

let loop: EventLoop;
let peer: StreamSocket;
let connection: Connection;
/** Ids of the messages handled, and what else happened. */
let log: (number | string)[];
let onMessage: (id: number) => void;
/** What the answer to each message may take. */
let room: number;

beforeEach(() => {
  const [mine, theirs] = socketPair();
  loop = new EventLoop(error => {
    throw error;
  });
  peer = new StreamSocket(theirs, 65536, 65536, 0);
  log = [];
  onMessage = () => {};
  room = 0;
  connection = new Connection(mine, loop, defaultLimits, {
    replyRoom: () => room,
    message: ({ id }: Header) => {
      log.push(id);
      onMessage(id);
    },
    closed: reason => log.push(reason),
  });
});

afterEach(() => {
  connection.close('test over');
  peer.close();
  loop.close();
});

function send(...ids: number[]): void {
  const bytes = concat(
    ...ids.map(id => message(Command.deviceReset, new Uint8Array(0), { id, flags: HeaderFlag.noReply })),
  );
  peer.output.set(bytes);
  peer.send(0, bytes.length);
}

describe('a turn of a connection', () => {
  it('takes what comes while it serves', () => {
    onMessage = id => id < 4 && send(id + 1);
    send(1);
    loop.runOnce(-1);
    expect(log).toEqual([1, 2, 3, 4]);
  });

  it('ends at some time even where the peer never does', () => {
    onMessage = id => send(id + 1);
    send(1);
    loop.runOnce(-1);
    const turn = log.length;
    expect(turn).toBeGreaterThan(1);
    expect(turn).toBeLessThan(100);
    onMessage = () => {};
    loop.runOnce(-1);
    expect(log).toHaveLength(turn + 1);
  });

  it('ends with what came where that was much', () => {
    const many = Array.from({ length: 300 }, (_, i) => i);
    onMessage = id => id === 0 && send(1000);
    send(...many);
    loop.runOnce(-1);
    expect(log).toEqual(many);
    loop.runOnce(-1);
    expect(log).toEqual([...many, 1000]);
  });

  it('ends where a job is queued, which runs before the next message', () => {
    onMessage = id => {
      if (id === 1) loop.push(() => log.push('job'));
      if (id < 3) send(id + 1);
    };
    send(1);
    loop.runOnce(-1);
    loop.runOnce(-1);
    expect(log).toEqual([1, 'job', 2, 3]);
  });

  it('ends where the connection is paused', () => {
    onMessage = id => {
      send(id + 1);
      connection.pause();
    };
    send(1);
    loop.runOnce(-1);
    expect(log).toEqual([1]);
    onMessage = () => {};
    connection.resume();
    loop.runOnce(-1);
    expect(log).toEqual([1, 2]);
  });

  it('ends where the connection is closed', () => {
    onMessage = () => {
      send(2);
      connection.close('enough');
    };
    send(1);
    loop.runOnce(-1);
    expect(log).toEqual([1, 'enough']);
  });
});

describe('a message that lets others go first', () => {
  it('puts off those behind it to the next round, which waits for nothing', () => {
    onMessage = id => id === 1 && connection.rest();
    send(1, 2, 3);
    loop.runOnce(-1);
    expect(log).toEqual([1]);
    loop.runOnce(-1);
    expect(log).toEqual([1, 2, 3]);
  });

  it('lets the job go on that waits for it', () => {
    let done = false;
    onMessage = id => {
      if (id !== 1) return;
      done = true;
      connection.rest();
    };
    send(1, 2);
    loop.push(() => {
      loop.waitUntil(() => done, -1);
      log.push('job');
    });
    loop.runOnce(-1);
    loop.runOnce(-1);
    expect(log).toEqual([1, 'job', 2]);
  });

  it('puts off nothing where nothing is behind it', () => {
    onMessage = () => connection.rest();
    send(1);
    loop.runOnce(-1);
    send(2);
    loop.runOnce(-1);
    expect(log).toEqual([1, 2]);
  });

  it('may be the first of those put off as well', () => {
    onMessage = () => connection.rest();
    send(1, 2, 3);
    for (let round = 1; round <= 3; round++) {
      loop.runOnce(-1);
      expect(log).toHaveLength(round);
    }
  });

  it('and a part of the next: that waits for its rest as any', () => {
    onMessage = () => connection.rest();
    const both = concat(
      message(Command.deviceReset, new Uint8Array(0), { id: 1 }),
      message(Command.deviceReset, new Uint8Array(0), { id: 2 }),
    );
    peer.output.set(both);
    peer.send(0, 20);
    loop.runOnce(-1);
    loop.runOnce(0);
    expect(log).toEqual([1]);
    peer.send(20, both.length - 20);
    loop.runOnce(-1);
    expect(log).toEqual([1, 2]);
  });

  it('puts off those behind it also where it was held back itself, for want of room', () => {
    const unread = connection.output.length - 4096;
    connection.reserve(unread);
    connection.commit(unread);
    room = 1048576;
    onMessage = () => connection.rest();
    send(1, 2, 3);
    loop.runOnce(0);
    expect(log).toEqual([]);
    for (let rounds = 0; log.length < 3 && rounds < 1000; rounds++) {
      peer.receive(0, peer.input.length);
      loop.runOnce(0);
    }
    expect(log).toEqual([1, 2, 3]);
  });

  it.each([
    ['paused', () => connection.pause(), [1]],
    ['closed', () => connection.close('enough'), [1, 'enough']],
  ])('serves none of them once it is %s', (_, change, expected) => {
    onMessage = () => connection.rest();
    send(1, 2);
    loop.runOnce(-1);
    change();
    loop.runOnce(0);
    loop.runOnce(0);
    expect(log).toEqual(expected);
  });

  it('serves each of them once where it is paused and resumed before the next round', () => {
    onMessage = id => id === 1 && connection.rest();
    send(1, 2);
    loop.runOnce(-1);
    connection.pause();
    connection.resume();
    loop.runOnce(0);
    loop.runOnce(0);
    expect(log).toEqual([1, 2]);
  });
});

describe('a peer that is looked after out of turn', () => {
  it('has all served that it sent before it went, also what was put off', () => {
    onMessage = () => connection.rest();
    send(1, 2, 3);
    loop.runOnce(-1);
    send(4, 5);
    peer.close();
    expect(log).toEqual([1]);
    expect(connection.pump(64)).toBe(false);
    expect(log).toEqual([1, 2, 3, 4, 5, 'end of stream']);
  });

  it('is still there where it has not gone', () => {
    onMessage = () => connection.rest();
    send(1, 2);
    expect(connection.pump(64)).toBe(true);
    expect(log).toEqual([1, 2]);
    loop.runOnce(0);
    expect(log).toEqual([1, 2]);
  });
});

describe('what is there before a job waits', () => {
  it('is served at once', () => {
    send(1);
    loop.push(() => {
      connection.receiveAhead();
      log.push('job');
    });
    loop.runOnce(0);
    expect(log[0]).toBe(1);
  });
});
