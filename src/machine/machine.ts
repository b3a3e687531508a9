/** Puts one IOMMU and the endpoints behind it together and serves each as a vfio-user function on a socket of its own. */
import { join } from 'node:path';
import type { Endpoint } from '../devices/endpoint.ts';
import { findKind } from '../devices/kinds.ts';
import { DmaCounters, TranslatedDmaPort } from '../iommu/dma-port.ts';
import { NoPasidDmaPort } from '../iommu/no-pasid.ts';
import type { Translator } from '../iommu/translator.ts';
import { RegionMemory } from '../memory/region-memory.ts';
import type { FunctionDefinition } from '../pci/definition.ts';
import { PciFunction } from '../pci/function.ts';
import type { Clock } from '../pci/ports.ts';
import type { RegisterFile } from '../pci/registers.ts';
import type { Saveable } from '../pci/state.ts';
import type { EventLoop } from '../posix/event-loop.ts';
import type { GivenSocket } from '../posix/given-socket.ts';
import { duplicateDescriptor } from '../posix/socket.ts';
import { WindowPool } from '../posix/window-pool.ts';
import { formatRequesterId } from '../trace/record-fields.ts';
import type { Trace } from '../trace/trace.ts';
import { settleLimits } from '../vfio-user/limit-settings.ts';
import { VfioUserServer } from '../vfio-user/server.ts';
import type { EndpointDescription, IommuKindName, MachineDescription } from './description.ts';
import { FunctionJobs } from './function-jobs.ts';
import { FunctionMigration } from './function-migration.ts';
import { Injection } from './injection/injection.ts';
import { iommuKinds, noIommu, type RunningIommu } from './iommu-kinds.ts';
import { IommuLoss } from './iommu-loss.ts';
import { RunControl } from './run-control.ts';
import { definitionHash } from './state-format.ts';
import type { FunctionStatistics, MachineStatistics } from './statistics.ts';

/** The name, and the socket's, of the function that carries the IOMMU's registers. */
export const IOMMU_ID = 'iommu';

const monotonic: Clock = { now: () => Number(process.hrtime.bigint()) };

/** One vfio-user function: its PCI face, its client's memory and its socket. */
export interface ServedFunction {
  readonly name: string;
  readonly pci: PciFunction;
  readonly memory: RegionMemory;
  readonly server: VfioUserServer;
  /** Endpoints only: what it is, and where its DMA is counted, with and without PASIDs. */
  readonly endpoint?: EndpointDescription;
  readonly registers?: RegisterFile | undefined;
  readonly dma?: DmaCounters;
}

export interface MachineOptions {
  readonly description: MachineDescription;
  /** Where the sockets are made; must exist. */
  readonly directory: string;
  readonly loop: EventLoop;
  readonly trace: Trace;
  /** Whether the IOMMU compares its caches with the tables, and follows what is mapped. Default: true. */
  readonly checks?: boolean;
  /** Give every machine of a process the same one. */
  readonly pool?: WindowPool;
  readonly places?: SocketPlaces | undefined;
  /** The client of a function that was given as a connected socket is gone, and no other one can come. */
  readonly abandoned?: (reason: string) => void;
}

/** By the function's name: a path of its own, or a socket that this process was given. Those without have one in the directory. */
export type SocketPlaces = Readonly<Record<string, string | GivenSocket>>;

export class Machine {
  /** Socket path by function name: `iommu`, then the endpoints' ids. Without those of sockets that were given. */
  readonly sockets: Readonly<Record<string, string>>;
  /** Undefined where the description asks for none. */
  readonly iommu: RunningIommu | undefined;
  readonly functions: ReadonlyMap<string, ServedFunction>;
  /** What goes wrong on purpose. */
  readonly injection: Injection;
  /** Whether it runs at all. */
  readonly control: RunControl;
  private readonly iommuLoss: IommuLoss;
  private readonly pool: WindowPool;
  private readonly served = new Map<string, ServedFunction>();
  /** Those of the endpoints. */
  private readonly endpointJobs: FunctionJobs[] = [];

  constructor(private readonly options: MachineOptions) {
    const { loop, trace, description } = options;
    this.pool = options.pool ?? new WindowPool();
    this.injection = new Injection({
      iommu: description.iommu.kind,
      trace,
      after: (milliseconds, job) => loop.after(milliseconds, job),
    });
    this.iommuLoss = new IommuLoss(trace);
    this.functions = this.served;
    this.control = new RunControl({
      loop,
      trace,
      servers: () => [...this.served.values()].map(({ server }) => server),
      transfers: () => this.transfers,
    });
    try {
      this.iommu = this.serveIommu();
      for (const endpoint of description.endpoints) this.serveEndpoint(endpoint, this.iommu ?? noIommu);
    } catch (error) {
      this.close();
      throw error;
    }
    const places = [...this.served.keys()].map(name => [name, this.placeOf(name)] as const);
    this.sockets = Object.fromEntries(places.filter((one): one is [string, string] => typeof one[1] === 'string'));
  }

  get iommuKind(): IommuKindName {
    return this.options.description.iommu.kind;
  }

  statistics(): MachineStatistics {
    const functions: Record<string, FunctionStatistics> = {};
    for (const [name, one] of this.served) {
      functions[name] = {
        connected: one.server.connected,
        server: structuredClone(one.server.statistics),
        memory: structuredClone(one.memory.statistics),
        ...(one.dma ? { dma: structuredClone(one.dma) } : {}),
      };
    }
    return { ...(this.iommu ? { iommu: structuredClone(this.iommu.statistics()) } : {}), functions };
  }

  /** No DMA goes on, not even the one under way: it ends as by a reset. */
  halt(): void {
    for (const { pci } of this.served.values()) {
      pci.generation++;
      pci.busMaster = false;
    }
  }

  /**
   * A client of this function over a stream without descriptors; `descriptor` stays the caller's. Throws an Error that says why it
   * cannot be.
   */
  adopt(name: string, descriptor: number): void {
    const one = this.served.get(name);
    if (one === undefined) throw new Error(`no function ${name}: there are ${[...this.served.keys()].join(', ')}`);
    if (!one.server.adopt(duplicateDescriptor(descriptor))) {
      throw new Error(`another client is connected to ${name}: one at a time`);
    }
  }

  /** Ends every connection and removes the sockets: of each function, whatever becomes of the others. Never throws: failures are noted. */
  close(): void {
    for (const { name, server, memory } of this.served.values()) {
      this.endPart(name, () => server.close());
      this.endPart(name, () => memory.dispose());
    }
    this.served.clear();
  }

  private endPart(name: string, end: () => void): void {
    try {
      end();
    } catch (error) {
      this.options.trace.note('machine.closeFailed', name, {
        why: error instanceof Error ? error.message : String(error),
      });
    }
  }

  private get transfers(): number {
    let sum = 0;
    for (const { dma } of this.served.values()) sum += dma === undefined ? 0 : dma.reads + dma.writes;
    return sum;
  }

  private serveIommu(): RunningIommu | undefined {
    const { trace, description, checks = true } = this.options;
    if (description.iommu.kind === 'none') return undefined;
    const kind = iommuKinds[description.iommu.kind];
    const memory = this.memoryFor(IOMMU_ID);
    const pci = this.functionFor(IOMMU_ID, kind.definition, memory);
    const { injection } = this;
    const own = new FunctionJobs(this.control);
    const jobs = injection.iommuJobs(own);
    const iommu = kind.start({ name: IOMMU_ID, description, pci, memory, jobs, trace, checks, injection });
    const { state, registers } = iommu;
    // An endpoint's DMA needs the unit: it waits, as on a bus.
    const held = () => [own, ...this.endpointJobs];
    const rest = { iommu: description.iommu, registers: registers.block };
    this.migrate(pci, description.iommu.kind, rest, state, own, held);
    for (const [bar, handler] of iommu.bars) pci.setHandler(bar, handler);
    const reset = () => {
      iommu.reset();
      trace.note('iommu.reset', IOMMU_ID, {});
    };
    chain(pci, 'onReset', reset);
    chain(pci, 'onDisconnected', reset);
    chain(pci, 'onConnected', () => this.iommuLoss.connected());
    chain(pci, 'onDisconnected', () => this.iommuLoss.disconnected());
    pci.onBarPlaced = (bar, address) => trace.note('iommu.placed', IOMMU_ID, { bar, address });
    this.serve({ name: IOMMU_ID, pci, memory });
    return iommu;
  }

  private serveEndpoint(description: EndpointDescription, iommu: Pick<RunningIommu, 'translator' | 'withPasid'>): void {
    const { trace } = this.options;
    const name = description.id;
    const kind = findKind(description.kind);
    const memory = this.memoryFor(name);
    const pci = this.functionFor(name, kind.define(description.options), memory);
    const { requesterId } = description;
    const { injection } = this;
    const dma = new DmaCounters();
    const path = this.iommuLoss.endpoint(name, pci);
    const portTo = (inner: Translator, pasid?: number) => {
      const translator = injection.translator(name, inner);
      const tagged = pasid === undefined ? {} : { pasid };
      return new TranslatedDmaPort({
        translator,
        memory,
        requesterId,
        gate: pci,
        path,
        trace,
        name,
        counters: dma,
        ...tagged,
      });
    };
    const port = portTo(iommu.translator);
    const dmaWithPasid = (pasid: number) =>
      iommu.withPasid ? portTo(iommu.withPasid(pasid), pasid) : new NoPasidDmaPort(trace, name, pasid);
    const jobs = new FunctionJobs(this.control);
    this.endpointJobs.push(jobs);
    const ports = { name, dma: port, dmaWithPasid, line: pci.line, clock: monotonic, jobs, trace };
    const endpoint: Endpoint = kind.create(injection.endpoint(ports), description.options);
    const rest = { options: description.options, requesterId, registers: kind.registers };
    this.migrate(pci, description.kind, rest, endpoint.state, jobs, () => [jobs]);
    for (const [bar, handler] of endpoint.bars) pci.setHandler(bar, handler);
    chain(pci, 'onReset', () => endpoint.reset());
    chain(pci, 'onDisconnected', () => endpoint.reset());
    chain(pci, 'onConnected', () => path.connected());
    chain(pci, 'onReset', () => path.reset());
    chain(pci, 'onDisconnected', () => path.disconnected());
    this.serve({ name, pci, memory, endpoint: description, registers: endpoint.registers, dma });
    trace.note('endpoint.served', name, {
      kind: description.kind,
      address: formatRequesterId(requesterId),
    });
  }

  /** `rest`: what the guest can see besides the function's definition. To be called before other hooks are set. */
  private migrate(
    pci: PciFunction,
    kind: string,
    rest: object,
    device: Saveable | undefined,
    own: FunctionJobs,
    jobs: () => FunctionJobs[],
  ): void {
    if (device === undefined) return;
    const { loop } = this.options;
    const owner = { kind, name: pci.name, definition: definitionHash({ pci: pci.definition, ...rest }) };
    const between = (job: () => void) => (loop.inJob ? loop.push(job) : job());
    pci.migration = new FunctionMigration({ owner, pci, device, jobs, own, between });
    chain(pci, 'onReset', () => own.clear());
    chain(pci, 'onDisconnected', () => own.clear());
  }

  private memoryFor(name: string): RegionMemory {
    return new RegionMemory({ name, trace: this.options.trace, pool: this.pool });
  }

  private functionFor(name: string, definition: FunctionDefinition, memory: RegionMemory): PciFunction {
    const pci = new PciFunction({ name, definition, dma: memory, trace: this.options.trace, clock: monotonic });
    chain(pci, 'onConnected', () => {
      memory.remote = pci.client;
    });
    chain(pci, 'onDisconnected', () => {
      memory.remote = undefined;
    });
    return pci;
  }

  private serve(parts: Omit<ServedFunction, 'server'>): void {
    const { loop, trace, description, abandoned = () => {} } = this.options;
    const path = this.placeOf(parts.name);
    const limits = settleLimits(description.limits ?? {});
    const server = new VfioUserServer({ path, name: parts.name, model: parts.pci, loop, trace, limits, abandoned });
    this.served.set(parts.name, { ...parts, server });
  }

  private placeOf(name: string): string | GivenSocket {
    const { places = {}, directory } = this.options;
    return places[name] ?? join(directory, `${name}.sock`);
  }
}

type Hook = 'onReset' | 'onConnected' | 'onDisconnected';

/** Adds to a hook what is already there keeps. */
function chain(pci: PciFunction, hook: Hook, next: () => void): void {
  const before = pci[hook];
  pci[hook] = () => {
    before?.();
    next();
  };
}
