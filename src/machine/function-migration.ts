/** Stops, saves, restores and starts one function with the device behind it. */
import type { PciFunction } from '../pci/function.ts';
import { type Saveable, StateError, stateFields } from '../pci/state.ts';
import type { DeviceMigration } from '../vfio-user/device-model.ts';
import type { FunctionJobs } from './function-jobs.ts';
import { encodeState, openState, type StateOwner } from './state-format.ts';

export interface FunctionMigrationParts {
  readonly owner: StateOwner;
  readonly pci: PciFunction;
  readonly device: Saveable;
  /** Those that must not begin while the function is stopped: its own, and those of functions that cannot work without it. */
  readonly jobs: () => Iterable<FunctionJobs>;
  readonly own: FunctionJobs;
  /** In a job that has nothing under way; at once where there is none. */
  readonly between: (job: () => void) => void;
}

export class FunctionMigration implements DeviceMigration {
  private held: FunctionJobs[] = [];

  constructor(private readonly parts: FunctionMigrationParts) {}

  stop(stopped: () => void): void {
    const { jobs, pci, between } = this.parts;
    this.run();
    this.held = [...jobs()];
    for (const one of this.held) one.hold();
    pci.stop();
    between(stopped);
  }

  run(): void {
    const { held } = this;
    this.held = [];
    if (held.length > 0) this.parts.pci.start();
    for (const one of held) one.release();
  }

  save(): Uint8Array | string {
    const { owner, pci, device } = this.parts;
    return orWhyNot(() => encodeState(owner, { function: pci.save(), device: device.save() }));
  }

  restore(bytes: Uint8Array): string | undefined {
    const { owner, pci, device, own } = this.parts;
    return orWhyNot(() => {
      const fields = stateFields(openState(owner, bytes), 'a state', ['function', 'device']);
      const restoreFunction = pci.restore(fields.function);
      const restoreDevice = device.restore(fields.device);
      // From here on nothing can fail. What was queued belongs to the state that goes.
      own.clear();
      restoreFunction();
      restoreDevice();
      return undefined;
    });
  }
}

function orWhyNot<Result>(work: () => Result): Result | string {
  try {
    return work();
  } catch (error) {
    if (error instanceof StateError) return error.message;
    throw error;
  }
}
