import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { Boot } from '../../qemu/command-line.ts';
import { provisionQemu } from '../../qemu/provision.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { ConsoleWatch } from './console-watch.ts';
import { DebugSession } from './debug-session.ts';
import { ExitStatus, UsageError } from './errors.ts';
import { eventToJson, formatEvent, isNotable } from './event-printer.ts';
import { copiesByPath } from './guest/copies.ts';
import { claimGuestDirectory, HeadlessGuest } from './guest/headless.ts';
import { addGuestOptions, type GuestFlags, guestConfiguration } from './guest-options.ts';
import { GuestRun } from './guest-run.ts';
import { catchInterrupt, unlessInterrupted } from './interrupt.ts';
import type { GuestMachine } from './machine-access.ts';
import { addMachineOptions, type MachineFlags, machineFromFlags } from './machine-options.ts';
import { portOf } from './machine-port-of.ts';
import { printProgress } from './progress.ts';
import { addSanitizeOptions, checkSanitizeFlags, type SanitizeFlags } from './sanitize-options.ts';
import { type ServedRemote, serveFlags } from './serve-remote.ts';
import { addServerOptions, machineSource, type ServerFlags } from './server-options.ts';
import { stockGuest } from './stock-guest.ts';

/** Whoever pauses the machine looks at it for longer than QEMU waits by itself. Milliseconds. */
const INSPECTED_ANSWER_MS = 600_000;

interface BootFlags extends MachineFlags, GuestFlags, SanitizeFlags, ServerFlags {
  readonly kernel?: string;
  readonly initrd?: string;
  readonly append?: string;
  readonly disk?: string;
  readonly diskFormat?: string;
  readonly inspect?: string | true;
  readonly headless?: boolean;
  readonly guestDir?: string;
  readonly copy?: readonly string[];
  readonly json?: boolean;
  readonly verbose?: boolean;
}

const EXAMPLES = `
Without --kernel or --disk, Debian's stock kernel boots with a busybox initramfs and gives a shell on the console.
The guest's console is this terminal; Ctrl-A X ends QEMU, Ctrl-A C reaches its monitor. A reboot starts the guest again.

Examples:
  $ viommu boot
  $ viommu boot --kernel bzImage --initrd initramfs.img --append "console=ttyS0"
  $ viommu boot --disk debian.qcow2 --firmware uefi --ram 2048 --device edu@01:00.0
  $ viommu boot --sanitize all --record run.viommu --report findings.sarif --fail-on warning
  $ viommu boot --inspect                         # with the inspector's page for your browser
  $ viommu boot --copy my.ko --copy test.sh:/bin/test.sh    # files of yours in our stock guest
  $ viommu boot -- -device virtio-net-pci -s      # more arguments for QEMU
Without a terminal, and with commands run in the guest from elsewhere:
  $ viommu boot --headless --guest-dir /tmp/g &
  $ viommu guest wait --dir /tmp/g && viommu guest exec --dir /tmp/g -- dma-demo
With the machine in a server elsewhere ('viommu serve --on-demand'):
  $ viommu boot --server /run/viommu              # a directory shared with it
  $ VIOMMU_TOKEN=... viommu boot --server wss://lab:7180 --ca ca.pem
`;

export function addBoot(program: Command): void {
  const command = program
    .command('boot')
    .description('serve a machine and boot a guest with it')
    .argument('[qemu-arguments...]', 'more arguments for QEMU, behind --')
    .option('--kernel <file>', 'a Linux kernel to boot')
    .option('--initrd <file>', 'its initial RAM disk')
    .option('--append <text>', 'its command line')
    .option('--disk <image>', 'a disk image to boot; changes to it are thrown away')
    .option('--disk-format <format>', 'raw or qcow2 (default: by the name)')
    .option(
      '--copy <file[:path]>',
      'put a file into our stock guest, as /root/NAME or PATH; may be given again',
      collect,
    )
    .option('--headless', "needs no terminal: the guest's console goes to the standard output")
    .option('--guest-dir <directory>', "with --headless: where 'viommu guest exec', 'push' and the like find the guest")
    .option('--inspect [[host:]port]', "serve the inspector's page there; its URL is printed before the guest starts")
    .option('--json', 'print events as JSON lines on the error output')
    .option('--verbose', 'print every event, not only faults and clients')
    .addHelpText('after', EXAMPLES);
  addSanitizeOptions(addServerOptions(addGuestOptions(addMachineOptions(command)))).action(boot);
}

const collect = (value: string, before: readonly string[] = []) => [...before, value];

async function boot(extra: string[], flags: BootFlags): Promise<void> {
  const interruption = catchInterrupt();
  const { run, session, remote, headless, panicked } = await unlessInterrupted(interruption, start(extra, flags));
  const { result, outcome } = await session.conclude(async () => {
    try {
      const { code } = await unlessInterrupted(interruption, Promise.race([run.qemu.exit, run.broken, panicked]));
      return code === 0 ? ExitStatus.ok : ExitStatus.failed;
    } catch (error) {
      // The finding says it better.
      if (!run.host.stoppedByFinding) throw error;
      return ExitStatus.ok;
    } finally {
      await remote?.close();
      await headless?.close();
      await unpause(run);
      await run.close();
      interruption.stop();
    }
  });
  process.exitCode = outcome.status === ExitStatus.ok ? result : outcome.status;
}

/** Somebody may have paused the machine, and QEMU does not end while it waits for an access. */
async function unpause({ host }: GuestRun<GuestMachine>): Promise<void> {
  try {
    await host.resume();
  } catch {
    // The machine has ended, and with it the pause.
  }
}

interface Booted {
  readonly run: GuestRun<GuestMachine>;
  readonly session: DebugSession;
  readonly remote: ServedRemote | undefined;
  readonly headless: HeadlessGuest | undefined;
  /** Rejects when the kernel of a guest that nobody sees has given up. */
  readonly panicked: Promise<never>;
}

async function start(extra: string[], flags: BootFlags): Promise<Booted> {
  const description = machineFromFlags(flags, ['edu@01:00.0', 'edu@02:00.0']);
  const wanted = wantedBoot(flags);
  const files = copiesByPath(flags.copy ?? []);
  checkSanitizeFlags(flags);
  const source = machineSource(flags);
  if (flags.guestDir !== undefined) await claimGuestDirectory(resolve(flags.guestDir));
  const installation = await provisionQemu({ progress: printProgress, ...(flags.qemu ? { path: flags.qemu } : {}) });
  const what = wanted ?? (await stockGuest(flags.append ?? 'console=ttyS0', files));
  const configuration = await guestConfiguration(flags, installation, description, what, extra);
  printProgress(`Starting QEMU ${installation.version} (${configuration.accelerator})`);
  const console = new ConsoleWatch();
  let session: DebugSession | undefined;
  let remote: ServedRemote | undefined;
  let run: GuestRun<GuestMachine> | undefined;
  try {
    run = await GuestRun.startFrom({
      source,
      description,
      sanitize: flags.sanitize,
      prepare: async host => {
        session = await DebugSession.start(host, flags, line => globalThis.console.error(line));
        if (flags.inspect === undefined) return;
        remote = await serveFlags(flags, await portOf(host));
        if (remote?.pageUrl !== undefined) printProgress(`The inspector: ${remote.pageUrl}`);
      },
      ...(flags.inspect === undefined ? {} : { answerMilliseconds: INSPECTED_ANSWER_MS }),
      installation,
      configuration,
      progress: printProgress,
      agent: flags.guestDir !== undefined,
      console: flags.headless ? chunk => show(chunk, console) : 'terminal',
      onEvent: event => tell(event, flags),
    });
    const directory = flags.guestDir;
    const headless =
      directory === undefined
        ? undefined
        : await HeadlessGuest.start(run.qemu, resolve(directory), printProgress, run.host.name);
    return { run, session: session!, remote, headless, panicked: console.panicked };
  } catch (error) {
    // Else they would keep the process from ending.
    await remote?.close();
    await run?.close();
    throw error;
  }
}

function show(chunk: Buffer, console: ConsoleWatch): void {
  process.stdout.write(chunk);
  console.take(chunk);
}

function tell(event: TraceEvent, { verbose, json }: BootFlags): void {
  if (verbose || isNotable(event)) console.error(json ? eventToJson(event) : formatEvent(event));
}

function wantedBoot(flags: BootFlags): Boot | undefined {
  const boot = describeBoot(flags);
  if (boot !== undefined && flags.copy !== undefined) {
    throw new UsageError('--copy puts files into our stock guest: leave out --kernel and --disk');
  }
  if (flags.guestDir !== undefined && !flags.headless) {
    throw new UsageError('--guest-dir needs --headless: else the guest has its shell on this terminal');
  }
  for (const file of [flags.kernel, flags.initrd, flags.disk]) {
    if (file !== undefined && !existsSync(file)) throw new UsageError(`there is no file ${file}`);
  }
  return boot;
}

function describeBoot(flags: BootFlags): Boot | undefined {
  if (flags.disk !== undefined) {
    if (flags.kernel ?? flags.initrd ?? flags.append) {
      throw new UsageError('--disk boots by itself: leave out --kernel, --initrd and --append');
    }
    return { kind: 'disk', image: flags.disk, format: diskFormat(flags), snapshot: true };
  }
  if (flags.kernel === undefined) {
    if (flags.initrd !== undefined) throw new UsageError('--initrd needs --kernel');
    return undefined;
  }
  return {
    kind: 'kernel',
    kernel: flags.kernel,
    ...(flags.initrd === undefined ? {} : { initrd: flags.initrd }),
    ...(flags.append === undefined ? {} : { append: flags.append }),
  };
}

function diskFormat(flags: BootFlags): 'raw' | 'qcow2' {
  const format = flags.diskFormat ?? (flags.disk?.endsWith('.qcow2') ? 'qcow2' : 'raw');
  if (format !== 'raw' && format !== 'qcow2') throw new UsageError(`--disk-format is raw or qcow2, not ${format}`);
  return format;
}
