/* One way to drive an IOMMU. Functions that return bool have called failed() on false. */
#ifndef DMA_SOAK_BACKEND_H
#define DMA_SOAK_BACKEND_H

#include "edu/edu.h"
#include "memory/arena.h"
#include "pci/devices.h"

#include <stdbool.h>

#define MAX_DEVICES 2
#define MAX_DOMAINS 3

struct backend {
	const char *name;
	size_t domains;
	/* Domain i is device i's own: another device cannot be attached to it. */
	bool own_domains;
	/* Opens the IOMMU. Devices are attached to nothing. */
	bool (*open)(const struct pci_addresses *edus);
	/* Also after a failed open(). Nothing is mapped or attached any more. */
	bool (*close)(void);
	bool (*attach)(size_t device, size_t domain);
	/* Nothing is mapped in the domain unless another device is attached to it. */
	bool (*detach)(size_t device, size_t domain);
	/* Of a device that is attached. */
	struct edu *(*edu)(size_t device);
	/* Maps pages, which lie anywhere, side by side at `iova`. The device may always read them. */
	bool (*map)(size_t domain, uint64_t iova, uint8_t *const *pages, size_t count, bool writable);
	/* The device is done with it on return. */
	bool (*unmap)(size_t domain, uint64_t iova, size_t count);
	/* A huge page. */
	bool (*map_large)(size_t domain, uint64_t iova, uint8_t *memory, bool writable);
	bool (*unmap_large)(size_t domain, uint64_t iova);
};

/* Where memory of the soak is physically. */
uint64_t soak_physical(const void *memory);

extern const struct backend vfio_backend, vtd_backend, dma_iommu_backend;

#endif
