/**
 * Decides between KVM and TCG. That /dev/kvm opens says little: in some nested virtual machines firmware runs, but Linux
 * ends in `KVM internal error ... emulation failure` and hangs. So a guest is tried, once, and the verdict is remembered.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { fingerprint, readFact, writeFact } from './cache.ts';
import type { Accelerator, Boot } from './command-line.ts';
import { describeExit, launchQemu } from './launch.ts';
import type { Progress } from './progress.ts';
import type { QemuInstallation } from './provision.ts';
import { describeTopology } from './topology.ts';

const KVM_DEVICE = '/dev/kvm';
/** How long a trial may take; KVM needs a second or two for the kernel's whole start. Milliseconds. */
export const TRIAL_TIMEOUT_MS = 30_000;
const TRIAL_MEMORY_MEGABYTES = 256;

/** The kernel got through all of its own start and misses only a root file system, which the trial does not give it. */
const KERNEL_STARTED = /VFS: (?:Unable to mount root fs|Cannot open root device)/;
/** SeaBIOS got through all of its own start. */
const FIRMWARE_STARTED = /No bootable device/;
const KVM_FAULT = /KVM internal error[^\n]*|emulation failure/;

export interface AcceleratorChoice {
  readonly accelerator: Accelerator;
  /** Why not KVM, as one sentence; undefined when KVM is used. */
  readonly reason: string | undefined;
}

export interface ChooseAcceleratorOptions {
  readonly installation: QemuInstallation;
  /** A Linux kernel makes the trial an honest one; without it only firmware is tried. */
  readonly kernel?: string;
  readonly progress: Progress;
  /** Default: the user's cache directory. */
  readonly cache?: string;
  /** Default `/dev/kvm`. */
  readonly device?: string;
}

export async function chooseAccelerator(options: ChooseAcceleratorOptions): Promise<AcceleratorChoice> {
  const device = options.device ?? KVM_DEVICE;
  const choice = deviceProblem(device) ?? (await rememberedTrial(options));
  if (choice === undefined) return { accelerator: 'kvm', reason: undefined };
  options.progress(`Without KVM, the guest runs slower (TCG): ${choice}`);
  return { accelerator: 'tcg', reason: choice };
}

/** Why the device cannot be used, or undefined. */
function deviceProblem(device: string): string | undefined {
  try {
    closeSync(openSync(device, constants.O_RDWR));
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return `${device} does not exist.`;
    if (code === 'EACCES' || code === 'EPERM') return `${device} may not be opened by this user (group kvm, usually).`;
    return `${device} cannot be opened: ${(error as Error).message}.`;
  }
}

/** Why a guest does not run under KVM, or undefined; tried once for each kernel of the host, processor and QEMU. */
async function rememberedTrial(options: ChooseAcceleratorOptions): Promise<string | undefined> {
  const { installation, kernel } = options;
  const what = kernel === undefined ? 'firmware' : 'linux';
  const fact = `kvm-${fingerprint([release(), cpus()[0]?.model, installation.version, what])}`;
  const known = await readFact(fact, options.cache);
  if (isVerdict(known)) return known.problem ?? undefined;
  options.progress(`Trying whether KVM works here (${what})`);
  const problem = await tryAccelerator('kvm', installation, kernel);
  await writeFact(fact, { problem: problem ?? null }, options.cache);
  return problem;
}

function isVerdict(value: unknown): value is { problem: string | null } {
  if (typeof value !== 'object' || value === null || !('problem' in value)) return false;
  return value.problem === null || typeof value.problem === 'string';
}

/** Runs a guest without devices until it shows that it lives. What is wrong, as one sentence, or undefined. */
export async function tryAccelerator(
  accelerator: Accelerator,
  installation: QemuInstallation,
  kernel: string | undefined,
  timeoutMs = TRIAL_TIMEOUT_MS,
): Promise<string | undefined> {
  let decide!: (problem: string | undefined) => void;
  const verdict = new Promise<string | undefined>(resolve => {
    decide = resolve;
  });
  const alive = kernel === undefined ? FIRMWARE_STARTED : KERNEL_STARTED;
  let output = '';
  const onOutput = (chunk: Buffer) => {
    output += chunk.toString('latin1');
    if (alive.test(output)) decide(undefined);
  };
  let stderr = '';
  const onStderr = (text: string) => {
    stderr += text;
    const fault = KVM_FAULT.exec(stderr);
    if (fault !== null) decide(`a trial guest failed with "${fault[0]}".`);
  };
  const boot: Boot =
    kernel === undefined
      ? { kind: 'firmware' }
      : { kind: 'kernel', kernel, append: 'console=ttyS0 earlyprintk=serial,ttyS0,115200' };
  const qemu = await launchQemu({
    installation,
    machine: {
      topology: describeTopology('root-bus', []),
      firmware: 'bios',
      accelerator,
      processors: 1,
      memoryMegabytes: TRIAL_MEMORY_MEGABYTES,
      memory: 'message',
      boot,
    },
    endpointSockets: {},
    onStderr,
    ...(kernel === undefined ? { onFirmwareLog: onOutput } : { onConsole: onOutput }),
  }).catch((error: Error) => error);
  if (qemu instanceof Error) return `QEMU does not start with it: ${firstLine(qemu.message)}.`;
  void qemu.exit.then(exit => decide(`QEMU ended in a trial (${describeExit(exit)}): ${firstLine(exit.stderr)}.`));
  const timer = setTimeout(() => decide(`a trial guest showed no life within ${timeoutMs / 1000} s.`), timeoutMs);
  try {
    return await verdict;
  } finally {
    clearTimeout(timer);
    await qemu.quit();
  }
}

function firstLine(text: string): string {
  return text
    .trim()
    .replaceAll(/\s*\n\s*/g, ' ')
    .slice(0, 200);
}
