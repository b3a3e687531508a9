/**
 * Starts QEMU and ends it: however either process ends, no process, socket or file of a run remains. When SIGKILL ends this process,
 * QEMU ends too, and the next command clears the run's directory away.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { makeTemporaryDirectory } from '../src/posix/temporary-directory.ts';
import { endWithProcess } from './children.ts';
import { type MachineConfiguration, qemuCommand, type RunPaths } from './command-line.ts';
import { killWithParent } from './guard.ts';
import type { QemuInstallation } from './provision.ts';
import { QmpClient } from './qmp.ts';

/** A unix socket's path has at most so many bytes on Linux (unix(7): 108 with the NUL). */
const MAX_SOCKET_PATH_BYTES = 107;
/** Only the end of what QEMU says on its error output is kept. Characters. */
const MAX_STDERR_CHARACTERS = 64 * 1024;
/** How long QEMU may take until it answers on QMP; it negotiates with every vfio-user server before. Milliseconds. */
export const START_TIMEOUT_MS = 60_000;
/** How long each of quit's ways (QMP quit, SIGTERM) may take before the next. Milliseconds. */
export const QUIT_STEP_MS = 5_000;
/** The first release with `-run-with exit-with-parent`. */
const EXIT_WITH_PARENT_SINCE = [10, 2] as const;

export interface LaunchOptions {
  readonly installation: QemuInstallation;
  readonly machine: MachineConfiguration;
  /** Left out for a machine without our IOMMU. */
  readonly iommuSocket?: string;
  /** By the endpoint's name. */
  readonly endpointSockets: Readonly<Record<string, string>>;
  /** Whole ACPI tables. */
  readonly acpiTables?: readonly Uint8Array[];
  /** Gets the output of the guest's first serial port; alternatively `consoleFile` is written. */
  readonly onConsole?: (chunk: Buffer) => void;
  /** The guest's first serial port is this process's own terminal, both ways; excludes the other two. */
  readonly terminal?: boolean;
  readonly consoleFile?: string;
  /** Offers the guest's second serial port as `RunningQemu.agentSocket`. */
  readonly agent?: boolean;
  /** Gets what the firmware writes to its debug port; excludes `onConsole`. */
  readonly onFirmwareLog?: (chunk: Buffer) => void;
  /** Gets what QEMU itself says on its error output, as it comes. */
  readonly onStderr?: (text: string) => void;
  /** Default `START_TIMEOUT_MS`. */
  readonly startTimeoutMs?: number;
  /** Default `QUIT_STEP_MS`. */
  readonly quitStepMs?: number;
}

export interface QemuExit {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The end of what it said on its error output. */
  readonly stderr: string;
}

export interface RunningQemu {
  readonly pid: number;
  readonly argv: readonly string[];
  readonly qmp: QmpClient;
  readonly agentSocket: string | undefined;
  /** Resolves when the process has ended and its files are gone; never rejects. */
  readonly exit: Promise<QemuExit>;
  /** What QEMU said on its error output so far, at most the last 64 Ki characters. */
  stderr(): string;
  /** Ends it: politely, then not. Resolves when it is gone; may be called any number of times. */
  quit(): Promise<QemuExit>;
}

/** QEMU ended, or did not answer, before it was up; the message has what it said. */
export class LaunchError extends Error {
  readonly argv: readonly string[];

  constructor(what: string, argv: readonly string[], stderr: string) {
    super(`${what}${stderr === '' ? '' : `; it said:\n${stderr.trimEnd()}`}`);
    this.name = 'LaunchError';
    this.argv = argv;
  }
}

/** Resolves when QEMU answers on QMP: every device is realized, the guest runs. Throws LaunchError. */
export async function launchQemu(options: LaunchOptions): Promise<RunningQemu> {
  // Synchronous up to the registration: nothing can be left behind by a signal in between.
  const { path: directory, remove: removeFiles } = makeTemporaryDirectory('qemu');
  let child: ChildProcess | undefined;
  const release = endWithProcess({
    endNow() {
      child?.kill('SIGKILL');
      removeFiles();
    },
    askToEnd() {
      child?.kill('SIGTERM');
    },
  });
  const server = createServer();
  let watched: Watched | undefined;
  try {
    const paths = await prepareFiles(directory, options);
    server.listen(paths.qmpSocket);
    await once(server, 'listening');
    const argv = commandLine(options, paths);
    child = spawn(argv[0]!, argv.slice(1), {
      stdio: options.terminal ? ['inherit', 'inherit', 'pipe'] : ['ignore', 'pipe', 'pipe'],
    });
    const guarded = child.pid !== undefined && !supportsExitWithParent(options.installation.version);
    const unguard = guarded ? killWithParent(child.pid!) : () => {};
    watched = watch(child, options, () => {
      unguard();
      server.close();
      removeFiles();
      release();
    });
    const qmp = await firstAnswer(server, watched, argv, options.startTimeoutMs ?? START_TIMEOUT_MS);
    // QEMU connects once; nobody else has any business on this socket.
    server.close();
    return running(child, watched, argv, qmp, paths.agentSocket, options.quitStepMs ?? QUIT_STEP_MS);
  } catch (error) {
    child?.kill('SIGKILL');
    await watched?.exit;
    server.close();
    removeFiles();
    release();
    throw error;
  }
}

async function prepareFiles(directory: string, options: LaunchOptions): Promise<RunPaths & { qmpSocket: string }> {
  const qmpSocket = join(directory, 'qmp.sock');
  const agentSocket = options.agent ? join(directory, 'agent.sock') : undefined;
  for (const path of [qmpSocket, agentSocket, options.iommuSocket, ...Object.values(options.endpointSockets)]) {
    if (path !== undefined && Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
      throw new Error(
        `A socket's path has at most ${MAX_SOCKET_PATH_BYTES} bytes: ${path}. Use a shorter directory (TMPDIR).`,
      );
    }
  }
  const acpiTables = await Promise.all(
    (options.acpiTables ?? []).map(async (table, index) => {
      const path = join(directory, `table${index}.aml`);
      await writeFile(path, table);
      return path;
    }),
  );
  const { ovmf } = options.installation;
  let ovmfVars: string | undefined;
  if (options.machine.firmware === 'uefi' && ovmf !== undefined) {
    ovmfVars = join(directory, 'vars.fd');
    await copyFile(ovmf.vars, ovmfVars);
  }
  const { iommuSocket } = options;
  const console = consoleOf(options);
  return {
    endpointSockets: options.endpointSockets,
    acpiTables,
    qmpSocket,
    ...(iommuSocket === undefined ? {} : { iommuSocket }),
    ...(console === undefined ? {} : { console }),
    ...(agentSocket === undefined ? {} : { agentSocket }),
    ...(ovmfVars === undefined ? {} : { ovmfVars }),
    ...(options.onFirmwareLog === undefined ? {} : { firmwareLog: { kind: 'stdio' } }),
  };
}

function consoleOf(options: LaunchOptions): RunPaths['console'] {
  if (options.terminal) return { kind: 'terminal' };
  if (options.onConsole !== undefined && options.onFirmwareLog !== undefined) {
    throw new Error('QEMU has one standard output: ask for the console or for the firmware log, not for both');
  }
  if (options.onConsole !== undefined) return { kind: 'stdio' };
  return options.consoleFile === undefined ? undefined : { kind: 'file', path: options.consoleFile };
}

function commandLine(options: LaunchOptions, paths: RunPaths): string[] {
  const argv = qemuCommand(options.installation, options.machine, paths);
  return supportsExitWithParent(options.installation.version) ? [...argv, '-run-with', 'exit-with-parent=on'] : argv;
}

export function supportsExitWithParent(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [firstMajor, firstMinor] = EXIT_WITH_PARENT_SINCE;
  return major > firstMajor || (major === firstMajor && minor >= firstMinor);
}

interface Watched {
  readonly exit: Promise<QemuExit>;
  /** Why the process could not even be started. */
  failure(): Error | undefined;
  stderr(): string;
}

function watch(child: ChildProcess, options: LaunchOptions, onEnd: () => void): Watched {
  let said = '';
  let failure: Error | undefined;
  child.stderr!.setEncoding('utf8');
  child.stderr!.on('data', (text: string) => {
    said = (said + text).slice(-MAX_STDERR_CHARACTERS);
    options.onStderr?.(text);
  });
  // Drained in any case, so that QEMU never blocks on it.
  child.stdout?.on('data', (chunk: Buffer) => (options.onConsole ?? options.onFirmwareLog)?.(chunk));
  const exit = new Promise<QemuExit>(resolve => {
    child.on('error', error => {
      // Also said of a signal that could not be sent, to a process that runs on.
      if (child.pid !== undefined) return;
      failure = error;
      onEnd();
      resolve({ code: null, signal: null, stderr: error.message });
    });
    child.on('close', (code, signal) => {
      onEnd();
      resolve({ code, signal, stderr: said });
    });
  });
  return { exit, failure: () => failure, stderr: () => said };
}

async function firstAnswer(server: Server, watched: Watched, argv: string[], timeoutMs: number): Promise<QmpClient> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new LaunchError(`QEMU did not answer within ${timeoutMs / 1000} s`, argv, watched.stderr()));
    }, timeoutMs);
  });
  const ended = watched.exit.then((exit): never => {
    const failure = watched.failure();
    if (failure !== undefined) throw new LaunchError(`QEMU cannot be started: ${failure.message}`, argv, '');
    throw new LaunchError(`QEMU ended while it started (${describeExit(exit)})`, argv, exit.stderr);
  });
  const answered = new Promise<QmpClient>((resolve, reject) => {
    server.once('connection', socket => {
      // When the connection breaks because QEMU ends, its exit tells more than the broken connection.
      QmpClient.attach(socket).then(resolve, error => watched.exit.then(() => reject(error)));
    });
  });
  try {
    return await Promise.race([answered, ended, tooLate]);
  } finally {
    clearTimeout(timer);
  }
}

export function describeExit(exit: QemuExit): string {
  return exit.signal === null ? `status ${exit.code}` : exit.signal;
}

function running(
  child: ChildProcess,
  watched: Watched,
  argv: readonly string[],
  qmp: QmpClient,
  agentSocket: string | undefined,
  quitStepMs: number,
): RunningQemu {
  let quitting: Promise<QemuExit> | undefined;
  const steps: (() => void)[] = [
    // A refusal, or a connection already closed, is answered by the next step.
    () => void qmp.execute('quit').catch(() => {}),
    () => void child.kill('SIGTERM'),
    () => void child.kill('SIGKILL'),
  ];
  const quit = async () => {
    for (const step of steps) {
      step();
      const exit = await within(watched.exit, quitStepMs);
      if (exit !== undefined) return exit;
    }
    // SIGKILL has been sent: what is left is a matter of the kernel.
    return await watched.exit;
  };
  void watched.exit.then(() => qmp.close());
  return {
    pid: child.pid!,
    argv,
    qmp,
    agentSocket,
    exit: watched.exit,
    stderr: watched.stderr,
    quit: () => {
      quitting ??= quit();
      return quitting;
    },
  };
}

async function within<T>(promise: Promise<T>, milliseconds: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<undefined>(resolve => {
    timer = setTimeout(() => resolve(undefined), milliseconds);
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}
