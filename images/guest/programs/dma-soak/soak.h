/* Random, correct use of an IOMMU, with every byte checked. */
#ifndef DMA_SOAK_SOAK_H
#define DMA_SOAK_SOAK_H

#include "backend.h"

struct soak_counts {
	uint64_t steps, maps, unmaps, large, attaches, detaches, transfers, bytes;
};

/* Runs for so long. False, with failed() called, at the first byte or call that is wrong. */
bool soak(const struct backend *backend, const struct pci_addresses *edus, uint64_t seed, uint64_t milliseconds,
	  struct soak_counts *counts);

#endif
