/** What a device model is to the machine that runs it. Adding a device: a folder beside this file and a line in `kinds.ts`. */
import type { FunctionDefinition } from '../pci/definition.ts';
import type { Clock, DmaPort, InterruptLine, JobQueue } from '../pci/ports.ts';
import type { RegisterBlock, RegisterFile, RegisterHandler } from '../pci/registers.ts';
import type { Saveable } from '../pci/state.ts';
import type { Trace } from '../trace/trace.ts';

/** All that an endpoint knows of the world. */
export interface EndpointPorts {
  /** Its name in events and logs, e.g. `edu0`. */
  readonly name: string;
  /** Its DMA without a PASID. */
  readonly dma: DmaPort;
  /**
   * Its DMA with this PASID, 0 to 0xfffff. A new port at each call: keep it. Where the IOMMU knows no PASIDs, or not this one,
   * every transfer answers `DmaStatus.fault`.
   */
  dmaWithPasid(pasid: number): DmaPort;
  readonly line: InterruptLine;
  readonly clock: Clock;
  readonly jobs: JobQueue;
  readonly trace: Trace;
}

/** One running device. */
export interface Endpoint {
  /** By BAR index. Handlers never touch guest memory: a doorbell pushes a job. */
  readonly bars: ReadonlyMap<number, RegisterHandler>;
  /** What the inspector shows, where the device keeps its registers in a file; those of BAR 0. */
  readonly registers?: RegisterFile;
  /**
   * The device as it is between two jobs, work that still waits for its job included. A state is taken over while jobs are held: what was
   * queued before must do nothing, and what the state says is pending is queued anew. Missing where the device cannot be saved.
   */
  readonly state?: Saveable;
  /** Function-level reset: back to reset values, nothing pending; jobs queued earlier must find out and do nothing. */
  reset(): void;
}

/** Options as given on the command line or in a machine description. */
export type EndpointOptions = Readonly<Record<string, string | number | boolean>>;

/** A kind of device, by which a description asks for it. */
export interface EndpointKind {
  readonly kind: string;
  readonly about: string;
  /** Option name to what it means, for `--help` and error messages. */
  readonly options: Readonly<Record<string, string>>;
  readonly registers: readonly RegisterBlock[];
  /** Throws an Error that says what to do on an option that does not exist or a value out of range. */
  define(options: EndpointOptions): FunctionDefinition;
  create(ports: EndpointPorts, options: EndpointOptions): Endpoint;
}
