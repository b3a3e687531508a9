/** One place at which a server listens: an address, with or without TLS, or a unix socket. */
import { lookup } from 'node:dns/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { UnixListener } from '../posix/socket.ts';
import {
  AccessError,
  type AccessRules,
  isLoopback,
  isPath,
  type ListenPlace,
  unixUrl,
  webSocketUrl,
} from './access.ts';
import { TLS_HANDSHAKE_MILLISECONDS } from './limits.ts';

/** PEM. */
export interface TlsIdentity {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
}

/** Answers a plain request by the rules of the place at which it came. */
export type PlainHandler = (request: IncomingMessage, response: ServerResponse, rules: AccessRules) => void;

export interface ListenerOptions {
  readonly place: ListenPlace;
  /** For addresses; unix sockets have the rights of their file. */
  readonly token: string | undefined;
  readonly origins: readonly string[];
  readonly tls?: TlsIdentity | undefined;
  readonly maxConnections: number;
  readonly onRequest: PlainHandler;
  readonly onUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer, rules: AccessRules) => void;
}

export class Listener {
  private readonly server: Server;
  private unix: UnixListener | undefined;

  /**
   * Rejects with an `AccessError` where a token is missing or the certificate is none, with the system's error where the place is not to
   * be had.
   */
  static async open(options: ListenerOptions): Promise<Listener> {
    const { place } = options;
    const address = isPath(place) ? undefined : (await lookup(place.host)).address;
    if (address !== undefined && !isLoopback(address) && options.token === undefined) {
      throw new AccessError(`${address} can be reached from other machines: a token is needed`);
    }
    const listener = new Listener(options);
    await listener.listen(address);
    return listener;
  }

  /** `ws://HOST:PORT`, `wss://HOST:PORT` or `ws+unix:PATH:/`, without the token. */
  url = '';
  readonly rules: AccessRules;

  private constructor(private readonly options: ListenerOptions) {
    const { place, origins } = options;
    this.rules = isPath(place) ? { token: undefined, origins, isFile: true } : { token: options.token, origins };
    this.server = this.makeServer();
    this.server.maxConnections = options.maxConnections;
    this.server.on('request', (request, response) => options.onRequest(request, response, this.rules));
    this.server.on('upgrade', (request, socket, head) => options.onUpgrade(request, socket, head, this.rules));
  }

  /** Takes nobody new; resolves when the last connection has ended. */
  close(): Promise<void> {
    if (this.server.listening) this.unix?.removeFile();
    const closed = new Promise<void>(resolve => this.server.close(() => resolve()));
    this.server.closeIdleConnections();
    return closed;
  }

  /** Ends what has not become a WebSocket. */
  dropConnections(): void {
    this.server.closeAllConnections();
  }

  private makeServer(): Server {
    const { tls, place } = this.options;
    if (tls === undefined || isPath(place)) return createServer();
    try {
      return createTlsServer({ ...tls, minVersion: 'TLSv1.2', handshakeTimeout: TLS_HANDSHAKE_MILLISECONDS });
    } catch (error) {
      throw new AccessError(`the certificate and the key cannot be used: ${(error as Error).message}`);
    }
  }

  private async listen(address: string | undefined): Promise<void> {
    const { place, tls } = this.options;
    const where = isPath(place) ? { fd: this.openUnix(place.path) } : { host: address, port: place.port };
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(where, () => {
        this.server.off('error', reject);
        resolve();
      });
    });
    if (isPath(place)) {
      this.url = unixUrl(place.path);
    } else {
      const bound = this.server.address() as AddressInfo;
      this.url = webSocketUrl(bound.address, bound.port, tls === undefined ? 'ws' : 'wss');
    }
  }

  /** Made here, because Node would leave the file to everybody for a moment. */
  private openUnix(path: string): number {
    this.unix = new UnixListener(path);
    return this.unix.fd;
  }
}

/** Answers a handshake with what is wrong, in words. */
export function refuse(socket: Duplex, status: number, reason: string): void {
  const body = `${reason}\n`;
  const headers = ['Connection: close', 'Content-Type: text/plain', `Content-Length: ${Buffer.byteLength(body)}`];
  socket.once('finish', () => socket.destroy());
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${headers.join('\r\n')}\r\n\r\n${body}`);
}
