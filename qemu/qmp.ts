/** A client of QEMU's Machine Protocol (QEMU, docs/interop/qmp-spec.rst): one JSON object a line, both ways. */
import { EventEmitter } from 'node:events';
import { createConnection, type Socket } from 'node:net';

/** A line longer than this is not QMP: QEMU's own answers stay far below. Bytes. */
const MAX_LINE_BYTES = 4 * 1024 * 1024;

export interface QmpVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
}

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** QEMU refused a command. */
export class QmpError extends Error {
  readonly errorClass: string;

  constructor(command: string, errorClass: string, description: string) {
    super(`QMP ${command}: ${description}`);
    this.name = 'QmpError';
    this.errorClass = errorClass;
  }
}

/** The connection ended, or what came over it is not QMP. */
export class QmpClosed extends Error {
  constructor(reason: string) {
    super(`QMP connection closed: ${reason}`);
    this.name = 'QmpClosed';
  }
}

interface Pending {
  readonly command: string;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

interface QmpEvents {
  event: [QmpEvent];
  close: [QmpClosed];
}

export class QmpClient extends EventEmitter<QmpEvents> {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #ended: QmpClosed | undefined;
  #version: QmpVersion | undefined;
  #greeted!: (error?: Error) => void;

  private constructor(socket: Socket) {
    super();
    this.#socket = socket;
    socket.on('data', chunk => this.#receive(chunk));
    socket.on('error', error => this.#end(new QmpClosed(error.message)));
    socket.on('close', () => this.#end(new QmpClosed('QEMU ended it')));
  }

  /** Connects to a socket that QEMU listens on. Throws QmpClosed when nobody listens or talks QMP. */
  static connect(path: string): Promise<QmpClient> {
    return QmpClient.attach(createConnection(path));
  }

  /** Awaits the greeting on a connection and leaves negotiation mode; the connection is this client's from now on. */
  static async attach(socket: Socket): Promise<QmpClient> {
    const client = new QmpClient(socket);
    await new Promise<void>((resolve, reject) => {
      client.#greeted = error => (error === undefined ? resolve() : reject(error));
    });
    await client.execute('qmp_capabilities');
    return client;
  }

  get version(): QmpVersion {
    return this.#version!;
  }

  /** What the command returns. Throws QmpError when QEMU refuses, QmpClosed when the connection ends first. */
  execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const id = this.#nextId++;
    const request = { execute: command, id, ...(args === undefined ? {} : { arguments: args }) };
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { command, resolve, reject });
      this.#socket.write(`${JSON.stringify(request)}\n`);
    });
  }

  /**
   * The next event that `matches`; what came before is gone, so ask before what causes it. Throws QmpClosed when the connection ends
   * first, an Error that names `what` after `timeoutMs`, and the reason of `signal` when that is aborted.
   */
  nextEvent(
    what: string,
    matches: (event: QmpEvent) => boolean,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<QmpEvent> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const settle = (outcome: QmpEvent | Error) => {
        clearTimeout(timer);
        this.off('event', onEvent);
        this.off('close', settle);
        signal?.removeEventListener('abort', onAbort);
        if (outcome instanceof Error) reject(outcome);
        else resolve(outcome);
      };
      const onEvent = (event: QmpEvent) => {
        if (matches(event)) settle(event);
      };
      const onAbort = () => settle(signal?.reason);
      const timer = setTimeout(
        () => settle(new Error(`QMP: ${what} did not come within ${timeoutMs / 1000} s`)),
        timeoutMs,
      );
      this.on('event', onEvent);
      this.on('close', settle);
      signal?.addEventListener('abort', onAbort);
    });
  }

  /** Commands that still wait fail with QmpClosed. */
  close(): void {
    this.#end(new QmpClosed('by this side'));
  }

  #receive(chunk: Buffer): void {
    let rest = chunk;
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      const line = Buffer.concat([...this.#received, rest.subarray(0, end)]).toString('utf8');
      this.#received = [];
      this.#receivedBytes = 0;
      rest = rest.subarray(end + 1);
      this.#handle(line);
      if (this.#ended !== undefined) return;
    }
    if (rest.length === 0) return;
    this.#received.push(rest);
    this.#receivedBytes += rest.length;
    if (this.#receivedBytes > MAX_LINE_BYTES) this.#end(new QmpClosed(`a line is longer than ${MAX_LINE_BYTES} bytes`));
  }

  #handle(line: string): void {
    if (line.trim() === '') return;
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      this.#end(new QmpClosed(`not JSON: ${line.slice(0, 80)}`));
      return;
    }
    if (!isRecord(message)) this.#end(new QmpClosed(`not an object: ${line.slice(0, 80)}`));
    else if (isRecord(message.QMP)) this.#greet(message.QMP);
    else if (typeof message.event === 'string') {
      this.emit('event', { event: message.event, data: isRecord(message.data) ? message.data : {} });
    } else this.#answer(message, line);
  }

  #greet(greeting: Record<string, unknown>): void {
    const version = isRecord(greeting.version) ? greeting.version.qemu : undefined;
    const { major, minor, micro } = isRecord(version) ? version : {};
    if (typeof major !== 'number' || typeof minor !== 'number' || typeof micro !== 'number') {
      this.#end(new QmpClosed('the greeting names no version'));
      return;
    }
    this.#version = { major, minor, micro };
    this.#greeted();
  }

  #answer(message: Record<string, unknown>, line: string): void {
    const id = message.id;
    const pending = typeof id === 'number' ? this.#pending.get(id) : undefined;
    if (pending === undefined) {
      // QEMU answers without an id only what it could not parse; then nobody can know which command that was.
      this.#end(new QmpClosed(`an answer to nothing that was asked: ${line.slice(0, 80)}`));
      return;
    }
    this.#pending.delete(id as number);
    const error = message.error;
    if (isRecord(error)) pending.reject(new QmpError(pending.command, String(error.class), String(error.desc)));
    else pending.resolve(message.return);
  }

  #end(reason: QmpClosed): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    this.#socket.destroy();
    this.#greeted?.(reason);
    for (const pending of this.#pending.values()) pending.reject(reason);
    this.#pending.clear();
    this.emit('close', reason);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
