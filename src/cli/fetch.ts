import type { Command } from 'commander';
import { cacheDirectory, exists } from '../../qemu/cache.ts';
import type { Firmware, MemorySharing } from '../../qemu/command-line.ts';
import { treeSize } from '../../qemu/packages.ts';
import { megabytes } from '../../qemu/progress.ts';
import { provisionQemu, type QemuInstallation } from '../../qemu/provision.ts';
import { describeMachine, type MachineDescription } from '../machine/description.ts';
import { type GuestFlags, guestConfiguration } from './guest-options.ts';
import { catchInterrupt, unlessInterrupted } from './interrupt.ts';
import { findPlacement } from './placement.ts';
import { printProgress } from './progress.ts';
import { stockGuest } from './stock-guest.ts';

interface FetchFlags {
  readonly qemu?: string;
  readonly probe: boolean;
  readonly json?: boolean;
}

/** What `--json` prints. */
export interface FetchSummary {
  /** The directory that holds everything. */
  readonly cache: string;
  readonly cacheBytes: number;
  readonly qemu: { readonly version: string; readonly command: readonly string[]; readonly uefi: boolean };
  readonly kernel: string;
  readonly initrd: string;
  readonly placements: readonly Placement[];
}

interface Placement {
  readonly firmware: Firmware;
  readonly memory: MemorySharing;
  readonly accelerator: string;
  /** Guest-physical address of the IOMMU's registers, in hexadecimal. */
  readonly address: string;
}

const EXAMPLES = `
Examples:
  Everything that demo, boot and test need, so that they start at once and need no network from then on:
    $ viommu fetch
  The same into a directory of your own, for a machine without network:
    $ XDG_CACHE_HOME=/srv/cache viommu fetch
  With the QEMU that you have:
    $ viommu fetch --qemu /opt/qemu/bin/qemu-system-x86_64
`;

/** What demo and boot start with when nothing is said. */
const DEVICES = ['edu@01:00.0', 'edu@02:00.0'];
const APPEND = 'console=ttyS0 quiet';
const MEMORIES: readonly MemorySharing[] = ['shared', 'message'];

export function addFetch(program: Command): void {
  program
    .command('fetch')
    .description('fetch and build everything that demo, boot and test need, for machines without network too')
    .option('--qemu <path>', 'a QEMU 10.1 or newer to use (default: the one on PATH, else one is unpacked)')
    .option('--no-probe', 'do not run the firmware to learn where it puts the IOMMU; the first guest does then')
    .option('--json', 'print one JSON document: where everything is')
    .addHelpText('after', EXAMPLES)
    .action(fetchAll);
}

async function fetchAll(flags: FetchFlags): Promise<void> {
  const interruption = catchInterrupt();
  try {
    const summary = await unlessInterrupted(interruption, gather(flags));
    console.log(flags.json ? JSON.stringify(summary, undefined, 2) : describeSummary(summary));
  } finally {
    interruption.stop();
  }
}

async function gather(flags: FetchFlags): Promise<FetchSummary> {
  const installation = await provisionQemu({ progress: printProgress, ...(flags.qemu ? { path: flags.qemu } : {}) });
  const boot = await stockGuest(APPEND);
  if (boot.kind !== 'kernel' || boot.initrd === undefined)
    throw new Error('The stock guest has no kernel or initramfs');
  const placements = flags.probe ? await probeAll(installation, boot) : [];
  const cache = cacheDirectory();
  return {
    cache,
    cacheBytes: (await exists(cache)) ? await treeSize(cache) : 0,
    qemu: {
      version: installation.version,
      command: installation.argv,
      uefi: installation.ovmf !== undefined,
    },
    kernel: boot.kernel,
    initrd: boot.initrd,
    placements,
  };
}

/** For each firmware and kind of memory, because each may move the registers. */
async function probeAll(
  installation: QemuInstallation,
  boot: Awaited<ReturnType<typeof stockGuest>>,
): Promise<Placement[]> {
  const description: MachineDescription = describeMachine('vtd', DEVICES, {});
  const firmwares: readonly Firmware[] = installation.ovmf === undefined ? ['bios'] : ['bios', 'uefi'];
  const placements: Placement[] = [];
  for (const firmware of firmwares) {
    for (const memory of MEMORIES) {
      const flags: GuestFlags = { firmware, memory, accel: 'auto', ram: 512, cpus: 2 };
      const configuration = await guestConfiguration(flags, installation, description, boot);
      printProgress(`Asking ${firmware === 'bios' ? 'SeaBIOS' : 'OVMF'} where the IOMMU is, with ${memory} memory`);
      const address = await findPlacement({ description, installation, configuration, progress: printProgress });
      const { accelerator } = configuration;
      placements.push({ firmware, memory, accelerator, address: `0x${address.toString(16)}` });
    }
  }
  return placements;
}

export function describeSummary(summary: FetchSummary): string {
  const { qemu, placements } = summary;
  const places = placements.map(({ firmware, memory, address }) => `${firmware}, ${memory} memory: ${address}`);
  return [
    `QEMU         ${qemu.version}${qemu.uefi ? ', with UEFI firmware' : ', without UEFI firmware'}`,
    `kernel       ${summary.kernel}`,
    `initramfs    ${summary.initrd}`,
    ...places.map((place, index) => `${index === 0 ? 'IOMMU at' : ''}`.padEnd(13) + place),
    `all in       ${summary.cache} (${megabytes(summary.cacheBytes)})`,
  ].join('\n');
}
