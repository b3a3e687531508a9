/** A fake machine, a server with it on a real socket, and clients that are gone when the test is over. */
import { EventEmitter, once } from 'node:events';
import { afterEach } from 'vitest';
import { type ClientOptions, WebSocket } from 'ws';
import { decodeMessage, encodeMessage } from '../../src/inspector/codec.ts';
import { answerLimits } from '../../src/inspector/limits.ts';
import type { MachinePort } from '../../src/inspector/machine-port.ts';
import { type ConnectOptions, RemoteMachine } from '../../src/inspector/remote-client.ts';
import { RemoteServer, type RemoteServerOptions } from '../../src/inspector/remote-server.ts';
import type { MachineEvent } from '../../src/machine/operations-command.ts';

export interface Asked {
  readonly name: string;
  readonly args: unknown;
}

/** Records what it is asked, and answers with `answers[name]` or a plain success. */
export class FakePort {
  readonly asked: Asked[] = [];
  readonly answers: Record<string, object | Promise<object>> = {};
  readonly events = new EventEmitter<{ event: [MachineEvent] }>();
  readonly port = this as unknown as MachinePort;

  operate(operation: string, args: object): Promise<object> {
    return this.answer(operation, args);
  }

  probe(args: object): Promise<object> {
    return this.answer('probe', args);
  }

  getInterface(args: object): Promise<object> {
    return this.answer('interface', args);
  }

  statistics(): Promise<object> {
    return this.answer('statistics', undefined);
  }

  snapshot(): Promise<object> {
    return this.answer('snapshot', undefined);
  }

  inspect(): Promise<object> {
    return this.answer('inspect', undefined);
  }

  registers(name: string): Promise<object> {
    return this.answer('registers', name);
  }

  walk(...args: unknown[]): Promise<object> {
    return this.answer('walk', args);
  }

  tlb(limit: number): Promise<object> {
    return this.answer('tlb', limit);
  }

  queue(): Promise<object> {
    return this.answer('queue', undefined);
  }

  pause(): Promise<object> {
    return this.answer('pause', undefined);
  }

  step(what: string): Promise<object> {
    return this.answer('step', what);
  }

  resume(): Promise<object> {
    return this.answer('resume', undefined);
  }

  emit(kind: string, detail: object = {}): void {
    this.events.emit('event', { kind, source: 'fake', detail } as MachineEvent);
  }

  private async answer(name: string, args: unknown): Promise<object> {
    this.asked.push({ name, args });
    return (await this.answers[name]) ?? { status: 0 };
  }
}

const cleanups: (() => unknown)[] = [];

/** Whatever the test made goes in the reverse order. */
export function later(cleanup: () => unknown): void {
  cleanups.push(cleanup);
}

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

export interface Served {
  readonly fake: FakePort;
  readonly server: RemoteServer;
  readonly url: string;
}

export async function serve(options: Partial<RemoteServerOptions> = {}): Promise<Served> {
  const fake = new FakePort();
  const server = await RemoteServer.start({ machines: new Map([['machine', fake.port]]), ...options });
  later(() => server.close());
  return { fake, server, url: server.url };
}

export async function connect(url: string, options?: ConnectOptions): Promise<RemoteMachine> {
  const machine = await RemoteMachine.connect(url, options);
  later(() => machine.close());
  return machine;
}

/** A client that says what it likes. */
export interface RawClient {
  readonly socket: WebSocket;
  send(message: object | Uint8Array): void;
  /** The next message that nobody took yet. */
  receive(): Promise<Record<string, unknown>>;
  /** The code with which the server closed. */
  readonly closed: Promise<number>;
}

export async function rawClient(url: string, options: ClientOptions = {}): Promise<RawClient> {
  const socket = new WebSocket(url, 'viommu.v1', options);
  later(() => socket.terminate());
  const received: Record<string, unknown>[] = [];
  const waiting: ((message: Record<string, unknown>) => void)[] = [];
  const closed = new Promise<number>(resolve => socket.once('close', resolve));
  socket.on('message', data => {
    const message = decodeMessage(data as Buffer, answerLimits).message as Record<string, unknown>;
    const next = waiting.shift();
    if (next) next(message);
    else received.push(message);
  });
  socket.on('error', () => {});
  await once(socket, 'open');
  return {
    socket,
    closed,
    send: message => socket.send(message instanceof Uint8Array ? message : encodeMessage(message)),
    receive: () => {
      const first = received.shift();
      return first ? Promise.resolve(first) : new Promise(resolve => waiting.push(resolve));
    },
  };
}

/** HTTP status with which a handshake was refused. */
export function refusedStatus(url: string, protocols: string[], options: ClientOptions = {}): Promise<number> {
  const socket = new WebSocket(url, protocols, options);
  return new Promise((resolve, reject) => {
    socket.once('unexpected-response', (_request, response) => {
      resolve(response.statusCode ?? 0);
      response.resume();
      socket.terminate();
    });
    socket.on('error', reject);
    socket.once('open', () => {
      socket.terminate();
      reject(new Error('it was let in'));
    });
  });
}
