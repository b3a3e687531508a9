/*
 * One PCI function through VFIO's container and group interface (linux/vfio.h, type 1 v2). Each function gets a
 * container of its own and with it a domain of its own. Functions that return bool have called failed() on false.
 */
#ifndef LIB_VFIO_VFIO_H
#define LIB_VFIO_VFIO_H

#include "pci/function.h"

#include <linux/vfio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vfio_function {
	struct pci_function pci;
	int container_fd;
	int group_fd;
	int device_fd;
	uint64_t config_offset; /* of configuration space in device_fd */
};

/* Opens the function, which resets it, maps BAR 0 and turns on memory decoding and bus mastering. */
bool vfio_open(struct vfio_function *function, const char *address);

/* Also after a failed vfio_open(). Drops every mapping and resets the function. */
void vfio_close(struct vfio_function *function);

/* `access`: VFIO_DMA_MAP_FLAG_READ (the device may read), VFIO_DMA_MAP_FLAG_WRITE. All page aligned. */
bool vfio_map(struct vfio_function *function, void *memory, uint64_t iova, uint64_t size, uint32_t access);
bool vfio_unmap(struct vfio_function *function, uint64_t iova, uint64_t size);

/* Number of interrupts of VFIO_PCI_INTX_IRQ_INDEX or VFIO_PCI_MSI_IRQ_INDEX; 0 when the function has none. */
bool vfio_irq_count(struct vfio_function *function, uint32_t index, uint32_t *count);

/* Enables the first interrupt of this kind; each arrival adds one to the eventfd. -1 disables it. */
bool vfio_irq_connect(struct vfio_function *function, uint32_t index, int event_fd);

/* INTx is masked by the kernel at each arrival until this call. */
bool vfio_irq_unmask(struct vfio_function *function, uint32_t index);

#endif
