/** What the sanitizer tells: one mistake, in plain words, with the history that led there. */
import type { DetectorName } from './detectors.ts';

/** One thing that happened, as evidence. */
export interface Evidence {
  /** Nanoseconds, on the clock of all events of the machine. */
  readonly time: number;
  /** The kind of the event, e.g. `mapping.removed`. */
  readonly kind: string;
  /** Who it happened at, e.g. `iommu`, `edu0`. */
  readonly source: string;
  /** In plain words, e.g. `mapping 0xfffff000-0xffffffff -> 0x10345000 removed by a page-selective invalidation`. */
  readonly text: string;
}

/** One mistake; the same one again, at the same page, only counts. */
export interface Finding {
  /** `F1`, `F2`, ... in the order of their first occurrence. */
  readonly id: string;
  /** Which detector found it: docs/detectors.md. */
  readonly detector: DetectorName;
  /** What it counts as; `stop` findings end the machine. */
  readonly severity: 'note' | 'warning' | 'stop';
  /** One line that says what happened, with device and address. */
  readonly summary: string;
  /** A few sentences: why this is a mistake, and what hardware would do. */
  readonly explanation: string;
  /** In the order of time; the access itself comes last. */
  readonly evidence: readonly Evidence[];
  /** What to look for in the driver. */
  readonly suggestion: string;
  /** Who made the mistake: an endpoint's name where it is known, else a requester id as 01:00.0; `iommu` where it is nobody's DMA. */
  readonly device: string;
  /** Missing where no address is meant. */
  readonly iova?: bigint;
  /** Bytes of the access, where one is meant. */
  readonly length?: number;
  /** Domain id (VT-d), or the domain's handle (dma-iommu); missing where none is meant. */
  readonly domain?: number;
  /** Nanoseconds, of the first and of the last occurrence. */
  readonly first: number;
  readonly last: number;
  /** How often it happened: the same detector, device and page. */
  readonly count: number;
}
