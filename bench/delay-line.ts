/** A TCP proxy that is as slow as a long line, and as broad as the machine. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class DelayLine {
  private readonly sockets = new Set<Socket>();

  /** `milliseconds`: each way. */
  static async start(port: number, milliseconds: number): Promise<DelayLine> {
    const listener = createServer({ noDelay: true });
    const line = new DelayLine(listener);
    listener.on('connection', client => {
      const server = connect({ host: '127.0.0.1', port, noDelay: true });
      line.pipe(client, server, milliseconds);
      line.pipe(server, client, milliseconds);
    });
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    return line;
  }

  private constructor(private readonly listener: Server) {}

  get port(): number {
    return (this.listener.address() as AddressInfo).port;
  }

  close(): void {
    this.listener.close();
    for (const socket of this.sockets) socket.destroy();
  }

  /** Timers of the same length fire in order. */
  private pipe(from: Socket, to: Socket, milliseconds: number): void {
    this.sockets.add(from);
    from.on('data', chunk => setTimeout(() => to.write(chunk), milliseconds));
    from.on('error', () => {});
    from.on('close', () => {
      this.sockets.delete(from);
      to.destroy();
    });
  }
}
