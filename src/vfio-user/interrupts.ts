/** Which trigger signals which vector (an eventfd, or a message where the client keeps the eventfd), and which vectors are masked (vfio-user, section "VFIO_USER_DEVICE_SET_IRQS"). */
import { type EventLoop, PollEvents } from '../posix/event-loop.ts';
import { drainEventFd } from '../posix/eventfd.ts';
import type { Watch } from '../posix/loop-watch.ts';
import { closeDescriptor } from '../posix/socket.ts';
import { Errno, type InterruptDescription } from './device-model.ts';
import type { InterruptSink } from './interrupt-sink.ts';
import { IrqSet, NO_TRIGGER } from './spec.ts';

export interface InterruptListener {
  unmasked(index: number, vector: number): void;
  armed(index: number): void;
}

export interface InterruptTableOptions {
  readonly interrupts: readonly InterruptDescription[];
  readonly loop: EventLoop;
  readonly listener: InterruptListener;
  readonly sink: InterruptSink;
}

interface Bound {
  readonly descriptor: number;
  readonly watch: Watch;
}

/** The vectors of one index. */
class Vectors {
  readonly triggers: Int32Array;
  readonly masked: Uint8Array;
  /** Eventfds by which the client masks and unmasks without a message (linux/vfio.h: [UN]MASK is user to kernel). */
  readonly maskers = new Map<number, Bound>();
  readonly unmaskers = new Map<number, Bound>();

  constructor(
    readonly index: number,
    readonly description: InterruptDescription,
  ) {
    this.triggers = new Int32Array(description.count).fill(NO_TRIGGER);
    this.masked = new Uint8Array(description.count);
  }
}

export class InterruptTable {
  private readonly vectors: readonly Vectors[];

  constructor(private readonly options: InterruptTableOptions) {
    this.vectors = options.interrupts.map((description, index) => new Vectors(index, description));
  }

  isArmed(index: number, vector: number): boolean {
    const vectors = this.vectors[index];
    return vectors !== undefined && vector < vectors.triggers.length && vectors.triggers[vector] !== NO_TRIGGER;
  }

  /** Signals the vector; an automasked one is masked from then on. False where none is set, or masked. */
  trigger(index: number, vector: number): boolean {
    if (!this.isArmed(index, vector)) return false;
    const vectors = this.vectors[index]!;
    if (vectors.masked[vector] !== 0) return false;
    // Before the signal, so that the client's unmasking cannot come first.
    if (vectors.description.automasked) vectors.masked[vector] = 1;
    return this.options.sink.signal(index, vector, vectors.triggers[vector]!);
  }

  /**
   * One DEVICE_SET_IRQS whose fields have been checked for their form. `bools[at]` is the first of `count` booleans where the
   * flags say so. `triggers` are what the client gave for eventfds, descriptors of ours or not; owns them. Returns an errno.
   */
  set(
    flags: number,
    index: number,
    start: number,
    count: number,
    bools: Uint8Array,
    at: number,
    triggers: readonly number[],
  ): number {
    let errno: number = Errno.EIO;
    try {
      errno = this.check(flags, index, start, count, triggers);
    } finally {
      if (errno !== Errno.ok) for (const trigger of triggers) this.drop(trigger);
    }
    if (errno !== Errno.ok) return errno;
    const vectors = this.vectors[index]!;
    if (flags & IrqSet.dataEventfd) {
      this.bind(vectors, flags, index, start, count, triggers);
    } else if (count === 0) {
      this.release(vectors);
      this.options.listener.armed(index);
    } else {
      for (let i = 0; i < count; i++) {
        if (flags & IrqSet.dataBool && bools[at + i] === 0) continue;
        this.act(flags, index, start + i);
      }
    }
    return Errno.ok;
  }

  /** Whether the client's own signals (mask and unmask) are heard; those that come meanwhile are heard later. */
  set hears(hears: boolean) {
    for (const { maskers, unmaskers } of this.vectors) {
      for (const bound of [maskers, unmaskers]) {
        for (const { watch } of bound.values()) watch.interest = hears ? PollEvents.in : 0;
      }
    }
  }

  /** Lets go every trigger; the client is gone. */
  close(): void {
    for (const vectors of this.vectors) this.release(vectors);
  }

  private check(flags: number, index: number, start: number, count: number, triggers: readonly number[]): number {
    const vectors = this.vectors[index];
    if (vectors === undefined) return Errno.EINVAL;
    const data = flags & IrqSet.dataMask;
    const action = flags & IrqSet.actionsMask;
    if ((flags & ~(IrqSet.dataMask | IrqSet.actionsMask)) !== 0) return Errno.EINVAL;
    if (!isSingleBit(data) || !isSingleBit(action)) return Errno.EINVAL;
    if (data !== IrqSet.dataEventfd && triggers.length > 0) return Errno.EINVAL;
    if (count === 0) {
      // Only "disable all of this index" has a count of zero, and it may name an index that has no vectors.
      const disables = data === IrqSet.dataNone && action === IrqSet.actionTrigger && start === 0;
      return disables ? Errno.ok : Errno.EINVAL;
    }
    if (start + count > vectors.description.count) return Errno.EINVAL;
    if (action !== IrqSet.actionTrigger && !vectors.description.maskable) return Errno.EINVAL;
    if (data !== IrqSet.dataEventfd) return Errno.ok;
    if (!vectors.description.eventfd) return Errno.EINVAL;
    // None at all takes the eventfds away.
    if (triggers.length !== 0 && triggers.length !== count) return Errno.EINVAL;
    return triggers.every(trigger => this.options.sink.accepts(trigger)) ? Errno.ok : Errno.EINVAL;
  }

  private bind(
    vectors: Vectors,
    flags: number,
    index: number,
    start: number,
    count: number,
    triggers: readonly number[],
  ): void {
    for (let i = 0; i < count; i++) {
      if (flags & IrqSet.actionTrigger) this.setTrigger(vectors, start + i, triggers[i] ?? NO_TRIGGER);
      else if (this.options.sink.holdsEventFds) this.watchOrClose(vectors, flags, index, start, i, triggers);
    }
    if (flags & IrqSet.actionTrigger) this.options.listener.armed(index);
  }

  /** Where one cannot be watched, those behind it are nobody's any more. */
  private watchOrClose(
    vectors: Vectors,
    flags: number,
    index: number,
    start: number,
    i: number,
    descriptors: readonly number[],
  ): void {
    const masks = (flags & IrqSet.actionMask) !== 0;
    const action = masks ? IrqSet.actionMask : IrqSet.actionUnmask;
    try {
      this.setBound(masks ? vectors.maskers : vectors.unmaskers, action, index, start + i, descriptors[i] ?? -1);
    } catch (error) {
      for (const descriptor of descriptors.slice(i + 1)) closeDescriptor(descriptor);
      throw error;
    }
  }

  private setTrigger(vectors: Vectors, vector: number, trigger: number): void {
    this.drop(vectors.triggers[vector]!);
    vectors.triggers[vector] = trigger;
    if (trigger !== NO_TRIGGER) return;
    vectors.masked[vector] = 0;
    this.options.sink.forget(vectors.index, vector);
  }

  private drop(trigger: number): void {
    if (trigger !== NO_TRIGGER) this.options.sink.release(trigger);
  }

  private setBound(bound: Map<number, Bound>, action: number, index: number, vector: number, descriptor: number): void {
    const old = bound.get(vector);
    if (old !== undefined) {
      old.watch.stop();
      closeDescriptor(old.descriptor);
      bound.delete(vector);
    }
    if (descriptor === -1) return;
    try {
      const watch = this.options.loop.watch(descriptor, PollEvents.in, () => {
        drainEventFd(descriptor);
        this.act(action, index, vector);
      });
      bound.set(vector, { descriptor, watch });
    } catch (error) {
      closeDescriptor(descriptor);
      throw error;
    }
  }

  private act(action: number, index: number, vector: number): void {
    const vectors = this.vectors[index]!;
    if (action & IrqSet.actionTrigger) {
      this.trigger(index, vector);
    } else if (action & IrqSet.actionMask) {
      vectors.masked[vector] = 1;
    } else if (vectors.masked[vector] !== 0) {
      vectors.masked[vector] = 0;
      this.options.listener.unmasked(index, vector);
    }
  }

  private release(vectors: Vectors): void {
    for (let vector = 0; vector < vectors.triggers.length; vector++) this.setTrigger(vectors, vector, NO_TRIGGER);
    for (const vector of [...vectors.maskers.keys()]) this.setBound(vectors.maskers, 0, 0, vector, -1);
    for (const vector of [...vectors.unmaskers.keys()]) this.setBound(vectors.unmaskers, 0, 0, vector, -1);
  }
}

function isSingleBit(value: number): boolean {
  return value !== 0 && (value & (value - 1)) === 0;
}
