/** What the rules are tried at: each kind of function that a machine has, served in the test's own thread. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeMachine, type IommuKindName } from '../../src/machine/description.ts';
import { Machine } from '../../src/machine/machine.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { createMemfd } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import { type DeviceFacts, readFacts, type Target } from '../../src/vfio-user/conformance/context.ts';
import { VfioUserServer } from '../../src/vfio-user/server.ts';
import { BAR0, FakeModel, LARGE_BAR } from '../vfio-user/rig.ts';

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

const PAGE = 4096;

/** A device that offers what none of ours does: memory to map, whole and in parts, eventfds to write to. */
export class OfferingTarget {
  readonly target: Target;
  readonly device: DeviceFacts;
  readonly errors: unknown[] = [];
  private readonly directory = mkdtempSync(join(tmpdir(), 'viommu-conformance-'));
  private readonly loop = new EventLoop(error => this.errors.push(error));
  private readonly memory = createMemfd('bars', PAGE + 2 * 1048576);
  private readonly server: VfioUserServer;

  constructor() {
    const { directory, loop, memory } = this;
    const model = new FakeModel();
    const offers = {
      [BAR0]: { mapping: { descriptor: memory, offset: 0 }, ioEventFds: [{ offset: 64, size: 4 }] },
      [LARGE_BAR]: {
        mapping: {
          descriptor: memory,
          offset: PAGE,
          areas: [
            { offset: 0, size: PAGE },
            { offset: 4 * PAGE, size: 8 * PAGE },
          ],
        },
        ioEventFds: [
          { offset: 8, size: 8, value: 7n },
          { offset: 16, size: 0 },
        ],
      },
    };
    const regions = model.regions.map((region, index) => ({ ...region, ...offers[index as keyof typeof offers] }));
    Object.assign(model, { regions });
    const path = join(directory, 'device.sock');
    this.server = new VfioUserServer({ path, name: 'device', model, loop, trace: new TraceLog() });
    this.target = { path, loop, patience: PATIENCE_MS, pid: process.pid };
    this.device = readFacts(this.target);
  }

  close(): void {
    this.server.close();
    this.loop.close();
    closeDescriptor(this.memory);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
