/** Runs the compiled program as its users do. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const repository = join(import.meta.dirname, '..');
export const program = join(repository, 'dist', 'src', 'cli', 'main.js');

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningProgram {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly ended: Promise<Outcome>;
  /** Everything on the standard output so far. */
  stdout(): string;
  /** Resolves when the standard output matches; rejects when the program ends first. */
  says(pattern: RegExp): Promise<void>;
}

export function startProgram(args: readonly string[], options: { readonly input?: boolean } = {}): RunningProgram {
  const input = options.input ? 'pipe' : 'ignore';
  const child = spawn(process.execPath, [program, ...args], { stdio: [input, 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  const listeners = new Set<() => void>();
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    for (const listener of listeners) listener();
  });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Outcome>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', status => resolve({ status, stdout, stderr }));
  });
  return {
    child,
    pid: child.pid!,
    ended,
    stdout: () => stdout,
    says: pattern =>
      new Promise<void>((resolve, reject) => {
        const look = () => {
          if (!pattern.test(stdout)) return;
          listeners.delete(look);
          resolve();
        };
        listeners.add(look);
        look();
        ended.then(
          outcome => reject(new Error(`it ended with ${outcome.status}: ${outcome.stdout}${outcome.stderr}`)),
          reject,
        );
      }),
  };
}

export async function runProgram(args: readonly string[]): Promise<Outcome> {
  return await startProgram(args).ended;
}

export interface ProcessFootprint {
  readonly descriptors: number;
  readonly mappings: number;
  /** Those of files, devices and memory with a name; the JavaScript heap's, which come and go, have none. */
  readonly namedMappings: number;
  /** Mappings of a guest's memory. */
  readonly guestMappings: number;
  readonly residentKiB: number;
}

export function footprint(pid: number): ProcessFootprint {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const maps = readFileSync(`/proc/${pid}/maps`, 'utf8').trimEnd().split('\n');
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    mappings: maps.length,
    namedMappings: maps.filter(line => /\s\/\S|anon_inode/.test(line)).length,
    guestMappings: maps.filter(line => line.includes('/memfd:')).length,
    residentKiB: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]),
  };
}
