/** A server with an acceptor, socket pairs on both sides, and a proxy between them where one is wanted. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, Socket } from 'node:net';
import { socketPair } from '../../../src/posix/socket.ts';
import { writeHeader } from '../../../src/vfio-user/header.ts';
import { HEADER_BYTES } from '../../../src/vfio-user/spec.ts';
import { VfioUserAcceptor } from '../../../src/vfio-user/websocket/acceptor.ts';
import type { LinkLimits } from '../../../src/vfio-user/websocket/limits.ts';
import { connectVfioUser, type LinkOptions, type VfioUserLink } from '../../../src/vfio-user/websocket/link.ts';
import { vfioUserUrl } from '../../../src/vfio-user/websocket/protocol.ts';
import { CuttingProxy } from './cutting-proxy.ts';

export interface Note {
  readonly kind: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** The far end of a socket pair, with everything that came out of it. */
export class Stream {
  readonly socket: Socket;
  readonly ended: Promise<void>;
  private readonly chunks: Buffer[] = [];
  private length = 0;
  private readonly waiting: { bytes: number; resolve: () => void }[] = [];

  constructor(descriptor: number) {
    this.socket = new Socket({ fd: descriptor });
    this.socket.on('error', () => {});
    this.ended = new Promise(resolve => this.socket.once('close', () => resolve()));
    this.socket.on('data', chunk => {
      this.chunks.push(chunk);
      this.length += chunk.length;
      for (const one of [...this.waiting]) {
        if (this.length < one.bytes) continue;
        this.waiting.splice(this.waiting.indexOf(one), 1);
        one.resolve();
      }
    });
  }

  get received(): Buffer {
    return Buffer.concat(this.chunks);
  }

  get receivedBytes(): number {
    return this.length;
  }

  /** Resolves with all that came so far, once that is so many bytes. */
  async take(bytes: number): Promise<Buffer> {
    if (this.length < bytes) await new Promise<void>(resolve => this.waiting.push({ bytes, resolve }));
    return this.received;
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (!this.socket.write(bytes)) await once(this.socket, 'drain');
  }

  close(): void {
    this.socket.destroy();
  }
}

export class Rig {
  acceptor: VfioUserAcceptor;
  /** The machine's ends of the streams that the acceptor asked for, in order. */
  readonly machine: Stream[] = [];
  readonly opened: string[] = [];
  readonly notes: Note[] = [];
  /** What `open` does instead, where set. */
  onOpen: ((machine: string, name: string) => Promise<number>) | undefined;
  proxy: CuttingProxy | undefined;
  private readonly http: Server = createServer();
  private readonly links: VfioUserLink[] = [];
  private readonly clients: Stream[] = [];
  private readonly watchers: (() => void)[] = [];

  static async start(limits: Partial<LinkLimits> = {}, { proxy = false } = {}): Promise<Rig> {
    const rig = new Rig(limits);
    rig.http.listen(0, '127.0.0.1');
    await once(rig.http, 'listening');
    if (proxy) rig.proxy = await CuttingProxy.start({ port: rig.port });
    return rig;
  }

  private constructor(private readonly limits: Partial<LinkLimits>) {
    this.acceptor = this.newAcceptor();
    this.http.on('upgrade', (request, socket, head) => this.acceptor.upgrade(request, socket, head));
  }

  get port(): number {
    return (this.http.address() as AddressInfo).port;
  }

  url(name = 'edu0', machine = 'm1'): string {
    return vfioUserUrl(`ws://127.0.0.1:${this.proxy?.port ?? this.port}`, { machine, name });
  }

  async connect(options: Partial<LinkOptions> = {}): Promise<{ link: VfioUserLink; client: Stream; notes: Note[] }> {
    const [mine, theirs] = socketPair();
    const client = new Stream(mine);
    this.clients.push(client);
    const notes: Note[] = [];
    const link = await connectVfioUser({
      url: this.url(),
      descriptor: theirs,
      limits: this.limits,
      note: (kind, detail) => {
        notes.push({ kind, detail });
        this.wake();
      },
      ...options,
    });
    this.links.push(link);
    return { link, client, notes };
  }

  async openStream(machine: string, name: string): Promise<number> {
    this.opened.push(`${machine}/${name}`);
    const [mine, theirs] = socketPair();
    this.machine.push(new Stream(mine));
    this.wake();
    return theirs;
  }

  /** Another server at the same address, which knows nothing of this one. */
  async restart(): Promise<void> {
    const old = this.acceptor;
    this.acceptor = this.newAcceptor();
    await old.close();
  }

  kinds(): string[] {
    return this.notes.map(({ kind }) => kind);
  }

  /** Resolves when it is true; looked at whenever either side has noted something or a stream was opened. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>(resolve => this.watchers.push(resolve));
  }

  /** Resolves when a note of this kind came from the server. */
  async heardOf(kind: string): Promise<Note> {
    await this.until(() => this.notes.some(note => note.kind === kind));
    return this.notes.find(note => note.kind === kind)!;
  }

  async close(): Promise<void> {
    await Promise.all(this.links.map(link => link.close()));
    await this.acceptor.close();
    for (const stream of [...this.clients, ...this.machine]) stream.close();
    await this.proxy?.close();
    this.http.closeAllConnections();
    await new Promise(resolve => this.http.close(resolve));
  }

  private newAcceptor(): VfioUserAcceptor {
    return new VfioUserAcceptor({
      limits: this.limits,
      open: (machine, name) => (this.onOpen ?? ((...target) => this.openStream(...target)))(machine, name),
      note: (kind, detail) => this.heard(kind, detail),
    });
  }

  private heard(kind: string, detail: Note['detail']): void {
    this.notes.push({ kind, detail });
    this.wake();
  }

  private wake(): void {
    for (const watcher of this.watchers.splice(0)) watcher();
  }
}

/** One message of so many bytes, its payload made from the number. */
export function message(number: number, size = HEADER_BYTES + 8): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.fill(number & 0xff, HEADER_BYTES);
  if (size >= HEADER_BYTES + 4) bytes.writeUInt32LE(number >>> 0, HEADER_BYTES);
  writeHeader(new DataView(bytes.buffer, bytes.byteOffset), 0, number & 0xffff, 9, size, 0, 0);
  return bytes;
}

export function messages(count: number, size?: number | ((number: number) => number)): Buffer[] {
  return Array.from({ length: count }, (_, i) => message(i, typeof size === 'function' ? size(i) : size));
}
