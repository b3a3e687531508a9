/* A device in a domain whose page tables are this program's own. */
#ifndef LIB_DMA_IOMMU_CASES_CALLERS_H
#define LIB_DMA_IOMMU_CASES_CALLERS_H

#include "dma_iommu_cases/checks.h"
#include "dma_iommu_cases/tables.h"

/* Tells the domain where the tables are. `input_bits`: how many address bits ARM64 ones translate. */
NTSTATUS configure(struct fixture *fixture, PIOMMU_DMA_DOMAIN domain, const struct tables *tables, unsigned input_bits);

/* A device in such a domain, with ARM64 tables of 4 KiB granules, pages to read and to write, and its faults reported. */
struct callers {
	struct setting setting;
	struct tables tables;
};

bool use_callers(struct fixture *fixture, struct callers *callers);

/* Clears the entry for the address at a level, and tells nobody. */
bool clear_entry(struct tables *tables, uint64_t iova, unsigned level);

#endif
