/** One guest with our machine behind it: serve, learn where the IOMMU is, write the tables, start QEMU; and end it all. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endWithProcess } from '../../qemu/children.ts';
import type { MachineConfiguration } from '../../qemu/command-line.ts';
import { forgetIommuBar } from '../../qemu/firmware-probe.ts';
import { launchQemu, type RunningQemu } from '../../qemu/launch.ts';
import type { Progress } from '../../qemu/progress.ts';
import type { QemuInstallation } from '../../qemu/provision.ts';
import type { MachineDescription } from '../machine/description.ts';
import { MachineHost } from '../machine/host.ts';
import type { SanitizePolicy } from '../trace/sanitizer/policy.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { acpiTables, needsTables } from './acpi-tables.ts';
import { CommandFailure } from './errors.ts';
import { askPlacement, IOMMU_PLACED, type PlacementQuestion, probeOptions } from './placement.ts';

export interface GuestRunOptions {
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
  readonly prepare?: (host: MachineHost) => Promise<void>;
}

export class GuestRun {
  private constructor(
    readonly host: MachineHost,
    readonly qemu: RunningQemu,
    /** Rejects when the guest cannot be right any more: the IOMMU moved, or the device thread ended. */
    readonly broken: Promise<never>,
    private readonly removeFiles: () => void,
  ) {}

  static async start(options: GuestRunOptions): Promise<GuestRun> {
    const { directory, removeFiles } = temporaryDirectory();
    let host: MachineHost | undefined;
    try {
      host = await MachineHost.start(options.description, directory, { sanitize: options.sanitize });
      const address = needsTables(options.description) ? await askPlacement(question(options), host) : undefined;
      host.on('event', options.onEvent);
      await options.prepare?.(host);
      const broken = watch(host, options, address);
      const qemu = await launch(host, options, address);
      return new GuestRun(host, qemu, broken, removeFiles);
    } catch (error) {
      await host?.stop();
      removeFiles();
      throw error;
    }
  }

  /** Ends QEMU, then the machine; nothing remains. */
  async close(): Promise<void> {
    await this.qemu.quit();
    await this.host.stop();
    this.removeFiles();
  }
}

/** Goes with this process, whichever way that ends. */
function temporaryDirectory(): { readonly directory: string; removeFiles(): void } {
  const directory = mkdtempSync(join(tmpdir(), 'viommu-'));
  const remove = () => rmSync(directory, { recursive: true, force: true });
  const release = endWithProcess({ endNow: remove, askToEnd() {} });
  return {
    directory,
    removeFiles() {
      remove();
      release();
    },
  };
}

function question({ description, installation, configuration, progress }: GuestRunOptions): PlacementQuestion {
  return { description, installation, configuration, progress };
}

async function launch(host: MachineHost, options: GuestRunOptions, address: bigint | undefined): Promise<RunningQemu> {
  const { iommu, ...endpointSockets } = host.sockets;
  const tables = address === undefined ? undefined : acpiTables(options.configuration.topology, address);
  return await launchQemu({
    installation: options.installation,
    machine: options.configuration,
    ...(iommu === undefined ? {} : { iommuSocket: iommu }),
    endpointSockets,
    acpiTables: tables ? [tables.dmar, ...(tables.ssdt ? [tables.ssdt] : [])] : [],
    agent: options.agent,
    ...(options.console === 'terminal' ? { terminal: true } : { onConsole: options.console }),
  });
}

function watch(host: MachineHost, options: GuestRunOptions, promised: bigint | undefined): Promise<never> {
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
