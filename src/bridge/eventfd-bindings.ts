/** The eventfds that QEMU has given for its vectors (vfio-user, section "VFIO_USER_DEVICE_SET_IRQS"): they never leave this host. */
import { SystemError } from '../posix/errors.ts';
import { type EventLoop, PollEvents } from '../posix/event-loop.ts';
import { drainEventFd, signalEventFd } from '../posix/eventfd.ts';
import type { Watch } from '../posix/loop-watch.ts';
import { closeDescriptor } from '../posix/socket.ts';
import { IrqSet } from '../vfio-user/spec.ts';
import { INTERRUPT_INDEXES, MAX_VECTORS } from './limits.ts';

const TRIGGER = IrqSet.actionTrigger;
/** Slots of one action: every vector of every index. */
const SLOTS = INTERRUPT_INDEXES * MAX_VECTORS;
const ACTIONS = [IrqSet.actionTrigger, IrqSet.actionMask, IrqSet.actionUnmask] as const;

interface Bound {
  readonly descriptor: number;
  readonly watch: Watch | undefined;
}

/** What one DEVICE_SET_IRQS changes: nothing of it is final until it is known whether the server agrees. */
export interface Change {
  /** What was there before the new ones, which are in place. */
  readonly replaced: ReadonlyMap<number, Bound | undefined>;
  /** These still have theirs: until the server has answered it may signal them. */
  readonly emptied: readonly number[];
}

export const NO_CHANGE: Change = { replaced: new Map(), emptied: [] };

export interface EventFdBindingsOptions {
  readonly loop: EventLoop;
  /** QEMU has signalled an eventfd that masks or unmasks. False: cannot be passed on now; `retry` is called when it can. */
  readonly acted: (action: number, index: number, vector: number) => boolean;
}

export class EventFdBindings {
  private readonly bound = new Map<number, Bound>();
  private readonly postponed = new Set<number>();

  constructor(private readonly options: EventFdBindingsOptions) {}

  /** Open eventfds. */
  get size(): number {
    return this.bound.size;
  }

  has(index: number, vector: number): boolean {
    return index < INTERRUPT_INDEXES && vector < MAX_VECTORS && this.bound.has(slotOf(TRIGGER, index, vector));
  }

  /** False where no eventfd is set. Throws a SystemError. */
  fire(index: number, vector: number): boolean {
    if (index >= INTERRUPT_INDEXES || vector >= MAX_VECTORS) return false;
    const bound = this.bound.get(slotOf(TRIGGER, index, vector));
    if (bound === undefined) return false;
    signalEventFd(bound.descriptor);
    return true;
  }

  /**
   * From `start` on, `count` vectors get the descriptors at once, or, where there are none, lose theirs with `confirm`. In range,
   * and eventfds. Owns them. Throws a SystemError where one cannot be watched; nothing has changed then.
   */
  bind(action: number, index: number, start: number, count: number, descriptors: readonly number[]): Change {
    const replaced = new Map<number, Bound | undefined>();
    const emptied: number[] = [];
    for (let i = 0; i < count; i++) {
      const slot = slotOf(action, index, start + i);
      const descriptor = descriptors[i];
      if (descriptor === undefined) {
        if (this.bound.has(slot)) emptied.push(slot);
        continue;
      }
      replaced.set(slot, this.take(slot));
      try {
        this.put(slot, descriptor);
      } catch (error) {
        for (const rest of descriptors.slice(i + 1)) closeDescriptor(rest);
        this.undo({ replaced, emptied });
        throw error;
      }
    }
    return { replaced, emptied };
  }

  /** All of an index go with `confirm`. */
  clear(index: number): Change {
    const isOfIndex = (slot: number) => Math.floor((slot % SLOTS) / MAX_VECTORS) === index;
    return { replaced: new Map(), emptied: [...this.bound.keys()].filter(isOfIndex) };
  }

  /** What was replaced or emptied is not needed any more. */
  confirm({ replaced, emptied }: Change): void {
    for (const old of replaced.values()) if (old !== undefined) closeDescriptor(old.descriptor);
    for (const slot of emptied) {
      const bound = this.take(slot);
      if (bound !== undefined) closeDescriptor(bound.descriptor);
    }
  }

  /** As it was before. */
  undo({ replaced }: Change): void {
    for (const [slot, old] of replaced) {
      const current = this.take(slot);
      if (current !== undefined) closeDescriptor(current.descriptor);
      if (old === undefined) continue;
      try {
        this.put(slot, old.descriptor);
      } catch (error) {
        // It could be watched a moment ago, so the system is at its limits: QEMU's own mask message is left to it.
        if (!(error instanceof SystemError)) throw error;
      }
    }
  }

  /** Passes on what could not be before. */
  retry(): void {
    if (this.postponed.size === 0) return;
    const slots = [...this.postponed];
    this.postponed.clear();
    for (const slot of slots) {
      const watch = this.bound.get(slot)?.watch;
      if (watch !== undefined) watch.interest = PollEvents.in;
    }
  }

  close(): void {
    for (const slot of [...this.bound.keys()]) closeDescriptor(this.take(slot)!.descriptor);
  }

  private put(slot: number, descriptor: number): void {
    try {
      const watch = slot < SLOTS ? undefined : this.watch(slot, descriptor);
      this.bound.set(slot, { descriptor, watch });
    } catch (error) {
      closeDescriptor(descriptor);
      throw error;
    }
  }

  private take(slot: number): Bound | undefined {
    const bound = this.bound.get(slot);
    if (bound === undefined) return undefined;
    bound.watch?.stop();
    this.bound.delete(slot);
    this.postponed.delete(slot);
    return bound;
  }

  private watch(slot: number, descriptor: number): Watch {
    const action = ACTIONS[Math.floor(slot / SLOTS)]!;
    const index = Math.floor((slot % SLOTS) / MAX_VECTORS);
    const vector = slot % MAX_VECTORS;
    const watch = this.options.loop.watch(descriptor, PollEvents.in, () => {
      if (this.options.acted(action, index, vector)) {
        drainEventFd(descriptor);
        return;
      }
      watch.interest = 0;
      this.postponed.add(slot);
    });
    return watch;
  }
}

/** Triggers come first. */
function slotOf(action: number, index: number, vector: number): number {
  return ACTIONS.indexOf(action as (typeof ACTIONS)[number]) * SLOTS + index * MAX_VECTORS + vector;
}
