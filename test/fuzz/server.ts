/** The process under test: the machines, each on its device thread, as `viommu serve` runs them. Its parent asks it over IPC. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describeMachine } from '../../src/machine/description.ts';
import { MachineHost } from '../../src/machine/host.ts';
import type { MachineStatistics } from '../../src/machine/statistics.ts';
import type { TraceEvent } from '../../src/trace/trace.ts';
import { type LiveMemory, measureLive, prepareMeasuring } from './heap-probe.ts';
import { type FuzzedMachine, machines } from './machines.ts';
import { OfferingHost } from './offering-host.ts';
import type { OfferingStatistics } from './offering-thread.ts';
import { type Units, unitsOf } from './units.ts';

/** A connection that ended. */
export interface Closed {
  /** `vtd/edu0`. */
  readonly name: string;
  readonly reason: string;
}

export interface ServerReport {
  /** Since the last report. */
  readonly closed: readonly Closed[];
  readonly internalErrors: readonly string[];
  /** Events that were dropped because there were too many at once: what is above may not be all. */
  readonly dropped: number;
  /** By name: whether a client is there, and how many regions it has mapped. */
  readonly functions: Readonly<Record<string, { readonly connected: boolean; readonly regions: number }>>;
  readonly units: Units;
}

/** What is asked of the process under test. */
export type ServerQuestion = 'report' | 'measure';

export interface ServerReady {
  /** By name. */
  readonly sockets: Readonly<Record<string, string>>;
}

const INTERNAL_ERRORS_KEPT = 16;
const CLOSED_KEPT = 100_000;

type Host = MachineHost | OfferingHost;

async function start(machine: FuzzedMachine, home: string, hear: (event: TraceEvent) => void): Promise<Host> {
  const { iommu, devices, functions, offers } = machine;
  if (offers === true) {
    const host = await OfferingHost.start(home, devices, Object.keys(functions));
    host.onEvent = hear;
    return host;
  }
  const host = await MachineHost.start(describeMachine(iommu, devices), home);
  host.on('event', hear);
  return host;
}

async function serve(directory: string): Promise<void> {
  prepareMeasuring();
  const hosts = new Map<string, Host>();
  const sockets: Record<string, string> = {};
  let closed: Closed[] = [];
  let internalErrors: string[] = [];
  let dropped = 0;
  for (const machine of machines) {
    const { name } = machine;
    const home = join(directory, name);
    mkdirSync(home);
    const host = await start(machine, home, ({ kind, source, detail }) => {
      if (kind === 'client.closed' && closed.length < CLOSED_KEPT) {
        closed.push({ name: `${name}/${source}`, reason: String(detail.reason) });
      }
      if (kind === 'internal.error' && internalErrors.length < INTERNAL_ERRORS_KEPT) {
        internalErrors.push(`${name}/${source}: ${String(detail.error)}`);
      }
    });
    hosts.set(name, host);
    for (const [one, path] of Object.entries(host.sockets)) sockets[`${name}/${one}`] = path;
    host.ended.catch(error => {
      internalErrors.push(`${name}: the device thread ended: ${error instanceof Error ? error.stack : String(error)}`);
    });
  }

  const report = async (): Promise<ServerReport> => {
    const functions: Record<string, { connected: boolean; regions: number }> = {};
    const all: (MachineStatistics | OfferingStatistics)[] = [];
    let droppedNow = 0;
    for (const [machine, host] of hosts) {
      const statistics = await host.statistics();
      all.push(statistics);
      droppedNow += statistics.trace?.dropped ?? 0;
      for (const [name, one] of Object.entries(statistics.functions)) {
        functions[`${machine}/${name}`] = { connected: one.connected, regions: one.memory.regions };
      }
    }
    const answer = { closed, internalErrors, dropped: droppedNow - dropped, functions, units: unitsOf(all) };
    dropped = droppedNow;
    closed = [];
    internalErrors = [];
    return answer;
  };

  /** Of the main thread, and of each device thread. */
  const measure = (): Promise<LiveMemory[]> =>
    measureLive(1 + hosts.size, () => Promise.all([...hosts.values()].map(host => host.statistics())));

  process.on('message', (question: ServerQuestion) => {
    (question === 'measure' ? measure() : report()).then(
      answer => process.send?.(answer),
      error => {
        console.error(error);
        process.exit(1);
      },
    );
  });
  // Ctrl-C is its parent's, which then lets go.
  process.on('SIGINT', () => {});
  process.on('disconnect', () => {
    Promise.all([...hosts.values()].map(host => host.stop())).then(() => {
      rmSync(directory, { recursive: true, force: true });
      process.exit(0);
    });
  });
  process.send?.({ sockets } satisfies ServerReady);
}

await serve(process.argv[2]!);
