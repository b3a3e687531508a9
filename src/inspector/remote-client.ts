/** The remote API from the client's side. */
import type { Answer, OperationName } from '../iommu/dma-iommu/operations.ts';
import type { Snapshot } from '../iommu/dma-iommu/snapshot.ts';
import type { ProbeAnswer } from '../iommu/dma-iommu/unit.ts';
import type { FindingsAnswer, MappingsAnswer } from '../machine/debug-commands.ts';
import type { MachineDescription } from '../machine/description.ts';
import type { InjectionRule, InjectionState } from '../machine/injection/rules.ts';
import type {
  InspectionAnswer,
  QueueAnswer,
  RegistersAnswer,
  StateAnswer,
  StepAnswer,
  StepWhat,
  TlbAnswer,
  WalkAnswer,
} from '../machine/inspection.ts';
import type {
  InterfaceArguments,
  OperationAnswer,
  OperationArguments,
  ProbeArguments,
} from '../machine/operations-command.ts';
import type { InterfaceAnswer } from '../machine/remote-commands.ts';
import type { EventKind } from '../trace/event-kinds.ts';
import { LeaseLink, type LeaseOptions } from './lease-link.ts';
import type { MachineEnd } from './machine-port.ts';
import {
  DROPPED_EVENT,
  MACHINES_EVENT,
  type Named,
  RECORDS_EVENT,
  type RemoteEvent,
  type ServiceName,
} from './protocol.ts';
import { ConnectionError, type Link, type LinkOptions, RemoteLink } from './remote-link.ts';
import type { SubscriptionCounts } from './subscriptions.ts';

export { ConnectionError, type LeaseOptions };

/** For `RemoteMachine.connect`. */
export interface ConnectOptions extends LinkOptions {
  /** Which of the server's machines is meant; may be missing where it has one. */
  readonly machine?: string | undefined;
}

/** A machine that the server made for this client; it ends with `release`, or when the connection has been lost for its grace time. */
export interface LeasedMachine {
  /** Bound to the leased one. */
  readonly machine: RemoteMachine;
  /** By function name; paths relative to the server's directory. */
  readonly sockets: Readonly<Record<string, string>>;
  readonly description: MachineDescription;
  /** What the server agreed on; 0: the machine ends with the connection. */
  readonly graceMilliseconds: number;
  /**
   * The machine is there no more, for whatever reason: it ended by itself, was released, or the connection is closed, or lost for longer than the
   * grace time. Never rejects.
   */
  readonly ended: Promise<MachineEnd>;
  /**
   * Stops the machine and closes the connection; one that is lost is waited for as long as it may come back. Gives what the sanitizer found in all; undefined: the server is gone, and so is the
   * machine.
   */
  release(): Promise<FindingsAnswer | undefined>;
}

/** What a machine is, and what its records mean. */
export interface MachineFacts {
  /** Its name. */
  readonly machine: string;
  /** As `checkDescription` of viommu/machine/description takes it. */
  readonly description: unknown;
  /** What the words of its records mean. */
  readonly kinds: readonly EventKind[];
  /** It is a recorded file. */
  readonly replays: boolean;
}

type EventListener = (event: RemoteEvent) => void;

const NO_RECORDS = new Int32Array(0);

/** Records as they come from a running machine. */
export interface RemoteRecording {
  /** What the machine is. */
  readonly machine: MachineDescription;
  /** What the records mean. */
  readonly kinds: readonly EventKind[];
  /** No more records come when this is settled. */
  stop(): Promise<void>;
}

/**
 * Whole records in slots of 32 bytes; `dropped`: batches lost so far because this client did not read fast enough, or with a connection.
 * Without records: where some were lost, and nothing came since. Where it gives a
 * promise nothing more is read from the server until that is settled.
 */
export type RemoteRecords = (words: Int32Array, dropped: number) => unknown;

/**
 * A machine on a running server. What is asked rejects with a `ConnectionError` where the connection is lost, and with a `RemoteError` where
 * the server refuses; docs/remote-api.md has the requests.
 */
export class RemoteMachine {
  /** Ends with the connection; tells why. */
  readonly closed: Promise<ConnectionError>;

  /** Rejects with a `ConnectionError`. */
  static async connect(url: string, { machine, ...options }: ConnectOptions = {}): Promise<RemoteMachine> {
    return new RemoteMachine(await RemoteLink.open(url, options), machine);
  }

  /**
   * Has a server that was started with `viommu serve --on-demand` make a machine. With a grace time its connection is made again where
   * it is lost: then what only asks is asked again, other requests that were under way reject with a `ConnectionError`, subscriptions go
   * on, findings that were missed are told, and what else they lost is counted as dropped. Rejects with a `ConnectionError`, or a
   * `RemoteError` where the server refuses.
   */
  static async lease(url: string, options: LeaseOptions = {}): Promise<LeasedMachine> {
    const link = await LeaseLink.open(url, options);
    const { machine: name, sockets, description, grace } = link.lease;
    const machine = new RemoteMachine(link, name);
    let released: Promise<FindingsAnswer | undefined> | undefined;
    return {
      machine,
      sockets,
      description,
      graceMilliseconds: grace,
      ended: link.ended,
      release: () => {
        released ??= machine.release();
        return released;
      },
    };
  }

  private constructor(
    private readonly link: Link,
    /** Which of the server's machines this is; undefined: the only one. */
    readonly name: string | undefined,
  ) {
    this.closed = link.closed;
  }

  /** Another machine of the server, by the same connection. */
  at(name: string): RemoteMachine {
    return new RemoteMachine(this.link, name);
  }

  /** Rejects with a `RemoteError` where the request itself was refused; an operation that failed is an answer. */
  async operate<Name extends OperationName>(
    operation: Name,
    args: OperationArguments[Name],
  ): Promise<Named<OperationAnswer<Name>>> {
    return (await this.request(operation, args)) as Named<OperationAnswer<Name>>;
  }

  /** Names of all machines of the server. */
  async machines(): Promise<string[]> {
    return (await this.serve<{ machines: string[] }>('machines')).machines;
  }

  /** Hears each time which machines there are; gives those that there are now. */
  async watchMachines(listener: (machines: readonly string[]) => void): Promise<readonly string[]> {
    const { machines } = await this.link.subscribe<{ subscription: number; machines: string[] }>(
      { operation: 'watch' },
      ({ event, detail }) => {
        if (event === MACHINES_EVENT) listener(detail.machines as string[]);
      },
    );
    return machines;
  }

  /** What the machine is, and what its records mean. */
  async describe(): Promise<MachineFacts> {
    return await this.serve<MachineFacts>('describe');
  }

  /** IoGetIommuInterface or IoGetIommuInterfaceEx of a dma-iommu. */
  async getInterface(args: InterfaceArguments): Promise<Named<InterfaceAnswer>> {
    return await this.serve('interface', args);
  }

  /** What an access of a device would come to, without doing it; of a dma-iommu. */
  async probe(args: ProbeArguments): Promise<ProbeAnswer> {
    return (await this.serve<{ probe: ProbeAnswer }>('probe', args)).probe;
  }

  /** What the machine counted since its start. */
  async statistics(): Promise<Readonly<Record<string, unknown>>> {
    return (await this.serve<{ statistics: Record<string, unknown> }>('statistics')).statistics;
  }

  /** Domains, attachments, devices and tokens of a dma-iommu, as they are now. */
  async snapshot(): Promise<Snapshot> {
    return (await this.serve<{ snapshot: Snapshot }>('snapshot')).snapshot;
  }

  /** Gives the subscription's number. `kinds`: exact ones, or beginnings followed by `*`. */
  async subscribe(
    args: { readonly kinds: readonly string[]; readonly context?: string | number | undefined },
    listener: EventListener,
  ): Promise<number> {
    const request = { operation: 'subscribe', args, machine: this.name };
    return (await this.link.subscribe(request, listener)).subscription;
  }

  /** Ends a subscription; gives what it sent and dropped. */
  async unsubscribe(subscription: number): Promise<SubscriptionCounts> {
    return await this.link.unsubscribe(subscription);
  }

  /** What the sanitizer found so far. */
  async findings(): Promise<FindingsAnswer> {
    return await this.serve<FindingsAnswer>('findings');
  }

  /** What is mapped and attached, as the sanitizer knows it. */
  async mappings(): Promise<MappingsAnswer> {
    return await this.serve<MappingsAnswer>('mappings');
  }

  /** `classes`: `EventClass` bits; what others record comes along. The first batch names the sources. */
  async record(classes: number, take: RemoteRecords): Promise<RemoteRecording> {
    const { subscription, machine, kinds } = await this.link.subscribe<
      Omit<RemoteRecording, 'stop'> & { subscription: number }
    >({ operation: 'record', args: { classes: classes >>> 0 }, machine: this.name }, ({ event, detail, dropped }) => {
      if (event === RECORDS_EVENT) return take(wordsOf(detail.words as Uint8Array), dropped);
      return event === DROPPED_EVENT ? take(NO_RECORDS, dropped) : undefined;
    });
    return {
      machine,
      kinds,
      stop: async () => {
        await this.unsubscribe(subscription);
      },
    };
  }

  /** Answers with the rule's id. */
  async inject(rule: InjectionRule): Promise<number> {
    return (await this.serve<{ injection: number }>('inject', rule)).injection;
  }

  /** Lets go what the rule holds. */
  async releaseInjection(injection: number): Promise<void> {
    await this.serve('releaseInjection', { injection });
  }

  /** Takes a rule back, and lets go what it holds. */
  async removeInjection(injection: number): Promise<void> {
    await this.serve('removeInjection', { injection });
  }

  /** All rules that are there, used up or not. */
  async injections(): Promise<readonly InjectionState[]> {
    return (await this.serve<{ injections: InjectionState[] }>('injections')).injections;
  }

  /** Definitions of all registers, what functions there are, and whether the machine runs. */
  async inspect(): Promise<InspectionAnswer> {
    return await this.serve<InspectionAnswer>('inspect');
  }

  /** What the registers of a function hold. */
  async registers(name: string): Promise<RegistersAnswer> {
    return await this.serve<RegistersAnswer>('registers', { function: name });
  }

  /** The way of an address of a device through all tables. `pasid`: missing for requests without one. */
  async walk(requesterId: number, iova: bigint, pasid?: number): Promise<WalkAnswer> {
    return (await this.serve<{ walk: WalkAnswer }>('walk', { requesterId, iova, pasid })).walk;
  }

  /** What the IOTLB holds, at most so many entries. */
  async tlb(limit: number): Promise<TlbAnswer> {
    return await this.serve<TlbAnswer>('tlb', { limit });
  }

  /** VT-d's invalidation queue around its head and tail. */
  async queue(): Promise<QueueAnswer> {
    return await this.serve<QueueAnswer>('queue');
  }

  /** Serves no client and does no work of endpoints or of the IOMMU from here on; what comes waits. */
  async pause(): Promise<StateAnswer> {
    return await this.serve<StateAnswer>('pause');
  }

  /** While paused: one transfer of an endpoint, or one register access of the guest. */
  async step(what: StepWhat): Promise<StepAnswer> {
    return await this.serve<StepAnswer>('step', { what });
  }

  /** Goes on after a pause. */
  async resume(): Promise<StateAnswer> {
    return await this.serve<StateAnswer>('resume');
  }

  /** Any request, unchecked; for those who know operations by name only. */
  request(operation: string, args?: object): Promise<Named<Answer>> {
    return this.link.request({ operation, args, machine: this.name });
  }

  /** The connection, and with it all machines that were leased by it. */
  async close(): Promise<void> {
    await this.link.close();
  }

  /** The same at once, without a word: for a server that does not answer. */
  abandon(): void {
    this.link.abandon();
  }

  private async serve<T>(service: ServiceName, args?: object): Promise<Named<Answer> & T> {
    return (await this.request(service, args)) as Named<Answer> & T;
  }

  private async release(): Promise<FindingsAnswer | undefined> {
    try {
      const args = { machine: this.name };
      const { status: _, statusName: __, ...answer } = await this.serve<FindingsAnswer>('release', args);
      return answer;
    } catch (error) {
      if (error instanceof ConnectionError) return undefined;
      throw error;
    } finally {
      await this.close();
    }
  }
}

function wordsOf(bytes: Uint8Array): Int32Array {
  // A copy: what came may lie at any address.
  return new Int32Array(bytes.slice().buffer);
}
