/*
 * A PCI function that no driver has, through its files in /sys/bus/pci/devices. Functions that return bool have called failed() on
 * false.
 */
#ifndef LIB_PCI_SYSFS_H
#define LIB_PCI_SYSFS_H

#include "pci/function.h"

#include <stdbool.h>

/* Takes the function from its driver, resets it if it can be, maps BAR 0 and turns on memory decoding and bus mastering. */
bool pci_open(struct pci_function *function, const char *address);

/* Also after a failed pci_open(). Turns bus mastering off and resets the function if it can be. */
void pci_close(struct pci_function *function);

bool pci_set_bus_master(const char *address, bool enable);

#endif
