/** A guest that runs in a container. */
import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import {
  AbstractStartedContainer,
  type ExecResult,
  type StartedTestContainer,
  type StopOptions,
  type StoppedTestContainer,
} from 'testcontainers';
import { makeTemporaryDirectory } from '../posix/temporary-directory.ts';
import type { TestMachine } from '../testing/machine.ts';
import { RecordingReader } from '../trace/recording/reader.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import { fileInArchive } from './archive.ts';
import { writeArtefacts } from './artefacts.ts';
import { checkModule } from './module-info.ts';
import { allLogs, GUEST_DIRECTORY } from './ready.ts';
import type { StartedViommuContainer } from './started-viommu.ts';

/** In the container. */
export const RECORDING = '/tmp/run.viommu';
const COMMAND_TIMEOUT_MS = 60_000;
/** What is not in the file by then is left out of it. */
const RECORDING_TIMEOUT_MS = 10_000;
const RETRY_MS = 200;
/** For QEMU to end and the machine to be given back; a container that is killed leaves it leased for the grace time. */
const STOP_TIMEOUT_MS = 10_000;
/** Our own command's errors begin so; what the guest says is on standard output. */
const OWN_ERROR = /^viommu: /m;
export interface LoadedModule {
  readonly path: string;
  readonly parameters?: string;
}

export interface RunOptions {
  /** The command is ended then, and `run` rejects. Default: a minute. */
  readonly timeoutMs?: number;
}

export interface RunResult {
  /** As the shell counts: 0 to 255, 128 + n for signal n. */
  readonly status: number;
  /** Standard output and standard error. */
  readonly output: string;
}

export class StartedQemuGuestContainer extends AbstractStartedContainer {
  private readonly beforeStop: (() => Promise<void>)[] = [];
  private stopped = false;
  private kernelRelease: string | undefined;
  private readonly release: () => void;

  private constructor(
    container: StartedTestContainer,
    readonly server: StartedViommuContainer,
    /** What the guest's driver does to it: findings, events, mappings, faults on purpose. */
    readonly machine: TestMachine,
    private readonly hasRecording: boolean,
  ) {
    super(container);
    this.release = server.holdGuest(this);
  }

  /** For `QemuGuestContainer.start`. Ends the container where the guest does not become what was asked for. */
  static async finish(
    container: StartedTestContainer,
    server: StartedViommuContainer,
    modules: readonly LoadedModule[],
    hasRecording: boolean,
  ): Promise<StartedQemuGuestContainer> {
    let guest: StartedQemuGuestContainer | undefined;
    try {
      const machine = await server.attach(await machineName(container));
      guest = new StartedQemuGuestContainer(container, server, machine, hasRecording);
      for (const { path, parameters } of modules) await guest.loadModule(path, parameters);
      return guest;
    } catch (error) {
      await (guest ?? container).stop();
      throw error;
    }
  }

  /** Runs a line of shell in the guest. Rejects where its end cannot be told: after the time, or when the guest restarts. */
  async run(command: string, { timeoutMs = COMMAND_TIMEOUT_MS }: RunOptions = {}): Promise<RunResult> {
    const seconds = String(Math.max(1, Math.ceil(timeoutMs / 1000)));
    const { exitCode, stdout, stderr } = await this.guest('exec', '--timeout', seconds, '--', command);
    if (OWN_ERROR.test(stderr)) throw new Error(`${stderr.trim()}\n${stdout}`.trimEnd());
    return { status: exitCode, output: stdout };
  }

  /** Puts a file into the running guest. */
  async copyIn(hostPath: string, guestPath: string): Promise<void> {
    const file = `/tmp/${randomUUID()}`;
    await this.copyFilesToContainer([{ source: hostPath, target: file, mode: 0o755 }]);
    await this.must('push', file, guestPath);
  }

  /** Loads a kernel module; devices that the stock guest holds for vfio-pci are free for it. `parameters`: e.g. `debug=1`. */
  async loadModule(path: string, parameters?: string): Promise<void> {
    checkModule(path, readFileSync(path), await this.runningRelease());
    const file = `/tmp/${randomUUID()}/${basename(path)}`;
    await this.copyFilesToContainer([{ source: path, target: file, mode: 0o644 }]);
    await this.must('load', file, ...(parameters?.split(/\s+/).filter(word => word !== '') ?? []));
  }

  /** What the guest's kernel said since its start. */
  async kernelLog(): Promise<string> {
    return (await this.run('dmesg')).output;
  }

  /** What the sanitizer found so far, and what looked like a mistake is decided. */
  async findings(): Promise<readonly Finding[]> {
    await this.machine.settle();
    return await this.machine.findings();
  }

  /** The recording of all that happened so far. Rejects where the guest has none. */
  async recording(): Promise<Buffer> {
    if (!this.hasRecording) throw new Error('nothing is recorded: leave out withoutRecording()');
    await this.machine.settle();
    // Records reach the file some time after they reach us.
    const wanted = this.machine.records.lastTime;
    const deadline = performance.now() + RECORDING_TIMEOUT_MS;
    for (;;) {
      const archive = await this.copyArchiveFromContainer(RECORDING);
      const bytes = await fileInArchive(archive as AsyncIterable<Buffer>);
      const isLate = performance.now() >= deadline || this.machine.ended;
      if (isLate || recordedUntil(bytes) >= wanted) return bytes;
      await setTimeout(RETRY_MS);
    }
  }

  /**
   * Writes what explains a failure into a directory: the recording for `viommu explain`, the findings as text and JSON, the kernel's
   * log, and what the two containers said. What cannot be had is told in a file of its own. Gives the files' paths.
   */
  async saveArtefacts(directory: string): Promise<string[]> {
    const answer = await this.machine.findingsAnswer();
    return await writeArtefacts(directory, this.machine.description, answer, {
      ...(this.hasRecording ? { 'run.viommu': () => this.recording() } : {}),
      'kernel.log': () => this.kernelLog(),
      'guest.log': () => allLogs(this),
      'server.log': () => allLogs(this.server),
    });
  }

  /** To be done while the guest still runs. */
  onStop(work: () => Promise<void>): void {
    this.beforeStop.push(work);
  }

  get isStopped(): boolean {
    return this.stopped;
  }

  override async stop(options: Partial<StopOptions> = {}): Promise<StoppedTestContainer> {
    return await super.stop({ timeout: STOP_TIMEOUT_MS, ...options });
  }

  protected override async containerStopping(): Promise<void> {
    if (this.stopped) return;
    for (const work of this.beforeStop) await work();
    this.stopped = true;
    await this.machine.stop();
  }

  protected override async containerStopped(): Promise<void> {
    this.release();
  }

  private async runningRelease(): Promise<string> {
    this.kernelRelease ??= (await this.run('uname -r')).output.trim();
    return this.kernelRelease;
  }

  private guest(command: string, ...words: readonly string[]): Promise<ExecResult> {
    return this.exec(['viommu', 'guest', command, '--dir', GUEST_DIRECTORY, ...words]);
  }

  private async must(command: string, ...words: readonly string[]): Promise<void> {
    const { exitCode, output } = await this.guest(command, ...words);
    if (exitCode !== 0) throw new Error(output.trim() || `viommu guest ${command} ended with ${exitCode}`);
  }
}

/** The time of the last record, in nanoseconds. */
function recordedUntil(recording: Buffer): number {
  const directory = makeTemporaryDirectory('recording');
  try {
    const path = join(directory.path, 'run.viommu');
    writeFileSync(path, recording);
    const reader = RecordingReader.open(path);
    try {
      return reader.blocks.at(-1)?.last ?? 0;
    } finally {
      reader.close();
    }
  } finally {
    directory.remove();
  }
}

/** By which name the server knows the guest's machine. */
async function machineName(container: StartedTestContainer): Promise<string> {
  const { exitCode, output } = await container.exec(['cat', `${GUEST_DIRECTORY}/guest.json`]);
  const said: unknown = exitCode === 0 ? JSON.parse(output) : undefined;
  const name = (said as { readonly machine?: unknown } | undefined)?.machine;
  if (typeof name !== 'string') throw new Error(`the guest does not tell its machine's name: ${output.trim()}`);
  return name;
}
