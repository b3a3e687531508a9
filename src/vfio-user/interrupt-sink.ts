/** The two ways in which the signal of a vector reaches the client: an eventfd that it gave, or a message. */
import { SystemError } from '../posix/errors.ts';
import { isEventFd, signalEventFd } from '../posix/eventfd.ts';
import { closeDescriptor } from '../posix/socket.ts';
import type { Trace } from '../trace/trace.ts';
import type { Connection } from './connection.ts';
import type { InterruptDescription } from './device-model.ts';
import { writeHeader } from './header.ts';
import { Command, HEADER_BYTES, HeaderFlag, Interrupt, NO_TRIGGER } from './spec.ts';

export interface InterruptSink {
  /** Eventfds that mask and unmask are on this side. */
  readonly holdsEventFds: boolean;
  /** Whether what the client gave for a vector can be a trigger. */
  accepts(trigger: number): boolean;
  /** A trigger (not `NO_TRIGGER`) is not needed any more. */
  release(trigger: number): void;
  /** The vector has no trigger any more: what it signalled and the client has not been told is void. */
  forget(index: number, vector: number): void;
  /** False where the signal is lost. */
  signal(index: number, vector: number, trigger: number): boolean;
  /** To be called after each message of the client has been served. */
  flush(): void;
}

/** A trigger is an eventfd, which is ours to close. */
export class EventFdSink implements InterruptSink {
  readonly holdsEventFds = true;

  constructor(
    private readonly trace: Trace,
    private readonly name: string,
  ) {}

  accepts(trigger: number): boolean {
    // Eight bytes written into anything else could change it, or block for good.
    return isEventFd(trigger);
  }

  release(trigger: number): void {
    closeDescriptor(trigger);
  }

  /** What was signalled is in the eventfd, and the client's. */
  forget(): void {}

  signal(index: number, vector: number, trigger: number): boolean {
    try {
      signalEventFd(trigger);
      return true;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.trace.note('interrupt.lost', this.name, { index, vector, code: error.code });
      return false;
    }
  }

  flush(): void {}
}

const MESSAGE_BYTES = HEADER_BYTES + Interrupt.bytes;
const MESSAGE_FLAGS = HeaderFlag.typeCommand | HeaderFlag.noReply;

/**
 * A trigger is any number but `NO_TRIGGER`. What cannot be sent at once, because a reply is being put together or the client does
 * not read, is owed: one message for each vector however often it was signalled, as an eventfd counts.
 */
export class MessageSink implements InterruptSink {
  readonly holdsEventFds = false;
  private readonly owed: readonly Uint8Array[];
  private owes = 0;

  constructor(
    private readonly connection: Connection,
    interrupts: readonly InterruptDescription[],
  ) {
    this.owed = interrupts.map(({ count }) => new Uint8Array(count));
    connection.onRoom = () => this.flush();
  }

  accepts(trigger: number): boolean {
    return trigger >= NO_TRIGGER;
  }

  release(): void {}

  /**
   * A vector that is set again while it is set keeps what it owes: QEMU sets all vectors of an index again when it sets one more, and
   * nothing in the message tells whether the eventfd is another one (spec.ts, the messages profile).
   */
  forget(index: number, vector: number): void {
    const owed = this.owed[index]!;
    if (owed[vector] === 0) return;
    owed[vector] = 0;
    this.owes--;
  }

  signal(index: number, vector: number): boolean {
    // The reply to the message at hand has its place in the output already.
    if (!this.connection.dispatching && this.owes === 0 && this.send(index, vector)) return true;
    const owed = this.owed[index]!;
    if (owed[vector] === 0) {
      owed[vector] = 1;
      this.owes++;
    }
    return true;
  }

  flush(): void {
    for (let index = 0; this.owes > 0 && index < this.owed.length; index++) {
      const owed = this.owed[index]!;
      for (let vector = 0; vector < owed.length; vector++) {
        if (owed[vector] === 0) continue;
        if (!this.send(index, vector)) return;
        owed[vector] = 0;
        this.owes--;
      }
    }
  }

  /** False where there is no room. */
  private send(index: number, vector: number): boolean {
    const { connection } = this;
    const at = connection.reserve(MESSAGE_BYTES);
    if (at < 0) return false;
    const { outputView: view } = connection;
    writeHeader(view, at, 0, Command.interrupt, MESSAGE_BYTES, MESSAGE_FLAGS, 0);
    view.setUint32(at + HEADER_BYTES + Interrupt.index, index, true);
    view.setUint32(at + HEADER_BYTES + Interrupt.vector, vector, true);
    connection.commit(MESSAGE_BYTES);
    return true;
  }
}
