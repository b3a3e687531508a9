/**
 * The device thread of `bridge-server.ts`: one function on a unix socket and one on the streams that it is given, which do nothing but DMA
 * to their clients' memory, by messages.
 */
import { join } from 'node:path';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { MemoryStatus } from '../src/memory/guest-memory.ts';
import { RegionMemory } from '../src/memory/region-memory.ts';
import { EventLoop, PollEvents } from '../src/posix/event-loop.ts';
import { drainEventFd } from '../src/posix/eventfd.ts';
import { WindowPool } from '../src/posix/window-pool.ts';
import { silentTrace } from '../src/trace/trace.ts';
import { type DeviceModel, Errno } from '../src/vfio-user/device-model.ts';
import { VfioUserServer } from '../src/vfio-user/server.ts';
import { MEMORY_BYTES } from './bridge-memory.ts';

export type Way = 'unix' | 'bridged';

export interface Transfers {
  readonly way: Way;
  readonly writing: boolean;
  /** In each transfer. */
  readonly bytes: number;
  /** Each page of a transfer lies elsewhere. */
  readonly scattered: boolean;
  readonly count: number;
}

export interface DeviceData {
  readonly directory: string;
  readonly wakeDescriptor: number;
}

export type DeviceCommand = { readonly adopt: number } | { readonly transfers: Transfers };

export type DeviceAnswer = 'ready' | { readonly mapped: Way } | { readonly nanoseconds: number };

const REGIONS = 9;
const INTERRUPT_INDEXES = 5;
const PAGE = 4096;
const PAGES = MEMORY_BYTES / PAGE;
/** Odd, so that it meets every page. */
const STRIDE = 1237;
const NO_INTERRUPT = { count: 0, eventfd: false, maskable: false, automasked: false, noresize: false };

const { directory, wakeDescriptor } = workerData as DeviceData;
const answer = (message: DeviceAnswer) => parentPort!.postMessage(message);
const loop = new EventLoop(error => {
  throw error;
});
const pool = new WindowPool();
const memories: Readonly<Record<Way, RegionMemory>> = { unix: newMemory('unix'), bridged: newMemory('bridged') };
const servers: Readonly<Record<Way, VfioUserServer>> = { unix: newServer('unix'), bridged: newServer('bridged') };
const waiting: Transfers[] = [];
const buffer = new Uint8Array(8 << 20);
let nextPage = 0;

loop.watch(wakeDescriptor, PollEvents.in, () => {
  drainEventFd(wakeDescriptor);
  for (let next = receiveMessageOnPort(parentPort!); next; next = receiveMessageOnPort(parentPort!)) {
    const command = next.message as DeviceCommand;
    if ('transfers' in command) waiting.push(command.transfers);
    else if (!servers.bridged.adopt(command.adopt)) throw new Error('another client is there');
  }
});
answer('ready');
for (;;) {
  loop.runOnce(-1);
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) answer({ nanoseconds: measure(next) });
}

function newMemory(name: Way): RegionMemory {
  return new RegionMemory({ name, trace: silentTrace, pool });
}

function newServer(name: Way): VfioUserServer {
  const memory = memories[name];
  const model: DeviceModel = {
    regions: Array.from({ length: REGIONS }, () => ({ size: 0, readable: false, writable: false })),
    interrupts: Array.from({ length: INTERRUPT_INDEXES }, () => NO_INTERRUPT),
    dma: {
      map(region) {
        const errno = memory.map(region);
        answer({ mapped: name });
        return errno;
      },
      unmap: (address, size) => memory.unmap(address, size),
      unmapAll: () => memory.unmapAll(),
    },
    read: () => Errno.EINVAL,
    write: () => Errno.EINVAL,
    unmasked() {},
    armed() {},
    reset() {},
    connected(client) {
      memory.remote = client;
    },
    disconnected() {
      memory.remote = undefined;
    },
  };
  return new VfioUserServer({ path: join(directory, `${name}.sock`), name, model, loop, trace: silentTrace });
}

/** For one transfer, in the mean. */
function measure({ way, writing, bytes, scattered, count }: Transfers): number {
  const memory = memories[way];
  const begun = process.hrtime.bigint();
  for (let i = 0; i < count; i++) {
    const status = scattered ? scatter(memory, writing, bytes) : transfer(memory, writing, bytes);
    if (status !== MemoryStatus.ok) throw new Error(`DMA ended with ${status}`);
  }
  return Number(process.hrtime.bigint() - begun) / count;
}

function transfer(memory: RegionMemory, writing: boolean, bytes: number): MemoryStatus {
  const pages = Math.ceil(bytes / PAGE);
  if (nextPage + pages > PAGES) nextPage = 0;
  const frame = nextPage;
  nextPage += pages;
  return writing ? memory.write(frame, 0, buffer, 0, bytes) : memory.read(frame, 0, buffer, 0, bytes);
}

function scatter(memory: RegionMemory, writing: boolean, bytes: number): MemoryStatus {
  const batch = memory.batch;
  if (batch === undefined) throw new Error('the memory is not reached by messages');
  batch.begin();
  for (let at = 0; at < bytes; at += PAGE) {
    nextPage = (nextPage + STRIDE) % PAGES;
    if (writing) batch.write(nextPage, 0, buffer, at, PAGE);
    else batch.read(nextPage, 0, buffer, at, PAGE);
  }
  return batch.end();
}
