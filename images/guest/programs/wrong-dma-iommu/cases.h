/* Every case, by the file that it is in. Each is named after the mistake that it makes; what follows the name tells ways apart. */
#ifndef WRONG_DMA_IOMMU_CASES_H
#define WRONG_DMA_IOMMU_CASES_H

#include "dma_iommu_cases/callers.h"

/* cases_map.c */
bool case_correct(struct fixture *fixture);
bool case_overlapping_map(struct fixture *fixture);
bool case_double_unmap(struct fixture *fixture);
bool case_mismatched_unmap(struct fixture *fixture);
bool case_mapping_leak(struct fixture *fixture);

/* cases_access.c */
bool case_use_after_unmap(struct fixture *fixture);
bool case_never_mapped(struct fixture *fixture);
bool case_never_mapped_physical(struct fixture *fixture);
bool case_wrong_direction(struct fixture *fixture);
bool case_out_of_bounds(struct fixture *fixture);
bool case_address_too_wide(struct fixture *fixture);
bool case_dma_while_detached(struct fixture *fixture);
bool case_dma_while_detached_unconfigured(struct fixture *fixture);
bool case_bus_master_off(struct fixture *fixture);
bool case_pasid_misuse(struct fixture *fixture);

/* cases_cache.c */
bool case_correct_callers(struct fixture *fixture);
bool case_stale_iotlb(struct fixture *fixture);
bool case_stale_iotlb_late(struct fixture *fixture);
bool case_stale_paging_structure(struct fixture *fixture);
bool case_dma_before_flush(struct fixture *fixture);
bool case_descriptor_race(struct fixture *fixture);

/* teardown.c: undo what use_setting() and use_callers() did, in the order that a correct driver keeps. */
bool leave_setting(struct fixture *fixture, const struct setting *setting);
bool leave_callers(struct fixture *fixture, struct callers *callers);
/* Detaches the device and deletes the domain. */
bool leave_domain(struct fixture *fixture, const struct setting *setting);

/* Facts "iova", "domain" and "requesterId", by which the findings of this case can be told. */
void fact_access(const struct setting *setting, uint64_t iova);

static inline unsigned long long printable(uint64_t value)
{
	return value;
}

#endif
