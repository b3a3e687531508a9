/** Runs one command to its end. No shell: arguments are passed as they are. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';

export interface RunOptions {
  readonly cwd?: string;
  /** Descriptor that the command gets as its number 3. */
  readonly descriptor?: number;
  /** The command is killed and the result is an Error after so many milliseconds. Default: no limit. */
  readonly timeoutMs?: number;
}

export interface RunResult {
  /** Exit status; 128 + signal number for a command that a signal ended, as shells count. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command could not be started because it does not exist. */
export class CommandMissing extends Error {
  readonly command: string;

  constructor(command: string) {
    super(`command not found: ${command}`);
    this.name = 'CommandMissing';
    this.command = command;
  }
}

/** Throws CommandMissing, or an Error when the command cannot be started or outlives its time; a bad status is a result. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const command = argv[0];
  if (command === undefined) throw new Error('run: no command');
  return new Promise((resolve, reject) => {
    const stdio: ('ignore' | 'pipe' | number)[] = ['ignore', 'pipe', 'pipe'];
    if (options.descriptor !== undefined) stdio.push(options.descriptor);
    // Messages are matched below and by callers, so they must not depend on the user's language.
    const child = spawn(command, argv.slice(1), {
      stdio,
      cwd: options.cwd,
      env: { ...process.env, LC_ALL: 'C.UTF-8', LANGUAGE: '' },
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let late = false;
    const timer =
      options.timeoutMs === undefined
        ? undefined
        : setTimeout(() => {
            late = true;
            child.kill('SIGKILL');
          }, options.timeoutMs);
    child.stdout!.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr!.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.on('error', error => {
      clearTimeout(timer);
      const { code } = error as NodeJS.ErrnoException;
      // EACCES for a bare name: no directory of PATH has it, and one of them could not be looked into.
      const missing = code === 'ENOENT' || (code === 'EACCES' && !command.includes('/'));
      reject(missing ? new CommandMissing(command) : error);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (late) {
        reject(new Error(`${command} did not end within ${options.timeoutMs} ms`));
        return;
      }
      const status = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
      const text = (chunks: Buffer[]) => Buffer.concat(chunks).toString('utf8');
      resolve({ status, stdout: text(stdout), stderr: text(stderr) });
    });
  });
}
