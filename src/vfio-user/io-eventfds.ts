/** Eventfds by which a client's hypervisor writes to a region without a message (vfio-user, section "VFIO_USER_DEVICE_GET_REGION_IO_FDS"). */
import { SystemError } from '../posix/errors.ts';
import { type EventLoop, PollEvents } from '../posix/event-loop.ts';
import { createEventFd, drainEventFd } from '../posix/eventfd.ts';
import type { Watch } from '../posix/loop-watch.ts';
import { closeDescriptor } from '../posix/socket.ts';
import type { Trace } from '../trace/trace.ts';
import { type DeviceModel, Errno, type IoEventFd } from './device-model.ts';

/** What is written where accesses of any size count. */
const ANY_SIZE_BYTES = 4;
const LONGEST_WRITE_BYTES = 8;

export interface IoEventFdsOptions {
  readonly model: DeviceModel;
  readonly loop: EventLoop;
  readonly trace: Trace;
  readonly name: string;
}

interface Bound {
  readonly descriptor: number;
  readonly watch: Watch;
}

export class IoEventFds {
  /** Told of each write. */
  accessed: (() => void) | undefined;
  private readonly regions = new Map<number, Bound[]>();
  private readonly data = new Uint8Array(LONGEST_WRITE_BYTES);
  private readonly view = new DataView(this.data.buffer);
  private isHearing = true;

  constructor(private readonly options: IoEventFdsOptions) {}

  /** The eventfds of a region's first `count` ones; the same at every call. Throws a SystemError (EMFILE, ENOMEM). */
  open(region: number, count: number): readonly number[] {
    const bound = this.regions.get(region) ?? [];
    this.regions.set(region, bound);
    const offered = this.options.model.regions[region]?.ioEventFds ?? [];
    while (bound.length < count) bound.push(this.bind(region, offered[bound.length]!));
    return bound.slice(0, count).map(({ descriptor }) => descriptor);
  }

  /** Whether writes are heard; those that come meanwhile are heard later. */
  set hears(hears: boolean) {
    this.isHearing = hears;
    for (const bound of this.regions.values()) {
      for (const { watch } of bound) watch.interest = hears ? PollEvents.in : 0;
    }
  }

  /** The client is gone. May be called again. */
  close(): void {
    for (const bound of this.regions.values()) {
      for (const { watch, descriptor } of bound) {
        watch.stop();
        closeDescriptor(descriptor);
      }
    }
    this.regions.clear();
  }

  private bind(region: number, offered: IoEventFd): Bound {
    const descriptor = createEventFd();
    try {
      const watch = this.options.loop.watch(descriptor, this.isHearing ? PollEvents.in : 0, () => {
        // However often it was signalled: a doorbell that was rung twice before anybody came is one that was rung.
        if (drainEventFd(descriptor) > 0) this.write(region, offered);
      });
      return { descriptor, watch };
    } catch (error) {
      closeDescriptor(descriptor);
      throw error;
    }
  }

  private write(region: number, { offset, size, value = 0n }: IoEventFd): void {
    const { model, trace, name } = this.options;
    this.view.setBigUint64(0, value, true);
    const length = size === 0 ? Math.min(ANY_SIZE_BYTES, model.regions[region]!.size - offset) : size;
    const errno = model.write(region, offset, this.data, 0, length);
    if (errno !== Errno.ok) trace.note('message.refused', name, { command: 'ioeventfd', region, offset, errno });
    this.accessed?.();
  }
}

/** The errno with which a client hears that descriptors or memory have run out. */
export function errnoOf(error: unknown): number {
  if (error instanceof SystemError) return Errno.ENOMEM;
  throw error;
}
