/** The world of an endpoint under test: jobs run when asked, memory is an array, the line counts. */
import type { EndpointPorts } from '../../../src/devices/endpoint.ts';
import { type DmaPort, DmaStatus, type InterruptLine, type JobQueue } from '../../../src/pci/ports.ts';
import type { RegisterHandler } from '../../../src/pci/registers.ts';
import { TraceLog } from '../../../src/trace/trace.ts';

export class JobList implements JobQueue {
  private readonly jobs: (() => void)[] = [];

  get length(): number {
    return this.jobs.length;
  }

  push(job: () => void): void {
    this.jobs.push(job);
  }

  run(): void {
    for (let job = this.jobs.shift(); job; job = this.jobs.shift()) job();
  }
}

export class FakeLine implements InterruptLine {
  raised = 0;
  asserted = false;

  raise(): void {
    this.raised++;
    this.asserted = true;
  }

  lower(): void {
    this.asserted = false;
  }
}

/** Memory of 64 KiB at an address; what `status` says is what every transfer answers. */
export class FakeDma implements DmaPort {
  readonly memory = new Uint8Array(0x10000);
  readonly log: string[] = [];
  status: DmaStatus = DmaStatus.ok;
  /** Bytes that still arrive when the transfer fails. */
  partial = 0;
  /** Called while a transfer is under way. */
  during: () => void = () => {};

  /** `label`: put in front of each line of the log. */
  constructor(private readonly label = '') {}

  read(high: number, low: number, target: Uint8Array, at: number, length: number): DmaStatus {
    this.log.push(`${this.label}read ${address(high, low)} ${length}`);
    const done = this.status === DmaStatus.ok ? length : this.partial;
    for (let i = 0; i < done; i++) target[at + i] = this.memory[(low + i) & 0xffff]!;
    this.during();
    return this.status;
  }

  write(high: number, low: number, source: Uint8Array, at: number, length: number): DmaStatus {
    this.log.push(`${this.label}write ${address(high, low)} ${length}`);
    const done = this.status === DmaStatus.ok ? length : this.partial;
    for (let i = 0; i < done; i++) this.memory[(low + i) & 0xffff] = source[at + i]!;
    this.during();
    return this.status;
  }
}

function address(high: number, low: number): string {
  return `0x${((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)).toString(16)}`;
}

export interface FakePorts extends EndpointPorts {
  readonly dma: FakeDma;
  /** The ports given out for PASIDs, in order. */
  readonly tagged: FakeDma[];
  readonly line: FakeLine;
  readonly jobs: JobList;
  readonly trace: TraceLog;
}

export function fakePorts(): FakePorts {
  const tagged: FakeDma[] = [];
  return {
    name: 'edu0',
    dma: new FakeDma(),
    tagged,
    dmaWithPasid: pasid => {
      const port = new FakeDma(`pasid 0x${pasid.toString(16)} `);
      tagged.push(port);
      return port;
    },
    line: new FakeLine(),
    clock: { now: () => 0 },
    jobs: new JobList(),
    trace: new TraceLog(),
  };
}

export function read(handler: RegisterHandler, offset: number, width = 4): bigint {
  const access = { offset, width, low: 0, high: 0 };
  handler.read(access);
  return BigInt.asUintN(8 * width, (BigInt(access.high >>> 0) << 32n) | BigInt(access.low >>> 0));
}

export function write(handler: RegisterHandler, offset: number, value: number | bigint, width = 4): void {
  const wide = BigInt.asUintN(8 * width, BigInt(value));
  handler.write({ offset, width, low: Number(BigInt.asIntN(32, wide)), high: Number(BigInt.asIntN(32, wide >> 32n)) });
}
