/** A REGION_READ round trip against our server and against a C server that does nothing else, by one C client. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileNative, packagePath } from './native.ts';
import { type BenchResult, result } from './result.ts';

const BATCHES = 60;
/** Clients and servers share one processor, so that a round trip is two switches and not two wake-ups of another core. */
const PROCESSOR = '0';
/** At most 1.15 times the floor's time. */
const GOAL = 1 / 1.15;

export async function benchRoundTrip(): Promise<BenchResult[]> {
  const directory = mkdtempSync(join(tmpdir(), 'viommu-bench-'));
  const servers: ChildProcess[] = [];
  const start = async (ready: RegExp, command: string, ...args: string[]) => {
    const server = spawn('taskset', ['-c', PROCESSOR, command, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.stdout!.on('data', chunk => ready.test(String(chunk)) && resolve());
      server.once('exit', () => reject(new Error(`${command} ended before it was ready`)));
    });
  };
  try {
    const floorSocket = join(directory, 'floor.sock');
    const program = packagePath('dist', 'src', 'cli', 'main.js');
    await start(/ready/, compileNative('echo-server.c', directory), floorSocket);
    await start(/ready/, process.execPath, program, 'serve', '--dir', directory, '--device', 'edu@01:00.0');
    const client = compileNative('round-trip-client.c', directory);
    const sockets = [floorSocket, join(directory, 'edu0.sock')];
    const output = execFileSync('taskset', ['-c', PROCESSOR, client, String(BATCHES), ...sockets], {
      encoding: 'utf8',
    });
    const [floor = [], ours = []] = output
      .trim()
      .split('\n')
      .map(line => line.split(' ').map(Number));
    return [
      result('REGION_READ round trip, median', 'ns', [ours[0]!], [floor[0]!], GOAL),
      result('REGION_READ round trip, p99', 'ns', [ours[1]!], [floor[1]!]),
    ];
  } finally {
    for (const server of servers) {
      const running = server.exitCode === null && server.signalCode === null;
      server.kill('SIGTERM');
      if (running) await once(server, 'exit');
    }
    rmSync(directory, { recursive: true, force: true });
  }
}
