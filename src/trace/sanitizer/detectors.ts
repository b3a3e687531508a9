/** The detectors, as data: what each is called, what it means, and what to do about it. */

export const DETECTOR_NAMES = [
  /** An IOTLB entry differs from a fresh walk, and no invalidation came within the time of grace. */
  'stale-iotlb',
  /** A cached context entry differs from the one in memory. */
  'stale-context',
  /** A walk that started from the paging-structure cache ended elsewhere than one from the root. */
  'stale-paging-structure',
  /** Caching mode: the IOMMU remembers that nothing was there, and software mapped something without saying so. */
  'missing-map-invalidation',
  /** To a page that was mapped earlier. */
  'use-after-unmap',
  /** A stale entry was used after the unmapping and before the invalidation that came for it. */
  'dma-before-flush',
  /** A write where only reading is mapped, or the other way round. */
  'wrong-direction',
  /** Begins in a mapping and leaves it, or lies right beside one. */
  'out-of-bounds',
  /** To a page that nothing was ever mapped at; often a physical address. */
  'never-mapped',
  /** The requester has no context entry, but another one has that no endpoint of the machine uses. */
  'wrong-requester-id',
  /** DMA or an interrupt message while COMMAND.BME is off. */
  'bus-master-off',
  /** The requester was detached, or is attached nowhere. */
  'dma-while-detached',
  /** The requester was reset while its DMA was under way, or the IOMMU was. */
  'dma-after-reset',
  /** DMA to the interrupt range, or a page mapped to it. */
  'reserved-range',
  /** More bits than the unit or the tables translate, or than the device drives. */
  'address-too-wide',
  /** A mapping was made over another one. */
  'overlapping-map',
  /** An unmap of what is not mapped. */
  'double-unmap',
  /** An unmap of something else than what was mapped: other length, other domain. */
  'mismatched-unmap',
  /** Mappings left behind at a detach, at a reset or at the end. */
  'mapping-leak',
  /** Reserved bits, a table outside of memory, a table in device memory, a table that contains itself. */
  'malformed-table',
  'invalidation-queue-misuse',
  /** A descriptor was changed while it was being read. */
  'descriptor-race',
  /** A vector that is not programmed, or no way for the interrupt to go. */
  'interrupt-misuse',
  /** The guest polls a register that does not change. */
  'register-spin',
  /** A register that nothing implements, a reserved bit, a wrong width. */
  'unknown-register',
  /** Translated, but nothing (writable) is at the guest-physical address. */
  'dma-to-no-memory',
  /** A PASID that the requester does not have. */
  'pasid-misuse',
] as const;
export type DetectorName = (typeof DETECTOR_NAMES)[number];
