/** What a server has given a fuzzed client: memory and eventfds, which it uses as it likes. */
import { ftruncateSync, writeSync } from 'node:fs';
import { drainEventFd, signalEventFd } from '../../src/posix/eventfd.ts';
import { fcntl } from '../../src/posix/libc.ts';
import { writeAt } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { type MappedWindow, WindowPool } from '../../src/posix/window-pool.ts';
import { Command } from '../../src/vfio-user/spec.ts';
import { OFFERED_FILE_BYTES } from './offers.ts';

export const OFFERED_USES = ['signal', 'fill', 'drain', 'block', 'map', 'write', 'shrink', 'close', 'again'] as const;
export type OfferedUse = (typeof OFFERED_USES)[number];

/** Descriptors kept; the oldest goes. */
const MEMORIES = 4;
const EVENTFDS = 48;
const F_SETFL = 4;
const ALMOST_FULL = new Uint8Array(BigUint64Array.of(0xfffffffffffffffen).buffer);

const pool = new WindowPool();

export class Offered {
  private readonly memories: number[] = [];
  private readonly eventfds: number[] = [];
  /** Those of which this side has made a write wait. */
  private readonly blocking = new Set<number>();
  private window: MappedWindow | undefined;

  /** Descriptors that came with the answer to a command; they are this one's from here on. */
  take(command: number, descriptors: readonly number[]): void {
    const isMemory = command === Command.deviceGetRegionInfo;
    const kept = isMemory ? this.memories : this.eventfds;
    kept.push(...descriptors);
    for (const old of kept.splice(0, Math.max(0, kept.length - (isMemory ? MEMORIES : EVENTFDS)))) this.drop(old);
  }

  use(how: OfferedUse, number: number, at: number, bytes: Uint8Array): void {
    const eventfd = this.eventfds[number % this.eventfds.length];
    const memory = this.memories[number % this.memories.length];
    if (memory !== undefined) this.useMemory(how, memory, at, bytes);
    if (eventfd !== undefined) this.useEventFd(how, eventfd);
  }

  /** Unmaps what is mapped, and hands over what is still open. */
  leave(): number[] {
    if (this.window !== undefined) pool.release(this.window);
    this.window = undefined;
    return [...this.memories.splice(0), ...this.eventfds.splice(0)];
  }

  private useMemory(how: OfferedUse, fd: number, at: number, bytes: Uint8Array): void {
    if (how === 'map' && this.window === undefined) {
      this.window = pool.acquire();
      this.window.mapFile(0, OFFERED_FILE_BYTES, fd, 0, true);
    } else if (how === 'write') {
      if (this.window === undefined) writeAt(fd, bytes, 0, bytes.length, at);
      else this.window.bytes.set(bytes, at);
    } else if (how === 'shrink') {
      // The device has sealed it, or an access to what is gone would end the server.
      orRefused('EPERM', () => ftruncateSync(fd, at));
    }
  }

  private useEventFd(how: OfferedUse, fd: number): void {
    switch (how) {
      case 'signal':
      case 'again':
        signalEventFd(fd);
        return;
      case 'fill':
        if (!this.blocking.has(fd)) orRefused('EAGAIN', () => writeSync(fd, ALMOST_FULL));
        return;
      case 'drain':
        drainEventFd(fd);
        return;
      case 'block':
        // The file is the server's too: so may it be made to wait?
        fcntl(fd, F_SETFL, 0);
        this.blocking.add(fd);
        return;
      case 'close':
        this.eventfds.splice(this.eventfds.indexOf(fd), 1);
        this.drop(fd);
        return;
    }
  }

  private drop(fd: number): void {
    this.blocking.delete(fd);
    closeDescriptor(fd);
  }
}

function orRefused(code: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== code) throw error;
  }
}
