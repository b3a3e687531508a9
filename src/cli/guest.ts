/** `viommu guest ...`: what can be done with a guest that runs headless, from any process that sees its directory. */
import { readFileSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { copyIn } from '../../images/guest/copy-in.ts';
import { shellWord } from '../../qemu/command-line.ts';
import { ExitStatus, UsageError } from './errors.ts';
import { GuestClient, GuestFailure } from './guest/client.ts';
import { copyTo, parseCopy } from './guest/copies.ts';
import { FailureReason, MAX_TIMEOUT_MS } from './guest/protocol.ts';
import { giveBackDevices, RELEASE_DEVICES } from './guest/vfio-devices.ts';

/** As ssh(1) and timeout(1) have them: no status of the command's own is known. */
const STATUS_UNKNOWN = 255;
const STATUS_TIMEOUT = 124;
/** The kernel's start under TCG takes seconds; this is for machines ten times slower. */
const WAIT_SECONDS = 180;
const STEP_TIMEOUT_MS = 60_000;
const MODULE_FOLDER = '/run/modules';
/** What the kernel said last, where it refuses a module. */
const SHOWN_LOG_LINES = 10;
const MAX_FILE_BYTES = 64 * 1024 * 1024;

interface GuestFlags {
  readonly dir: string;
  /** Seconds. */
  readonly timeout?: number;
  readonly json?: boolean;
}

const EXAMPLES = `
The guest is one of 'viommu boot --headless --guest-dir DIR'. Commands run one after the other, as root.

Examples:
  $ viommu boot --headless --guest-dir /tmp/g --device edu@01:00.0 > console.log &
  $ export VIOMMU_GUEST_DIR=/tmp/g
  $ viommu guest wait
  $ viommu guest exec -- dma-demo --case device-writes
  $ viommu guest exec -- 'dmesg | grep DMAR'       # one word: a line for the guest's shell
  $ viommu guest push test.sh /bin/test.sh
  $ viommu guest load my.ko bug=1
  $ viommu guest log
`;

const STATUSES = `
Exit status: the command's own; 124 where it took longer than --timeout; 255 where its end is not known (the guest has ended or
started anew, or there is none).
`;

export function addGuest(program: Command): void {
  const group = program
    .command('guest')
    .description('run commands in a guest that runs headless, put files and modules into it, read its kernel log')
    .addHelpText('after', EXAMPLES);
  sub(group, 'exec <command...>', 'run a command in the guest; its output is printed as it comes')
    .option('--timeout <seconds>', 'interrupt it after that time', seconds)
    .option('--json', 'print JSON lines: {"line":...} and at the end {"status":...}')
    .addHelpText('after', STATUSES)
    .action(exec);
  sub(group, 'push <file> [guest-path]', 'put a file into the guest, as /root/NAME or GUEST-PATH').action(push);
  sub(
    group,
    'load <module> [parameters...]',
    'load a kernel module (.ko) of yours in the guest; vfio-pci lets go of its devices for it',
  ).action(load);
  sub(group, 'log', "print the guest kernel's log").action(log);
  sub(group, 'wait', "wait until the guest's agent answers")
    .option('--timeout <seconds>', `for how long at most (default: ${WAIT_SECONDS})`, seconds)
    .action(wait);
}

function sub(group: Command, words: string, description: string): Command {
  const directory = new Option('--dir <directory>', "the directory of 'viommu boot --headless --guest-dir'");
  return group
    .command(words)
    .description(description)
    .addOption(directory.env('VIOMMU_GUEST_DIR').makeOptionMandatory())
    .exitOverride();
}

async function exec(words: readonly string[], flags: GuestFlags): Promise<void> {
  const onLine = (line: string) => console.log(flags.json ? JSON.stringify({ line }) : line);
  const { timeout } = flags;
  await withGuest(flags, async guest => {
    const timeoutMs = timeout === undefined ? {} : { timeoutMs: timeout * 1000 };
    const { status } = await guest.run(commandLine(words), { onLine, ...timeoutMs });
    if (flags.json) console.log(JSON.stringify({ status }));
    process.exitCode = status;
  });
}

/** Several words are a program and its arguments, as they are; a single one is for the shell. */
export function commandLine(words: readonly string[]): string {
  return words.length === 1 ? words[0]! : words.map(shellWord).join(' ');
}

async function push(file: string, guestPath: string | undefined, flags: GuestFlags): Promise<void> {
  const copy = guestPath === undefined ? parseCopy(file) : copyTo(file, guestPath);
  await withGuest(flags, guest => copyFile(guest, copy.file, copy.guestPath));
}

async function load(module: string, parameters: readonly string[], flags: GuestFlags): Promise<void> {
  const { file } = parseCopy(module);
  await withGuest(flags, async guest => {
    const guestPath = `${MODULE_FOLDER}/${basename(file)}`;
    await copyFile(guest, file, guestPath);
    const taken = await guest.run(RELEASE_DEVICES, { timeoutMs: STEP_TIMEOUT_MS });
    const words = ['insmod', guestPath, ...parameters].map(shellWord).join(' ');
    const { status, output } = await guest.run(words, { timeoutMs: STEP_TIMEOUT_MS });
    const back = giveBackDevices(taken.output);
    if (back !== undefined) await guest.run(back, { timeoutMs: STEP_TIMEOUT_MS });
    if (status === 0) return;
    for (const line of output) console.error(line);
    const kernel = await guest.run(`dmesg | tail -n ${SHOWN_LOG_LINES}`, { timeoutMs: STEP_TIMEOUT_MS });
    console.error(['The guest kernel said last:', ...kernel.output].join('\n'));
    process.exitCode = ExitStatus.failed;
  });
}

async function log(flags: GuestFlags): Promise<void> {
  await withGuest(flags, async guest => {
    const { status } = await guest.run('dmesg', { onLine: line => console.log(line), timeoutMs: STEP_TIMEOUT_MS });
    process.exitCode = status;
  });
}

async function wait(flags: GuestFlags): Promise<void> {
  const timeoutMs = (flags.timeout ?? WAIT_SECONDS) * 1000;
  const deadline = performance.now() + timeoutMs;
  await withGuest(flags, guest => guest.wait(Math.max(0, deadline - performance.now())), timeoutMs);
}

/** With the file's own permissions, so that a script stays one. */
async function copyFile(guest: GuestClient, file: string, guestPath: string): Promise<void> {
  const { mode, size } = statSync(file);
  if (size > MAX_FILE_BYTES) {
    throw new UsageError(`${file} has ${size} bytes: at most ${MAX_FILE_BYTES} go through the guest's serial port`);
  }
  await copyIn(guest, readFileSync(file), guestPath, mode & 0o777);
}

/** What the guest's failures mean to a shell. `timeoutMs`: for how long a guest may be missing. */
async function withGuest(flags: GuestFlags, use: (guest: GuestClient) => Promise<void>, timeoutMs = 0): Promise<void> {
  // From the environment, where that counts as not there.
  if (flags.dir === '') throw new UsageError('say where the guest runs: --dir DIR, or VIOMMU_GUEST_DIR');
  try {
    const guest = await GuestClient.connect(flags.dir, timeoutMs);
    try {
      await use(guest);
    } finally {
      guest.close();
    }
  } catch (error) {
    if (!(error instanceof GuestFailure)) throw error;
    if (flags.json) console.log(JSON.stringify({ error: error.message, reason: error.reason }));
    console.error(`viommu: ${error.message}`);
    process.exitCode = statusOf(error.reason);
  }
}

function statusOf(reason: FailureReason): number {
  if (reason === FailureReason.timeout) return STATUS_TIMEOUT;
  return reason === FailureReason.refused ? ExitStatus.usage : STATUS_UNKNOWN;
}

function seconds(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && value > 0 && value * 1000 <= MAX_TIMEOUT_MS) return value;
  throw new InvalidArgumentError('It must be a number of seconds above zero.');
}
