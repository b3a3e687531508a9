/* What a case runs with: a function just reset, two edu devices that are in no domain yet, and memory. */
#ifndef LIB_DMA_IOMMU_CASES_FIXTURE_H
#define LIB_DMA_IOMMU_CASES_FIXTURE_H

#include "dma_iommu/unit.h"
#include "edu/edu.h"
#include "memory/arena.h"
#include "memory/patterns.h"
#include "pci/devices.h"
#include "report/report.h"

#define MAX_EDUS 2

#define READ DMA_IOMMU_PERMISSION_READ
#define WRITE DMA_IOMMU_PERMISSION_WRITE
#define READ_WRITE (READ | WRITE)

/* What memory holds that no DMA may change. */
#define GUARD 0xa5
/* Small enough to stay within one page: one refused access, one fault. */
#define REFUSED_BYTES 64

/* Where cases map things: addresses that no memory of the guest has. */
#define SOURCE_IOVA 0x120001000000ull
#define TARGET_IOVA 0x120002000000ull
#define OTHER_IOVA 0x120003000000ull

struct device {
	struct pci_function function;
	struct edu edu;
	PDEVICE_OBJECT object;
	uint16_t requester_id;
};

struct fixture {
	const char *iommu;
	const struct pci_addresses *edus;
	bool skip;
	struct arena arena;
	struct arena large; /* of use_large_page() */
	DMA_IOMMU_INTERFACE_V1 v1;
	DMA_IOMMU_INTERFACE_V3 v3;
	struct device devices[MAX_EDUS];
	size_t device_count;
	/* What the fault handler was told. */
	int faults_heard;
	FAULT_INFORMATION last_fault;
};

bool fixture_begin(struct fixture *fixture, const char *iommu, const struct pci_addresses *edus);

/* Also after a failed fixture_begin(). */
void fixture_end(struct fixture *fixture);

/* Opens the next edu. NULL, with failed() called, when that does not work. */
struct device *use_edu(struct fixture *fixture);

/* Pages that lie side by side. NULL, with failed() called, when there is no room. */
uint8_t *use_pages(struct fixture *fixture, size_t count);
/* A whole huge page; one for each case. NULL, with failed() called, when there is none. */
uint8_t *use_large_page(struct fixture *fixture);

/* Of what the functions above gave. */
uint64_t physical_of(struct fixture *fixture, const void *memory);
PFN_NUMBER frame_of(struct fixture *fixture, const void *memory);

/* The page frames of `count` pages side by side, in order. */
void list_frames(struct fixture *fixture, const void *memory, size_t count, PFN_NUMBER *frames);

/* The machine lacks what the case needs: `return skipped(fixture, "why")`. */
bool skipped(struct fixture *fixture, const char *why);

/* The function refuses what Windows documents that it refuses, also where the hardware could. */
bool windows_compat(void);

/* Calls in a function that returns bool: it returns false, with failed() called, where the status is another. */
bool expect_status(NTSTATUS seen, NTSTATUS wanted, const char *call);
#define REFUSES(call, status)                            \
	do {                                             \
		if (!expect_status(call, status, #call)) \
			return false;                    \
	} while (0)
#define SUCCEEDS(call)                                                 \
	do {                                                           \
		if (!expect_status(call, DMA_IOMMU_NT_SUCCESS, #call)) \
			return false;                                  \
	} while (0)

#endif
