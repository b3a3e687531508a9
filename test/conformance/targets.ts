/** What the rules are tried at: each kind of function that a machine has, served in the test's own thread. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeMachine, type IommuKindName } from '../../src/machine/description.ts';
import { Machine } from '../../src/machine/machine.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import { type DeviceFacts, readFacts, type Target } from '../../src/vfio-user/conformance/context.ts';

const PATIENCE_MS = 5000;

export class ServedTarget {
  readonly target: Target;
  readonly device: DeviceFacts;
  readonly errors: unknown[] = [];
  private readonly directory = mkdtempSync(join(tmpdir(), 'viommu-conformance-'));
  private readonly loop = new EventLoop(error => this.errors.push(error));
  private readonly machine: Machine;

  constructor(iommu: IommuKindName, name: string) {
    const { directory, loop } = this;
    const description = describeMachine(iommu, ['edu@01:00.0']);
    this.machine = new Machine({ description, directory, loop, trace: new TraceLog() });
    this.target = { path: this.machine.sockets[name]!, loop, patience: PATIENCE_MS, pid: process.pid };
    this.device = readFacts(this.target);
  }

  close(): void {
    this.machine.close();
    this.loop.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
