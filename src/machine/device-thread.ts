/** The worker that owns a machine: it blocks in epoll_wait(2), serves what is ready, runs the jobs that came of it, and polls again. */
import { availableParallelism } from 'node:os';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { EventLoop, PollEvents } from '../posix/event-loop.ts';
import { drainEventFd } from '../posix/eventfd.ts';
import { BoundedForwarder } from '../trace/bounded-forwarder.ts';
import type { Command, CommandRequest, DeviceThreadData, DeviceThreadMessage } from './commands.ts';
import { Debugging } from './debugging.ts';
import { Inspector } from './inspect.ts';
import { IOMMU_ID, Machine } from './machine.ts';
import type { MachineEvent } from './operations-command.ts';
import { pollNanoseconds } from './polling.ts';
import { RemoteCommands } from './remote-commands.ts';
import type { MachineStatistics } from './statistics.ts';

const NO_OPERATIONS = 'the machine has no dma-iommu: serve it with --iommu dma-iommu';

function run(data: DeviceThreadData): void {
  const post = (message: DeviceThreadMessage) => parentPort!.postMessage(message);
  const forwarder = new BoundedForwarder<MachineEvent>(data.taken, event => post({ type: 'event', event }));
  let running = true;
  const debugging = new Debugging({
    forward: forwarder,
    ring: data.ring,
    description: data.description,
    policy: data.sanitize,
    wake: () => post({ type: 'records' }),
    onFinding: finding => post({ type: 'finding', finding }),
    onStop: () => {
      running = false;
      machine.halt();
    },
  });
  const { tracer } = debugging;
  const loop = new EventLoop((error, where) => {
    tracer.note('internal.error', where, {
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
  });
  loop.busyPoll.nanoseconds = pollNanoseconds(data.description.pollMicroseconds, availableParallelism());
  const machine = new Machine({
    description: data.description,
    directory: data.directory,
    loop,
    trace: tracer,
    checks: debugging.checks,
    places: data.places,
    abandoned: reason => post({ type: 'abandoned', reason }),
  });

  const { operations } = machine.iommu ?? {};
  const remote =
    operations && new RemoteCommands(operations.unit, IOMMU_ID, event => forwarder.send(event), operations);

  const inspector = new Inspector(machine);

  const statistics = (): MachineStatistics => ({
    ...machine.statistics(),
    trace: { sent: forwarder.sent, dropped: forwarder.dropped, ...tracer.counts() },
  });
  type OfJobs = Exclude<Command, { name: 'stop' | 'adopt' }>;
  const answer = (command: OfJobs, reply: (result: unknown) => void): void => {
    switch (command.name) {
      case 'statistics':
        reply(statistics());
        return;
      case 'inspect':
      case 'registers':
      case 'walk':
      case 'tlb':
      case 'queue':
      case 'pause':
      case 'step':
      case 'resume':
        inspector.answer(command, reply);
        return;
      case 'operate':
      case 'probe':
      case 'interface':
      case 'snapshot':
        if (remote === undefined) throw new Error(NO_OPERATIONS);
        reply(remote.answer(command));
        return;
      default:
        reply(debugging.answer(command, machine.injection));
    }
  };
  const orRefuse = (id: number, work: () => void): void => {
    try {
      work();
    } catch (error) {
      post({ type: 'refused', id, reason: error instanceof Error ? error.message : String(error) });
    }
  };
  const obey = ({ id, command }: CommandRequest) => {
    if (command.name === 'stop') {
      running = false;
      // Ends every wait for a client, so that a job under way does not hold up the end.
      machine.close();
      post({ type: 'reply', id, result: debugging.finish() });
      return;
    }
    const reply = (result: unknown) => post({ type: 'reply', id, result });
    if (command.name === 'adopt') {
      // At once, as a client that comes to a socket: a job may wait for one that has gone.
      orRefuse(id, () => reply(machine.adopt(command.function, command.descriptor)));
      return;
    }
    if (command.name === 'pause') machine.control.announcePause();
    // As a job: in the middle of another's wait for guest memory it would change what that one is reading.
    loop.push(() => orRefuse(id, () => answer(command, reply)));
  };
  loop.watch(data.wakeDescriptor, PollEvents.in, () => {
    drainEventFd(data.wakeDescriptor);
    for (let next = receiveMessageOnPort(parentPort!); next; next = receiveMessageOnPort(parentPort!)) {
      obey(next.message as CommandRequest);
    }
  });

  post({ type: 'ready', sockets: machine.sockets });
  while (running) loop.runOnce(debugging.beforeWaiting());
  machine.close();
  if (debugging.stoppedBy !== undefined) post({ type: 'stopped', lastWords: debugging.finish() });
  loop.close();
  parentPort!.close();
}

run(workerData as DeviceThreadData);
