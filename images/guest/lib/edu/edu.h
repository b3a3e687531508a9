/*
 * The educational PCI device 1234:11e8 (QEMU's docs/specs/edu.rst): a 4 KiB buffer, a DMA engine and one interrupt.
 * "Read" and "write" are the device's: a device read goes from RAM into its buffer.
 */
#ifndef LIB_EDU_EDU_H
#define LIB_EDU_EDU_H

#include "pci/function.h"

#include <stdbool.h>

#define EDU_VENDOR_ID 0x1234
#define EDU_DEVICE_ID 0x11e8
#define EDU_BUFFER_SIZE 4096
/* The DMA engine drives 28 address lines, unless the device is made otherwise (which it has no register to tell by). */
#define EDU_IOVA_LIMIT 0x10000000ull
/* Interrupt status bit that the end of a DMA sets. */
#define EDU_IRQ_DMA 0x100

struct edu {
	const char *address;
	const struct pci_function *function;
	uint64_t last_iova; /* the highest that the device can send */
};

/* Begins to drive the device, with 28 address lines. `function` stays the caller's, and must be there as long as `edu`. */
bool edu_start(struct edu *edu, const struct pci_function *function);

/* RAM at `iova` into the device's buffer at `offset`; waits until the device is done. Refused DMA returns true too:
 * the device has no way to say so. `count` <= EDU_BUFFER_SIZE - offset. */
bool edu_read(struct edu *edu, uint64_t iova, uint32_t offset, uint32_t count);

/* The device's buffer at `offset` to RAM at `iova`. */
bool edu_write(struct edu *edu, uint64_t iova, uint32_t offset, uint32_t count);

/* As edu_write(), and the device raises EDU_IRQ_DMA at the end. */
bool edu_write_and_interrupt(struct edu *edu, uint64_t iova, uint32_t offset, uint32_t count);

/*
 * From now on DMA carries this PASID, 20 bits. QEMU's own device has no such register: it is an extension, and without it
 * this fails.
 */
bool edu_use_pasid(struct edu *edu, uint32_t pasid);
void edu_use_no_pasid(struct edu *edu);

void edu_raise_interrupt(struct edu *edu, uint32_t bits);
void edu_acknowledge_interrupt(struct edu *edu, uint32_t bits);
uint32_t edu_interrupt_status(struct edu *edu);

#endif
