/**
 * What the inspector asks a machine beyond its trace and findings: the state of its hardware as it is, without changing it. All answers
 * are plain data that can be cloned.
 */

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
  /** Width in bytes: 1, 2, 4, 8 or 16. */
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

/** One step from a requester id and an address to a page. */
export interface WalkStep {
  /** `root entry`, `context entry`, `level 4` ... `level 1`. */
  readonly what: string;
  /** Guest-physical address of the entry. */
  readonly address: bigint;
  /** 8 or 16 bytes, little-endian words of 64 bits; empty where it could not be read. */
  readonly words: readonly bigint[];
  readonly fields: readonly {
    readonly name: string;
    readonly bits: readonly [number, number];
    readonly value: bigint;
  }[];
  readonly present: boolean;
}

export interface WalkAnswer {
  readonly steps: readonly WalkStep[];
  /** What a walk from the root says now. */
  readonly status:
    | 'mapped'
    | 'not present'
    | 'no permission'
    | 'malformed'
    | 'not attached'
    | 'pass-through'
    | 'untranslated';
  /** Guest-physical address that the IOVA leads to; missing where it leads nowhere. */
  readonly address?: bigint;
  readonly shift?: number;
  readonly permissions?: number;
  readonly domain?: number;
  /** What the IOTLB holds for the address: missing where it holds nothing. */
  readonly cached?: { readonly address: bigint; readonly shift: number; readonly permissions: number };
  /** Whether cache and tables agree; true where nothing is cached. */
  readonly agrees: boolean;
}

export interface TlbEntry {
  readonly domain: number;
  readonly iova: bigint;
  readonly address: bigint;
  /** log2 of the page's bytes. */
  readonly shift: number;
  /** `Access` bits; 4: remembered as not present (caching mode). */
  readonly permissions: number;
}

export interface QueueAnswer {
  readonly enabled: boolean;
  readonly base: bigint;
  readonly bytes: number;
  /** Byte offsets. */
  readonly head: number;
  readonly tail: number;
  /** Around head and tail, at most 64, in the order of the queue. */
  readonly entries: readonly {
    readonly offset: number;
    readonly words: readonly bigint[];
    /** e.g. `IOTLB invalidate, page-selective, domain 3, 0xfffff000, 1 page`. */
    readonly text: string;
    /** `done`: before the head; `pending`: from head to tail; `free`: software has not written it yet. */
    readonly state: 'done' | 'pending' | 'free';
  }[];
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

export type InspectCommand =
  | { readonly name: 'inspect' }
  | { readonly name: 'registers'; readonly function: string }
  | { readonly name: 'walk'; readonly requesterId: number; readonly pasid?: number | undefined; readonly iova: bigint }
  | { readonly name: 'tlb'; readonly limit: number }
  | { readonly name: 'queue' }
  | { readonly name: 'pause' }
  | { readonly name: 'step'; readonly what: StepWhat }
  | { readonly name: 'resume' };
