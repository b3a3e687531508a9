/** What a unit is made from. */
import type { GuestMemory } from '../../memory/guest-memory.ts';
import type { TableMemory } from '../../page-tables/table-memory.ts';
import type { JobQueue } from '../../pci/ports.ts';
import type { Trace } from '../../trace/trace.ts';
import type { PendingWork } from './pending-work.ts';
import type { Compat, DeviceDirectory } from './types.ts';

export interface DmaIommuTuning {
  /**
   * Look, at each translation by a caller's tables that came of a cache, whether the tables still say the same. Where they are reached by
   * messages, at some. Default false.
   */
  readonly checkStale?: boolean | undefined;
  /** What faults say of the unit. Default 0. */
  readonly iommuBaseAddress?: bigint | undefined;
  /** Default 0. */
  readonly pciSegment?: number | undefined;
  /** The highest PASID, 1 to 2^20 - 1. Default the latter. */
  readonly pasidMax?: number | undefined;
  /** Where the tables of domains that we own the tables of are. Default: a new one of its default size. */
  readonly tableMemory?: TableMemory | undefined;
}

export interface DmaIommuOptions {
  /** Its name in events. */
  readonly name: string;
  /** The guest's: callers' page tables are there. */
  readonly memory: GuestMemory;
  readonly devices: DeviceDirectory;
  readonly jobs: JobQueue;
  readonly trace: Trace;
  /** Default `extended`. */
  readonly compat?: Compat | undefined;
  readonly options?: DmaIommuTuning | undefined;
  /** Where it says what it has queued; one that is to be saved with its function has the function's. Default: a new one. */
  readonly work?: PendingWork | undefined;
}
