/**
 * Machines that clients lease: each is made for one client, in a directory of its own, and ends when the client releases it or goes.
 * Names are never given twice, so that whoever holds an old one cannot reach somebody else's machine.
 */
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import type { FindingsAnswer } from '../machine/debug-commands.ts';
import type { MachineDescription } from '../machine/description.ts';
import { MachineHost } from '../machine/host.ts';
import type { SanitizePolicy } from '../trace/sanitizer/policy.ts';
import { HostPort } from './host-port.ts';
import { LEASED_MACHINES, LEASED_MACHINES_MAX } from './limits.ts';
import type { MachinePort } from './machine-port.ts';
import { ErrorCode, RemoteError } from './protocol.ts';

const OWNER_ONLY = 0o700;

export interface LeaseRequest {
  /** Missing: what the server makes where nothing is said. */
  readonly description?: MachineDescription | undefined;
  readonly sanitize?: SanitizePolicy | undefined;
}

export interface LeaseAnswer {
  readonly machine: string;
  /** By function name; paths relative to the server's directory. */
  readonly sockets: Readonly<Record<string, string>>;
  readonly description: MachineDescription;
  /** To `machine.ended` of it. */
  readonly subscription?: number;
}

/** Who leases; only compared. */
export type LeaseOwner = object;

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
}

interface Lease {
  readonly name: string;
  readonly owner: LeaseOwner;
  readonly directory: string;
  host?: MachineHost;
  attendant?: Attendant | undefined;
  /** Being made, then there; rejects where it cannot be made. */
  made?: Promise<void>;
  ending?: Promise<FindingsAnswer>;
}

export class Leases {
  private readonly leases = new Map<string, Lease>();
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

  /** Rejects with a `RemoteError`: too many, or the machine cannot be made. */
  async lease(request: LeaseRequest, owner: LeaseOwner): Promise<LeaseAnswer> {
    if (this.closing) throw new RemoteError(ErrorCode.failed, 'the server stops');
    if (this.leases.size >= this.max) {
      throw new RemoteError(
        ErrorCode.limit,
        `all ${this.max} machines of this server are leased: release one, or let the server make more (--on-demand NUMBER)`,
      );
    }
    const name = `m${this.nextNumber++}`;
    const lease: Lease = { name, owner, directory: join(this.options.directory, name) };
    // It counts from here on.
    this.leases.set(name, lease);
    const description = request.description ?? this.options.description;
    lease.made = this.make(lease, description, request.sanitize ?? this.options.sanitize);
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
    const sockets = Object.entries(lease.host!.sockets).map(([id, path]) => [
      id,
      relative(this.options.directory, path),
    ]);
    return { machine: name, sockets: Object.fromEntries(sockets) as Record<string, string>, description };
  }

  /** Rejects with a `RemoteError` where this client leased no such machine. */
  async release(name: string, owner: LeaseOwner): Promise<FindingsAnswer> {
    const lease = this.leases.get(name);
    if (lease === undefined || lease.owner !== owner || lease.host === undefined) {
      throw new RemoteError(ErrorCode.badArguments, `this client has leased no machine '${name}'`);
    }
    return await this.end(lease);
  }

  /** The client has gone. */
  async releaseAll(owner: LeaseOwner): Promise<void> {
    this.gone.add(owner);
    await this.endAll([...this.leases.values()].filter(lease => lease.owner === owner));
  }

  /** Ends all machines; nothing is leased after this. */
  async close(): Promise<void> {
    this.closing = true;
    await this.endAll([...this.leases.values()]);
  }

  private async endAll(leases: readonly Lease[]): Promise<void> {
    await Promise.all(leases.map(lease => this.end(lease)));
  }

  private async make(
    lease: Lease,
    description: MachineDescription,
    sanitize: SanitizePolicy | undefined,
  ): Promise<void> {
    const { attend, shelf } = this.options;
    mkdirSync(lease.directory, { mode: OWNER_ONLY });
    // Not what the umask leaves of it.
    chmodSync(lease.directory, OWNER_ONLY);
    lease.host = await MachineHost.start(description, lease.directory, { sanitize });
    lease.attendant = await attend?.(lease.name, lease.host, lease.directory);
    shelf.add(lease.name, new HostPort(lease.host));
  }

  /** Never rejects: a machine that cannot be stopped any more has ended already. */
  private end(lease: Lease): Promise<FindingsAnswer> {
    lease.ending ??= this.tearDown(lease);
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
