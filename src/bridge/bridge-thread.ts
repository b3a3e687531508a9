/** The worker that owns a bridge's sockets and memory: it blocks in epoll_wait(2), serves what is ready, and polls again. */
import { join } from 'node:path';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { EventLoop, PollEvents } from '../posix/event-loop.ts';
import { drainEventFd } from '../posix/eventfd.ts';
import { WindowPool } from '../posix/window-pool.ts';
import { BoundedForwarder } from '../trace/bounded-forwarder.ts';
import { FunctionDoor } from './function-door.ts';
import type { BridgeCommand, BridgeThreadData, BridgeThreadMessage, ThreadStatistics } from './thread-messages.ts';

function run({ directory, functions, wakeDescriptor, taken }: BridgeThreadData): void {
  const post = (message: BridgeThreadMessage) => parentPort!.postMessage(message);
  const trace = new BoundedForwarder(taken, event => post({ type: 'event', event }));
  const loop = new EventLoop((error, where) => {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    trace.note('internal.error', 'bridge', { where, error: text });
  });
  const pool = new WindowPool();
  const doors = new Map<string, FunctionDoor>();
  let running = true;
  const close = () => {
    for (const door of doors.values()) door.close();
  };
  const statistics = (): ThreadStatistics =>
    Object.fromEntries([...doors].map(([name, door]) => [name, door.statistics()]));

  const obey = ({ id, name }: BridgeCommand) => {
    if (name === 'statistics') {
      post({ type: 'statistics', id, statistics: statistics() });
      return;
    }
    running = false;
    // Ends every wait for a client, so that a job under way does not hold up the end.
    close();
    post({ type: 'stopped', id, statistics: statistics() });
  };
  loop.watch(wakeDescriptor, PollEvents.in, () => {
    drainEventFd(wakeDescriptor);
    for (let next = receiveMessageOnPort(parentPort!); next; next = receiveMessageOnPort(parentPort!)) {
      obey(next.message as BridgeCommand);
    }
  });

  const sockets: Record<string, string> = {};
  try {
    for (const name of functions) {
      const path = join(directory, `${name}.sock`);
      const offer = (stream: number) => post({ type: 'client', function: name, stream });
      const gone = () => post({ type: 'gone', function: name });
      doors.set(name, new FunctionDoor({ path, name, loop, trace, pool, offer, gone }));
      sockets[name] = path;
    }
  } catch (error) {
    close();
    throw error;
  }
  post({ type: 'ready', sockets });
  while (running) loop.runOnce(-1);
  loop.close();
  parentPort!.close();
}

run(workerData as BridgeThreadData);
