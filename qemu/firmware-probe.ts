/**
 * Finds out where firmware puts the IOMMU's registers. The DMAR table must name that address before the guest starts, and
 * only firmware knows it; but it puts them there again on every start of the same machine, so a short run without an
 * operating system tells, once for each configuration.
 */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { fingerprint, forgetFact, readFact, writeFact } from './cache.ts';
import { type MachineConfiguration, machineArguments } from './command-line.ts';
import { describeExit, launchQemu } from './launch.ts';
import type { Progress } from './progress.ts';
import type { QemuInstallation } from './provision.ts';

/** How long firmware may take to place the registers; OVMF without KVM needs the longest. Milliseconds. */
export const PLACEMENT_TIMEOUT_MS = 120_000;

export interface ProbeOptions {
  readonly installation: QemuInstallation;
  readonly configuration: MachineConfiguration;
  /** What the server's functions look like to firmware, as JSON can say it: their BARs decide who is placed where. */
  readonly functions: unknown;
  readonly progress: Progress;
  /** Default: the user's cache directory. */
  readonly cache?: string;
}

export interface RunProbeOptions extends ProbeOptions {
  readonly iommuSocket: string;
  readonly endpointSockets: Readonly<Record<string, string>>;
  /**
   * Called when QEMU is about to start; resolves with the address once the firmware has placed the unit, which the caller's
   * server sees. Not called when the address is known already.
   */
  readonly waitForPlacement: () => Promise<bigint>;
  /** Default `PLACEMENT_TIMEOUT_MS`. */
  readonly timeoutMs?: number;
}

/**
 * The guest-physical address of the unit's registers in this configuration: remembered, or found out by running firmware
 * against the caller's server. The caller compares it with what its server sees on every later start, and calls
 * `forgetIommuBar` when they differ.
 */
export async function probeIommuBar(options: RunProbeOptions): Promise<bigint> {
  const fact = await factName(options);
  const known = await readFact(fact, options.cache);
  if (isPlacement(known)) return BigInt(known.address);
  const address = await runFirmware(options);
  await writeFact(fact, { address: `0x${address.toString(16)}` }, options.cache);
  return address;
}

/** The next probe of this configuration runs firmware again. */
export async function forgetIommuBar(options: ProbeOptions): Promise<void> {
  await forgetFact(await factName(options), options.cache);
}

async function runFirmware(options: RunProbeOptions): Promise<bigint> {
  const { configuration, progress, timeoutMs = PLACEMENT_TIMEOUT_MS } = options;
  progress('Running the firmware once to see where it puts the IOMMU');
  const placement = options.waitForPlacement();
  // Whoever loses the race below must not count as an unhandled rejection.
  placement.catch(() => {});
  const qemu = await launchQemu({
    installation: options.installation,
    machine: firmwareOnly(configuration),
    iommuSocket: options.iommuSocket,
    endpointSockets: options.endpointSockets,
  });
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    const message = `The firmware did not place the IOMMU's registers within ${timeoutMs / 1000} s`;
    timer = setTimeout(() => reject(new Error(message)), timeoutMs);
  });
  const ended = qemu.exit.then((exit): never => {
    throw new Error(`QEMU ended (${describeExit(exit)}) before the firmware placed the IOMMU: ${exit.stderr.trim()}`);
  });
  try {
    const address = await Promise.race([placement, ended, tooLate]);
    progress(`The firmware puts the IOMMU at 0x${address.toString(16)}`);
    return address;
  } finally {
    clearTimeout(timer);
    await qemu.quit();
  }
}

/** The same machine with nothing to boot; disks that the user's own arguments bring stay unchanged (`-snapshot`). */
function firmwareOnly(configuration: MachineConfiguration): MachineConfiguration {
  return { ...configuration, boot: { kind: 'firmware' }, extra: [...(configuration.extra ?? []), '-snapshot'] };
}

/** Everything that can move a BAR: QEMU, its firmware, the machine without paths of this run, the server's functions. */
async function factName(options: ProbeOptions): Promise<string> {
  const { configuration, installation } = options;
  const names = configuration.topology.endpoints.map(endpoint => [endpoint.name, endpoint.name]);
  const paths = { iommuSocket: 'iommu', endpointSockets: Object.fromEntries(names), ovmfVars: 'vars' };
  const withoutCode = installation.ovmf && { ...installation.ovmf, code: 'code' };
  const argv = machineArguments(firmwareOnly(configuration), paths, withoutCode);
  const { ovmf } = installation;
  const firmware =
    configuration.firmware === 'uefi' && ovmf !== undefined ? [await digest(ovmf.code), await digest(ovmf.vars)] : [];
  const identity = await programIdentity(installation);
  return `placement-${fingerprint([installation.version, identity, firmware, argv, options.functions])}`;
}

async function digest(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

/** Sizes of the files that the command starts with: SeaBIOS comes with the program, and a rebuilt one differs. */
async function programIdentity(installation: QemuInstallation): Promise<number[]> {
  const sizes: number[] = [];
  for (const word of installation.argv.filter(argument => argument.startsWith('/'))) {
    const found = await stat(word).catch((error: NodeJS.ErrnoException) => {
      // A library search path has colons and is no file.
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (found?.isFile()) sizes.push(found.size);
  }
  return sizes;
}

function isPlacement(value: unknown): value is { address: string } {
  if (typeof value !== 'object' || value === null || !('address' in value)) return false;
  return typeof value.address === 'string' && /^0x[0-9a-f]{1,16}$/.test(value.address);
}
