/**
 * `bridge-client.js SOCKET mapped|messages`: what a QEMU does whose guest sleeps. It maps memory, and answers DMA messages where it gives
 * no descriptor with it, until the connection ends.
 */
import { EventLoop } from '../src/posix/event-loop.ts';
import { createMemfd } from '../src/posix/memfd.ts';
import { VfioUserClient } from '../src/vfio-user/client.ts';
import { Errno } from '../src/vfio-user/device-model.ts';
import { MEMORY_BYTES } from './bridge-memory.ts';

const [, , socket = '', how] = process.argv;
const loop = new EventLoop(error => {
  throw error;
});
const client = new VfioUserClient(loop, socket);
const memory = new Uint8Array(MEMORY_BYTES);
client.onDmaRead = ({ address, count }) => memory.subarray(Number(address), Number(address) + count);
client.onDmaWrite = ({ address, data }) => {
  memory.set(data, Number(address));
  return Errno.ok;
};
client.negotiate();
client.dmaMap({
  address: 0n,
  size: BigInt(MEMORY_BYTES),
  offset: 0n,
  readable: true,
  writable: true,
  descriptor: how === 'mapped' ? createMemfd('bench', MEMORY_BYTES) : -1,
});
while (client.endReason === undefined) loop.runOnce(-1);
