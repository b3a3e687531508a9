/** The socket of one function, where QEMU knocks: one QEMU at a time, and a stream towards the server for each. */
import { SystemError } from '../posix/errors.ts';
import { type EventLoop, PollEvents } from '../posix/event-loop.ts';
import type { Watch } from '../posix/loop-watch.ts';
import { acceptUnix, closeDescriptor, socketPair, UnixListener } from '../posix/socket.ts';
import type { WindowPool } from '../posix/window-pool.ts';
import type { Trace } from '../trace/trace.ts';
import { defaultLimits, type Limits } from '../vfio-user/limits.ts';
import { type BridgedFunctionStatistics, RelayCounters } from './counters.ts';
import { GuestRegions } from './guest-regions.ts';
import { Relay } from './relay.ts';

export interface FunctionDoorOptions {
  /** Where the socket is made, mode 0600. */
  readonly path: string;
  readonly name: string;
  readonly loop: EventLoop;
  readonly trace: Trace;
  readonly pool: WindowPool;
  readonly limits?: Partial<Limits>;
  /** A QEMU is there: its stream towards the server, which is the callee's. */
  readonly offer: (stream: number) => void;
  /** The QEMU that was offered last has gone. */
  readonly gone: () => void;
}

export class FunctionDoor {
  private readonly limits: Limits;
  private readonly counters = new RelayCounters();
  private readonly memory: GuestRegions;
  private readonly listener: UnixListener;
  private readonly watch: Watch;
  private relay: Relay | undefined;
  private isClosed = false;
  /** The last failure to take a client, so that one that lasts is told once. */
  private failure = '';

  /** Listens from here on. Throws an Error where the path cannot be listened on. */
  constructor(private readonly options: FunctionDoorOptions) {
    const { name, trace, pool, path, loop } = options;
    this.limits = { ...defaultLimits, ...options.limits };
    this.memory = new GuestRegions({ name, trace, pool });
    this.listener = new UnixListener(path);
    try {
      this.watch = loop.watch(this.listener.fd, PollEvents.in, () => this.accept());
    } catch (error) {
      this.listener.close();
      throw error;
    }
  }

  statistics(): BridgedFunctionStatistics {
    const { relay, memory, counters } = this;
    const current = relay && { fromQemu: relay.qemu.bytesReceived, fromServer: relay.server.bytesReceived };
    return counters.snapshot(memory.statistics, current);
  }

  /** Ends the connection, stops listening and removes the socket file. May be called again. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.watch.stop();
    this.relay?.end('the bridge stops');
    this.memory.dispose();
    this.listener.close();
  }

  private accept(): void {
    for (let i = 0; i < this.limits.maxAcceptsPerTurn && !this.isClosed; i++) {
      try {
        const fd = acceptUnix(this.listener.fd);
        if (fd < 0) return;
        this.take(fd);
        this.failure = '';
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        // For lack of descriptors or memory; the listener stays ready, so the next round tries again.
        if (error.code !== this.failure) this.note('client.not-accepted', { code: error.code });
        this.failure = error.code;
        return;
      }
    }
  }

  private take(fd: number): void {
    const { name, loop, trace, offer, gone } = this.options;
    // One that has hung up may only not have been noticed yet: its successor must not pay for that.
    if (this.relay?.qemu.pump(this.limits.maxReceivesPerCheck)) {
      this.note('client.refused', { reason: 'another client is connected' });
      closeDescriptor(fd);
      return;
    }
    let pair: readonly [number, number];
    try {
      pair = socketPair();
    } catch (error) {
      closeDescriptor(fd);
      throw error;
    }
    try {
      this.relay = new Relay(fd, pair[0], {
        name,
        loop,
        trace,
        limits: this.limits,
        memory: this.memory,
        counters: this.counters,
        ended: () => {
          this.relay = undefined;
          gone();
        },
      });
    } catch (error) {
      closeDescriptor(pair[1]);
      throw error;
    }
    this.counters.clients++;
    offer(pair[1]);
  }

  private note(kind: string, detail: Readonly<Record<string, string>>): void {
    this.options.trace.note(kind, this.options.name, detail);
  }
}
