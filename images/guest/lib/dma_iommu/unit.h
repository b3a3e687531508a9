/*
 * The dma-iommu function: its rings, its faults and its probe. A process has one, as a kernel has one HAL. Functions that return
 * bool have called failed() on false.
 */
#ifndef LIB_DMA_IOMMU_UNIT_H
#define LIB_DMA_IOMMU_UNIT_H

#include "dma_iommu.h"
#include "dma_iommu/wdm_iommu.h"

#include <stdbool.h>

/* The status of an operation that the function never answered; failed() has been called. */
#define DMA_IOMMU_STATUS_NO_ANSWER 0xc00000b5u /* STATUS_IO_TIMEOUT */

/* Resets the function, gives it its rings and turns translation on: from now on DMA needs a domain. */
bool dma_iommu_open(const char *address);

/* Also after a failed dma_iommu_open(). Resets the function. */
void dma_iommu_close(void);

/* What stands for the physical device object of a PCI function, 0000:01:00.0. */
PDEVICE_OBJECT dma_iommu_device_object(const char *address);

/* STATUS_...; the text of an unknown one lasts until the next call. */
const char *dma_iommu_status_name(NTSTATUS status);

/* The numbers that the function knows an object by, as they stand in faults and probe results. */
uint32_t dma_iommu_domain_number(PIOMMU_DMA_DOMAIN domain);

uint64_t dma_iommu_capabilities(void);
uint32_t dma_iommu_register(uint32_t offset);
void dma_iommu_write_register(uint32_t offset, uint32_t value);

/*
 * Runs one command: its index in the ring is chosen, its cookie set. The status, or DMA_IOMMU_STATUS_NO_ANSWER.
 * State changes that come meanwhile go to their callbacks.
 */
NTSTATUS dma_iommu_run(struct dma_iommu_command *command, struct dma_iommu_completion *completion);

/* Hands state changes that have come to their callbacks; waits for one at most `timeout_ms`. The number of them. */
int dma_iommu_dispatch_state_changes(int timeout_ms);

/*
 * Takes the next fault, waiting at most `timeout_ms`, and calls the handler of the device. `*found` tells whether one came.
 */
bool dma_iommu_take_fault(struct dma_iommu_fault *fault, int timeout_ms, bool *found);

/* What a DMA would find. */
struct dma_iommu_probe {
	bool translated;
	bool stale;      /* the tables say otherwise by now */
	uint32_t source; /* DMA_IOMMU_PROBE_SOURCE_... */
	uint32_t level;
	uint32_t permissions;
	uint32_t shift; /* log2 of the page's size */
	uint32_t fault_type;
	uint64_t physical;
	uint32_t domain;
};

/* `pasid` -1: none. `access`: DMA_IOMMU_PROBE_READ, DMA_IOMMU_PROBE_WRITE. Changes no cache. */
bool dma_iommu_probe(PDEVICE_OBJECT device, int32_t pasid, uint64_t iova, uint32_t access,
		     struct dma_iommu_probe *result);

/*
 * For operations: memory that the function can read, good until the next command. Its physical address goes to `*physical`. NULL:
 * more than there is, and failed() has been called.
 */
void *dma_iommu_scratch(size_t size, uint64_t *physical);

/* The command ring, of so many entries: for programs that write to it behind the function's back. */
struct dma_iommu_command *dma_iommu_command_ring(size_t *entries);

#endif
