/** The worker that owns a machine: it blocks in poll(2), serves what is ready, runs the jobs that came of it, and polls again. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { EventLoop, PollEvents } from '../posix/event-loop.ts';
import { drainEventFd } from '../posix/eventfd.ts';
import { BoundedForwarder } from '../trace/bounded-forwarder.ts';
import type { CommandRequest, DeviceThreadData, DeviceThreadMessage } from './commands.ts';
import { Machine } from './machine.ts';

const POLL_FOREVER = -1;

function run(data: DeviceThreadData): void {
  const post = (message: DeviceThreadMessage) => parentPort!.postMessage(message);
  const trace = new BoundedForwarder(data.taken, event => post({ type: 'event', event }));
  const loop = new EventLoop((error, where) => {
    trace.note('internal.error', where, {
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
  });
  const machine = new Machine({ description: data.description, directory: data.directory, loop, trace });
  let running = true;

  const obey = ({ id, command }: CommandRequest) => {
    if (command.name === 'stop') running = false;
    const statistics = command.name === 'statistics' ? machine.statistics() : undefined;
    post({
      type: 'reply',
      id,
      result: statistics && { ...statistics, trace: { sent: trace.sent, dropped: trace.dropped } },
    });
  };
  loop.watch(data.wakeDescriptor, PollEvents.in, () => {
    drainEventFd(data.wakeDescriptor);
    for (let next = receiveMessageOnPort(parentPort!); next; next = receiveMessageOnPort(parentPort!)) {
      obey(next.message as CommandRequest);
    }
  });

  post({ type: 'ready', sockets: machine.sockets });
  while (running) loop.runOnce(POLL_FOREVER);
  machine.close();
  loop.close();
  parentPort!.close();
}

run(workerData as DeviceThreadData);
