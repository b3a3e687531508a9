/**
 * Machines that clients lease: each is made for one client, in a directory of its own, and ends when the client releases it, or is gone for
 * longer than its grace time. Names are never given twice, so that whoever holds an old one cannot reach somebody else's machine.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import type { FindingsAnswer } from '../machine/debug-commands.ts';
import type { MachineDescription } from '../machine/description.ts';
import { MachineHost } from '../machine/host.ts';
import type { SanitizePolicy } from '../trace/sanitizer/policy.ts';
import type { TraceValue } from '../trace/trace.ts';
import { LimitError, lowerLimits } from '../vfio-user/limit-settings.ts';
import { HostPort } from './host-port.ts';
import { KeptSubscriptions } from './kept-subscriptions.ts';
import { LEASED_MACHINES, LEASED_MACHINES_MAX, MAX_LEASE_GRACE_MILLISECONDS, RELEASES_REMEMBERED } from './limits.ts';
import type { MachineEnd, MachinePort } from './machine-port.ts';
import { ErrorCode, RemoteError } from './protocol.ts';
import type { Subscription } from './subscriptions.ts';

const OWNER_ONLY = 0o700;
const LEASE_ID_BYTES = 16;

export interface LeaseRequest {
  /** Missing: what the server makes where nothing is said. */
  readonly description?: MachineDescription | undefined;
  readonly sanitize?: SanitizePolicy | undefined;
  /** Milliseconds for which the machine is to outlive a lost connection. Default: 0. */
  readonly grace?: number | undefined;
}

export interface LeaseAnswer {
  /** Who knows it can take the lease over. */
  readonly lease: string;
  /** Milliseconds that were granted. */
  readonly grace: number;
  readonly machine: string;
  /** By function name; paths relative to the server's directory. */
  readonly sockets: Readonly<Record<string, string>>;
  readonly description: MachineDescription;
  /** To `machine.ended` of it. */
  readonly subscription?: number;
}

/** A lease that another connection holds from now on. */
export interface ResumedLease {
  readonly answer: Omit<LeaseAnswer, 'subscription'>;
  readonly port: MachinePort;
  /** To the machine: those of the connection before. */
  readonly subscriptions: readonly Subscription[];
  /** The machine has ended by itself. */
  readonly ended: MachineEnd | undefined;
}

/** The connection that leases. */
export interface LeaseOwner {
  /** Its subscriptions to the machine, which it has no more after this. */
  handOver(machine: string): readonly Subscription[];
  /** Another connection has its lease now. */
  displaced(): void;
}

/** Where machines are shown while they are there. */
export interface MachineShelf {
  add(name: string, port: MachinePort): void;
  remove(name: string, reason?: string): void;
}

/** What else is done for a leased machine. */
export interface Attendant {
  /** The machine has stopped; its directory is removed after this. Must not reject. */
  finish(): Promise<void>;
}

export interface LeaseOptions {
  /** Must exist; each machine gets a directory in it. */
  readonly directory: string;
  readonly shelf: MachineShelf;
  /** Default: LEASED_MACHINES; at most LEASED_MACHINES_MAX. */
  readonly maxMachines?: number | undefined;
  readonly description: MachineDescription;
  readonly sanitize?: SanitizePolicy | undefined;
  /** Called before the client knows of the machine, so that nothing of it is missed. Where it rejects there is no machine. */
  readonly attend?: (name: string, host: MachineHost, directory: string) => Promise<Attendant>;
  /** `lease.lost`, `lease.resumed`, `lease.expired`. */
  readonly note?: (machine: string, kind: string, detail: Readonly<Record<string, TraceValue>>) => void;
}

interface Lease {
  readonly id: string;
  readonly name: string;
  readonly grace: number;
  readonly description: MachineDescription;
  readonly directory: string;
  /** Also while it is away. */
  owner: LeaseOwner;
  away?: Absence | undefined;
  host?: MachineHost;
  port?: HostPort;
  /** By itself. */
  ended?: MachineEnd;
  attendant?: Attendant | undefined;
  /** Being made, then there; rejects where it cannot be made. */
  made?: Promise<void>;
  ending?: Promise<FindingsAnswer>;
}

/** The owner's connection is lost. */
interface Absence {
  readonly subscriptions: KeptSubscriptions;
  readonly timer: NodeJS.Timeout;
}

export class Leases {
  private readonly leases = new Map<string, Lease>();
  /** What was found in machines that were released, by the lease's id: the answer may have been lost with the connection. */
  private readonly released = new Map<string, Promise<FindingsAnswer>>();
  /** Clients that are gone while a machine was being made for them. */
  private readonly gone = new WeakSet<LeaseOwner>();
  private readonly max: number;
  private nextNumber = 1;
  private closing = false;

  constructor(private readonly options: LeaseOptions) {
    this.max = Math.min(options.maxMachines ?? LEASED_MACHINES, LEASED_MACHINES_MAX);
  }

  get count(): number {
    return this.leases.size;
  }

  /** Rejects with a `RemoteError`: too many, limits beyond the server's own, or the machine cannot be made. */
  async lease(request: LeaseRequest, owner: LeaseOwner): Promise<LeaseAnswer> {
    if (this.closing) throw new RemoteError(ErrorCode.failed, 'the server stops');
    if (this.leases.size >= this.max) {
      throw new RemoteError(
        ErrorCode.limit,
        `all ${this.max} machines of this server are leased: release one, or let the server make more (--on-demand NUMBER)`,
      );
    }
    const description = this.describe(request);
    const name = `m${this.nextNumber++}`;
    const lease: Lease = {
      id: randomBytes(LEASE_ID_BYTES).toString('hex'),
      name,
      grace: Math.min(request.grace ?? 0, MAX_LEASE_GRACE_MILLISECONDS),
      description,
      directory: join(this.options.directory, name),
      owner,
    };
    // It counts from here on.
    this.leases.set(name, lease);
    lease.made = this.make(lease, request.sanitize ?? this.options.sanitize);
    try {
      await lease.made;
    } catch (error) {
      await this.end(lease);
      throw new RemoteError(ErrorCode.failed, `the machine cannot be made: ${(error as Error).message}`);
    }
    if (this.gone.has(owner)) {
      await this.end(lease);
      throw new RemoteError(ErrorCode.failed, 'the client has gone');
    }
    return this.answerFor(lease);
  }

  /** The owner takes it over from its connection before, whether that is known to be lost or not. Throws a `RemoteError`. */
  resume(id: string, owner: LeaseOwner): ResumedLease {
    const lease = [...this.leases.values()].find(one => one.id === id);
    if (lease?.port === undefined || lease.ending !== undefined) {
      throw new RemoteError(ErrorCode.badArguments, 'there is no such lease, or not any more');
    }
    const { port, name, ended } = lease;
    const before = lease.owner;
    lease.owner = owner;
    const subscriptions = this.endAbsence(lease) ?? before.handOver(name);
    if (before !== owner) before.displaced();
    this.options.note?.(name, 'lease.resumed', {});
    return { answer: this.answerFor(lease), port, subscriptions, ended };
  }

  /**
   * `id`: of the lease, which is as good as being the client that leased it, and gives the answer again to who lost it. Rejects with a
   * `RemoteError` where this client leased no such machine.
   */
  async release(name: string, owner: LeaseOwner, id?: string): Promise<FindingsAnswer> {
    const lease = this.leases.get(name);
    if (lease?.host !== undefined && (lease.owner === owner || lease.id === id)) {
      const answer = this.end(lease);
      this.remember(lease, answer);
      return await answer;
    }
    const answer = id === undefined ? undefined : this.released.get(id);
    if (answer === undefined) {
      throw new RemoteError(ErrorCode.badArguments, `this client has leased no machine '${name}'`);
    }
    return await answer;
  }

  /** The client's connection has ended: by a word of the client, or it is lost. */
  async connectionEnded(owner: LeaseOwner, reason: { readonly isLost: boolean }): Promise<void> {
    this.gone.add(owner);
    const leases = [...this.leases.values()].filter(lease => lease.owner === owner);
    const kept = (lease: Lease) =>
      reason.isLost && lease.grace > 0 && lease.port !== undefined && lease.ending === undefined && !this.closing;
    for (const lease of leases.filter(kept)) this.keep(lease, lease.port!);
    await this.endAll(leases.filter(lease => lease.away === undefined));
  }

  /** Ends all machines; nothing is leased after this. */
  async close(): Promise<void> {
    this.closing = true;
    await this.endAll([...this.leases.values()]);
    this.released.clear();
  }

  /** A client may lower the limits that this server sets for its machines, and not raise them. */
  private describe({ description: asked }: LeaseRequest): MachineDescription {
    const { description: own } = this.options;
    if (asked === undefined) return own;
    try {
      const limits = lowerLimits(asked.limits ?? {}, own.limits ?? {});
      const { limits: _, ...rest } = asked;
      return Object.keys(limits).length === 0 ? rest : { ...rest, limits };
    } catch (error) {
      if (error instanceof LimitError) throw new RemoteError(ErrorCode.badArguments, error.message);
      throw error;
    }
  }

  private answerFor({ id, grace, name, description, host }: Lease): LeaseAnswer {
    const sockets = Object.entries(host!.sockets).map(
      ([functionName, path]) => [functionName, relative(this.options.directory, path)] as const,
    );
    return { lease: id, grace, machine: name, sockets: Object.fromEntries(sockets), description };
  }

  private keep(lease: Lease, port: HostPort): void {
    const { name, grace } = lease;
    const timer = setTimeout(() => {
      this.options.note?.(name, 'lease.expired', { grace });
      void this.end(lease);
    }, grace);
    // The server's end is the machine's, too.
    timer.unref();
    lease.away = { timer, subscriptions: new KeptSubscriptions(port, lease.owner.handOver(name)) };
    this.options.note?.(name, 'lease.lost', { grace });
  }

  private endAbsence(lease: Lease): readonly Subscription[] | undefined {
    const { away } = lease;
    if (away === undefined) return undefined;
    lease.away = undefined;
    clearTimeout(away.timer);
    return away.subscriptions.give();
  }

  /** For as long as the client may be on its way back. */
  private remember({ id, grace }: Lease, answer: Promise<FindingsAnswer>): void {
    if (grace === 0 || this.released.has(id)) return;
    this.released.set(id, answer);
    const [oldest] = this.released.keys();
    if (this.released.size > RELEASES_REMEMBERED) this.released.delete(oldest!);
    const forget = () => {
      setTimeout(() => this.released.delete(id), grace).unref();
    };
    answer.then(forget, forget);
  }

  private async endAll(leases: readonly Lease[]): Promise<void> {
    await Promise.all(leases.map(lease => this.end(lease)));
  }

  private async make(lease: Lease, sanitize: SanitizePolicy | undefined): Promise<void> {
    const { attend, shelf } = this.options;
    mkdirSync(lease.directory, { mode: OWNER_ONLY });
    // Not what the umask leaves of it.
    chmodSync(lease.directory, OWNER_ONLY);
    lease.host = await MachineHost.start(lease.description, lease.directory, { sanitize });
    lease.attendant = await attend?.(lease.name, lease.host, lease.directory);
    lease.port = new HostPort(lease.host);
    shelf.add(lease.name, lease.port);
    void lease.port.ended.then(end => {
      lease.ended = end;
    });
  }

  /** Never rejects: a machine that cannot be stopped any more has ended already. */
  private end(lease: Lease): Promise<FindingsAnswer> {
    lease.ending ??= this.tearDown(lease);
    for (const subscription of this.endAbsence(lease) ?? []) subscription.stop();
    return lease.ending;
  }

  private async tearDown(lease: Lease): Promise<FindingsAnswer> {
    // Half of a machine cannot be taken apart.
    await lease.made?.catch(() => {});
    const { host, name, directory, attendant } = lease;
    try {
      await host?.stop().catch(() => {});
      const answer = await lastFindings(host);
      await attendant?.finish();
      return answer;
    } finally {
      this.options.shelf.remove(name, 'the machine was released');
      rmSync(directory, { recursive: true, force: true });
      this.leases.delete(name);
    }
  }
}

/** Where the device thread ended by an error there is what it told until then. */
async function lastFindings(host: MachineHost | undefined): Promise<FindingsAnswer> {
  try {
    if (host !== undefined) return await host.findings();
  } catch {
    // It cannot be asked any more.
  }
  return { state: 'failed', findings: host?.toldFindings ?? [], lost: 0 };
}
