/** What the sanitizer must say about each case of the guest's programs that are wrong on purpose, and about none of the others. */
import type { DetectorName } from '../../src/trace/sanitizer/detectors.ts';

export interface Expectation {
  /** `--case` of the program. */
  readonly name: string;
  /** Exactly these; none: the case is correct. */
  readonly detectors: readonly DetectorName[];
  /** Who the first detector's finding blames. Default: `edu0`. */
  readonly device?: string;
  /** Kinds of events that the first detector's evidence must have. */
  readonly evidence?: readonly string[];
  /** False: it is about no address, so the summary has none. Default: the case tells the address of its DMA. */
  readonly address?: false;
}

/** `wrong-vtd`, in a guest whose kernel leaves the unit alone. The first edu has 64 address bits, the second 28. */
export const VTD_EXPECTATIONS: readonly Expectation[] = [
  { name: 'correct', detectors: [] },
  { name: 'stale-iotlb', detectors: ['stale-iotlb'], evidence: ['stale'] },
  { name: 'stale-iotlb-permissions', detectors: ['stale-iotlb'], evidence: ['stale'] },
  { name: 'stale-iotlb-late', detectors: ['stale-iotlb'], evidence: ['stale'] },
  { name: 'stale-context', detectors: ['stale-context'], evidence: ['stale'] },
  { name: 'stale-paging-structure', detectors: ['stale-paging-structure'], evidence: ['stale'] },
  { name: 'dma-before-flush', detectors: ['dma-before-flush'], evidence: ['stale', 'invalidation'] },
  { name: 'use-after-unmap', detectors: ['use-after-unmap'], evidence: ['mapping.added', 'mapping.removed', 'fault'] },
  { name: 'wrong-direction', detectors: ['wrong-direction'], evidence: ['mapping.added', 'fault'] },
  { name: 'wrong-direction-read', detectors: ['wrong-direction'], evidence: ['mapping.added', 'fault'] },
  { name: 'out-of-bounds', detectors: ['out-of-bounds'], evidence: ['mapping.added', 'fault'] },
  { name: 'out-of-bounds-beside', detectors: ['out-of-bounds'], evidence: ['mapping.added', 'fault'] },
  { name: 'never-mapped', detectors: ['never-mapped'], evidence: ['fault'] },
  { name: 'never-mapped-physical', detectors: ['never-mapped'], evidence: ['fault'] },
  { name: 'bus-master-off', detectors: ['bus-master-off'], evidence: ['dma.failed'] },
  { name: 'dma-while-detached', detectors: ['dma-while-detached'], evidence: ['fault'] },
  { name: 'reserved-range', detectors: ['reserved-range'], evidence: ['fault'] },
  { name: 'reserved-range-mapped', detectors: ['reserved-range'], evidence: ['fault'] },
  { name: 'address-too-wide', detectors: ['address-too-wide'], device: 'edu1' },
  { name: 'address-too-wide-unit', detectors: ['address-too-wide'], evidence: ['fault'] },
  { name: 'mapping-leak', detectors: ['mapping-leak'], evidence: ['mapping.added', 'detach'], address: false },
  { name: 'malformed-table', detectors: ['malformed-table'], evidence: ['fault'] },
  { name: 'malformed-table-outside', detectors: ['malformed-table'], evidence: ['fault'] },
  { name: 'malformed-table-device', detectors: ['malformed-table'], evidence: ['fault'] },
  { name: 'malformed-table-loop', detectors: ['malformed-table'], evidence: ['table.loop'] },
  { name: 'malformed-table-context', detectors: ['malformed-table'], evidence: ['fault'] },
  {
    name: 'invalidation-queue-misuse',
    detectors: ['invalidation-queue-misuse'],
    device: 'iommu',
    address: false,
  },
  {
    name: 'invalidation-queue-misuse-tail',
    detectors: ['invalidation-queue-misuse'],
    device: 'iommu',
    address: false,
  },
  {
    name: 'descriptor-race',
    detectors: ['descriptor-race'],
    device: 'iommu',
    evidence: ['descriptor.changed'],
    address: false,
  },
  { name: 'interrupt-misuse', detectors: ['interrupt-misuse'], device: 'iommu', address: false },
  { name: 'register-spin', detectors: ['register-spin'], evidence: ['register.spin'], address: false },
  { name: 'unknown-register', detectors: ['unknown-register'], address: false },
  { name: 'dma-to-no-memory', detectors: ['dma-to-no-memory'], evidence: ['dma.failed'] },
  { name: 'pasid-misuse', detectors: ['pasid-misuse'] },
  // After `address-too-wide`, which attached the second device rightly: the entry for the wrong one came after its detach.
  {
    name: 'wrong-requester-id',
    detectors: ['wrong-requester-id'],
    device: 'edu1',
    evidence: ['context.present', 'fault'],
  },
];

/** `wrong-vtd` with caching mode: before the mapping can be missed, something must have looked for it, which is a mistake too. */
export const CACHING_MODE_EXPECTATIONS: readonly Expectation[] = [
  { name: 'correct', detectors: [] },
  {
    name: 'missing-map-invalidation',
    detectors: ['missing-map-invalidation', 'never-mapped'],
    evidence: ['stale'],
  },
];

/** `wrong-dma-iommu`; both edus have 64 address bits. */
export const DMA_IOMMU_EXPECTATIONS: readonly Expectation[] = [
  { name: 'correct', detectors: [] },
  { name: 'correct-callers', detectors: [] },
  { name: 'overlapping-map', detectors: ['overlapping-map'], device: 'iommu' },
  { name: 'double-unmap', detectors: ['double-unmap'], device: 'iommu' },
  { name: 'mismatched-unmap', detectors: ['mismatched-unmap'], device: 'iommu' },
  { name: 'mapping-leak', detectors: ['mapping-leak'], device: 'iommu', evidence: ['mapping.added'], address: false },
  { name: 'stale-iotlb', detectors: ['stale-iotlb'], evidence: ['stale'] },
  { name: 'stale-iotlb-late', detectors: ['stale-iotlb'], evidence: ['stale'] },
  { name: 'stale-paging-structure', detectors: ['stale-paging-structure'], evidence: ['stale'] },
  { name: 'dma-before-flush', detectors: ['dma-before-flush'], evidence: ['stale', 'invalidation'] },
  { name: 'use-after-unmap', detectors: ['use-after-unmap'], evidence: ['mapping.added', 'mapping.removed', 'fault'] },
  { name: 'never-mapped', detectors: ['never-mapped'], evidence: ['fault'] },
  { name: 'never-mapped-physical', detectors: ['never-mapped'], evidence: ['fault'] },
  { name: 'wrong-direction', detectors: ['wrong-direction'], evidence: ['mapping.added', 'fault'] },
  { name: 'out-of-bounds', detectors: ['out-of-bounds'], evidence: ['mapping.added', 'fault'] },
  { name: 'address-too-wide', detectors: ['address-too-wide'], evidence: ['fault'] },
  { name: 'dma-while-detached', detectors: ['dma-while-detached'], evidence: ['fault'] },
  { name: 'dma-while-detached-unconfigured', detectors: ['dma-while-detached'], evidence: ['fault'] },
  { name: 'bus-master-off', detectors: ['bus-master-off'], evidence: ['dma.failed'] },
  { name: 'pasid-misuse', detectors: ['pasid-misuse'] },
  {
    name: 'descriptor-race',
    detectors: ['descriptor-race'],
    device: 'iommu',
    evidence: ['descriptor.changed'],
    address: false,
  },
];

export interface ExpectedFinding {
  readonly detector: DetectorName;
  readonly device: string;
  /** Of the page. */
  readonly iova: bigint;
}

/**
 * `dma-demo` with the stock kernel's driver: the faults that it causes on purpose. `read-only` and `read-only-cached` write the same
 * page, `unmapped` reads and writes one, and in `two-domains` the second device goes where only the first may.
 */
export const DEMO_FINDINGS: readonly ExpectedFinding[] = [
  { detector: 'never-mapped', device: 'edu0', iova: 0x0badc000n },
  { detector: 'never-mapped', device: 'edu1', iova: 0x06780000n },
  { detector: 'use-after-unmap', device: 'edu0', iova: 0x05680000n },
  { detector: 'wrong-direction', device: 'edu0', iova: 0x05680000n },
];
