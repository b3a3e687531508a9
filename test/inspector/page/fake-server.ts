/** The remote API, spoken by a machine that is not there; for the page's tests, and to look at the page: see `fake-server-main.ts`. */
import { once } from 'node:events';
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { type WebSocket, WebSocketServer } from 'ws';
import { decodeMessage, encodeMessage } from '../../../src/inspector/codec.ts';
import { requestLimits } from '../../../src/inspector/limits.ts';
import { SUBPROTOCOL, success, TOKEN_SUBPROTOCOL_PREFIX } from '../../../src/inspector/protocol.ts';
import { EVENT_KINDS } from '../../../src/trace/event-kinds.ts';
import { inspection, queue, registerBytes, tlb, walk } from './fake-hardware.ts';
import { DEVICES, FakeMachine } from './fake-machine.ts';

export interface FakeServerOptions {
  readonly port?: number;
  /** DMA transfers a second while somebody looks; 0: only what a test asks for by `machine.advance`. */
  readonly rate?: number;
  /** Transfers in a recorded file; given, there is no machine but that file. */
  readonly recording?: number;
  readonly token?: string;
  /** Folder of the built page. */
  readonly page?: string;
}

interface Client {
  readonly socket: WebSocket;
  readonly classes: Map<number, number>;
  next: number;
}

const TICK_MILLISECONDS = 10;
/** Stricter than the server's own. */
const POLICY =
  "default-src 'self'; connect-src 'self'; style-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
};

export class FakeServer {
  readonly machine: FakeMachine;
  /** Operations in the order in which they were asked. */
  readonly asked: { readonly operation: string; readonly args: Readonly<Record<string, unknown>> }[] = [];
  private readonly http: Server;
  private readonly sockets: WebSocketServer;
  private readonly clients = new Set<Client>();
  private timer: NodeJS.Timeout | undefined;
  private last = performance.now();

  static async start(options: FakeServerOptions = {}): Promise<FakeServer> {
    const server = new FakeServer(options);
    server.http.listen(options.port ?? 0, '127.0.0.1');
    await once(server.http, 'listening');
    return server;
  }

  private constructor(private readonly options: FakeServerOptions) {
    const { rate = 0, recording } = options;
    this.machine = new FakeMachine(recording === undefined ? rate : 100_000);
    this.http = createServer((request, response) => this.serveFile(request, response));
    this.sockets = new WebSocketServer({
      server: this.http,
      handleProtocols: () => SUBPROTOCOL,
      verifyClient: ({ req }: { req: IncomingMessage }) => this.mayConnect(req),
      perMessageDeflate: false,
    });
    this.sockets.on('connection', socket => this.welcome(socket));
    if (rate > 0) this.timer = setInterval(() => this.tick(), TICK_MILLISECONDS);
  }

  get port(): number {
    return (this.http.address() as AddressInfo).port;
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}`;
  }

  /** Subscriptions to records at the moment. */
  get recordings(): number {
    return [...this.clients].reduce((sum, client) => sum + client.classes.size, 0);
  }

  /** `EventClass` bits that anybody wants. */
  get classes(): number {
    let mask = 0;
    for (const { classes } of this.clients) for (const wanted of classes.values()) mask |= wanted;
    return mask;
  }

  /** Sends what the machine recorded. */
  flush(): void {
    const words = this.machine.takeRecords();
    if (words.length === 0) return;
    for (const client of this.clients) {
      for (const subscription of client.classes.keys()) this.sendRecords(client, subscription, words);
    }
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    for (const { socket } of this.clients) socket.terminate();
    this.sockets.close();
    this.http.closeAllConnections();
    this.http.close();
    await once(this.http, 'close');
  }

  /** As if it had gone away, and come back. */
  dropClients(): void {
    for (const { socket } of this.clients) socket.terminate();
  }

  private mayConnect(request: IncomingMessage): boolean {
    const { token } = this.options;
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map(one => one.trim());
    return token === undefined || offered.includes(TOKEN_SUBPROTOCOL_PREFIX + token);
  }

  private tick(): void {
    const now = performance.now();
    this.machine.advance((now - this.last) * 1e6);
    this.last = now;
    this.flush();
  }

  private welcome(socket: WebSocket): void {
    const client: Client = { socket, classes: new Map(), next: 1 };
    this.clients.add(client);
    socket.on('close', () => {
      this.clients.delete(client);
      this.machine.classes = this.classes;
    });
    socket.on('message', data => {
      const { message } = decodeMessage(data as Buffer, requestLimits);
      if (message === undefined) throw new Error('the page sent what is no message');
      const { id, operation, args } = message as { id: number; operation: string; args?: Record<string, unknown> };
      this.asked.push({ operation, args: args ?? {} });
      let answer: object;
      try {
        answer = success(this.answer(client, operation, args ?? {}));
      } catch (error) {
        answer = { error: { code: 'failed', message: (error as Error).message } };
      }
      socket.send(encodeMessage({ ...answer, id }));
    });
  }

  private answer(client: Client, operation: string, args: Readonly<Record<string, unknown>>): object {
    const { machine } = this;
    const isRecording = this.options.recording !== undefined;
    switch (operation) {
      case 'watch':
        return { machines: [isRecording ? 'recording' : 'machine'], subscription: client.next++ };
      case 'machines':
        return { machines: [isRecording ? 'recording' : 'machine'] };
      case 'findings':
        return { findings: machine.findings, lost: 0 };
      case 'mappings':
        return this.mappings();
      case 'record':
        return this.record(client, Number(args.classes));
      case 'unsubscribe':
        client.classes.delete(Number(args.subscription));
        machine.classes = this.classes;
        return { sent: 0, dropped: 0 };
    }
    if (isRecording) throw new Error(`a recording has no ${operation}`);
    switch (operation) {
      case 'statistics':
        return { statistics: this.statistics() };
      case 'inspect':
        return inspection(machine);
      case 'registers': {
        const values = registerBytes(machine, String(args.function));
        if (values === undefined) throw new Error(`there is no function '${String(args.function)}'`);
        return { blocks: [{ function: String(args.function), ...values }] };
      }
      case 'walk':
        return { walk: walk(machine, Number(args.requesterId), BigInt(args.iova as bigint)) };
      case 'tlb':
        return tlb(machine, Number(args.limit));
      case 'queue':
        return queue(machine);
      case 'pause':
      case 'resume':
        machine.isPaused = operation === 'pause';
        return { state: operation === 'pause' ? 'paused' : 'running' };
      case 'step':
        if (!machine.isPaused) throw new Error('the machine is not paused');
        if (args.what === 'dma') machine.operate();
        else machine.register(DEVICES[0], false, 0x20, 0x80);
        this.flush();
        return { state: 'paused', stepped: true };
      default:
        throw new Error(`there is no operation '${operation}'`);
    }
  }

  private record(client: Client, classes: number): object {
    const { machine } = this;
    const subscription = client.next++;
    client.classes.set(subscription, classes);
    machine.classes = this.classes;
    machine.nameSources();
    if (this.options.recording === undefined) {
      machine.note('vtd.enabled', 'iommu', { levels: 4, root: 0x7c00000n });
      this.flush();
    } else {
      // As a file is replayed: in batches, all at once.
      machine.announce();
      const batches = Math.ceil(this.options.recording / 10_000);
      for (let n = 0; n < batches; n++) {
        for (let left = Math.min(10_000, this.options.recording - n * 10_000); left > 0; left--) {
          machine.time += 10_000;
          machine.operate();
        }
        this.sendRecords(client, subscription, machine.takeRecords());
      }
    }
    const endpoints = DEVICES.map(({ name, requesterId }) => ({ kind: 'edu', id: name, requesterId, options: {} }));
    return { subscription, machine: { iommu: { kind: 'vtd' }, endpoints }, kinds: EVENT_KINDS };
  }

  private sendRecords({ socket }: Client, subscription: number, words: Int32Array): void {
    const machine = this.options.recording === undefined ? 'machine' : 'recording';
    socket.send(
      encodeMessage({ event: 'records', subscription, machine, source: 'records', detail: { words }, dropped: 0 }),
    );
  }

  private mappings(): object {
    const mappings = this.machine.mappings.map(({ page, ...rest }) => ({ ...rest, iova: BigInt(page) << 12n, how: 1 }));
    const attachments = DEVICES.map(({ requesterId, domain }) => ({
      requesterId,
      pasid: -1,
      domain,
      kind: 0,
      since: 0,
    }));
    return { mappings, attachments };
  }

  private statistics(): object {
    const { counters } = this.machine;
    const server = (accesses: number) => ({
      clients: 1,
      messages: { version: 1, dmaMap: 3, regionRead: accesses, regionWrite: 0 },
      refused: 0,
      dmaMessages: 0,
      bytesReceived: 0,
      bytesSent: 0,
    });
    const memory = { regions: 3, mappedBytes: 512 * 2 ** 20 };
    const devices = DEVICES.map(({ name }, n) => {
      const { failed, ...dma } = counters.devices[n]!;
      const byStatus = [dma.reads + dma.writes, failed, 0, 0, 0];
      return [name, { connected: true, server: server(counters.registers[n + 1]!), dma: { ...dma, byStatus }, memory }];
    });
    return {
      iommu: {
        kind: 'vtd',
        translations: counters.hits + counters.misses,
        engine: { hits: counters.hits, misses: counters.misses },
        queued: {
          contextDevice: counters.contextDevice,
          iotlbDomain: counters.iotlbDomain,
          iotlbPages: counters.iotlbPages,
        },
        registerBased: {},
        faults: counters.faults,
      },
      functions: { iommu: { connected: true, server: server(counters.registers[0]!) }, ...Object.fromEntries(devices) },
      trace: { sent: 0, dropped: 0 },
    };
  }

  private serveFile(request: IncomingMessage, response: ServerResponse): void {
    const { page } = this.options;
    const path = normalize(new URL(request.url ?? '/', 'http://host').pathname);
    const file = join(page ?? '', path === '/' ? 'index.html' : path);
    if (page === undefined || !existsSync(file) || !statSync(file).isFile()) {
      response.writeHead(404).end();
      return;
    }
    const type = TYPES[extname(file)] ?? 'application/octet-stream';
    response.writeHead(200, { 'Content-Type': type, 'Content-Security-Policy': POLICY });
    createReadStream(file).pipe(response);
  }
}
