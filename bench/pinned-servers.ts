/** Servers and the client that measures them, all on one processor: a round trip is then two switches and not two wake-ups. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileNative, packagePath } from './native.ts';

const PROCESSOR = '0';

/** Of one server, in nanoseconds. */
export interface RoundTrips {
  readonly median: number;
  readonly p99: number;
}

export class PinnedServers {
  private readonly directory = mkdtempSync(join(tmpdir(), 'viommu-bench-'));
  private readonly servers: ChildProcess[] = [];

  /** Starts the C server; returns its socket. */
  async startFloor(): Promise<string> {
    const socket = join(this.directory, 'floor.sock');
    await this.start(compileNative('echo-server.c', this.directory), socket);
    return socket;
  }

  /** Starts our own, with a VT-d unit and so many edu devices; returns the devices' sockets. */
  async startOurs(functions: number): Promise<string[]> {
    const directory = join(this.directory, `${this.servers.length}`);
    mkdirSync(directory);
    const devices = Array.from({ length: functions }, (_, i) => ['--device', `edu@${busAndDevice(i)}.0`]);
    const program = packagePath('dist', 'src', 'cli', 'main.js');
    await this.start(process.execPath, program, 'serve', '--dir', directory, ...devices.flat());
    return devices.map((_, i) => join(directory, `edu${i}.sock`));
  }

  /**
   * Reads a register `batches` times 500 times from each server, in turns. A server is a list of sockets that are read one
   * after the other; one with a minus before it is connected and stays silent.
   */
  measure(batches: number, ...servers: readonly (readonly string[])[]): RoundTrips[] {
    const client = compileNative('round-trip-client.c', this.directory);
    const sockets = servers.map(list => list.join(','));
    const output = execFileSync('taskset', ['-c', PROCESSOR, client, String(batches), ...sockets], {
      encoding: 'utf8',
    });
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
    const server = spawn('taskset', ['-c', PROCESSOR, command, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
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
