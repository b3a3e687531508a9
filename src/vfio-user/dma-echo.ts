/** What a reply to DMA_READ and DMA_WRITE must repeat (vfio-user, sections "VFIO_USER_DMA_READ" and "VFIO_USER_DMA_WRITE"). */
import type { Connection } from './connection.ts';
import { Command, commandName, DmaAccess } from './spec.ts';

export interface AskedDma {
  readonly command: number;
  /** The address, in two words. */
  readonly high: number;
  readonly low: number;
  readonly count: number;
}

/**
 * Whether the reply whose payload stands at `payload` in the connection's input is one to this. Where it is not, the connection is closed.
 *
 * It must repeat address and count, in 8 bytes each. Some clients count in 4 bytes, or answer a write with a header alone; these also
 * expect the data 4 bytes earlier than we send it, so going on would corrupt the guest's memory.
 */
export function repeatsDma(connection: Connection, asked: AskedDma, payload: number, length: number): boolean {
  const expected = DmaAccess.bytes + (asked.command === Command.dmaRead ? asked.count : 0);
  if (length !== expected) {
    const command = commandName(asked.command);
    connection.close('DMA reply in another layout', { command, expected, received: length });
    return false;
  }
  const view = connection.inputView;
  const matches =
    view.getUint32(payload + DmaAccess.address, true) === asked.low &&
    view.getUint32(payload + DmaAccess.address + 4, true) === asked.high &&
    view.getUint32(payload + DmaAccess.count, true) === asked.count &&
    view.getUint32(payload + DmaAccess.count + 4, true) === 0;
  if (matches) return true;
  connection.close('DMA reply repeats another address or count', {
    command: commandName(asked.command),
    address: view.getBigUint64(payload + DmaAccess.address, true),
    count: view.getBigUint64(payload + DmaAccess.count, true),
    expectedAddress: (BigInt(asked.high) << 32n) | BigInt(asked.low),
    expectedCount: asked.count,
  });
  return false;
}
