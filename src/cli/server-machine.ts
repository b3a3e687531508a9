/** A machine that a server elsewhere makes for one guest, as the commands that run a guest know it. */
import { EventEmitter } from 'node:events';
import { isAbsolute, join, normalize } from 'node:path';
import {
  DROPPED_EVENT,
  FINDING_EVENT,
  MACHINE_ENDED_EVENT,
  MACHINE_REMOVED_EVENT,
  RECORDS_EVENT,
  RemoteError,
  type RemoteEvent,
} from '../inspector/protocol.ts';
import { type LeasedMachine, RemoteMachine } from '../inspector/remote-client.ts';
import type { FindingsAnswer } from '../machine/debug-commands.ts';
import type { MachineDescription } from '../machine/description.ts';
import { isCallback, type MachineEvent } from '../machine/operations-command.ts';
import type { RecordTap, TakeRecords } from '../machine/record-taps.ts';
import type { MachineStatistics } from '../machine/statistics.ts';
import type { EventKind } from '../trace/event-kinds.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { CommandFailure } from './errors.ts';
import type { GuestMachine, MachineRequest, MachineSource } from './machine-access.ts';
import { policyText } from './policy-text.ts';
import { bridgeTo, type ServerBridge } from './server-bridge.ts';
import { lostMachine, refusedLease, type ServerPlace } from './server-place.ts';

/** How often the server is asked whether it still answers, and how long that may take. Milliseconds. */
const HEARTBEAT_MS = 5_000;
const HEARTBEAT_PATIENCE_MS = 10_000;
/** How long giving the machine back may take, the last findings included, where the connection is there. Milliseconds. */
const RELEASE_TIMEOUT_MS = 10_000;
/** QEMU's own patience, which begins when the connection has come back. Milliseconds. */
const ANSWER_MS = 5_000;
/** Events of the remote API itself, which no machine says. */
const ABOUT_SUBSCRIPTIONS: ReadonlySet<string> = new Set([
  DROPPED_EVENT,
  MACHINE_ENDED_EVENT,
  MACHINE_REMOVED_EVENT,
  RECORDS_EVENT,
]);

interface ServerMachineEvents {
  event: [TraceEvent];
  finding: [Finding];
}

/** Machines leased from a server. */
export function serverMachines(place: ServerPlace): MachineSource<ServerMachine> {
  return {
    start: request => ServerMachine.lease(place, request),
    ...(place.kind === 'url' ? { answerMilliseconds: place.graceMilliseconds + ANSWER_MS } : {}),
  };
}

export class ServerMachine extends EventEmitter<ServerMachineEvents> implements GuestMachine {
  readonly ended: Promise<void>;
  private readonly told = new Map<string, Finding>();
  private stoppedBy = false;
  private releasing = false;
  /** The server answers nothing any more. */
  private silent = false;
  /** What was found in all, after the end; undefined then: nobody can be asked. */
  private last: FindingsAnswer | undefined;
  private readonly heartbeat: NodeJS.Timeout;
  private giveUp: (reason: string) => void = () => {};

  /** Rejects with a CommandFailure that says what to do. */
  static async lease(place: ServerPlace, request: MachineRequest): Promise<ServerMachine> {
    const { url, token, ca } = place;
    const { description, sanitize } = request;
    const connection = new EventEmitter<{ event: [TraceEvent] }>();
    let lease: LeasedMachine;
    try {
      const policy = sanitize === undefined ? {} : { sanitize: policyText(sanitize) };
      lease = await RemoteMachine.lease(url, {
        token,
        ca,
        description,
        // A unix socket does not break.
        graceMilliseconds: place.kind === 'url' ? place.graceMilliseconds : 0,
        onConnection: (state, reason) =>
          connection.emit('event', { kind: `lease.${state}`, source: 'remote', detail: { reason } }),
        ...policy,
      });
    } catch (error) {
      throw refusedLease(place, error);
    }
    let bridge: ServerBridge | undefined;
    try {
      if (place.kind === 'url') {
        const functions = Object.keys(lease.sockets);
        bridge = await bridgeTo(place, request.directory, lease.machine.name ?? '', functions);
      }
      const sockets = place.kind === 'directory' ? socketsIn(place.directory, lease.sockets) : bridge!.sockets;
      const { kinds } = await lease.machine.describe();
      const machine = new ServerMachine(place, lease, bridge, sockets, kinds);
      connection.on('event', event => machine.emit('event', event));
      await machine.listen();
      return machine;
    } catch (error) {
      await bridge?.close();
      // The first error says it better.
      await lease.release().catch(() => {});
      throw error;
    }
  }

  private constructor(
    place: ServerPlace,
    private readonly lease: LeasedMachine,
    private readonly bridge: ServerBridge | undefined,
    readonly sockets: Readonly<Record<string, string>>,
    readonly kinds: readonly EventKind[],
  ) {
    super();
    const givenUp = new Promise<string>(resolve => {
      this.giveUp = resolve;
    });
    const patience = HEARTBEAT_PATIENCE_MS + lease.graceMilliseconds;
    this.heartbeat = setInterval(() => this.askWhetherItAnswers(patience), HEARTBEAT_MS);
    this.heartbeat.unref();
    const gone = lease.ended.then(({ reason, stoppedByFinding }) => {
      this.stoppedBy = stoppedByFinding;
      return reason;
    });
    this.ended = Promise.race([gone, givenUp, ...(bridge === undefined ? [] : [bridge.ended])]).then(reason => {
      clearInterval(this.heartbeat);
      if (!this.stoppedBy && !this.releasing) throw lostMachine(place, reason);
    });
    // Whoever cares awaits it; an unheard rejection would end the process.
    this.ended.catch(() => {});
  }

  get description(): MachineDescription {
    return this.lease.description;
  }

  /** Its side of the remote API. */
  get remote(): RemoteMachine {
    return this.lease.machine;
  }

  get name(): string | undefined {
    return this.remote.name;
  }

  get stoppedByFinding(): boolean {
    return this.stoppedBy;
  }

  get toldFindings(): readonly Finding[] {
    return [...this.told.values()];
  }

  async findings(): Promise<FindingsAnswer> {
    if (this.last !== undefined) return this.last;
    if (this.releasing) throw new Error('the server is gone');
    return await this.unlessEnded(this.remote.findings());
  }

  async statistics(): Promise<MachineStatistics> {
    return (await this.unlessEnded(this.remote.statistics())) as unknown as MachineStatistics;
  }

  async resume(): Promise<unknown> {
    return await this.unlessEnded(this.remote.resume());
  }

  async record(classes: number, take: TakeRecords, lost?: (batches: number) => void): Promise<RecordTap> {
    let taking = true;
    let known = 0;
    const recording = await this.remote.record(classes, (words, dropped) => {
      if (!taking) return;
      if (dropped > known) lost?.(dropped - known);
      known = dropped;
      if (words.length > 0) take(words);
    });
    return {
      stop() {
        taking = false;
        // A server that is gone sends nothing more either.
        recording.stop().catch(() => {});
      },
    };
  }

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

  /** Gives the machine back. Never rejects: a server that is gone has ended its machines. */
  async stop(): Promise<void> {
    if (this.releasing) return;
    this.releasing = true;
    clearInterval(this.heartbeat);
    // Who did not answer until now will not do so.
    if (!this.silent) this.last = await within(RELEASE_TIMEOUT_MS + this.lease.graceMilliseconds, this.release());
    if (this.last === undefined) this.remote.abandon();
    await this.bridge?.close();
  }

  private async release(): Promise<FindingsAnswer | undefined> {
    try {
      return await this.lease.release();
    } catch (error) {
      // The server has taken it away already.
      if (error instanceof RemoteError) return undefined;
      throw error;
    }
  }

  private async listen(): Promise<void> {
    this.bridge?.onEvent(event => this.emit('event', event));
    await this.remote.subscribe({ kinds: ['*'] }, event => this.hear(event));
  }

  private hear({ event: kind, source, detail }: RemoteEvent): void {
    if (kind === FINDING_EVENT) {
      const { finding } = detail as { readonly finding: Finding };
      this.told.set(finding.id, finding);
      this.emit('finding', finding);
      return;
    }
    if (ABOUT_SUBSCRIPTIONS.has(kind)) return;
    const event = { kind, source, detail } as MachineEvent;
    if (!isCallback(event)) this.emit('event', event);
  }

  /** What `work` gives, unless the machine ends before: a server that hangs answers nothing. */
  private async unlessEnded<T>(work: Promise<T>): Promise<T> {
    const ended = this.ended.then((): never => {
      throw new Error('the machine has been stopped');
    });
    // Heard by others where the work is done first.
    ended.catch(() => {});
    work.catch(() => {});
    return await Promise.race([work, ended]);
  }

  private askWhetherItAnswers(patience: number): void {
    const timer = setTimeout(() => {
      this.silent = true;
      this.giveUp(`it has not answered for ${patience / 1000} s`);
    }, patience);
    timer.unref();
    const stop = () => clearTimeout(timer);
    // Refused is answered, too; and the end of the connection is told by itself.
    this.remote.machines().then(stop, stop);
  }
}

/** The server says them relative to its directory, which both have under names of their own. Throws a CommandFailure. */
export function socketsIn(directory: string, sockets: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(sockets).map(([name, path]) => {
    if (isAbsolute(path) || normalize(path).startsWith('..')) {
      throw new CommandFailure(`the server names a socket outside of its directory: ${path}`);
    }
    return [name, join(directory, path)] as const;
  });
  return Object.fromEntries(entries);
}

async function within<T>(milliseconds: number, work: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<undefined>(resolve => {
    timer = setTimeout(() => resolve(undefined), milliseconds);
  });
  try {
    return await Promise.race([work, expired]);
  } finally {
    clearTimeout(timer);
  }
}
