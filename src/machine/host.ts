/** The control thread's side of a machine: starts its device thread, hears its events, asks it things, ends it. */
import { EventEmitter } from 'node:events';
import { Worker } from 'node:worker_threads';
import { createEventFd, signalEventFd } from '../posix/eventfd.ts';
import { closeDescriptor, socketPair } from '../posix/socket.ts';
import { allocateEventRing, EventRingReader } from '../trace/event-ring.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import { parsePolicy, type SanitizePolicy } from '../trace/sanitizer/policy.ts';
import type { TraceEvent } from '../trace/trace.ts';
import type { Command, CommandRequest, DeviceThreadData, DeviceThreadMessage, LastWords } from './commands.ts';
import type { FindingsAnswer, MappingsAnswer } from './debug-commands.ts';
import type { MachineDescription } from './description.ts';
import type { InjectionRule, InjectionState } from './injection/rules.ts';
import type {
  InspectCommand,
  InspectionAnswer,
  QueueAnswer,
  RegistersAnswer,
  StateAnswer,
  StepAnswer,
  StepWhat,
  TlbAnswer,
  WalkAnswer,
} from './inspection.ts';
import type { SocketPlaces } from './machine.ts';
import { type CallbackEvent, isCallback } from './operations-command.ts';
import { type RecordTap, RecordTaps, type TakeRecords } from './record-taps.ts';
import type { MachineStatistics } from './statistics.ts';

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

interface MachineHostEvents {
  /** What the trace tells: connections, faults, and what was wrong with what a client or the guest did. */
  event: [TraceEvent];
  /** A call of what a remote operation registered. */
  callback: [CallbackEvent];
  /** The first occurrence of a mistake. */
  finding: [Finding];
}

/** For `MachineHost.start`. */
export interface MachineHostOptions {
  /** Which mistakes to look for. Default: what `parsePolicy('on')` says. */
  readonly sanitize?: SanitizePolicy | undefined;
  /** For functions whose sockets are not to be made in the directory. Sockets that were given are the machine's from here on. */
  readonly places?: SocketPlaces | undefined;
}

/** A machine that runs on a device thread of its own. Emits `event` for each event of it. */
export class MachineHost extends EventEmitter<MachineHostEvents> {
  /** Socket path by function name. */
  readonly sockets: Readonly<Record<string, string>> = {};
  /** Ends with the device thread; rejects where it ended by an error. */
  readonly ended: Promise<void>;
  /**
   * The client of a function that was given as a connected socket is gone, for this reason, and no other one can come. Never where none was
   * given; the machine goes on.
   */
  readonly abandoned: Promise<string>;
  private leaveAlone: (reason: string) => void = () => {};
  private readonly worker: Worker;
  private readonly wakeDescriptor: number;
  private readonly taken = new SharedArrayBuffer(4);
  private readonly takenCount = new Int32Array(this.taken);
  private readonly waiting = new Map<number, Waiting>();
  private readonly taps: RecordTaps;
  private nextId = 1;
  /** The findings, when there is nobody left to ask. */
  private lastWords: LastWords | undefined;
  private stopped = false;
  /** By id, as they were when they were new. */
  private readonly told = new Map<string, Finding>();
  /** Why nothing can be asked any more: the error that ended the device thread, or that it was stopped. */
  private gone: Error | undefined;

  /** Resolves when every socket is listening; rejects where one cannot be made. */
  static async start(
    description: MachineDescription,
    directory: string,
    options: MachineHostOptions = {},
  ): Promise<MachineHost> {
    const host = new MachineHost(description, directory, options);
    await host.ready;
    return host;
  }

  private readonly ready: Promise<void>;

  private constructor(
    readonly description: MachineDescription,
    directory: string,
    { sanitize = parsePolicy('on'), places }: MachineHostOptions,
  ) {
    super();
    this.abandoned = new Promise(resolve => {
      this.leaveAlone = resolve;
    });
    this.wakeDescriptor = createEventFd();
    const ring = allocateEventRing();
    this.taps = new RecordTaps(
      new EventRingReader(ring),
      classes => this.want(classes),
      error => this.tellError('who took records failed and gets no more', error),
    );
    const workerData: DeviceThreadData = {
      description,
      directory,
      wakeDescriptor: this.wakeDescriptor,
      taken: this.taken,
      ring,
      sanitize,
      places,
    };
    this.worker = new Worker(new URL('./device-thread.js', import.meta.url), { workerData, name: 'viommu-device' });
    this.ready = new Promise((resolve, reject) => {
      this.worker.on('message', (message: DeviceThreadMessage) => {
        if (message.type === 'ready') {
          Object.assign(this.sockets, message.sockets);
          resolve();
        } else this.hear(message);
      });
      this.worker.once('error', reject);
    });
    this.ended = new Promise((resolve, reject) => {
      let failure: Error | undefined;
      this.worker.once('error', error => {
        failure = error as Error;
      });
      this.worker.once('exit', () => {
        this.leave(failure ?? new Error('the machine has been stopped'));
        if (failure) reject(failure);
        else resolve();
      });
    });
    // Whoever cares awaits it; an unheard rejection would end the process twice.
    this.ended.catch(() => {});
  }

  /** What was counted since the start. This and all other requests reject once the machine has ended, unless said otherwise. */
  async statistics(): Promise<MachineStatistics> {
    return (await this.ask({ name: 'statistics' })) as MachineStatistics;
  }

  /** The machine ended because of a finding that was to stop it. */
  get stoppedByFinding(): boolean {
    return this.stopped;
  }

  /** What the sanitizer found so far; after the end, what it found in all. Rejects where the device thread ended by an error. */
  async findings(): Promise<FindingsAnswer> {
    if (this.lastWords !== undefined) return this.lastWords;
    try {
      return (await this.ask({ name: 'findings' })) as FindingsAnswer;
    } catch (error) {
      // The machine ended after it was asked, and before it heard of that.
      if (this.lastWords === undefined) throw error;
      return this.lastWords;
    }
  }

  /** The findings that came here so far, as they were when they were new: what is left where the device thread ended by an error. */
  get toldFindings(): readonly Finding[] {
    return [...this.told.values()];
  }

  /** What is mapped and attached, as the sanitizer knows it. */
  async mappings(): Promise<MappingsAnswer> {
    return (await this.ask({ name: 'mappings' })) as MappingsAnswer;
  }

  /** Records of these classes (`EventClass` bits) from now on, and of what else anybody wants. The first ones name the sources. */
  record(classes: number, take: TakeRecords): RecordTap {
    return this.taps.add(classes, take);
  }

  /** Makes something go wrong on purpose; answers with the rule's id. */
  async inject(rule: InjectionRule): Promise<number> {
    return (await this.ask({ name: 'inject', rule })) as number;
  }

  /** Lets go what the rule holds; false: there is no such rule. */
  async releaseInjection(id: number): Promise<boolean> {
    return (await this.ask({ name: 'releaseInjection', id })) as boolean;
  }

  /** Takes a rule back, and lets go what it holds; false: there is no such rule. */
  async removeInjection(id: number): Promise<boolean> {
    return (await this.ask({ name: 'removeInjection', id })) as boolean;
  }

  /** All rules that are there, used up or not. */
  async injections(): Promise<readonly InjectionState[]> {
    return (await this.ask({ name: 'injections' })) as InjectionState[];
  }

  /** Definitions of all registers, what functions there are, and whether the machine runs. */
  inspect(): Promise<InspectionAnswer> {
    return this.look({ name: 'inspect' });
  }

  /** What the registers of a function hold. */
  registers(name: string): Promise<RegistersAnswer> {
    return this.look({ name: 'registers', function: name });
  }

  /** The way of an address of a device through all tables, and what caches hold of it. `pasid`: missing for requests without one. */
  walk(requesterId: number, iova: bigint, pasid?: number): Promise<WalkAnswer> {
    return this.look({ name: 'walk', requesterId, iova, pasid });
  }

  /** What the IOTLB holds, at most so many entries. */
  tlb(limit: number): Promise<TlbAnswer> {
    return this.look({ name: 'tlb', limit });
  }

  /** VT-d's invalidation queue around its head and tail. */
  queue(): Promise<QueueAnswer> {
    return this.look({ name: 'queue' });
  }

  /** Serves no client and does no work of endpoints or of the IOMMU from here on; what comes waits. */
  pause(): Promise<StateAnswer> {
    return this.look({ name: 'pause' });
  }

  /** While paused: one transfer of an endpoint, or one register access of a client. */
  step(what: StepWhat): Promise<StepAnswer> {
    return this.look({ name: 'step', what });
  }

  /** Goes on after a pause. */
  resume(): Promise<StateAnswer> {
    return this.look({ name: 'resume' });
  }

  /**
   * Connects a client that speaks the messages profile (vfio-user without descriptors, see vfio-user/spec.ts) to a function: resolves
   * with its end of the stream, non-blocking, which the caller owns. Rejects with an Error that says why it cannot be: no such
   * function, another client is connected, the machine has ended.
   */
  async openStream(functionName: string): Promise<number> {
    const [mine, theirs] = socketPair();
    try {
      await this.ask({ name: 'adopt', function: functionName, descriptor: theirs });
      return mine;
    } catch (error) {
      closeDescriptor(mine);
      throw error;
    } finally {
      closeDescriptor(theirs);
    }
  }

  /** Closes every connection, removes the sockets and ends the device thread. */
  async stop(): Promise<void> {
    if (this.gone === undefined) {
      try {
        this.lastWords = (await this.ask({ name: 'stop' })) as LastWords;
      } catch (error) {
        // A finding stopped it before it heard of this.
        if (this.lastWords === undefined) throw error;
      }
    }
    await this.ended;
  }

  /** The first event that the predicate takes. */
  waitFor(predicate: (event: TraceEvent) => boolean): Promise<TraceEvent> {
    return new Promise((resolve, reject) => {
      const hear = (event: TraceEvent) => {
        if (!predicate(event)) return;
        this.off('event', hear);
        resolve(event);
      };
      this.on('event', hear);
      this.ended.then(() => reject(new Error('the machine ended')), reject);
    });
  }

  /** What the device thread answers; rejects where the machine has ended, or has no such thing. */
  ask(command: Command): Promise<unknown> {
    if (this.gone) return Promise.reject(this.gone);
    return new Promise((resolve, reject) => {
      const request: CommandRequest = { id: this.nextId++, command };
      this.waiting.set(request.id, { resolve, reject });
      this.worker.postMessage(request);
      signalEventFd(this.wakeDescriptor);
    });
  }

  private async look<T>(command: InspectCommand): Promise<T> {
    return (await this.ask(command)) as T;
  }

  private want(classes: number): void {
    // After the end there is nobody who could write.
    if (this.gone === undefined) this.ask({ name: 'classes', classes }).catch(() => {});
  }

  private hear(message: Exclude<DeviceThreadMessage, { type: 'ready' }>): void {
    if (message.type === 'finding') {
      this.told.set(message.finding.id, message.finding);
      this.emit('finding', message.finding);
      return;
    }
    if (message.type === 'records') {
      this.taps.wake();
      return;
    }
    if (message.type === 'stopped') {
      this.lastWords = message.lastWords;
      this.stopped = true;
      return;
    }
    if (message.type === 'abandoned') {
      this.leaveAlone(message.reason);
      return;
    }
    if (message.type === 'event') {
      Atomics.add(this.takenCount, 0, 1);
      const { event } = message;
      if (isCallback(event)) this.emit('callback', event);
      else this.emit('event', event);
      return;
    }
    const waiting = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    if (message.type === 'refused') waiting?.reject(new Error(message.reason));
    else waiting?.resolve(message.result);
  }

  private tellError(what: string, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.emit('event', { kind: 'internal.error', source: 'machine', detail: { what, error: text } });
  }

  private leave(reason: Error): void {
    this.gone = reason;
    this.taps.close();
    closeDescriptor(this.wakeDescriptor);
    for (const { reject } of this.waiting.values()) reject(reason);
    this.waiting.clear();
  }
}
