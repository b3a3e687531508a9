/** The remote API: a WebSocket server that answers requests about machines and tells their events. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { MachineEvent } from '../machine/operations-command.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import { type AccessRules, clientRefusal, DEFAULT_HOST, type ListenPlace, refusal } from './access.ts';
import { HEALTH_PATH, Health } from './health.ts';
import type { Leases, MachineShelf } from './leases.ts';
import { defaultLimits, MAX_REQUEST_BYTES, type RemoteLimits } from './limits.ts';
import { Listener, type PlainHandler, refuse, type TlsIdentity } from './listener.ts';
import type { MachinePort } from './machine-port.ts';
import { FINDING_EVENT, MACHINE_ENDED_EVENT, SUBPROTOCOL } from './protocol.ts';
import { RemoteConnection, type RemoteCounters } from './remote-connection.ts';
import type { Machines } from './requests.ts';
import type { SubscribedEvent } from './subscriptions.ts';

/** What follows names a machine and its function. */
export const VFIO_USER_PATH = '/vfio-user/';

/** The server stops; clients see it in the close frame. */
const GOING_AWAY = 1001;

/** Connections that are not clients yet. */
const HANDSHAKES_AT_ONCE = 16;

/** Takes upgrades to vfio-user, whose client has been let in. */
export interface StreamAcceptor {
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  close(): Promise<void>;
}

/** A connection to a function of a machine, as a descriptor that its caller owns. */
export type OpenStream = (machine: string, functionName: string) => Promise<number>;

export interface RemoteServerOptions {
  /** By name; those that are there from the beginning. */
  readonly machines?: Machines;
  /** Default: `host` and `port`. */
  readonly places?: readonly ListenPlace[];
  /** Default: 127.0.0.1. */
  readonly host?: string;
  /** Default: any free one. */
  readonly port?: number;
  /** Must be given where a place can be reached from other machines; needed by every client but those at unix sockets, where given. */
  readonly token?: string | undefined;
  /** For all places but unix sockets. */
  readonly tls?: TlsIdentity | undefined;
  /** Origins whose pages may connect, besides the server's own. */
  readonly origins?: readonly string[];
  /** Answers plain HTTP requests at the same address, but for HEALTH_PATH; without it they get 426. */
  readonly onRequest?: PlainHandler;
  /** Makes what takes upgrades to VFIO_USER_PATH; without it they get 404. */
  readonly acceptor?: (open: OpenStream) => StreamAcceptor;
  /** Makes machines for clients. */
  readonly leases?: (shelf: MachineShelf) => Leases;
  readonly limits?: Partial<RemoteLimits>;
  readonly healthMilliseconds?: number;
  readonly onInternalError?: (error: unknown) => void;
}

interface Shown {
  readonly port: MachinePort;
  readonly listener: (event: MachineEvent) => void;
  readonly onFinding: (finding: Finding) => void;
}

export class RemoteServer implements MachineShelf {
  readonly counters: RemoteCounters = { requests: 0, failures: 0, events: 0, droppedEvents: 0 };
  private readonly listeners: Listener[] = [];
  private readonly sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_REQUEST_BYTES,
    perMessageDeflate: false,
    handleProtocols: () => SUBPROTOCOL,
  });
  private readonly connections = new Map<WebSocket, RemoteConnection>();
  private readonly ports = new Map<string, MachinePort>();
  private readonly shown = new Map<string, Shown>();
  private readonly health: Health;
  private readonly acceptor: StreamAcceptor | undefined;
  private readonly leases: Leases | undefined;
  private readonly limits: RemoteLimits;
  private readonly keepAlive: NodeJS.Timeout;
  private readonly onInternalError: (error: unknown) => void;
  private closing = false;

  /**
   * Rejects with an `AccessError` where a token is missing or the certificate is none, with the system's error where a place is not to be
   * had.
   */
  static async start(options: RemoteServerOptions): Promise<RemoteServer> {
    const server = new RemoteServer(options);
    try {
      const { host = DEFAULT_HOST, port = 0, places = [{ host, port }] } = options;
      for (const place of places) await server.listen(place);
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  private constructor(private readonly options: RemoteServerOptions) {
    this.limits = { ...defaultLimits, ...options.limits };
    this.onInternalError = options.onInternalError ?? (error => console.error(error));
    this.health = new Health(this.ports, options.healthMilliseconds);
    this.acceptor = options.acceptor?.((machine, name) => this.openStream(machine, name));
    this.leases = options.leases?.(this);
    for (const [name, port] of options.machines ?? []) this.add(name, port);
    this.keepAlive = setInterval(() => {
      for (const connection of this.connections.values()) connection.keepAlive();
    }, this.limits.keepAliveMilliseconds);
    this.keepAlive.unref();
  }

  /** `ws://HOST:PORT`, `wss://HOST:PORT` or `ws+unix:PATH:/`, without the token: the first. */
  get url(): string {
    return this.listeners[0]?.url ?? '';
  }

  /** In the order of the places. */
  get urls(): readonly string[] {
    return this.listeners.map(listener => listener.url);
  }

  get clients(): number {
    return this.connections.size;
  }

  get machines(): readonly string[] {
    return [...this.ports.keys()];
  }

  /** Throws an Error where there is one of that name. */
  add(name: string, port: MachinePort): void {
    if (this.ports.has(name)) throw new Error(`there is a machine '${name}' already`);
    const listener = (event: SubscribedEvent) => {
      for (const connection of this.connections.values()) connection.hear(name, event);
    };
    const onFinding = (finding: Finding) => listener({ kind: FINDING_EVENT, source: 'sanitizer', detail: { finding } });
    this.ports.set(name, port);
    this.shown.set(name, { port, listener, onFinding });
    port.events.on('event', listener);
    port.newFindings?.on('finding', onFinding);
    void port.ended?.then(end => {
      // Another may have its name by now.
      if (this.ports.get(name) === port) listener({ kind: MACHINE_ENDED_EVENT, source: 'machine', detail: { ...end } });
    });
    this.tellMachines();
  }

  /** Subscriptions to it are told and end, requests to it are refused from here on. Nothing happens where there is none. */
  remove(name: string, reason = 'the server has it no more'): void {
    const shown = this.shown.get(name);
    if (shown === undefined) return;
    this.hide(shown);
    this.shown.delete(name);
    this.ports.delete(name);
    for (const connection of this.connections.values()) connection.machineRemoved(name, reason);
    this.tellMachines();
  }

  /**
   * Ends all leased machines, takes leave of every client and frees the places; requests that still wait for something stay without an
   * answer.
   */
  async close(): Promise<void> {
    this.closing = true;
    clearInterval(this.keepAlive);
    for (const shown of this.shown.values()) this.hide(shown);
    this.shown.clear();
    // Requests whose answers are there already are answered.
    await new Promise(resolve => setImmediate(resolve));
    const closed = this.listeners.map(listener => listener.close());
    const left = [...this.connections.keys()].map(socket => once(socket, 'close'));
    for (const socket of this.connections.keys()) socket.close(GOING_AWAY, 'the server stops');
    const impatience = setTimeout(() => {
      for (const socket of this.connections.keys()) socket.terminate();
      for (const listener of this.listeners) listener.dropConnections();
    }, this.limits.closeMilliseconds);
    await Promise.all([this.acceptor?.close(), this.leases?.close(), ...closed, ...left]);
    clearTimeout(impatience);
  }

  private hide({ port, listener, onFinding }: Shown): void {
    port.events.off('event', listener);
    port.newFindings?.off('finding', onFinding);
  }

  private tellMachines(): void {
    const { machines } = this;
    for (const connection of this.connections.values()) connection.machinesChanged(machines);
  }

  private async openStream(machine: string, functionName: string): Promise<number> {
    const port = this.ports.get(machine);
    if (port === undefined) throw new Error(`there is no machine '${machine}'`);
    if (port.openStream === undefined) throw new Error(`'${machine}' has no functions to connect to`);
    return await port.openStream(functionName);
  }

  private async listen(place: ListenPlace): Promise<void> {
    const { connections, vfioUserConnections } = this.limits;
    const onRequest = this.options.onRequest ?? upgradeRequired;
    this.listeners.push(
      await Listener.open({
        place,
        token: this.options.token,
        tls: this.options.tls,
        origins: this.options.origins ?? [],
        maxConnections: connections + vfioUserConnections + HANDSHAKES_AT_ONCE,
        onRequest: (request, response, rules) => {
          if (pathOf(request) === HEALTH_PATH) this.health.answer(request, response).catch(this.onInternalError);
          else onRequest(request, response, rules);
        },
        onUpgrade: (request, socket, head, rules) => this.upgrade(request, socket, head, rules),
      }),
    );
  }

  private upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, rules: AccessRules): void {
    // Without a listener, a client that goes away during its handshake would end the process.
    socket.on('error', () => socket.destroy());
    const isVfioUser = pathOf(request).startsWith(VFIO_USER_PATH);
    const refused = isVfioUser ? this.vfioUserRefusal(request, rules) : this.clientRefusal(request, rules);
    if (refused) refuse(socket, refused.status, refused.reason);
    else if (isVfioUser) this.acceptor?.upgrade(request, socket, head);
    else this.sockets.handleUpgrade(request, socket, head, client => this.welcome(client, socket));
  }

  private clientRefusal(request: IncomingMessage, rules: AccessRules): Refused | undefined {
    const full = this.closing || this.connections.size >= this.limits.connections;
    return refusal(request, rules) ?? (full ? noRoom : undefined);
  }

  private vfioUserRefusal(request: IncomingMessage, rules: AccessRules): Refused | undefined {
    const refused = clientRefusal(request, rules);
    if (refused) return refused;
    if (this.closing) return noRoom;
    return this.acceptor === undefined ? noVfioUser : undefined;
  }

  private welcome(socket: WebSocket, transport: Duplex): void {
    const connection = new RemoteConnection({
      socket,
      transport,
      machines: this.ports,
      leases: this.leases,
      limits: this.limits,
      counters: this.counters,
      onInternalError: this.onInternalError,
    });
    this.connections.set(socket, connection);
    // The close that follows tells enough: what arrived was no WebSocket frame, or too long.
    socket.on('error', () => {});
    socket.once('close', () => this.connections.delete(socket));
  }
}

interface Refused {
  readonly status: number;
  readonly reason: string;
}

const upgradeRequired: PlainHandler = (_request, response) => {
  response.writeHead(426, { Connection: 'Upgrade', Upgrade: 'websocket', 'Content-Type': 'text/plain' });
  response.end(`This is a WebSocket server (${SUBPROTOCOL}).\n`);
};

const noRoom: Refused = { status: 503, reason: 'there is no room for another client' };
const noVfioUser: Refused = { status: 404, reason: 'this server speaks no vfio-user over WebSockets' };

function pathOf({ url = '' }: IncomingMessage): string {
  const [path = ''] = url.split(/[?#]/, 1);
  return path;
}
