/** What an IOMMU shows of itself to the inspector, without changing. Plain data that can be cloned. */

/** A part of a register, a descriptor or an entry; bits count from 0, over all of its words. */
export interface InspectedField {
  readonly name: string;
  readonly bits: readonly [high: number, low: number];
  readonly value: bigint;
}

/** One step from a requester id and an address to a page. */
export interface WalkStep {
  /** `root entry`, `context entry`, `level 4` ... `level 1`. */
  readonly what: string;
  /** Address of the entry: guest-physical, or, of tables that the IOMMU owns, in its own memory. */
  readonly address: bigint;
  /** 8 or 16 bytes, little-endian words of 64 bits; empty where it could not be read. */
  readonly words: readonly bigint[];
  readonly fields: readonly InspectedField[];
  readonly present: boolean;
}

export type WalkOutcome =
  | 'mapped'
  | 'not present'
  | 'no permission'
  | 'malformed'
  | 'not attached'
  | 'pass-through'
  | 'untranslated';

export interface WalkAnswer {
  readonly steps: readonly WalkStep[];
  /** What a walk from the root says now. */
  readonly status: WalkOutcome;
  /** Guest-physical address that the IOVA leads to; missing where it leads nowhere. */
  readonly address?: bigint;
  /** log2 of the mapping's bytes. */
  readonly shift?: number;
  /** `Access` bits. */
  readonly permissions?: number;
  readonly domain?: number;
  /** What the IOTLB holds for the address: missing where it holds nothing. */
  readonly cached?: { readonly address: bigint; readonly shift: number; readonly permissions: number };
  /** Whether all caches, those of context entries and of tables too, agree with the tables; true where nothing is cached. */
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

export interface TlbAnswer {
  readonly entries: readonly TlbEntry[];
  /** How many there are, listed or not. */
  readonly total: number;
}

export interface QueueEntry {
  /** Bytes from the start of the queue. */
  readonly offset: number;
  /** Empty where it could not be read. */
  readonly words: readonly bigint[];
  /** e.g. `IOTLB invalidate, page-selective, domain 3, 0xfffff000, 1 page`. */
  readonly text: string;
  /** `done`: before the head; `pending`: from head to tail; `free`: software has not written it yet. */
  readonly state: 'done' | 'pending' | 'free';
}

export interface QueueAnswer {
  readonly enabled: boolean;
  readonly base: bigint;
  readonly bytes: number;
  /** Byte offsets. */
  readonly head: number;
  readonly tail: number;
  /** Around head and tail, at most 64, in the order of the queue. */
  readonly entries: readonly QueueEntry[];
}

/** What the inspector asks an IOMMU. Called in jobs: tables may lie in memory that is reached by messages. */
export interface IommuInspection {
  /** `pasid`: missing for requests without one. */
  walk(requesterId: number, pasid: number | undefined, iova: bigint): WalkAnswer;
  tlb(limit: number): TlbAnswer;
  /** Missing where there is no invalidation queue. */
  queue?(): QueueAnswer;
}
