/** The process under test, from outside: start, report, health, end. */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WINDOW_BYTES } from '../../src/posix/window-pool.ts';
import { FuzzFailure } from './failure.ts';
import type { LiveMemory } from './heap-probe.ts';
import { machines } from './machines.ts';
import type { ServerQuestion, ServerReady, ServerReport } from './server.ts';

/**
 * MiB of each thread's old and young generation. V8 takes what it may before it collects, so that with its defaults (gibibytes, 16 MiB)
 * garbage of an hour looks like a leak; with these a leak ends the process, and garbage is gone soon.
 */
const HEAP_MIB = { old: 48, semiSpace: 2 } as const;
/** In the order in which they are started. */
export const THREADS = ['main', ...machines.map(({ name }) => name)];
/**
 * How much more may live in a thread's heap when it has done much than when it was warm, in KiB. Compiled code comes to 2 MiB; behind an
 * IOMMU the sanitizer remembers what was mapped and invalidated, up to the limits of src/trace/sanitizer/limits.ts.
 */
export const HEAP_GROWTH_KIB: Readonly<Record<string, number>> = {
  main: 3072,
  vtd: 20_480,
  'dma-iommu': 12_288,
  none: 3072,
  offering: 3072,
};
/** The same of what objects hold outside of the heaps: page flags of 4 MiB a function at most, and buffers of connections. */
const BUFFER_GROWTH_KIB = 98_304;
/** A report that takes longer is a hang: of the device threads, or of the process. */
export const REPORT_PATIENCE_MS = 60_000;

export interface Health {
  readonly descriptors: number;
  readonly mappings: number;
  readonly residentMiB: number;
  /** Objects that live in the heap of each thread, after a collection: of the main thread, then by machine. */
  readonly heapsKiB: Readonly<Record<string, number>>;
  /** What they hold outside of the heaps, without the windows: those are reserved address space. */
  readonly buffersKiB: number;
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
      execArgv: [
        `--max-old-space-size=${HEAP_MIB.old}`,
        `--max-semi-space-size=${HEAP_MIB.semiSpace}`,
        '--expose-gc',
        `--import=${new URL('./heap-probe.js', import.meta.url).href}`,
      ],
    });
    const remove = () => rmSync(directory, { recursive: true, force: true });
    child.once('exit', remove);
    const { sockets } = (await nextMessage(child)) as ServerReady;
    return new ServerProcess(child, directory, sockets);
  }

  /** What happened since the last time. Rejects with a FuzzFailure where the process is gone or silent. */
  async report(): Promise<ServerReport> {
    return (await this.ask('report')) as ServerReport;
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** How large it is, after garbage was collected in all its threads. */
  async health(): Promise<Health> {
    const live = (await this.ask('measure')) as LiveMemory[];
    const proc = `/proc/${this.pid}`;
    const resident = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`${proc}/status`, 'utf8'));
    return {
      descriptors: readdirSync(`${proc}/fd`).length,
      mappings: readFileSync(`${proc}/maps`, 'utf8').split('\n').length - 1,
      residentMiB: Math.round(Number(resident?.[1] ?? 0) / 1024),
      heapsKiB: Object.fromEntries(live.map(({ heap }, thread) => [THREADS[thread] ?? String(thread), sumKiB([heap])])),
      buffersKiB: sumKiB(live.map(({ external }) => external % WINDOW_BYTES)),
    };
  }

  private async ask(question: ServerQuestion): Promise<unknown> {
    const answer = nextMessage(this.child);
    this.child.send(question, () => {});
    return await answer;
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

/** In words: what has grown that should not have. `growth`: how much each thread's live heap may, in KiB. */
export function leaks(warm: Health, last: Health, growth: Readonly<Record<string, number>>): string[] {
  const heaps = Object.entries(last.heapsKiB)
    .filter(([thread, heap]) => heap > warm.heapsKiB[thread]! + growth[thread]!)
    .map(([thread, heap]) => `the live heap of thread ${thread} grew from ${warm.heapsKiB[thread]} to ${heap} KiB`);
  const grown = last.buffersKiB > warm.buffersKiB + BUFFER_GROWTH_KIB;
  return grown ? [...heaps, `buffers grew from ${warm.buffersKiB} to ${last.buffersKiB} KiB`] : heaps;
}

/** For one line. */
export function describeHealth({ descriptors, mappings, residentMiB, heapsKiB, buffersKiB }: Health): string {
  const heaps = Object.entries(heapsKiB).map(([thread, heap]) => `${thread} ${heap}`);
  return `${descriptors} descriptors, ${mappings} mappings, ${residentMiB} MiB resident; alive: ${heaps.join(', ')}, buffers ${buffersKiB} KiB`;
}

function sumKiB(bytes: readonly number[]): number {
  return Math.round(bytes.reduce((sum, one) => sum + one, 0) / 1024);
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
