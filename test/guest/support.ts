/** Starts QEMU against a machine that is already served, with our own guest in it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GuestAgent } from '../../images/guest/agent.ts';
import { launchQemu, type RunningQemu } from '../../qemu/launch.ts';
import { provisionQemu } from '../../qemu/provision.ts';
import { acpiTables } from '../../src/cli/acpi-tables.ts';
import { guestConfiguration } from '../../src/cli/guest-options.ts';
import { stockGuest } from '../../src/cli/stock-guest.ts';
import { topologyOf } from '../../src/cli/topology.ts';
import type { MachineDescription } from '../../src/machine/description.ts';

export const READY_TIMEOUT_MS = 120_000;
const quiet = () => {};

export interface ServedGuest {
  readonly qemu: RunningQemu;
  readonly agent: GuestAgent;
}

/** A guest on the sockets in `directory`, where the firmware is known to put the IOMMU at `address`; `extra` goes to QEMU. */
export async function startGuestOn(
  directory: string,
  description: MachineDescription,
  address: bigint,
  extra: readonly string[] = [],
): Promise<ServedGuest> {
  const installation = await provisionQemu({ progress: quiet });
  const boot = await stockGuest('console=ttyS0 quiet');
  const flags = { memory: 'shared', firmware: 'bios', accel: 'auto', ram: 512, cpus: 2 } as const;
  const configuration = await guestConfiguration(flags, installation, description, boot);
  const { dmar, ssdt } = acpiTables(topologyOf(description), address);
  const socket = (name: string) => join(directory, `${name}.sock`);
  const qemu = await launchQemu({
    installation,
    machine: { ...configuration, extra },
    iommuSocket: socket('iommu'),
    endpointSockets: Object.fromEntries(description.endpoints.map(({ id }) => [id, socket(id)])),
    acpiTables: ssdt ? [dmar, ssdt] : [dmar],
    agent: true,
  });
  const agent = await GuestAgent.connect(qemu.agentSocket!);
  await agent.ready(READY_TIMEOUT_MS);
  return { qemu, agent };
}

export function temporaryDirectory(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'viommu-test-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
