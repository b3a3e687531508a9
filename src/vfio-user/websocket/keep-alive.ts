/** Finds out that a peer is gone without a word, or does not read. */
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import type { LinkLimits } from './limits.ts';

export class KeepAlive {
  /** Told before the connection is cut. */
  onDead: (reason: string) => void = () => {};
  private readonly timer: NodeJS.Timeout;
  private readonly transport: { readonly bytesRead?: number };
  private bytesRead = 0;
  private silent = 0;

  constructor(
    private readonly socket: WebSocket,
    transport: Duplex,
    private readonly limits: Pick<LinkLimits, 'keepAliveMilliseconds' | 'silentIntervals'>,
    private readonly maxBacklog: number,
  ) {
    this.transport = transport as { readonly bytesRead?: number };
    this.timer = setInterval(() => this.tick(), limits.keepAliveMilliseconds);
    this.timer.unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private tick(): void {
    const { socket, limits } = this;
    // Bytes, not frames: a large message may take a slow line many intervals.
    const bytesRead = this.transport.bytesRead ?? 0;
    // Who does not read at the moment cannot hear it either.
    this.silent = bytesRead === this.bytesRead && !socket.isPaused ? this.silent + 1 : 0;
    this.bytesRead = bytesRead;
    if (this.silent >= limits.silentIntervals) {
      this.cut(`silent for ${this.silent * limits.keepAliveMilliseconds} ms`);
    } else if (socket.bufferedAmount > this.maxBacklog) {
      this.cut('the peer does not read');
    } else if (socket.readyState === socket.OPEN) {
      socket.ping();
    }
  }

  private cut(reason: string): void {
    this.stop();
    this.onDead(reason);
    this.socket.terminate();
  }
}
