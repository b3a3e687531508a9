/**
 * One side of a session that outlives its connections: binary frames are counted from the session's start, kept until the other
 * side has acknowledged them, and sent again on the next connection where they are not. Knows no sockets and no time.
 *
 * An acknowledgement means that the frame went on into the local stream, so it is flow control too: what a side has under way,
 * and so what the other must be able to put aside while its local stream is busy, is bounded by the window. Nobody stops
 * reading a WebSocket, and pings are always answered.
 */
import { FrameQueue } from './frame-queue.ts';
import type { Ack } from './protocol.ts';

/** One connection. */
export interface Wire {
  sendFrame(frame: Buffer): void;
  sendAck(ack: Ack): void;
}

/** Takes one frame for the local stream; false: it is the last one until `localReady`. */
export type TakeFrame = (frame: Buffer) => boolean;

export interface Window {
  readonly bytes: number;
  readonly frames: number;
}

export interface AckPolicy {
  readonly ackFrames: number;
  readonly ackBytes: number;
}

/** Sums; frames that are sent again count again. */
export interface SessionCounters {
  framesSent: number;
  bytesSent: number;
  framesReceived: number;
  bytesReceived: number;
  framesResent: number;
}

export function newCounters(): SessionCounters {
  return { framesSent: 0, bytesSent: 0, framesReceived: 0, bytesReceived: 0, framesResent: 0 };
}

export class Session {
  /** Frames of ours that went into the local stream of the other side. */
  private acknowledged = 0;
  /** From `acknowledged` on: the first `underWay` were sent on this wire, the others wait for the window or a wire. */
  private readonly kept = new FrameQueue();
  private underWay = 0;
  private bytesUnderWay = 0;
  /** Frames ever sent on any wire: no acknowledgement may be beyond. */
  private everSent = 0;

  /** Frames of the other side that went into our local stream. */
  private taken = 0;
  private readonly waiting = new FrameQueue();
  private blocked = false;
  /** What the other side knows of `taken`, and bytes taken since. */
  private told = 0;
  private bytesUntold = 0;

  private wire: Wire | undefined;

  constructor(
    private readonly window: Window,
    private readonly policy: AckPolicy,
    private readonly take: TakeFrame,
    private readonly counters: SessionCounters = newCounters(),
  ) {}

  /** To be told to the other side when a connection is made; then it is to send what comes after. */
  get received(): number {
    return this.taken;
  }

  /** Nothing more should be submitted: frames wait for the window or for a wire. */
  get full(): boolean {
    return this.kept.length > this.underWay;
  }

  /** The other side has acknowledged everything. */
  get settled(): boolean {
    return this.kept.length === 0;
  }

  /** Something was taken that the other side does not know of: call `sendAck` soon. */
  get owesAck(): boolean {
    return this.wire !== undefined && this.taken > this.told;
  }

  /** A frame for the other side; it must not be changed any more. */
  submit(frame: Buffer): void {
    this.kept.push(frame);
    this.flush();
  }

  /**
   * A new connection, whose other side has received so many frames and knows that we have received `received`. Returns what is
   * wrong with the number, or undefined.
   */
  attach(wire: Wire, peerReceived: number): string | undefined {
    const problem = this.acknowledge(peerReceived);
    if (problem !== undefined) return problem;
    this.wire = wire;
    this.told = this.taken;
    this.bytesUntold = 0;
    this.flush();
    return undefined;
  }

  /** What is wrong with a count of frames that the other side says it has received; undefined: nothing. */
  problemWith(received: number): string | undefined {
    if (received >= this.acknowledged && received <= this.everSent) return undefined;
    return `${received} frames acknowledged, ${this.acknowledged} to ${this.everSent} are possible`;
  }

  /** The connection is lost. What did not reach the local stream is forgotten: the other side still has it. */
  detach(): void {
    this.wire = undefined;
    this.waiting.clear();
    this.underWay = 0;
    this.bytesUnderWay = 0;
  }

  /** A frame came. Returns what is wrong, or undefined. */
  arrived(frame: Buffer): string | undefined {
    this.counters.framesReceived++;
    this.counters.bytesReceived += frame.length;
    const { waiting, window } = this;
    if (waiting.length >= window.frames || waiting.bytes + frame.length > window.bytes) {
      return `more than ${window.frames} frames or ${window.bytes} bytes ahead of their acknowledgement`;
    }
    waiting.push(frame);
    this.drain();
    return undefined;
  }

  /** An acknowledgement came. Returns what is wrong with it, or undefined. */
  acknowledge(received: number): string | undefined {
    const problem = this.problemWith(received);
    if (problem !== undefined) return problem;
    const count = received - this.acknowledged;
    for (let i = 0; i < count; i++) {
      const { length } = this.kept.shift();
      if (this.underWay === 0) continue;
      this.underWay--;
      this.bytesUnderWay -= length;
    }
    this.acknowledged = received;
    this.flush();
    return undefined;
  }

  /** The local stream takes frames again. */
  localReady(): void {
    this.blocked = false;
    this.drain();
  }

  /** The last frames have come: all go into the local stream, busy or not. There is no more than the window of them. */
  handOver(): void {
    this.blocked = false;
    while (this.waiting.length > 0) {
      this.take(this.waiting.shift());
      this.taken++;
    }
  }

  sendAck(): void {
    if (!this.owesAck) return;
    this.told = this.taken;
    this.bytesUntold = 0;
    this.wire!.sendAck({ type: 'ack', received: this.taken });
  }

  private flush(): void {
    const { wire, kept, window, counters } = this;
    if (wire === undefined) return;
    while (this.underWay < kept.length && this.underWay < window.frames) {
      const frame = kept.at(this.underWay);
      if (this.bytesUnderWay + frame.length > window.bytes) return;
      this.underWay++;
      this.bytesUnderWay += frame.length;
      const number = this.acknowledged + this.underWay;
      if (number > this.everSent) this.everSent = number;
      else counters.framesResent++;
      counters.framesSent++;
      counters.bytesSent += frame.length;
      wire.sendFrame(frame);
    }
  }

  private drain(): void {
    while (!this.blocked && this.waiting.length > 0) {
      const frame = this.waiting.shift();
      this.taken++;
      this.bytesUntold += frame.length;
      if (!this.take(frame)) this.blocked = true;
      if (this.taken - this.told >= this.policy.ackFrames || this.bytesUntold >= this.policy.ackBytes) this.sendAck();
    }
  }
}
