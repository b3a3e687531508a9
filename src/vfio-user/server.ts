/**
 * A vfio-user server: a unix socket, one client at a time, and the device model that the clients see. Streams that come another way
 * are handed to `adopt`.
 */
import { hasHungUp } from '../posix/epoll.ts';
import { SystemError } from '../posix/errors.ts';
import { type EventLoop, PollEvents } from '../posix/event-loop.ts';
import { GivenListener, type GivenSocket } from '../posix/given-socket.ts';
import type { Watch } from '../posix/loop-watch.ts';
import { acceptUnix, closeDescriptor, UnixListener } from '../posix/socket.ts';
import type { Trace } from '../trace/trace.ts';
import type { Connection } from './connection.ts';
import type { DeviceModel } from './device-model.ts';
import { defaultLimits, type Limits } from './limits.ts';
import { checkOffers } from './region-offers.ts';
import { ServedClient } from './served-client.ts';
import { ServerCounters, type ServerStatistics } from './server-counters.ts';

export type { ServerStatistics } from './server-counters.ts';

export interface VfioUserServerOptions {
  /** Where the socket is made, mode 0600; or one that this process was given, which the server owns from here on. */
  readonly path: string | GivenSocket;
  /** Who speaks in the trace. */
  readonly name: string;
  readonly model: DeviceModel;
  readonly loop: EventLoop;
  readonly trace: Trace;
  readonly limits?: Partial<Limits>;
  /** The client of a given connection is gone, for this reason: no other one can come. */
  readonly abandoned?: (reason: string) => void;
}

/** Somebody who wants to be the client. */
interface Newcomer {
  readonly fd: number;
  readonly carriesDescriptors: boolean;
}

export class VfioUserServer {
  private readonly limits: Limits;
  private readonly counters = new ServerCounters();
  /** Both are missing where the one client was given. */
  private readonly listener: UnixListener | GivenListener | undefined;
  private readonly watch: Watch | undefined;
  private client: ServedClient | undefined;
  private isClosed = false;
  private isPaused = false;
  /** Told of each access to a region. */
  private accessed: (() => void) | undefined;
  /** A client that came when there was no looking after the one before it. */
  private postponed: Newcomer | undefined;
  /** The last failure to accept, so that one that lasts is told once. */
  private acceptFailure = '';

  /** Listens from here on. Throws an Error where the path cannot be listened on, or where the model offers what cannot be. */
  constructor(private readonly options: VfioUserServerOptions) {
    this.limits = { ...defaultLimits, ...options.limits };
    checkOffers(options.model.regions);
    const { path, loop } = options;
    if (typeof path !== 'string' && !path.isListening) {
      // When whoever made this server hears what it says.
      this.postponed = { fd: path.fd, carriesDescriptors: true };
      loop.push(() => this.takePostponed());
      return;
    }
    const listener = typeof path === 'string' ? new UnixListener(path) : new GivenListener(path.fd);
    this.listener = listener;
    try {
      this.watch = loop.watch(listener.fd, PollEvents.in, () => this.accept(listener.fd));
    } catch (error) {
      listener.close();
      throw error;
    }
  }

  /** A client has got through the handshake and is still there. */
  get connected(): boolean {
    return this.client?.negotiated === true;
  }

  get statistics(): ServerStatistics {
    return this.counters.snapshot(this.client);
  }

  /**
   * Serves no message and accepts nobody until `resume`; whatever comes meanwhile waits, the end of a client too. Also from within what
   * `resume` causes.
   */
  pause(): void {
    if (this.isPaused || this.isClosed) return;
    this.isPaused = true;
    this.listen(0);
    this.client?.pause();
  }

  /** Serves at once what waits, then goes on; `accessed` is told of each access to a region when it is answered, until the next `pause`. */
  resume(accessed?: () => void): void {
    if (this.isClosed) return;
    this.accessed = accessed;
    this.isPaused = false;
    this.client?.resume(accessed);
    this.takePostponed();
    if (!this.isPaused && !this.isClosed) this.listen(PollEvents.in);
  }

  /**
   * Takes a client over a connected stream that carries no descriptors, which speaks the messages profile (see spec.ts, `Interrupt`).
   * Owns `fd` from here on. False, and `fd` closed: another client is there, or the server is closed. While paused the stream waits
   * as one that was not accepted yet: whether the one before it has gone is seen when the server goes on. One that waits and has
   * hung up makes room for the next.
   */
  adopt(fd: number): boolean {
    const newcomer = { fd, carriesDescriptors: false };
    if (!this.isPaused || this.isClosed) return this.take(newcomer);
    if (this.postponed !== undefined) {
      if (!hasHungUp(this.postponed.fd)) return this.refuse(newcomer);
      closeDescriptor(this.postponed.fd);
    }
    this.postponed = newcomer;
    return true;
  }

  /** Ends the connection, stops listening and removes the socket file, unless it is a successor's by now. May be called again. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.watch?.stop();
    if (this.postponed !== undefined) closeDescriptor(this.postponed.fd);
    this.client?.connection.close('server closed');
    const left = this.listener?.close();
    if (left !== undefined) this.options.trace.note('server.socketLeft', this.options.name, { why: left.message });
  }

  private listen(interest: number): void {
    if (this.watch !== undefined) this.watch.interest = interest;
  }

  private takePostponed(): void {
    const { postponed } = this;
    if (postponed === undefined || this.isPaused || this.isClosed) return;
    this.postponed = undefined;
    this.take(postponed);
  }

  private accept(listener: number): void {
    for (let i = 0; i < this.limits.maxAcceptsPerTurn && !this.isClosed && !this.isPaused; i++) {
      const fd = this.acceptOne(listener);
      if (fd < 0) return;
      this.take({ fd, carriesDescriptors: true });
    }
  }

  private acceptOne(listener: number): number {
    const { trace, name } = this.options;
    try {
      const fd = acceptUnix(listener);
      this.acceptFailure = '';
      return fd;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      // For lack of descriptors or memory; the listener stays ready, so the next round tries again.
      if (error.code !== this.acceptFailure) trace.note('client.not-accepted', name, { code: error.code });
      this.acceptFailure = error.code;
      return -1;
    }
  }

  /** False: it was turned away. */
  private take(newcomer: Newcomer): boolean {
    const { fd, carriesDescriptors } = newcomer;
    const { model, loop, trace, name } = this.options;
    // A client that has hung up may only not have been noticed yet: its successor must not pay for that.
    if (this.client !== undefined && this.isStillThere(this.client.connection)) {
      // What was served just now was the last for a while: whether the other one has hung up is still to be seen.
      if (this.isPaused) {
        this.postponed = newcomer;
        return true;
      }
      return this.refuse(newcomer);
    }
    // The end of the other one may have ended us.
    if (this.isClosed) {
      closeDescriptor(fd);
      return false;
    }
    this.counters.clients++;
    this.client = new ServedClient(fd, {
      name,
      model,
      loop,
      trace,
      limits: this.limits,
      counters: this.counters,
      carriesDescriptors,
      ended: reason => {
        this.client = undefined;
        if (this.listener === undefined && !this.isClosed) this.options.abandoned?.(reason);
      },
    });
    if (this.accessed !== undefined) this.client.resume(this.accessed);
    return true;
  }

  /** One that has gone is served to the end of what it left behind, which is as much as a socket holds at most. */
  private isStillThere(connection: Connection): boolean {
    for (;;) {
      const { bytesReceived } = connection;
      if (!connection.pump(this.limits.maxReceivesPerCheck)) return false;
      if (connection.bytesReceived === bytesReceived || !connection.isDeserted) return true;
    }
  }

  private refuse({ fd }: Newcomer): boolean {
    this.options.trace.note('client.refused', this.options.name, { reason: 'another client is connected' });
    closeDescriptor(fd);
    return false;
  }
}
