/** The server's answer to VERSION, as the bridge gives it to QEMU: the server knows nothing of the descriptors that we take. */
import type { Limits } from '../vfio-user/limits.ts';
import { CapabilityDefault } from '../vfio-user/spec.ts';
import type { Capabilities } from '../vfio-user/version.ts';

const encoder = new TextEncoder();

/**
 * Version data, NUL included, of at most `room` bytes where that can be: QEMU takes no answer longer than its request. As in
 * every answer, only what was proposed is named.
 */
export function bridgedVersionData(
  answered: Capabilities,
  proposed: Capabilities,
  limits: Pick<Limits, 'maxDescriptors' | 'maxDataTransfer'>,
  room: number,
): Uint8Array {
  const capabilities: Record<string, unknown> = { ...answered };
  delete capabilities.max_msg_fds;
  // Needs a second connection, whose descriptor cannot pass.
  delete capabilities.twin_socket;
  const transfer = answered.max_data_xfer_size ?? CapabilityDefault.maxDataXferSize;
  if (answered.max_data_xfer_size !== undefined || transfer > limits.maxDataTransfer) {
    capabilities.max_data_xfer_size = Math.min(transfer, limits.maxDataTransfer);
  }
  const plain = encode(capabilities);
  if (proposed.max_msg_fds === undefined) return plain;
  const descriptors = Math.min(limits.maxDescriptors, proposed.max_msg_fds);
  const full = encode({ max_msg_fds: descriptors, ...capabilities });
  // Without it one descriptor a message is agreed, which is enough for everything.
  return full.length <= room ? full : plain;
}

function encode(capabilities: object): Uint8Array {
  return encoder.encode(`${JSON.stringify({ capabilities })}\0`);
}
