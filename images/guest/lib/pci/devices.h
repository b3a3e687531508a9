/* Which PCI functions there are. */
#ifndef LIB_PCI_DEVICES_H
#define LIB_PCI_DEVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_PCI_ADDRESSES 32

struct pci_addresses {
	char list[MAX_PCI_ADDRESSES][16]; /* 0000:01:00.0 */
	size_t count;
};

/* Adds what `text` names, 0000:01:00.0 or 01:00.0. False: it is no PCI address, or there are too many. */
bool pci_addresses_add(struct pci_addresses *addresses, const char *text);

/* Adds every function with these ids, in the order of their addresses. */
void pci_addresses_find(struct pci_addresses *addresses, unsigned int vendor, unsigned int device);

/* Bus << 8 | device << 3 | function. `address` is as pci_addresses_add() leaves it. */
uint16_t pci_requester_id(const char *address);

#endif
