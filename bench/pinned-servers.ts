/**
 * Servers and the client that measures them, each side on one processor: on the same a round trip is two switches, on two it is two
 * wake-ups.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileNative, packagePath } from './native.ts';

/** Of one server, in nanoseconds. */
export interface RoundTrips {
  readonly median: number;
  readonly p99: number;
}

/** What the client does again and again (see native/message-client.c). */
export type Work =
  | 'read'
  | 'write-read'
  | 'message-dma'
  | 'message-dma-done'
  | 'mapped-dma'
  | 'posted'
  | 'message-map'
  | 'mapped-map';

export interface Processors {
  readonly client: number;
  readonly server: number;
}

export const ONE_PROCESSOR: Processors = { client: 0, server: 0 };
export const TWO_PROCESSORS: Processors = { client: 0, server: 1 };

export class PinnedServers {
  private readonly directory = mkdtempSync(join(tmpdir(), 'viommu-bench-'));
  private readonly servers: ChildProcess[] = [];

  constructor(private readonly processors: Processors = ONE_PROCESSOR) {}

  /** Starts the C server, which takes one client and ends with it; returns its socket. */
  async startFloor(): Promise<string> {
    const socket = join(this.directory, `floor${this.servers.length}.sock`);
    await this.start(compileNative('echo-server.c', this.directory), socket);
    return socket;
  }

  /** Starts our own, with a VT-d unit and so many edu devices; returns the devices' sockets. */
  async startOurs(functions: number, ...flags: string[]): Promise<string[]> {
    const directory = join(this.directory, `${this.servers.length}`);
    mkdirSync(directory);
    const devices = Array.from({ length: functions }, (_, i) => ['--device', `edu@${busAndDevice(i)}.0,dmaMask=64`]);
    const program = packagePath('dist', 'src', 'cli', 'main.js');
    await this.start(process.execPath, program, 'serve', '--dir', directory, ...flags, ...devices.flat());
    return devices.map((_, i) => join(directory, `edu${i}.sock`));
  }

  /**
   * Does it in so many batches at each server, in turns. A server is a list of sockets that are used one after the other; one with a
   * minus before it is connected and stays silent, one with `N*` before it has that many DMA regions.
   */
  measure(work: Work, batches: number, ...servers: readonly (readonly string[])[]): RoundTrips[] {
    const client = compileNative('message-client.c', this.directory);
    const sockets = servers.map(list => list.join(','));
    const output = execFileSync(
      'taskset',
      ['-c', `${this.processors.client}`, client, work, `${batches}`, ...sockets],
      {
        encoding: 'utf8',
      },
    );
    return output
      .trim()
      .split('\n')
      .map(line => {
        const [median = Number.NaN, p99 = Number.NaN] = line.split(' ').map(Number);
        return { median, p99 };
      });
  }

  async close(): Promise<void> {
    for (const server of this.servers) {
      const running = server.exitCode === null && server.signalCode === null;
      server.kill('SIGTERM');
      if (running) await once(server, 'exit');
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Resolves when the server has printed that it is ready. */
  private async start(command: string, ...args: string[]): Promise<void> {
    const server = spawn('taskset', ['-c', `${this.processors.server}`, command, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.stdout!.on('data', chunk => /ready/.test(String(chunk)) && resolve());
      server.once('exit', () => reject(new Error(`${command} ended before it was ready`)));
    });
  }
}

function busAndDevice(index: number): string {
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  return `${hex(1 + (index >> 5))}:${hex(index & 31)}`;
}
