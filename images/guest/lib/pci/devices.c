#include "pci/devices.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned int sysfs_number(const char *address, const char *attribute)
{
	char path[320];
	unsigned int value = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", address, attribute);
	file = fopen(path, "r");
	if (!file)
		return 0;
	if (fscanf(file, "%x", &value) != 1)
		value = 0;
	fclose(file);
	return value;
}

bool pci_addresses_add(struct pci_addresses *addresses, const char *text)
{
	size_t length = strlen(text);
	unsigned int segment, bus, slot, function;
	int used = 0;
	char full[32];

	/* 01:00.0 stands for 0000:01:00.0 */
	if (length >= sizeof(addresses->list[0]) ||
	    snprintf(full, sizeof(full), "%s%s", length == 7 ? "0000:" : "", text) < 0)
		return false;
	if (sscanf(full, "%4x:%2x:%2x.%1x%n", &segment, &bus, &slot, &function, &used) != 4 || full[used] != '\0' ||
	    addresses->count == MAX_PCI_ADDRESSES)
		return false;
	snprintf(addresses->list[addresses->count++], sizeof(addresses->list[0]), "%04x:%02x:%02x.%x",
		 segment & 0xffff, bus & 0xff, slot & 0xff, function & 0xf);
	return true;
}

static int compare_addresses(const void *a, const void *b)
{
	return strcmp(a, b);
}

void pci_addresses_find(struct pci_addresses *addresses, unsigned int vendor, unsigned int device)
{
	DIR *directory = opendir("/sys/bus/pci/devices");
	struct dirent *entry;

	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] != '.' && sysfs_number(entry->d_name, "vendor") == vendor &&
		    sysfs_number(entry->d_name, "device") == device)
			pci_addresses_add(addresses, entry->d_name);
	}
	closedir(directory);
	qsort(addresses->list, addresses->count, sizeof(addresses->list[0]), compare_addresses);
}

uint16_t pci_requester_id(const char *address)
{
	unsigned int bus = 0, slot = 0, function = 0;

	sscanf(address, "%*x:%x:%x.%x", &bus, &slot, &function);
	return (uint16_t)(bus << 8 | slot << 3 | function);
}
