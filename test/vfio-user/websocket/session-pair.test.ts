/** Two sessions, and between them connections that break at any point: what goes in on one side comes out on the other. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Session } from '../../../src/vfio-user/websocket/session.ts';
import { message } from './rig.ts';

type Sent = { frame: Buffer } | { ack: number };

/** One side: its session, what its local stream got, and what is on its way to it. */
class Side {
  readonly local: Buffer[] = [];
  readonly sent: Buffer[] = [];
  ready = true;
  inbound: Sent[] = [];
  readonly session: Session;
  most = 0;

  constructor(window: { bytes: number; frames: number }, ackFrames: number) {
    this.session = new Session(window, { ackFrames, ackBytes: 200 }, frame => {
      this.local.push(frame);
      return this.ready;
    });
  }

  attachTo(peer: Side, peerReceived: number): void {
    const queue: Sent[] = [];
    peer.inbound = queue;
    const problem = this.session.attach(
      {
        sendFrame: frame => void queue.push({ frame }),
        sendAck: ({ received }) => void queue.push({ ack: received }),
      },
      peerReceived,
    );
    expect(problem).toBeUndefined();
  }

  /** Takes the next thing that is on its way to here. */
  deliver(): boolean {
    const next = this.inbound.shift();
    if (next === undefined) return false;
    expect('frame' in next ? this.session.arrived(next.frame) : this.session.acknowledge(next.ack)).toBeUndefined();
    return true;
  }
}

class Pair {
  connected = false;
  private number = 0;

  constructor(
    readonly a: Side,
    readonly b: Side,
  ) {}

  connect(): void {
    if (this.connected) return;
    this.connected = true;
    // The count that the client dials with, and the one of the server's welcome.
    const [fromA, fromB] = [this.a.session.received, this.b.session.received];
    this.b.attachTo(this.a, fromA);
    this.a.attachTo(this.b, fromB);
  }

  /** Each side may notice it at another time: until then it sends into the void. */
  cut(first: Side): void {
    if (!this.connected) return;
    this.connected = false;
    first.session.detach();
    this.a.inbound = [];
    this.b.inbound = [];
  }

  submit(from: Side, size: number): void {
    const frame = message(this.number++, 16 + size);
    from.sent.push(frame);
    from.session.submit(frame);
  }

  settle(): void {
    for (const side of [this.a, this.b]) side.session.detach();
    this.a.inbound = [];
    this.b.inbound = [];
    this.connected = false;
    this.connect();
    for (const side of [this.a, this.b]) {
      side.ready = true;
      side.session.localReady();
    }
    let moved = true;
    while (moved) {
      moved = this.a.deliver() || this.b.deliver();
      if (!moved) {
        for (const side of [this.a, this.b]) {
          moved ||= side.session.owesAck;
          side.session.sendAck();
        }
      }
    }
  }
}

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ submit: fc.nat(60), side: fc.boolean() }) },
  { weight: 6, arbitrary: fc.record({ deliver: fc.integer({ min: 1, max: 6 }), side: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ ack: fc.constant(true), side: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ ready: fc.boolean(), side: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ cut: fc.constant(true), side: fc.boolean(), both: fc.boolean() }) },
  { weight: 2, arbitrary: fc.constant({ connect: true as const, side: true }) },
);

describe('two sessions', () => {
  test('deliver what was sent, in order, once, wherever connections break', () => {
    const window = fc.record({ bytes: fc.integer({ min: 80, max: 400 }), frames: fc.integer({ min: 1, max: 8 }) });
    fc.assert(
      fc.property(window, fc.integer({ min: 1, max: 5 }), fc.array(step, { maxLength: 200 }), (size, acks, steps) => {
        const pair = new Pair(new Side(size, acks), new Side(size, acks));
        for (const one of steps) {
          const side = one.side ? pair.a : pair.b;
          if ('submit' in one) pair.submit(side, one.submit);
          else if ('deliver' in one) for (let i = 0; i < one.deliver; i++) side.deliver();
          else if ('ack' in one) side.session.sendAck();
          else if ('ready' in one) {
            side.ready = one.ready;
            if (one.ready) side.session.localReady();
          } else if ('cut' in one) {
            pair.cut(side);
            if (one.both) for (const either of [pair.a, pair.b]) either.session.detach();
          } else if (!pair.connected) {
            for (const either of [pair.a, pair.b]) either.session.detach();
            pair.connect();
          }
          // What came so far is always a beginning of what was sent.
          expect(pair.a.local.length).toBeLessThanOrEqual(pair.b.sent.length);
          expect(pair.b.local.length).toBeLessThanOrEqual(pair.a.sent.length);
        }
        pair.settle();
        expect(pair.b.local).toEqual(pair.a.sent);
        expect(pair.a.local).toEqual(pair.b.sent);
        expect([pair.a.session.settled, pair.b.session.settled]).toEqual([true, true]);
        expect([pair.a.session.full, pair.b.session.full]).toEqual([false, false]);
      }),
      { numRuns: 400 },
    );
  });
});
