/** What a unit and its function have queued and not begun, in that order: what a saved state keeps of their jobs. */

export const DMA_IOMMU_WORK = ['deliver', 'commands', 'faultRing', 'probe'] as const;
/** A fault on its way to its handler; the next commands; faults on their way to the ring; a probe. */
export type DmaIommuWork = (typeof DMA_IOMMU_WORK)[number];
/** Each is queued once at most. */
export type PendingWork = Set<DmaIommuWork>;
