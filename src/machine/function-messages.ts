import { FRAME_BYTES, FRAME_SHIFT } from '../memory/guest-memory.ts';
import type { PciFunction } from '../pci/function.ts';
import type { InterruptMessages } from '../pci/ports.ts';

/** Where interrupt messages go, in MiB. */
const INTERRUPT_MEBIBYTE = 0xfee;

/**
 * Interrupt messages as the writes that they are: DMA through the function's client, which needs bus mastering on and
 * delivers what lands in 0xFEExxxxx to the interrupt controller. Nothing takes them elsewhere: the client need not have mapped it.
 */
export function functionMessages(pci: PciFunction): InterruptMessages {
  const payload = new Uint8Array(4);
  const view = new DataView(payload.buffer);
  return {
    send(high, low, data) {
      if (high !== 0 || low >>> 20 !== INTERRUPT_MEBIBYTE || pci.client === undefined) return false;
      view.setUint32(0, data, true);
      return pci.client.dmaWrite(low >>> FRAME_SHIFT, low & (FRAME_BYTES - 1), payload, 0, 4) === 0;
    },
  };
}
