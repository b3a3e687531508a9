import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import type { Boot } from '../../qemu/command-line.ts';
import { provisionQemu } from '../../qemu/provision.ts';
import { HostPort } from '../inspector/host-port.ts';
import { DebugSession } from './debug-session.ts';
import { ExitStatus, UsageError } from './errors.ts';
import { eventToJson, formatEvent, isNotable } from './event-printer.ts';
import { addGuestOptions, type GuestFlags, guestConfiguration } from './guest-options.ts';
import { GuestRun } from './guest-run.ts';
import { catchInterrupt, unlessInterrupted } from './interrupt.ts';
import { addMachineOptions, type MachineFlags, machineFromFlags } from './machine-options.ts';
import { printProgress } from './progress.ts';
import { addSanitizeOptions, checkSanitizeFlags, type SanitizeFlags } from './sanitize-options.ts';
import { type ServedRemote, serveFlags } from './serve-remote.ts';
import { stockGuest } from './stock-guest.ts';

/** By default QEMU gives a device up that does not answer for 5 seconds, and whoever pauses the machine looks at it for longer. */
const PATIENT_DEVICES = ['-global', 'vfio-user-pci.x-msg-timeout=600000'];

interface BootFlags extends MachineFlags, GuestFlags, SanitizeFlags {
  readonly kernel?: string;
  readonly initrd?: string;
  readonly append?: string;
  readonly disk?: string;
  readonly diskFormat?: string;
  readonly inspect?: string | true;
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
  $ viommu boot -- -device virtio-net-pci -s      # more arguments for QEMU
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
    .option('--inspect [[host:]port]', "serve the inspector's page there; its URL is printed before the guest starts")
    .option('--json', 'print events as JSON lines on the error output')
    .option('--verbose', 'print every event, not only faults and clients')
    .addHelpText('after', EXAMPLES);
  addSanitizeOptions(addGuestOptions(addMachineOptions(command))).action(boot);
}

async function boot(extra: string[], flags: BootFlags): Promise<void> {
  const interruption = catchInterrupt();
  const { run, session, remote } = await unlessInterrupted(interruption, start(extra, flags));
  const { result, outcome } = await session.conclude(async () => {
    try {
      const { code } = await unlessInterrupted(interruption, Promise.race([run.qemu.exit, run.broken]));
      return code === 0 ? ExitStatus.ok : ExitStatus.failed;
    } catch (error) {
      // The finding says it better.
      if (!run.host.stoppedByFinding) throw error;
      return ExitStatus.ok;
    } finally {
      await remote?.close();
      await unpause(run);
      await run.close();
      interruption.stop();
    }
  });
  process.exitCode = outcome.status === ExitStatus.ok ? result : outcome.status;
}

/** Somebody may have paused the machine, and QEMU does not end while it waits for an access. */
async function unpause({ host }: GuestRun): Promise<void> {
  try {
    await host.resume();
  } catch {
    // The machine has ended, and with it the pause.
  }
}

interface Booted {
  readonly run: GuestRun;
  readonly session: DebugSession;
  readonly remote: ServedRemote | undefined;
}

async function start(extra: string[], flags: BootFlags): Promise<Booted> {
  const description = machineFromFlags(flags, ['edu@01:00.0', 'edu@02:00.0']);
  const wanted = wantedBoot(flags);
  checkSanitizeFlags(flags);
  const installation = await provisionQemu({ progress: printProgress, ...(flags.qemu ? { path: flags.qemu } : {}) });
  const what = wanted ?? (await stockGuest(flags.append ?? 'console=ttyS0'));
  const patience = flags.inspect === undefined ? [] : PATIENT_DEVICES;
  const configuration = await guestConfiguration(flags, installation, description, what, [...patience, ...extra]);
  printProgress(`Starting QEMU ${installation.version} (${configuration.accelerator})`);
  let session: DebugSession | undefined;
  let remote: ServedRemote | undefined;
  const starting = GuestRun.start({
    description,
    sanitize: flags.sanitize,
    prepare: async host => {
      session = await DebugSession.start(host, flags, line => console.error(line));
      remote = await serveFlags(flags, new HostPort(host));
      if (remote?.pageUrl !== undefined) printProgress(`The inspector: ${remote.pageUrl}`);
    },
    installation,
    configuration,
    progress: printProgress,
    agent: false,
    console: 'terminal',
    onEvent: event => {
      if (flags.verbose || isNotable(event)) console.error(flags.json ? eventToJson(event) : formatEvent(event));
    },
  });
  try {
    return { run: await starting, session: session!, remote };
  } catch (error) {
    // Else it would keep the process from ending.
    await remote?.close();
    throw error;
  }
}

function wantedBoot(flags: BootFlags): Boot | undefined {
  const boot = describeBoot(flags);
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
