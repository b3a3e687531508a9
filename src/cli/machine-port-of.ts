/** The remote API and the inspector's page want a machine as a port, wherever it is served. */
import { HostPort } from '../inspector/host-port.ts';
import type { MachinePort } from '../inspector/machine-port.ts';
import { RemotePort } from '../inspector/remote-port.ts';
import type { MachineHost } from '../machine/host.ts';
import type { GuestMachine } from './machine-access.ts';
import { ServerMachine } from './server-machine.ts';

/** Of a machine that comes from `machineSource`. */
export async function portOf(machine: GuestMachine): Promise<MachinePort> {
  if (machine instanceof ServerMachine) return await RemotePort.open(machine.remote);
  return new HostPort(machine as MachineHost);
}
