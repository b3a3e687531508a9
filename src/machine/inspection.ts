/**
 * What the inspector asks a machine beyond its trace and findings: the state of its hardware as it is, without changing it. All answers
 * are plain data that can be cloned.
 */

export type {
  InspectedField,
  QueueAnswer,
  QueueEntry,
  TlbAnswer,
  TlbEntry,
  WalkAnswer,
  WalkOutcome,
  WalkStep,
} from '../iommu/inspection.ts';

/** One 32-bit-word-wise snapshot of a block of registers; the definitions are in `BlockDefinition`. */
export interface RegisterBlockDescription {
  /** Which function it belongs to, e.g. `iommu`, `edu0`. */
  readonly function: string;
  /** The block's name, e.g. `vtd`, `edu`, `pci`. */
  readonly block: string;
  /** vfio-user region: the BAR, or 7 for configuration space. */
  readonly region: number;
  readonly specification: string;
  readonly registers: readonly RegisterDescription[];
}

export interface RegisterDescription {
  readonly name: string;
  readonly offset: number;
  /** Width in bytes: 1, 2, 3 (class code), 4, 8 or 16. */
  readonly bytes: number;
  readonly section: string;
  readonly fields: readonly {
    readonly name: string;
    readonly bits: readonly [high: number, low: number];
    readonly access: string;
    readonly why?: string;
  }[];
}

/** Values of one block; `bytes` is little-endian, as the guest would read it (write-only bits are what was last written). */
export interface RegisterValues {
  readonly function: string;
  readonly block: string;
  readonly bytes: Uint8Array;
}

/** Whether the machine goes on by itself. */
export type RunState = 'running' | 'paused';
export type StepWhat = 'dma' | 'register';

export interface InspectionAnswer {
  readonly registers: readonly RegisterBlockDescription[];
  /** By function name: is its client connected, may it do DMA. */
  readonly functions: readonly {
    readonly name: string;
    readonly kind: string;
    /** Missing for the IOMMU. */
    readonly requesterId?: number;
    readonly connected: boolean;
    readonly busMaster: boolean;
  }[];
  readonly state: RunState;
}

export interface RegistersAnswer {
  /** In the order of the definitions; blocks whose registers are not to be had are missing. */
  readonly blocks: readonly RegisterValues[];
}

export interface StateAnswer {
  readonly state: RunState;
}

export interface StepAnswer extends StateAnswer {
  /** False: there was no such thing to be done. */
  readonly stepped: boolean;
}

/** TLB entries of one answer. */
export const TLB_LIMIT_MAX = 1 << 16;

export type InspectCommand =
  | { readonly name: 'inspect' }
  | { readonly name: 'registers'; readonly function: string }
  | { readonly name: 'walk'; readonly requesterId: number; readonly pasid?: number | undefined; readonly iova: bigint }
  | { readonly name: 'tlb'; readonly limit: number }
  | { readonly name: 'queue' }
  | { readonly name: 'pause' }
  | { readonly name: 'step'; readonly what: StepWhat }
  | { readonly name: 'resume' };
