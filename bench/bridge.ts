/**
 * DMA by messages: through the bridge (a WebSocket on the loopback; the bridge has the client's memory mapped) beside the same over a unix
 * socket, where the client answers each message itself. Then through a bridge behind a long line, beside what the messages of a transfer
 * would take there one after the other.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Bridge } from '../src/bridge/bridge.ts';
import type { Transfers, Way } from './bridge-device.ts';
import type { ServerAnswer } from './bridge-server.ts';
import { DelayLine } from './delay-line.ts';
import { packagePath } from './native.ts';
import { type BenchResult, result } from './result.ts';

const ROUNDS = 15;
const WARM_UP_ROUNDS = 3;
const KiB = 1024;
const PAGE = 4 * KiB;
/** Moved in a round, as far as that takes no more transfers than these. */
const ROUND_BYTES = 16 << 20;
const ROUND_TRANSFERS = 200;
/** Each way. */
const LINE_MS = 5;
const LINE_ROUNDS = 7;

interface Case {
  readonly name: string;
  readonly bytes: number;
  readonly scattered?: boolean;
}

const CASES: readonly Case[] = [
  { name: '64 B', bytes: 64 },
  { name: '4 KiB', bytes: PAGE },
  { name: '64 KiB', bytes: 64 * KiB },
  { name: '64 KiB, 16 scattered pages', bytes: 64 * KiB, scattered: true },
  { name: '1 MiB', bytes: 1024 * KiB },
];

export async function benchBridge(): Promise<BenchResult[]> {
  const rig = await Rig.start();
  try {
    await rig.connect('unix');
    await rig.connect('bridged');
    const near = await besideUnixSocket(rig);
    await rig.disconnectBridge();
    await rig.connect('bridged', LINE_MS);
    return [...near, ...(await onALongLine(rig))];
  } finally {
    await rig.close();
  }
}

async function besideUnixSocket(rig: Rig): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  for (const one of CASES) {
    for (const writing of [false, true]) {
      const times: Record<Way, number[]> = { unix: [], bridged: [] };
      for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
        for (const way of ['unix', 'bridged'] as const) {
          const count = Math.min(ROUND_TRANSFERS, ROUND_BYTES / one.bytes);
          const took = await rig.measure(way, one, writing, count);
          if (round >= 0) times[way].push(took);
        }
      }
      const name = `bridge: DMA ${writing ? 'write' : 'read'}, ${one.name}`;
      results.push(result(name, 'us', times.bridged, times.unix));
    }
  }
  return results;
}

/** A page is one message, so many pages one after the other are so many times one. */
async function onALongLine(rig: Rig): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  for (const pages of [16, 256]) {
    for (const writing of [false, true]) {
      const row: number[] = [];
      const apart: number[] = [];
      for (let round = -1; round < LINE_ROUNDS; round++) {
        const page = await rig.measure('bridged', { name: '', bytes: PAGE }, writing, 1);
        const all = await rig.measure('bridged', { name: '', bytes: pages * PAGE, scattered: true }, writing, 1);
        if (round < 0) continue;
        apart.push(page * pages);
        row.push(all);
      }
      const name = `line of ${LINE_MS} ms: ${pages} pages ${writing ? 'written' : 'read'}, beside one by one`;
      results.push(result(name, 'us', row, apart));
    }
  }
  return results;
}

class Rig {
  private readonly clients: ChildProcess[] = [];
  private bridge: Bridge | undefined;
  private line: DelayLine | undefined;

  static async start(): Promise<Rig> {
    const directory = mkdtempSync(join(tmpdir(), 'viommu-bench-'));
    const server = fork(packagePath('dist', 'bench', 'bridge-server.js'), [directory]);
    const rig = new Rig(directory, server);
    rig.port = (await rig.hear<{ port: number }>()).port;
    return rig;
  }

  private port = 0;

  private constructor(
    private readonly directory: string,
    private readonly server: ChildProcess,
  ) {}

  /** A client of this way; `delay` in milliseconds. */
  async connect(way: Way, delay = 0): Promise<void> {
    const mapped = this.hear<{ mapped: Way }>();
    if (way === 'unix') {
      this.startClient(join(this.directory, 'unix.sock'), 'messages');
    } else {
      if (delay > 0) this.line = await DelayLine.start(this.port, delay);
      this.bridge = await Bridge.start({
        directory: join(this.directory, 'bridge'),
        url: `ws://127.0.0.1:${this.line?.port ?? this.port}`,
        machine: 'm',
        functions: ['dma'],
      });
      this.startClient(this.bridge.sockets.dma!, 'mapped');
    }
    await mapped;
  }

  async disconnectBridge(): Promise<void> {
    await this.bridge?.close();
    this.line?.close();
    const client = this.clients.pop();
    if (client?.exitCode === null) await once(client, 'exit');
  }

  /** Microseconds for one transfer. */
  async measure(way: Way, { bytes, scattered = false }: Case, writing: boolean, count: number): Promise<number> {
    const transfers: Transfers = { way, writing, bytes, scattered, count };
    const answer = this.hear<{ nanoseconds: number }>();
    this.server.send(transfers);
    return (await answer).nanoseconds / 1000;
  }

  async close(): Promise<void> {
    if (this.bridge !== undefined) await this.disconnectBridge();
    // The clients end with it.
    this.server.kill();
    for (const child of [this.server, ...this.clients]) {
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  private startClient(socket: string, how: 'mapped' | 'messages'): void {
    this.clients.push(fork(packagePath('dist', 'bench', 'bridge-client.js'), [socket, how]));
  }

  /** What the server says next; rejects when it ends instead. */
  private hear<T extends ServerAnswer>(): Promise<T> {
    return new Promise((resolve, reject) => {
      const ended = () => reject(new Error('the server has ended'));
      this.server.once('exit', ended);
      this.server.once('message', message => {
        this.server.off('exit', ended);
        resolve(message as T);
      });
    });
  }
}
