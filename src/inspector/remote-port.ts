/** A machine on another server, as the remote API of this one sees it. */
import { EventEmitter } from 'node:events';
import type { OperationName } from '../iommu/dma-iommu/operations.ts';
import type { MachineEvent, OperationAnswer, OperationArguments } from '../machine/operations-command.ts';
import type { RecordTap } from '../machine/record-taps.ts';
import type { EventKind } from '../trace/event-kinds.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { FindingEvents, MachineEnd, MachineEvents, MachinePort, TakeBatch } from './machine-port.ts';
import {
  ErrorCode,
  FINDING_EVENT,
  MACHINE_ENDED_EVENT,
  MACHINE_REMOVED_EVENT,
  RemoteError,
  type RemoteEvent,
} from './protocol.ts';
import { ConnectionError, type MachineFacts, type RemoteMachine, type RemoteRecording } from './remote-client.ts';

export class RemotePort implements MachinePort {
  readonly description: unknown;
  readonly kinds: readonly EventKind[];
  readonly replays: boolean;
  readonly ended: Promise<MachineEnd>;
  private readonly told = new EventEmitter<{ event: [MachineEvent]; finding: [Finding] }>();
  private end: (end: MachineEnd) => void = () => {};
  private subscription: number | undefined;

  /** Rejects with a `RemoteError` or a `ConnectionError`. `machine` names one machine, and stays the caller's. */
  static async open(machine: RemoteMachine): Promise<RemotePort> {
    const port = new RemotePort(machine, await machine.describe());
    port.subscription = await machine.subscribe({ kinds: ['*'] }, event => port.hear(event));
    return port;
  }

  private constructor(
    private readonly machine: RemoteMachine,
    { description, kinds, replays }: MachineFacts,
  ) {
    this.description = description;
    this.kinds = kinds;
    this.replays = replays;
    // As many as there are clients.
    this.told.setMaxListeners(0);
    this.ended = new Promise(resolve => {
      this.end = resolve;
    });
    void machine.closed.then(({ message }) => this.end({ reason: message, stoppedByFinding: false }));
  }

  get events(): MachineEvents {
    return this.told;
  }

  get newFindings(): FindingEvents {
    return this.told;
  }

  /** Hears nothing more. The machine and the connection stay. */
  async close(): Promise<void> {
    const { subscription } = this;
    this.subscription = undefined;
    if (subscription === undefined) return;
    try {
      await this.machine.unsubscribe(subscription);
    } catch (error) {
      // Nothing comes through a connection that is closed.
      if (!(error instanceof ConnectionError)) throw error;
    }
  }

  operate = <Name extends OperationName>(
    operation: Name,
    args: OperationArguments[Name],
  ): Promise<OperationAnswer<Name>> => this.machine.operate(operation, args);

  probe: MachinePort['probe'] = args => this.machine.probe(args);
  getInterface: MachinePort['getInterface'] = args => this.machine.getInterface(args);
  statistics: MachinePort['statistics'] = () => this.machine.statistics();
  snapshot: MachinePort['snapshot'] = () => this.machine.snapshot();
  findings: MachinePort['findings'] = () => this.machine.findings();
  mappings: MachinePort['mappings'] = () => this.machine.mappings();
  inject: MachinePort['inject'] = rule => this.machine.inject(rule);
  releaseInjection: MachinePort['releaseInjection'] = id => isThere(this.machine.releaseInjection(id));
  removeInjection: MachinePort['removeInjection'] = id => isThere(this.machine.removeInjection(id));
  injections: MachinePort['injections'] = () => this.machine.injections();
  inspect: MachinePort['inspect'] = () => this.machine.inspect();
  registers: MachinePort['registers'] = name => this.machine.registers(name);
  walk: MachinePort['walk'] = (requesterId, iova, pasid) => this.machine.walk(requesterId, iova, pasid);
  tlb: MachinePort['tlb'] = limit => this.machine.tlb(limit);
  queue: MachinePort['queue'] = () => this.machine.queue();
  pause: MachinePort['pause'] = () => this.machine.pause();
  step: MachinePort['step'] = what => this.machine.step(what);
  resume: MachinePort['resume'] = () => this.machine.resume();

  alive = async (): Promise<void> => {
    // A recorded file has none.
    if (!this.replays) await this.machine.statistics();
  };

  /** Each has a subscription of its own at the other server; where that refuses, or loses records, an event tells. */
  record(classes: number, take: TakeBatch): RecordTap {
    const state = { stopped: false, dropped: 0 };
    const give = (words: Int32Array, dropped: number): unknown => {
      if (dropped > state.dropped) this.tell('remote.dropped', { batches: dropped - state.dropped });
      state.dropped = dropped;
      if (state.stopped) return undefined;
      const taken = take(words);
      // Only a file can wait for whoever reads it.
      return this.replays ? taken : undefined;
    };
    const beginning = this.machine.record(classes, give);
    beginning.catch(error => this.tell('remote.refused', { what: 'record', error: (error as Error).message }));
    return {
      stop: () => {
        state.stopped = true;
        beginning.then(stopRecording).catch(() => {
          // It never began, or has ended with its machine.
        });
      },
    };
  }

  private hear({ event, source, detail }: RemoteEvent): void {
    if (event === FINDING_EVENT) {
      this.told.emit('finding', detail.finding as Finding);
    } else if (event === MACHINE_ENDED_EVENT) {
      this.end(detail as unknown as MachineEnd);
    } else if (event === MACHINE_REMOVED_EVENT) {
      this.subscription = undefined;
      this.end({ reason: String(detail.reason), stoppedByFinding: false });
    } else {
      this.told.emit('event', { kind: event, source, detail } as MachineEvent);
    }
  }

  private tell(kind: string, detail: Readonly<Record<string, string | number>>): void {
    this.told.emit('event', { kind, source: 'remote', detail });
  }
}

async function stopRecording(recording: RemoteRecording): Promise<void> {
  await recording.stop();
}

/** What is no such rule for a port is a bad argument for a client. */
async function isThere(change: Promise<void>): Promise<boolean> {
  try {
    await change;
    return true;
  } catch (error) {
    if (error instanceof RemoteError && error.code === ErrorCode.badArguments) return false;
    throw error;
  }
}
