import { placeEndpoints, type Topology } from '../../qemu/topology.ts';
import type { MachineDescription } from '../machine/description.ts';
import { UsageError } from './errors.ts';

/** Where QEMU must put the endpoints so that the guest numbers them as the description says. */
export function topologyOf(description: MachineDescription): Topology {
  try {
    return placeEndpoints(description.endpoints.map(({ id, requesterId }) => ({ name: id, requesterId })));
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError(error.message);
    throw error;
  }
}
