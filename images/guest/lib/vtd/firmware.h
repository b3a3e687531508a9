/* What the firmware says of the machine. Functions that return bool have called failed() on false. */
#ifndef LIB_VTD_FIRMWARE_H
#define LIB_VTD_FIRMWARE_H

#include <stdbool.h>
#include <stdint.h>

/* The register base of the first unit in the ACPI table DMAR (VT-d specification, 8). */
bool vtd_find(uint64_t *base);

/* A guest-physical address, on a 2 MiB border, behind all that the kernel knows of: no memory, no device. */
bool physical_hole(uint64_t *address);

#endif
