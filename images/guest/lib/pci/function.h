/* A PCI function that this program drives, however it came by it. */
#ifndef LIB_PCI_FUNCTION_H
#define LIB_PCI_FUNCTION_H

#include <stddef.h>
#include <stdint.h>

struct pci_function {
	char address[16]; /* 0000:01:00.0 */
	volatile uint8_t *bar0;
	size_t bar0_size;
};

#endif
