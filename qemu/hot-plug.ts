/** Takes devices out of a running guest and puts them back, as a hand at the slot would. */
import { vfioUserProperties } from './command-line.ts';
import type { QmpClient } from './qmp.ts';
import type { PlacedEndpoint } from './topology.ts';

/** How long a guest may take to let go of a device: its hot-plug driver may wait five seconds for a second thought. Milliseconds. */
export const UNPLUG_TIMEOUT_MS = 60_000;

/**
 * Asks the guest to let go of the device, and resolves when it is gone from QEMU, which then ends its connection. Throws QmpError when
 * QEMU refuses (no such device, or none that can be unplugged: only what is behind a root port can), and an Error when the guest
 * does not let go in time.
 */
export async function unplug(qmp: QmpClient, id: string, timeoutMs = UNPLUG_TIMEOUT_MS): Promise<void> {
  const what = `DEVICE_DELETED of ${id} (the guest has to let go of it)`;
  const refused = new AbortController();
  const deleted = qmp.nextEvent(
    what,
    ({ event, data }) => event === 'DEVICE_DELETED' && data.device === id,
    timeoutMs,
    refused.signal,
  );
  const asked = qmp.execute('device_del', { id }).catch((error: Error) => refused.abort(error));
  await Promise.all([deleted, asked]);
}

/** Plugs the endpoint in where the topology has it. Resolves when QEMU has connected and told the guest; throws QmpError. */
export async function plug(qmp: QmpClient, { name, bus, slot }: PlacedEndpoint, socket: string): Promise<void> {
  await qmp.execute('device_add', vfioUserProperties(name, socket, bus, slot));
}
