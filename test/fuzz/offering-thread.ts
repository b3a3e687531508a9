/** A device thread whose endpoints are offering devices: as a machine's, but for what its functions offer. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { describeMachine } from '../../src/machine/description.ts';
import { Machine } from '../../src/machine/machine.ts';
import type { MachineStatistics } from '../../src/machine/statistics.ts';
import { EventLoop, PollEvents } from '../../src/posix/event-loop.ts';
import { drainEventFd } from '../../src/posix/eventfd.ts';
import { WindowPool } from '../../src/posix/window-pool.ts';
import type { TraceEvent } from '../../src/trace/trace.ts';
import { VfioUserServer } from '../../src/vfio-user/server.ts';
import { type OfferingCounts, OfferingDevice } from './offering-device.ts';

export interface OfferingThreadData {
  readonly directory: string;
  readonly devices: readonly string[];
  /** Those that offer. */
  readonly offering: readonly string[];
  readonly wakeDescriptor: number;
}

export interface OfferingStatistics extends MachineStatistics {
  readonly offering: OfferingCounts;
}

export type OfferingMessage =
  | { readonly type: 'ready'; readonly sockets: Readonly<Record<string, string>> }
  | { readonly type: 'event'; readonly event: TraceEvent }
  | { readonly type: 'statistics'; readonly statistics: OfferingStatistics };

export type OfferingQuestion = 'statistics' | 'stop';

/** All that anybody wants to know. */
const TOLD: ReadonlySet<string> = new Set(['client.closed', 'internal.error']);

function run({ directory, devices, offering, wakeDescriptor }: OfferingThreadData): void {
  const port = parentPort!;
  const post = (message: OfferingMessage) => port.postMessage(message);
  const note = (kind: string, source: string, detail: TraceEvent['detail']) => {
    if (TOLD.has(kind)) post({ type: 'event', event: { kind, source, detail } });
  };
  const trace = { note };
  const loop = new EventLoop((error, where) =>
    note('internal.error', where, { error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
  const pool = new WindowPool();
  const machine = new Machine({ description: describeMachine('none', devices), directory, loop, trace, pool });
  const sockets: Record<string, string> = { ...machine.sockets };
  const served = new Map<string, { readonly device: OfferingDevice; readonly server: VfioUserServer }>();
  for (const name of offering) {
    const { pci, memory } = machine.functions.get(name)!;
    const device = new OfferingDevice({ pci, memory, pool, push: job => loop.push(job) });
    const path = `${sockets[name]!}.offering`;
    served.set(name, { device, server: new VfioUserServer({ path, name, model: device, loop, trace }) });
    sockets[name] = path;
  }

  const statistics = (): OfferingStatistics => {
    const all = machine.statistics();
    const functions = { ...all.functions };
    const sum: OfferingCounts = { doorbells: 0, copies: 0, failedCopies: 0, interrupts: 0 };
    for (const [name, { device, server }] of served) {
      functions[name] = {
        ...functions[name]!,
        connected: server.connected,
        server: structuredClone(server.statistics),
      };
      for (const key of Object.keys(sum) as (keyof OfferingCounts)[]) sum[key] += device.counts[key];
    }
    return { ...all, functions, offering: sum };
  };

  let running = true;
  loop.watch(wakeDescriptor, PollEvents.in, () => {
    drainEventFd(wakeDescriptor);
    for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
      if ((next.message as OfferingQuestion) === 'stop') running = false;
      else loop.push(() => post({ type: 'statistics', statistics: statistics() }));
    }
  });
  post({ type: 'ready', sockets });
  while (running) loop.runOnce(-1);
  for (const { server, device } of served.values()) {
    server.close();
    device.close();
  }
  machine.close();
  loop.close();
  port.close();
}

run(workerData as OfferingThreadData);
