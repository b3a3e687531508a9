/** The process under test, from outside: start, report, health, end. */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FuzzFailure } from './failure.ts';
import type { ServerReady, ServerReport } from './server.ts';

/**
 * MiB of each thread's old and young generation. V8 takes what it may before it collects, so that with its defaults (gibibytes, 16 MiB)
 * garbage of an hour looks like a leak; with these a leak ends the process, and garbage is gone soon.
 */
const HEAP_MIB = { old: 48, semiSpace: 2 } as const;
/** A report that takes longer is a hang: of the device threads, or of the process. */
export const REPORT_PATIENCE_MS = 60_000;

export interface Health {
  readonly descriptors: number;
  readonly mappings: number;
  readonly residentMiB: number;
}

export class ServerProcess {
  private constructor(
    private readonly child: ChildProcess,
    private readonly directory: string,
    readonly sockets: Readonly<Record<string, string>>,
  ) {}

  /** Resolves when all sockets are there. */
  static async start(): Promise<ServerProcess> {
    const directory = mkdtempSync(join(tmpdir(), 'viommu-fuzz-'));
    const child = fork(fileURLToPath(new URL('./server.js', import.meta.url)), [directory], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      execArgv: [`--max-old-space-size=${HEAP_MIB.old}`, `--max-semi-space-size=${HEAP_MIB.semiSpace}`],
    });
    const remove = () => rmSync(directory, { recursive: true, force: true });
    child.once('exit', remove);
    const { sockets } = (await nextMessage(child)) as ServerReady;
    return new ServerProcess(child, directory, sockets);
  }

  /** What happened since the last time. Rejects with a FuzzFailure where the process is gone or silent. */
  async report(): Promise<ServerReport> {
    const answer = nextMessage(this.child);
    this.child.send('report', () => {});
    return (await answer) as ServerReport;
  }

  get pid(): number {
    return this.child.pid!;
  }

  health(): Health {
    const proc = `/proc/${this.pid}`;
    const resident = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`${proc}/status`, 'utf8'));
    return {
      descriptors: readdirSync(`${proc}/fd`).length,
      mappings: readFileSync(`${proc}/maps`, 'utf8').split('\n').length - 1,
      residentMiB: Math.round(Number(resident?.[1] ?? 0) / 1024),
    };
  }

  /** How it ended, where it has. */
  get ended(): string | undefined {
    const { exitCode, signalCode } = this.child;
    if (signalCode !== null) return `the server was ended by ${signalCode}`;
    return exitCode === null ? undefined : `the server ended with ${exitCode}`;
  }

  async stop(): Promise<void> {
    if (this.ended === undefined) {
      const exited = new Promise(resolve => this.child.once('exit', resolve));
      this.child.disconnect();
      const hung = setTimeout(() => this.child.kill('SIGKILL'), REPORT_PATIENCE_MS);
      await exited;
      clearTimeout(hung);
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** At once, because it does not do it by itself. */
  kill(): void {
    this.child.kill('SIGKILL');
  }
}

function nextMessage(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const done = (settle: () => void) => {
      clearTimeout(timer);
      child.off('message', take);
      child.off('exit', end);
      settle();
    };
    const take = (message: unknown) => done(() => resolve(message));
    const end = (code: number | null, signal: string | null) =>
      done(() => reject(new FuzzFailure(`it ended with ${signal ?? code}`, 'the server')));
    const timer = setTimeout(
      () => done(() => reject(new FuzzFailure(`it has been silent for ${REPORT_PATIENCE_MS} ms`, 'the server'))),
      REPORT_PATIENCE_MS,
    );
    child.on('message', take);
    child.on('exit', end);
    if (child.exitCode !== null || child.signalCode !== null) end(child.exitCode, child.signalCode);
  });
}
