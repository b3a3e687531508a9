/** The control thread's side of a bridge: starts its thread, links each QEMU to the server, hears its events, ends it. */
import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { createEventFd, signalEventFd } from '../posix/eventfd.ts';
import { closeDescriptor } from '../posix/socket.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { vfioUserUrl } from '../vfio-user/websocket/protocol.ts';
import type { BridgedFunctionStatistics } from './counters.ts';
import { FunctionLinks, type LinkNote } from './function-links.ts';
import { MAX_FUNCTIONS } from './limits.ts';
import type { BridgeCommand, BridgeThreadData, BridgeThreadMessage, ThreadStatistics } from './thread-messages.ts';

export interface BridgeOptions {
  /** Where the sockets `<function>.sock` are made; created if missing. */
  readonly directory: string;
  /** Of the server: `ws://HOST:PORT`, `wss://HOST:PORT` or `ws+unix:/PATH.sock:/`. */
  readonly url: string;
  /** Which of the server's machines. */
  readonly machine: string;
  readonly functions: readonly string[];
  readonly token?: string | undefined;
  /** Certificates in PEM that are trusted in place of the system's, for `wss:`. */
  readonly ca?: string | Buffer | undefined;
  /** How long a lost connection may be away before QEMU's device is lost; the server may agree to less. Default: 4000. */
  readonly graceMilliseconds?: number | undefined;
  /** `client.*` and `link.*` say who comes and goes; the rest is what was wrong. The source is the function. */
  readonly onEvent?: ((event: TraceEvent) => void) | undefined;
}

export interface BridgeStatistics {
  readonly functions: Readonly<
    Record<
      string,
      BridgedFunctionStatistics & {
        /** There is a connection to the server now. */
        readonly linked: boolean;
        /** Connections to the server that were lost and made again within the grace time. */
        readonly reconnections: number;
      }
    >
  >;
}

interface Waiting {
  readonly resolve: (statistics: ThreadStatistics) => void;
  readonly reject: (error: Error) => void;
}

export class Bridge {
  /** Socket path by function name. */
  readonly sockets: Readonly<Record<string, string>> = {};
  /** Resolves with the reason when the bridge is over; never rejects. */
  readonly ended: Promise<string>;
  private readonly worker: Worker;
  private readonly wakeDescriptor = createEventFd();
  private readonly taken = new SharedArrayBuffer(4);
  private readonly takenCount = new Int32Array(this.taken);
  private readonly links = new Map<string, FunctionLinks>();
  private readonly waiting = new Map<number, Waiting>();
  private readonly ready: Promise<void>;
  private nextId = 1;
  private closing: Promise<void> | undefined;
  private gone: Error | undefined;
  private last: ThreadStatistics | undefined;

  /**
   * Resolves when every socket is listening; rejects with an Error where one cannot be made, or the address is none. Whether the
   * server answers is seen when a QEMU connects.
   */
  static async start(options: BridgeOptions): Promise<Bridge> {
    checkOptions(options);
    mkdirSync(options.directory, { recursive: true });
    const bridge = new Bridge(options);
    await bridge.ready;
    return bridge;
  }

  private constructor(private readonly options: BridgeOptions) {
    const { url, machine, functions, token, ca, graceMilliseconds } = options;
    for (const name of functions) {
      const target = vfioUserUrl(url, { machine, name });
      const note: LinkNote = (kind, detail) => this.tell({ kind, source: name, detail });
      this.links.set(name, new FunctionLinks({ url: target, token, ca, graceMilliseconds, note }));
    }
    const workerData: BridgeThreadData = {
      directory: resolve(options.directory),
      functions,
      wakeDescriptor: this.wakeDescriptor,
      taken: this.taken,
    };
    this.worker = new Worker(new URL('./bridge-thread.js', import.meta.url), { workerData, name: 'viommu-bridge' });
    this.ready = new Promise((resolve, reject) => {
      this.worker.on('message', (message: BridgeThreadMessage) => {
        if (message.type === 'ready') {
          Object.assign(this.sockets, message.sockets);
          resolve();
        } else this.hear(message);
      });
      this.worker.once('error', reject);
    });
    this.ended = new Promise(resolve => {
      let reason = 'the bridge was closed';
      this.worker.once('error', error => {
        reason = `the bridge's thread failed: ${(error as Error).message}`;
      });
      this.worker.once('exit', () => {
        this.leave(reason);
        resolve(reason);
      });
    });
  }

  /** After the end: as it was at the end. */
  async statistics(): Promise<BridgeStatistics> {
    const thread = this.last ?? (await this.ask('statistics'));
    const functions = [...this.links].map(([name, { connected, reconnections }]) => [
      name,
      { ...thread[name]!, linked: connected, reconnections },
    ]);
    return { functions: Object.fromEntries(functions) };
  }

  /** Ends every connection, removes the sockets and ends the thread. May be called again. */
  close(): Promise<void> {
    this.closing ??= this.stop();
    return this.closing;
  }

  private async stop(): Promise<void> {
    if (this.gone === undefined) {
      try {
        await this.ask('stop');
      } catch (error) {
        // It failed at this very moment, and `ended` says how.
        if (this.gone === undefined) throw error;
      }
    }
    await this.ended;
    await Promise.all([...this.links.values()].map(links => links.close()));
  }

  private ask(name: BridgeCommand['name']): Promise<ThreadStatistics> {
    if (this.gone) return Promise.reject(this.gone);
    return new Promise((resolve, reject) => {
      const command: BridgeCommand = { id: this.nextId++, name };
      this.waiting.set(command.id, { resolve, reject });
      this.worker.postMessage(command);
      signalEventFd(this.wakeDescriptor);
    });
  }

  private hear(message: Exclude<BridgeThreadMessage, { type: 'ready' }>): void {
    if (message.type === 'event') {
      Atomics.add(this.takenCount, 0, 1);
      this.tell(message.event);
    } else if (message.type === 'client') {
      this.links.get(message.function)!.link(message.stream);
    } else if (message.type === 'gone') {
      this.links.get(message.function)!.callOff();
    } else {
      if (message.type === 'stopped') this.last = message.statistics;
      const waiting = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      waiting?.resolve(message.statistics);
    }
  }

  private tell(event: TraceEvent): void {
    const { onEvent } = this.options;
    if (onEvent === undefined) return;
    try {
      onEvent(event);
    } catch (error) {
      // The listener's fault, told as one that nobody caught: what the bridge was about goes on.
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  private leave(reason: string): void {
    this.gone = new Error(reason);
    closeDescriptor(this.wakeDescriptor);
    for (const { resolve, reject } of this.waiting.values()) {
      // Asked when the thread had stopped already.
      if (this.last !== undefined) resolve(this.last);
      else reject(this.gone);
    }
    this.waiting.clear();
    // Where the thread failed its streams are closed with it or not; nobody serves them any more.
    for (const links of this.links.values()) void links.close();
  }
}

function checkOptions({ url, functions }: BridgeOptions): void {
  if (!/^(wss?|ws\+unix):/.test(url) || !URL.canParse(url)) {
    throw new Error(`'${url}' is not the address of a server, such as ws://192.0.2.1:7180 or wss://HOST:7180`);
  }
  const named = functions.every(name => /^[\w.-]+$/.test(name) && !name.startsWith('.'));
  if (functions.length === 0 || functions.length > MAX_FUNCTIONS || !named) {
    throw new Error(`1 to ${MAX_FUNCTIONS} functions, with names that can be part of a socket's: [${functions}]`);
  }
}
