/** The remote API: a WebSocket server that answers requests about machines and tells their events. */
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type Server, STATUS_CODES } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { MachineEvent } from '../machine/operations-command.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import { AccessError, type AccessRules, DEFAULT_HOST, isLoopback, refusal, webSocketUrl } from './access.ts';
import { defaultLimits, MAX_REQUEST_BYTES, type RemoteLimits } from './limits.ts';
import type { MachinePort } from './machine-port.ts';
import { FINDING_EVENT, SUBPROTOCOL } from './protocol.ts';
import { RemoteConnection, type RemoteCounters } from './remote-connection.ts';
import type { Machines } from './requests.ts';
import type { SubscribedEvent } from './subscriptions.ts';

/** The server stops; clients see it in the close frame. */
const GOING_AWAY = 1001;

/** Connections that are not clients yet. */
const HANDSHAKES_AT_ONCE = 16;

export interface RemoteServerOptions {
  /** By name; each is there until the server has closed. */
  readonly machines: Machines;
  /** Default: 127.0.0.1. */
  readonly host?: string;
  /** Default: any free one. */
  readonly port?: number;
  /** Must be given where `host` is not a loopback address; needed by every client where given. */
  readonly token?: string | undefined;
  /** Origins whose pages may connect, besides the server's own. */
  readonly origins?: readonly string[];
  /** Answers plain HTTP requests at the same address; without it they get 426. */
  readonly onRequest?: RequestListener;
  readonly limits?: Partial<RemoteLimits>;
  readonly onInternalError?: (error: unknown) => void;
}

export class RemoteServer {
  readonly counters: RemoteCounters = { requests: 0, failures: 0, events: 0, droppedEvents: 0 };
  private readonly http: Server;
  private readonly sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_REQUEST_BYTES,
    perMessageDeflate: false,
    handleProtocols: () => SUBPROTOCOL,
  });
  private readonly connections = new Map<WebSocket, RemoteConnection>();
  private readonly listeners: {
    port: MachinePort;
    listener: (event: MachineEvent) => void;
    onFinding: (finding: Finding) => void;
  }[] = [];
  private readonly limits: RemoteLimits;
  private readonly rules: AccessRules;
  private readonly keepAlive: NodeJS.Timeout;
  private listening = '';
  private closing = false;

  /** Rejects with an `AccessError` where a token is missing, with the system's error where the address is not to be had. */
  static async start(options: RemoteServerOptions): Promise<RemoteServer> {
    const { address } = await lookup(options.host ?? DEFAULT_HOST);
    if (!isLoopback(address) && options.token === undefined) {
      throw new AccessError(`${options.host} can be reached from other machines: a token is needed`);
    }
    const server = new RemoteServer(options);
    try {
      await server.listen(address, options.port ?? 0);
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  private constructor(private readonly options: RemoteServerOptions) {
    this.limits = { ...defaultLimits, ...options.limits };
    this.rules = { token: options.token, origins: options.origins ?? [] };
    this.http = createServer(options.onRequest ?? upgradeRequired);
    this.http.maxConnections = this.limits.connections + HANDSHAKES_AT_ONCE;
    this.http.on('upgrade', (request, socket, head) => this.upgrade(request, socket, head));
    for (const [name, port] of options.machines) {
      const listener = (event: SubscribedEvent) => {
        for (const connection of this.connections.values()) connection.hear(name, event);
      };
      const onFinding = (finding: Finding) =>
        listener({ kind: FINDING_EVENT, source: 'sanitizer', detail: { finding } });
      this.listeners.push({ port, listener, onFinding });
      port.events.on('event', listener);
      port.newFindings?.on('finding', onFinding);
    }
    this.keepAlive = setInterval(() => {
      for (const connection of this.connections.values()) connection.keepAlive();
    }, this.limits.keepAliveMilliseconds);
    this.keepAlive.unref();
  }

  /** `ws://HOST:PORT`, without the token. */
  get url(): string {
    return this.listening;
  }

  get clients(): number {
    return this.connections.size;
  }

  /** Takes leave of every client and frees the address; requests that still wait for something stay without an answer. */
  async close(): Promise<void> {
    this.closing = true;
    clearInterval(this.keepAlive);
    for (const { port, listener, onFinding } of this.listeners.splice(0)) {
      port.events.off('event', listener);
      port.newFindings?.off('finding', onFinding);
    }
    // Requests whose answers are there already are answered.
    await new Promise(resolve => setImmediate(resolve));
    const closed = new Promise<void>(resolve => this.http.close(() => resolve()));
    const left = [...this.connections.keys()].map(socket => once(socket, 'close'));
    for (const socket of this.connections.keys()) socket.close(GOING_AWAY, 'the server stops');
    const impatience = setTimeout(() => {
      for (const socket of this.connections.keys()) socket.terminate();
      this.http.closeAllConnections();
    }, this.limits.closeMilliseconds);
    this.http.closeIdleConnections();
    await Promise.all([closed, ...left]);
    clearTimeout(impatience);
  }

  private listen(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.http.once('error', reject);
      this.http.listen(port, host, () => {
        this.http.off('error', reject);
        const bound = this.http.address() as AddressInfo;
        this.listening = webSocketUrl(bound.address, bound.port);
        resolve();
      });
    });
  }

  private upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // Without a listener, a client that goes away during its handshake would end the process.
    socket.on('error', () => socket.destroy());
    const full = this.closing || this.connections.size >= this.limits.connections;
    const refused = refusal(request, this.rules) ?? (full ? noRoom : undefined);
    if (refused) {
      refuse(socket, refused.status, refused.reason);
      return;
    }
    this.sockets.handleUpgrade(request, socket, head, client => this.welcome(client));
  }

  private welcome(socket: WebSocket): void {
    const connection = new RemoteConnection({
      socket,
      machines: this.options.machines,
      limits: this.limits,
      counters: this.counters,
      onInternalError: this.options.onInternalError ?? (error => console.error(error)),
    });
    this.connections.set(socket, connection);
    // The close that follows tells enough: what arrived was no WebSocket frame, or too long.
    socket.on('error', () => {});
    socket.once('close', () => this.connections.delete(socket));
  }
}

const upgradeRequired: RequestListener = (_request, response) => {
  response.writeHead(426, { Connection: 'Upgrade', Upgrade: 'websocket', 'Content-Type': 'text/plain' });
  response.end(`This is a WebSocket server (${SUBPROTOCOL}).\n`);
};

const noRoom = { status: 503, reason: 'there is no room for another client' } as const;

function refuse(socket: Duplex, status: number, reason: string): void {
  const body = `${reason}\n`;
  const headers = ['Connection: close', 'Content-Type: text/plain', `Content-Length: ${Buffer.byteLength(body)}`];
  socket.once('finish', () => socket.destroy());
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${headers.join('\r\n')}\r\n\r\n${body}`);
}
