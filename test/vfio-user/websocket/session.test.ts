import { describe, expect, test } from 'vitest';
import { newCounters, Session } from '../../../src/vfio-user/websocket/session.ts';
import { message, messages } from './rig.ts';

function rig({ window = { bytes: 1000, frames: 4 }, ackFrames = 100, ackBytes = 1e6 } = {}) {
  const local: Buffer[] = [];
  const wire = { frames: [] as Buffer[], acks: [] as number[] };
  const state = { ready: true };
  const counters = newCounters();
  const session = new Session(
    window,
    { ackFrames, ackBytes },
    frame => {
      local.push(frame);
      return state.ready;
    },
    counters,
  );
  const newWire = () => {
    wire.frames = [];
    wire.acks = [];
    return {
      sendFrame: (frame: Buffer) => void wire.frames.push(frame),
      sendAck: ({ received }: { received: number }) => void wire.acks.push(received),
    };
  };
  return { session, local, wire, state, counters, newWire };
}

const [m0, m1, m2, m3, m4, m5] = messages(6) as [Buffer, Buffer, Buffer, Buffer, Buffer, Buffer];

describe('sending', () => {
  test('waits for a wire', () => {
    const { session, wire, newWire } = rig();
    session.submit(m0);
    expect(session.full).toBe(true);
    session.attach(newWire(), 0);
    expect(wire.frames).toEqual([m0]);
    expect(session.full).toBe(false);
  });

  test('goes no further than the window of frames, and on with each acknowledgement', () => {
    const { session, wire, newWire } = rig();
    session.attach(newWire(), 0);
    for (const frame of [m0, m1, m2, m3, m4, m5]) session.submit(frame);
    expect(wire.frames).toEqual([m0, m1, m2, m3]);
    expect(session.full).toBe(true);
    expect(session.acknowledge(1)).toBeUndefined();
    expect(wire.frames).toEqual([m0, m1, m2, m3, m4]);
    session.acknowledge(3);
    expect(wire.frames).toHaveLength(6);
    expect(session.full).toBe(false);
    expect(session.settled).toBe(false);
    session.acknowledge(6);
    expect(session.settled).toBe(true);
  });

  test('goes no further than the window of bytes', () => {
    const { session, wire, newWire } = rig({ window: { bytes: 60, frames: 100 } });
    session.attach(newWire(), 0);
    for (const frame of [m0, m1, m2]) session.submit(frame);
    expect(wire.frames).toEqual([m0, m1]);
    session.acknowledge(1);
    expect(wire.frames).toEqual([m0, m1, m2]);
  });

  test.each([
    ['more than was sent', 3],
    ['less than before', 0],
  ])('refuses an acknowledgement of %s', (_what, received) => {
    const { session, newWire } = rig();
    session.attach(newWire(), 0);
    session.submit(m0);
    session.submit(m1);
    session.acknowledge(1);
    expect(session.acknowledge(received)).toBe(`${received} frames acknowledged, 1 to 2 are possible`);
  });

  test('frames that wait for the window cannot be acknowledged', () => {
    const { session, newWire } = rig({ window: { bytes: 1000, frames: 1 } });
    session.attach(newWire(), 0);
    session.submit(m0);
    session.submit(m1);
    expect(session.acknowledge(2)).toContain('0 to 1 are possible');
  });
});

describe('a new connection', () => {
  test('gets what the other side has not received, and no more', () => {
    const { session, wire, newWire, counters } = rig();
    session.attach(newWire(), 0);
    for (const frame of [m0, m1, m2]) session.submit(frame);
    session.detach();
    session.submit(m3);
    session.attach(newWire(), 2);
    expect(wire.frames).toEqual([m2, m3]);
    expect(counters).toMatchObject({ framesSent: 5, framesResent: 1, bytesSent: 5 * 24 });
  });

  test('gets nothing twice where all had arrived', () => {
    const { session, wire, newWire } = rig();
    session.attach(newWire(), 0);
    session.submit(m0);
    session.detach();
    session.attach(newWire(), 1);
    expect(wire.frames).toEqual([]);
    expect(session.settled).toBe(true);
  });

  test('has a window of its own', () => {
    const { session, wire, newWire } = rig({ window: { bytes: 1000, frames: 2 } });
    session.attach(newWire(), 0);
    for (const frame of [m0, m1, m2, m3]) session.submit(frame);
    session.detach();
    session.attach(newWire(), 1);
    expect(wire.frames).toEqual([m1, m2]);
    session.acknowledge(3);
    expect(wire.frames).toEqual([m1, m2, m3]);
  });

  test.each([0, 4])('is refused where it says that %i frames were received', received => {
    const { session, newWire } = rig();
    session.attach(newWire(), 0);
    for (const frame of [m0, m1, m2]) session.submit(frame);
    session.acknowledge(1);
    session.detach();
    expect(session.attach(newWire(), received)).toContain('1 to 3 are possible');
  });
});

describe('receiving', () => {
  test('counts what went into the local stream', () => {
    const { session, local, newWire } = rig();
    session.attach(newWire(), 0);
    session.arrived(m0);
    session.arrived(m1);
    expect(local).toEqual([m0, m1]);
    expect(session.received).toBe(2);
    expect(session.owesAck).toBe(true);
  });

  test('acknowledges by itself after so many frames', () => {
    const { session, wire, newWire } = rig({ ackFrames: 2 });
    session.attach(newWire(), 0);
    for (const frame of [m0, m1, m2]) session.arrived(frame);
    expect(wire.acks).toEqual([2]);
    session.sendAck();
    expect(wire.acks).toEqual([2, 3]);
    session.sendAck();
    expect(wire.acks).toEqual([2, 3]);
  });

  test('acknowledges by itself after so many bytes', () => {
    const { session, wire, newWire } = rig({ ackBytes: 40 });
    session.attach(newWire(), 0);
    for (const frame of [m0, m1, m2, m3]) session.arrived(frame);
    expect(wire.acks).toEqual([2, 4]);
  });

  test('does not acknowledge what the busy local stream has not taken', () => {
    const { session, local, wire, state, newWire } = rig();
    session.attach(newWire(), 0);
    state.ready = false;
    session.arrived(m0);
    session.arrived(m1);
    session.sendAck();
    expect(local).toEqual([m0]);
    expect(wire.acks).toEqual([1]);
    state.ready = true;
    session.localReady();
    session.sendAck();
    expect(local).toEqual([m0, m1]);
    expect(wire.acks).toEqual([1, 2]);
  });

  test('forgets with the connection what the local stream has not taken', () => {
    const { session, local, state, newWire } = rig();
    session.attach(newWire(), 0);
    state.ready = false;
    session.arrived(m0);
    session.arrived(m1);
    session.detach();
    state.ready = true;
    session.localReady();
    expect(local).toEqual([m0]);
    expect(session.received).toBe(1);
    session.attach(newWire(), 0);
    session.arrived(m1);
    expect(local).toEqual([m0, m1]);
  });

  test('owes nothing on a new connection, which was told the count', () => {
    const { session, newWire } = rig();
    session.attach(newWire(), 0);
    session.arrived(m0);
    session.detach();
    expect(session.owesAck).toBe(false);
    session.attach(newWire(), 0);
    expect(session.owesAck).toBe(false);
  });

  test.each([
    ['frames', { bytes: 1000, frames: 2 }],
    ['bytes', { bytes: 60, frames: 100 }],
  ])('refuses more %s than the window while the local stream is busy', (_what, window) => {
    const { session, state, newWire } = rig({ window });
    session.attach(newWire(), 0);
    state.ready = false;
    expect([m0, m1, m2].map(frame => session.arrived(frame))).toEqual([undefined, undefined, undefined]);
    expect(session.arrived(m3)).toContain('ahead of their acknowledgement');
  });

  test('hands everything over at the end, busy or not', () => {
    const { session, local, state, newWire } = rig();
    session.attach(newWire(), 0);
    state.ready = false;
    for (const frame of [m0, m1, m2]) session.arrived(frame);
    session.handOver();
    expect(local).toEqual([m0, m1, m2]);
  });
});

test('a frame that waits is the frame that was given', () => {
  const { session, wire, newWire } = rig();
  const given = message(77);
  session.submit(given);
  session.attach(newWire(), 0);
  expect(wire.frames[0]).toBe(given);
});
