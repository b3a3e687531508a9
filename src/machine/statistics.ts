/** A machine's own account of what it did. Plain counters since the machine started; they never go back. */

import type { DmaIommuStatistics } from '../iommu/dma-iommu/statistics.ts';
import type { DmaCounters } from '../iommu/dma-port.ts';
import type { VtdStatistics } from '../iommu/vtd/statistics.ts';
import type { MemoryStatistics } from '../memory/region-memory.ts';
import type { ServerStatistics } from '../vfio-user/server.ts';

export interface FunctionStatistics {
  readonly connected: boolean;
  readonly server: ServerStatistics;
  readonly memory: MemoryStatistics;
  /** Endpoints only. */
  readonly dma?: DmaCounters;
}

/** By the kind of the IOMMU. */
export type IommuStatistics =
  | ({ readonly kind: 'vtd' } & VtdStatistics)
  | ({ readonly kind: 'dma-iommu' } & DmaIommuStatistics);

export interface MachineStatistics {
  /** Missing where the machine has no IOMMU. */
  readonly iommu?: IommuStatistics;
  readonly functions: Readonly<Record<string, FunctionStatistics>>;
  /** Events sent to the control thread, and dropped because it was too slow. Missing in-process. */
  readonly trace?: { readonly sent: number; readonly dropped: number };
}
