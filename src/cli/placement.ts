/** Where the firmware puts the IOMMU's registers in a configuration: asked of the firmware itself, against a machine of ours. */
import type { MachineConfiguration } from '../../qemu/command-line.ts';
import { type ProbeOptions, probeIommuBar } from '../../qemu/firmware-probe.ts';
import { makeOwnDirectory } from '../../qemu/own-directory.ts';
import type { Progress } from '../../qemu/progress.ts';
import type { QemuInstallation } from '../../qemu/provision.ts';
import { findKind } from '../devices/kinds.ts';
import { vtdFunctionDefinition } from '../iommu/vtd/function.ts';
import type { MachineDescription } from '../machine/description.ts';
import { MachineHost } from '../machine/host.ts';
import type { GuestMachine } from './machine-access.ts';

export const IOMMU_PLACED = 'iommu.placed';

export interface PlacementQuestion {
  readonly description: MachineDescription;
  readonly installation: QemuInstallation;
  readonly configuration: MachineConfiguration;
  readonly progress: Progress;
}

export function probeOptions({ description, ...rest }: PlacementQuestion): ProbeOptions {
  const functions = [
    vtdFunctionDefinition,
    ...description.endpoints.map(endpoint => findKind(endpoint.kind).define(endpoint.options)),
  ];
  return { ...rest, functions };
}

/** The remembered address, or one learnt by running firmware against `host`, whose sockets must be free. */
export async function askPlacement(
  question: PlacementQuestion,
  host: Pick<GuestMachine, 'sockets' | 'waitFor'>,
): Promise<bigint> {
  const { iommu: iommuSocket, ...endpointSockets } = host.sockets;
  return await probeIommuBar({
    ...probeOptions(question),
    iommuSocket: iommuSocket ?? '',
    endpointSockets,
    waitForPlacement: async () => {
      const event = await host.waitFor(({ kind }) => kind === IOMMU_PLACED);
      return BigInt(event.detail.address ?? 0);
    },
  });
}

/** The same against a machine made for the question alone. */
export async function findPlacement(question: PlacementQuestion): Promise<bigint> {
  const directory = makeOwnDirectory('probe');
  try {
    const host = await MachineHost.start(question.description, directory.path);
    try {
      return await askPlacement(question, host);
    } finally {
      await host.stop();
    }
  } finally {
    directory.remove();
  }
}
