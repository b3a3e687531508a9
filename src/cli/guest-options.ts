/** The flags of every command that starts a QEMU, and the configuration that they ask for. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type AcceleratorChoice, chooseAccelerator } from '../../qemu/accelerator.ts';
import type { Accelerator, Boot, Firmware, MachineConfiguration, MemorySharing } from '../../qemu/command-line.ts';
import type { QemuInstallation } from '../../qemu/provision.ts';
import type { MachineDescription } from '../machine/description.ts';
import { printProgress } from './progress.ts';
import { topologyOf } from './topology.ts';

export interface GuestFlags {
  readonly memory: MemorySharing;
  readonly firmware: Firmware;
  readonly accel: Accelerator | 'auto';
  readonly ram: number;
  readonly cpus: number;
  readonly qemu?: string;
}

export function addGuestOptions(command: Command): Command {
  return command
    .option(
      '--qemu <path>',
      'a QEMU 10.1 or newer to use (default: the one on PATH, else one is unpacked into the cache)',
    )
    .addOption(
      new Option('--memory <kind>', "how the server reaches the guest's memory: mapped, or by messages over the socket")
        .choices(['shared', 'message'])
        .default('shared'),
    )
    .addOption(new Option('--firmware <kind>', 'SeaBIOS or OVMF').choices(['bios', 'uefi']).default('bios'))
    .addOption(
      new Option('--accel <kind>', 'auto: KVM where a Linux guest really runs with it')
        .choices(['auto', 'kvm', 'tcg'])
        .default('auto'),
    )
    .option('--ram <MiB>', "the guest's memory", positive, 512)
    .option('--cpus <count>', "the guest's processors", positive, 2);
}

export async function guestConfiguration(
  flags: GuestFlags,
  installation: QemuInstallation,
  description: MachineDescription,
  boot: Boot,
  extra: readonly string[] = [],
): Promise<MachineConfiguration> {
  return {
    topology: topologyOf(description),
    firmware: flags.firmware,
    accelerator: (await accelerator(flags, installation, boot)).accelerator,
    processors: flags.cpus,
    memoryMegabytes: flags.ram,
    memory: flags.memory,
    boot,
    extra,
  };
}

async function accelerator(flags: GuestFlags, installation: QemuInstallation, boot: Boot): Promise<AcceleratorChoice> {
  if (flags.accel !== 'auto') return { accelerator: flags.accel, reason: undefined };
  const kernel = boot.kind === 'kernel' ? { kernel: boot.kernel } : {};
  return await chooseAccelerator({ installation, progress: printProgress, ...kernel });
}

/** For options that count something. */
export function positive(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError('It must be a whole number above zero.');
  return value;
}
