/** One guest with a machine of ours behind it: have it served, learn where the IOMMU is, write the tables, start QEMU; and end it all. */
import type { MachineConfiguration } from '../../qemu/command-line.ts';
import { forgetIommuBar } from '../../qemu/firmware-probe.ts';
import { launchQemu, type RunningQemu } from '../../qemu/launch.ts';
import { makeOwnDirectory } from '../../qemu/own-directory.ts';
import type { Progress } from '../../qemu/progress.ts';
import type { QemuInstallation } from '../../qemu/provision.ts';
import type { MachineDescription } from '../machine/description.ts';
import type { MachineHost } from '../machine/host.ts';
import type { TemporaryDirectory } from '../posix/temporary-directory.ts';
import type { SanitizePolicy } from '../trace/sanitizer/policy.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { acpiTables, needsTables } from './acpi-tables.ts';
import { CommandFailure } from './errors.ts';
import { type GuestMachine, localMachines, type MachineSource } from './machine-access.ts';
import { askPlacement, IOMMU_PLACED, type PlacementQuestion, probeOptions } from './placement.ts';

export interface GuestRunOptions<Machine extends GuestMachine = MachineHost> {
  readonly description: MachineDescription;
  readonly installation: QemuInstallation;
  readonly configuration: MachineConfiguration;
  readonly progress: Progress;
  /** Offers the guest's second serial port to the agent in our own guest image. */
  readonly agent: boolean;
  /** The guest's first serial port: this process's terminal, or a listener. */
  readonly console: 'terminal' | ((chunk: Buffer) => void);
  readonly onEvent: (event: TraceEvent) => void;
  /** Which mistakes to look for. Default: as `MachineHost` has it. */
  readonly sanitize?: SanitizePolicy;
  /** Called before the guest starts. */
  readonly prepare?: (host: Machine) => Promise<void>;
  /** QEMU waits for an answer of the machine for at least so many milliseconds. Default: what the machine's source says. */
  readonly answerMilliseconds?: number;
}

/** A run whose machine comes from somewhere else. */
export interface SourcedRunOptions<Machine extends GuestMachine> extends GuestRunOptions<Machine> {
  readonly source: MachineSource<Machine>;
}

export class GuestRun<Machine extends GuestMachine = MachineHost> {
  private constructor(
    readonly host: Machine,
    readonly qemu: RunningQemu,
    /** Rejects when the guest cannot be right any more: the IOMMU moved, or the machine ended. */
    readonly broken: Promise<never>,
    private readonly directory: TemporaryDirectory,
  ) {}

  /** The machine is served by this process. */
  static async start(options: GuestRunOptions): Promise<GuestRun> {
    return await GuestRun.startFrom({ ...options, source: localMachines });
  }

  static async startFrom<From extends GuestMachine>(options: SourcedRunOptions<From>): Promise<GuestRun<From>> {
    const { description, sanitize, source } = options;
    const directory = makeOwnDirectory('run');
    let host: From | undefined;
    try {
      host = await source.start({ description, directory: directory.path, sanitize });
      const address = needsTables(description) ? await askPlacement(question(options), host) : undefined;
      host.on('event', options.onEvent);
      await options.prepare?.(host);
      const broken = watch(host, options, address);
      const qemu = await launchUnless(broken, host, options, address);
      return new GuestRun(host, qemu, broken, directory);
    } catch (error) {
      await host?.stop();
      directory.remove();
      throw error;
    }
  }

  /** Ends QEMU, then the machine; nothing remains. */
  async close(): Promise<void> {
    await this.qemu.quit();
    await this.host.stop();
    this.directory.remove();
  }
}

function question({
  description,
  installation,
  configuration,
  progress,
}: Pick<GuestRunOptions, keyof PlacementQuestion>): PlacementQuestion {
  return { description, installation, configuration, progress };
}

/** A QEMU that starts on a machine that goes away may never answer. */
async function launchUnless<From extends GuestMachine>(
  broken: Promise<never>,
  host: From,
  options: SourcedRunOptions<From>,
  address: bigint | undefined,
): Promise<RunningQemu> {
  const launching = launch(host, options, address);
  try {
    return await Promise.race([launching, broken]);
  } catch (error) {
    launching.then(
      qemu => qemu.quit(),
      () => {},
    );
    // A machine that went away is why, and says it better.
    await host.statistics().catch(() => broken);
    throw error;
  }
}

async function launch<From extends GuestMachine>(
  host: From,
  options: SourcedRunOptions<From>,
  address: bigint | undefined,
): Promise<RunningQemu> {
  const { iommu, ...endpointSockets } = host.sockets;
  const tables = address === undefined ? undefined : acpiTables(options.configuration.topology, address);
  return await launchQemu({
    installation: options.installation,
    machine: patient(options),
    ...(iommu === undefined ? {} : { iommuSocket: iommu }),
    endpointSockets,
    acpiTables: tables ? [tables.dmar, ...(tables.ssdt ? [tables.ssdt] : [])] : [],
    agent: options.agent,
    ...(options.console === 'terminal' ? { terminal: true } : { onConsole: options.console }),
  });
}

/** Only for the guest itself: the firmware's answer is remembered for a configuration, and this moves nothing. */
function patient<From extends GuestMachine>(options: SourcedRunOptions<From>): MachineConfiguration {
  const { configuration, source } = options;
  const milliseconds = Math.max(options.answerMilliseconds ?? 0, source.answerMilliseconds ?? 0);
  if (milliseconds === 0) return configuration;
  return { ...configuration, extra: [...answerTimeout(milliseconds), ...(configuration.extra ?? [])] };
}

/** QEMU gives a device up that does not answer an access within this time; 5 seconds unless it is told otherwise. */
export function answerTimeout(milliseconds: number): string[] {
  return ['-global', `vfio-user-pci.x-msg-timeout=${milliseconds}`];
}

function watch<From extends GuestMachine>(
  host: From,
  options: SourcedRunOptions<From>,
  promised: bigint | undefined,
): Promise<never> {
  const broken = new Promise<never>((_, reject) => {
    host.on('event', event => {
      if (event.kind !== IOMMU_PLACED || promised === undefined) return;
      const placed = BigInt(event.detail.address ?? 0);
      if (placed === promised) return;
      const message =
        `the firmware placed the IOMMU at 0x${placed.toString(16)}, but it had been at 0x${promised.toString(16)} for the ` +
        'same configuration, and the ACPI table says so. It is forgotten now: start again';
      forgetIommuBar(probeOptions(question(options))).then(() => reject(new CommandFailure(message)), reject);
    });
    host.ended.then(() => reject(new CommandFailure('the machine was stopped')), reject);
  });
  // Whoever waits for the guest races with it; a run that ends well never looks.
  broken.catch(() => {});
  return broken;
}
