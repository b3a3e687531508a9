/** `viommu serve --on-demand`: no machine of its own; clients lease them. */
import { writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { type Attendant, Leases, type MachineShelf } from '../inspector/leases.ts';
import { removeLeftovers } from '../inspector/leftovers.ts';
import { LEASED_MACHINES, LEASED_MACHINES_MAX } from '../inspector/limits.ts';
import type { MachineDescription } from '../machine/description.ts';
import type { MachineHost } from '../machine/host.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { DebugSession } from './debug-session.ts';
import { CommandFailure, ExitStatus, UsageError } from './errors.ts';
import type { Interruption } from './interrupt.ts';
import type { SanitizeFlags } from './sanitize-options.ts';
import { MACHINE_FILE } from './serve-directory.ts';
import { placesFrom, type RemoteFlags, type ServedRemote, serveMachines, serveOptions } from './serve-remote.ts';

/** Where clients find it if nothing else is said. */
const DEFAULT_PLACE = 'unix';

export interface OnDemandFlags extends SanitizeFlags, RemoteFlags {
  readonly onDemand?: string | true;
}

export interface OnDemandOptions {
  readonly flags: OnDemandFlags;
  /** Of a machine whose client does not say. */
  readonly description: MachineDescription;
  readonly directory: string;
  readonly interruption: Interruption;
  readonly onEvent: (event: TraceEvent, machine?: string) => void;
  readonly onReady: (remote: ServedRemote) => void;
}

/** How many machines `--on-demand [max]` allows. */
export function machinesAllowed(onDemand: string | true): number {
  if (onDemand === true) return LEASED_MACHINES;
  const max = Number(onDemand);
  if (Number.isInteger(max) && max >= 1 && max <= LEASED_MACHINES_MAX) return max;
  throw new UsageError(`--on-demand takes a number of machines from 1 to ${LEASED_MACHINES_MAX}, not '${onDemand}'`);
}

/** Serves until it is told to end. Gives the exit status: that of the worst machine. */
export async function serveOnDemand(options: OnDemandOptions): Promise<number> {
  const { flags, directory, description, interruption, onEvent } = options;
  const maxMachines = machinesAllowed(flags.onDemand ?? true);
  const { listen, inspect } = flags;
  const places = placesFrom({ listen: listen ?? DEFAULT_PLACE, ...(inspect === undefined ? {} : { inspect }) });
  await removeLeftovers(directory).catch(error => {
    throw new CommandFailure((error as Error).message);
  });
  const outcome = { status: ExitStatus.ok as number };
  const leases = (shelf: MachineShelf) =>
    new Leases({
      directory,
      shelf,
      maxMachines,
      description,
      sanitize: flags.sanitize,
      note: (name, kind, detail) => onEvent({ kind, source: 'remote', detail }, name),
      attend: (name, host, place) => attend(name, host, place, options, outcome),
    });
  const onLink = (kind: string, detail: TraceEvent['detail']) => onEvent({ kind, source: 'remote', detail });
  const remote = await serveMachines(places, new Map(), { ...serveOptions(flags, directory), leases, onLink });
  try {
    options.onReady(remote);
    await interruption.signalled;
  } finally {
    await remote.close();
  }
  return outcome.status;
}

/** Tells what a machine does, and records and reports as the flags say, in files of its own. */
async function attend(
  name: string,
  host: MachineHost,
  directory: string,
  { flags, onEvent }: OnDemandOptions,
  outcome: { status: number },
): Promise<Attendant> {
  writeFileSync(join(directory, MACHINE_FILE), `${JSON.stringify(host.description, undefined, 2)}\n`);
  host.on('event', event => onEvent(event, name));
  const session = await DebugSession.start(
    host,
    filesFor(name, flags),
    line => console.error(line.replace(/^(?=.)/gm, `${name}: `)),
    line => console.error(`viommu: ${name}: ${line}`),
  );
  onEvent({ kind: 'machine.leased', source: 'machine', detail: {} }, name);
  return {
    async finish() {
      try {
        const { status } = await session.finish();
        // What clients have found in their machines is theirs, unless this server's user wants to be told.
        const isOurs = status !== ExitStatus.findings || flags.failOn !== 'never';
        if (isOurs) outcome.status = worse(outcome.status, status);
      } catch (error) {
        console.error(`viommu: ${name}: ${(error as Error).message}`);
        outcome.status = worse(outcome.status, ExitStatus.failed);
      }
      onEvent({ kind: 'machine.released', source: 'machine', detail: {} }, name);
    },
  };
}

/** `run.viommu` becomes `run-m1.viommu`. */
export function filesFor(name: string, flags: SanitizeFlags): SanitizeFlags {
  const { record, report } = flags;
  return {
    ...flags,
    ...(record === undefined ? {} : { record: named(record, name) }),
    ...(report === undefined
      ? {}
      : { report: report.map(({ path, format }) => ({ path: named(path, name), format })) }),
  };
}

function named(path: string, name: string): string {
  const extension = extname(path);
  return `${path.slice(0, path.length - extension.length)}-${name}${extension}`;
}

/** Findings count for more than what could not be written. */
function worse(a: number, b: number): number {
  const { ok, failed, findings } = ExitStatus;
  const order: readonly number[] = [ok, failed, findings];
  return order.indexOf(b) > order.indexOf(a) ? b : a;
}
