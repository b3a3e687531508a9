/** A TCP proxy that does to connections what networks do. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export interface Endpoint {
  readonly host?: string;
  readonly port: number;
}

export type Direction = 'to-server' | 'to-client';

interface Awaited {
  readonly bytes: number;
  readonly direction: Direction;
  spared: number;
  readonly cut: () => void;
}

interface Forwarded {
  readonly client: Socket;
  readonly server: Socket;
  readonly timers: Set<NodeJS.Timeout>;
}

export class CuttingProxy {
  /** Connections taken since the start, refused ones not counted. */
  accepted = 0;
  /** Connections refused since the start. */
  refused = 0;
  private refusing = false;
  private awaited: Awaited | undefined;
  private silent = false;
  private toClient = 0;
  private toServer = 0;
  private readonly forwarded = new Set<Forwarded>();

  /** `target`: where connections are forwarded to. */
  static async start(target: Endpoint): Promise<CuttingProxy> {
    const listener = createServer({ noDelay: true });
    const proxy = new CuttingProxy(listener, target);
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    return proxy;
  }

  private constructor(
    private readonly listener: Server,
    private readonly target: Endpoint,
  ) {
    listener.on('connection', client => this.forward(client));
  }

  get port(): number {
    return (this.listener.address() as AddressInfo).port;
  }

  get connections(): number {
    return this.forwarded.size;
  }

  /** Resets every connection, towards both sides; bytes on their way are lost. */
  cut(): void {
    for (const one of [...this.forwarded]) this.end(one);
  }

  /**
   * Does so in the middle of a piece of at least so many bytes, after `spared` others of this length have passed in this direction;
   * resolves then. One at a time.
   */
  cutInside(bytes: number, direction: Direction, spared = 0): Promise<void> {
    return new Promise(resolve => {
      this.awaited = { bytes, direction, spared, cut: resolve };
    });
  }

  /** Resets new connections until `allow`. */
  refuse(): void {
    this.refusing = true;
  }

  allow(): void {
    this.refusing = false;
  }

  /** Swallows every byte of every connection, present and new, without closing any; `false`: no more, what was swallowed stays lost. */
  swallow(on = true): void {
    this.silent = on;
  }

  /** Adds latency to what is sent from now on, towards the server or the client, or both. */
  delay(milliseconds: number, direction: Direction | 'both' = 'both'): void {
    if (direction !== 'to-client') this.toServer = milliseconds;
    if (direction !== 'to-server') this.toClient = milliseconds;
  }

  async close(): Promise<void> {
    const closed = once(this.listener, 'close');
    this.listener.close();
    this.cut();
    await closed;
  }

  private forward(client: Socket): void {
    client.on('error', () => {});
    if (this.refusing) {
      this.refused++;
      client.resetAndDestroy();
      return;
    }
    this.accepted++;
    const server = connect({ host: this.target.host ?? '127.0.0.1', port: this.target.port, noDelay: true });
    server.on('error', () => {});
    const one: Forwarded = { client, server, timers: new Set() };
    this.forwarded.add(one);
    this.pipe(one, 'to-server', client, server, () => this.toServer);
    this.pipe(one, 'to-client', server, client, () => this.toClient);
    client.once('close', () => this.end(one));
    server.once('close', () => this.end(one));
  }

  private pipe(one: Forwarded, direction: Direction, from: Socket, to: Socket, latency: () => number): void {
    // Timers of different lengths may change places; what they are for may not.
    const queue: (() => void)[] = [];
    let due = 0;
    const later = (action: () => void) => {
      due = Math.max(due, performance.now() + latency());
      const wait = due - performance.now();
      if (wait <= 0 && queue.length === 0) {
        action();
        return;
      }
      queue.push(action);
      const timer = setTimeout(() => {
        one.timers.delete(timer);
        queue.shift()!();
      }, wait);
      one.timers.add(timer);
    };
    from.on('data', chunk => {
      if (this.silent || this.cutIn(chunk, direction, to)) return;
      later(() => {
        if (to.write(chunk)) return;
        from.pause();
        to.once('drain', () => from.resume());
      });
    });
    from.on('end', () => later(() => to.end()));
  }

  /** Whether this is what was awaited; then half of it still goes out. */
  private cutIn(chunk: Buffer, direction: Direction, to: Socket): boolean {
    const { awaited } = this;
    if (awaited?.direction !== direction || chunk.length < awaited.bytes) return false;
    if (awaited.spared-- > 0) return false;
    this.awaited = undefined;
    // A reset may overtake it: either is a break in the middle.
    to.write(chunk.subarray(0, chunk.length >> 1));
    this.cut();
    awaited.cut();
    return true;
  }

  private end(one: Forwarded): void {
    if (!this.forwarded.delete(one)) return;
    for (const timer of one.timers) clearTimeout(timer);
    for (const socket of [one.client, one.server]) {
      // A socket that is still connecting can't be reset.
      if (socket.connecting) socket.destroy();
      else socket.resetAndDestroy();
    }
  }
}
