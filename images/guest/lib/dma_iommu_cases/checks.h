/* Ways to see what a translation does. Functions that return bool have called failed() on false. */
#ifndef LIB_DMA_IOMMU_CASES_CHECKS_H
#define LIB_DMA_IOMMU_CASES_CHECKS_H

#include "dma_iommu_cases/fixture.h"

/* Something in memory, and where a device finds it. */
struct place {
	uint64_t iova;
	uint8_t *memory;
};

/*
 * The device reads `count` bytes (up to EDU_BUFFER_SIZE) of a fresh pattern at `from` and writes them at `to`, and nothing else there
 * changes within the page.
 */
bool moves(struct device *device, struct place from, struct place to, uint32_t count);

/* The fault that a refused DMA must cause. */
struct wanted_fault {
	uint32_t type;
	uint32_t domain; /* dma_iommu_domain_number() */
	int32_t pasid;   /* -1: none */
};

/* The device writes at `victim` and must not get through: memory stays, and this fault comes, to the handler as well. */
bool write_refused(struct fixture *fixture, struct device *device, struct place victim, struct wanted_fault wanted);

/* The same for a read: what the device got, it writes at `landing`; it must be all ones, as of an aborted read. */
bool read_refused(struct fixture *fixture, struct device *device, uint64_t iova, struct place landing,
		  struct wanted_fault wanted);

/* The device writes at `victim` and does not get through, and no fault is reported. */
bool write_ignored(struct device *device, struct place victim);

bool no_fault(void);

/* Lets this fixture hear the faults of a device that is in a domain. */
bool report_faults(struct fixture *fixture, struct device *device);

/* What the probe says: translated to this memory, from there. `source` DMA_IOMMU_PROBE_SOURCE_... */
bool probe_finds(struct fixture *fixture, struct device *device, uint64_t iova, const void *memory, uint32_t source,
		 bool stale);

/* What the probe says: refused with this type of fault. */
bool probe_refuses(struct device *device, uint64_t iova, uint32_t access, uint32_t fault_type);

/* One page mapped in an OS-managed domain. */
bool map_page(struct fixture *fixture, PIOMMU_DMA_DOMAIN domain, struct place place, ULONG permissions);

/* A device in an OS-managed domain of its own with a page to read and one to write, its faults reported. */
struct setting {
	struct device *device;
	PIOMMU_DMA_DOMAIN domain;
	struct place source, target;
};

bool use_setting(struct fixture *fixture, struct setting *setting);

/* The whole page at `source` arrives at `target`. */
bool setting_works(const struct setting *setting);

struct wanted_fault fault_in(const struct setting *setting, uint32_t type);

#endif
