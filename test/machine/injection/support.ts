/** An injection between fakes: jobs run when asked, time goes on when asked, and translators say what they were asked. */
import type { EndpointPorts } from '../../../src/devices/endpoint.ts';
import type { FaultInjectable, RunTranslator, Translation } from '../../../src/iommu/translator.ts';
import type { IommuKindName } from '../../../src/machine/description.ts';
import { Injection } from '../../../src/machine/injection/injection.ts';
import { TraceLog } from '../../../src/trace/trace.ts';
import { fakePorts, JobList } from '../../devices/edu/fakes.ts';

/** Timers that are over when the test says so. */
export class FakeTime {
  private now = 0;
  private timers: { due: number; job: () => void }[] = [];

  readonly after = (milliseconds: number, job: () => void): void => {
    this.timers.push({ due: this.now + milliseconds, job });
  };

  pass(milliseconds: number): void {
    this.now += milliseconds;
    const due = this.timers.filter(timer => timer.due <= this.now);
    this.timers = this.timers.filter(timer => timer.due > this.now);
    for (const { job } of due) job();
  }
}

export function injectionRig(iommu: IommuKindName = 'vtd') {
  const trace = new TraceLog();
  const time = new FakeTime();
  const injection = new Injection({ iommu, trace, after: time.after });
  const iommuQueue = new JobList();
  const iommuJobs = iommu === 'none' ? undefined : injection.iommuJobs(iommuQueue);
  const outside = { ...fakePorts(), trace };
  const ports: EndpointPorts = injection.endpoint(outside);
  const rule = (id: number) => injection.list().find(one => one.id === id)!;
  return { trace, time, injection, iommuQueue, iommuJobs: iommuJobs!, outside, ports, rule };
}

/** What was noted of rules that applied. */
export function applications(trace: TraceLog): Record<string, unknown>[] {
  return trace.events.filter(event => event.kind === 'injection.applied').map(event => event.detail);
}

/** Every page leads to the frame of the same number, and the whole of what is asked for is one run. */
export class FakeIommu implements RunTranslator, FaultInjectable {
  readonly log: string[] = [];

  translate(requesterId: number, high: number, low: number, access: number, out: Translation): boolean {
    this.log.push(`page ${requesterId} ${hex(high, low)} ${access}`);
    out.frame = (high << 20) | (low >>> 12);
    out.shift = 12;
    out.permissions = 3;
    return true;
  }

  translateRun(requesterId: number, high: number, low: number, access: number, length: number, out: Translation) {
    this.log.push(`run ${requesterId} ${hex(high, low)} ${access} ${length}`);
    out.frame = (high << 20) | (low >>> 12);
    out.shift = 12;
    out.permissions = 3;
    out.bytes = length;
    return true;
  }

  refuse(requesterId: number, high: number, low: number, access: number): void {
    this.log.push(`refused ${requesterId} ${hex(high, low)} ${access}`);
  }
}

export function hex(high: number, low: number): string {
  return `0x${((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)).toString(16)}`;
}
