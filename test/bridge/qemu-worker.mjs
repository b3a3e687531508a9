// Plays QEMU on a thread of its own: maps guest memory, lets the edu device copy it to and fro and interrupt, and checks every byte,
// until it is told to stop. Plain JavaScript, because a worker runs no TypeScript.
import { readSync, writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

const { modules, path, shared } = workerData;
const { EventLoop } = await import(`${modules}/posix/event-loop.js`);
const { createEventFd, drainEventFd } = await import(`${modules}/posix/eventfd.js`);
const { createMemfd } = await import(`${modules}/posix/memfd.js`);
const { closeDescriptor } = await import(`${modules}/posix/socket.js`);
const { VfioUserClient } = await import(`${modules}/vfio-user/client.js`);

const MEMORY_BYTES = 16 * 1048576;
const CONFIG_REGION = 7;
const COMMAND = 4;
const MEMORY_AND_BUS_MASTER = 6;
const BUFFER = 0x40000;
const BYTES = 4096;
const INTX = 0;
const BIND_TRIGGER = 4 | 32;
const UNMASK = 1 | 16;
const DMA_CAUSE = 0x100;

const control = new Int32Array(shared);
const loop = new EventLoop(error => {
  throw error;
});
const memory = createMemfd('guest', MEMORY_BYTES);
const irq = createEventFd();
const client = new VfioUserClient(loop, path, { replyTimeout: 20_000 });

function word(offset, value) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  client.regionWrite(0, offset, bytes, { posted: true });
}

function copy(source, destination, toMemory) {
  word(0x80, source);
  word(0x88, destination);
  word(0x90, BYTES);
  word(0x98, toMemory ? 7 : 5);
  const end = performance.now() + 20_000;
  while (drainEventFd(irq) === 0) {
    if (performance.now() > end || client.endReason !== undefined) throw new Error(`no interrupt: ${client.endReason}`);
    loop.runOnce(1);
  }
  const cause = new DataView(client.regionRead(0, 0x24, 4).buffer.slice(0)).byteLength;
  if (cause < 4) throw new Error('no interrupt status');
  const acknowledged = new Uint8Array(4);
  new DataView(acknowledged.buffer).setUint32(0, DMA_CAUSE, true);
  client.regionWrite(0, 0x64, acknowledged);
  client.setIrqs(UNMASK, INTX, 0, 1);
}

try {
  client.negotiate();
  client.dmaMap({
    address: 0n,
    size: BigInt(MEMORY_BYTES),
    offset: 0n,
    readable: true,
    writable: true,
    descriptor: memory,
  });
  client.setIrqs(BIND_TRIGGER, INTX, 0, 1, { descriptors: [irq] });
  client.regionWrite(CONFIG_REGION, COMMAND, Uint8Array.of(MEMORY_AND_BUS_MASTER, 0));
  const pattern = new Uint8Array(BYTES);
  const back = new Uint8Array(BYTES);
  for (let round = 1; Atomics.load(control, 1) === 0; round++) {
    for (let i = 0; i < BYTES; i++) pattern[i] = round * 31 + i * 7 + (i >> 8);
    const from = (round % 64) * BYTES;
    const to = MEMORY_BYTES / 2 + from + 5;
    writeSync(memory, pattern, 0, BYTES, from);
    copy(from, BUFFER, false);
    copy(BUFFER, to, true);
    readSync(memory, back, 0, BYTES, to);
    if (Buffer.compare(pattern, back) !== 0) throw new Error(`round ${round}: other bytes came back`);
    Atomics.store(control, 0, round);
    parentPort.postMessage({ round });
  }
  parentPort.postMessage({ done: true });
} catch (error) {
  parentPort.postMessage({ failed: error.message });
}
client.close();
closeDescriptor(memory);
closeDescriptor(irq);
loop.close();
