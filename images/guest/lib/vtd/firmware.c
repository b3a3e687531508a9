#define _GNU_SOURCE
#include "vtd/firmware.h"

#include "memory/physical.h"
#include "report/report.h"

#include <stdio.h>
#include <string.h>

#define MAX_TABLE_BYTES 4096
/* DMAR: the header that all tables have, host address width, flags and reserved bytes. */
#define STRUCTURES_OFFSET 48
#define HARDWARE_UNIT 0
#define UNIT_BASE_OFFSET 8
#define UNIT_BYTES 16

static uint16_t get16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

bool vtd_find(uint64_t *base)
{
	static const char path[] = "/sys/firmware/acpi/tables/DMAR";
	uint8_t table[MAX_TABLE_BYTES];
	FILE *file = fopen(path, "r");
	size_t size;

	if (!file)
		return failed_errno("cannot open %s", path);
	size = fread(table, 1, sizeof(table), file);
	fclose(file);
	for (size_t at = STRUCTURES_OFFSET; at + 4 <= size;) {
		uint16_t length = get16(table + at + 2);

		if (length < 4 || at + length > size)
			return failed("%s: a structure at 0x%zx has %u bytes, of 0x%zx", path, at, length, size);
		if (get16(table + at) == HARDWARE_UNIT && length >= UNIT_BYTES) {
			memcpy(base, table + at + UNIT_BASE_OFFSET, sizeof(*base));
			return true;
		}
		at += length;
	}
	return failed("%s names no remapping unit", path);
}

bool physical_hole(uint64_t *address)
{
	FILE *file = fopen("/proc/iomem", "r");
	uint64_t end = 0;
	char line[256];

	if (!file)
		return failed_errno("cannot open /proc/iomem");
	while (fgets(line, sizeof(line), file)) {
		unsigned long long first, last;

		if (sscanf(line, "%llx-%llx", &first, &last) == 2 && last > end)
			end = last;
	}
	fclose(file);
	*address = (end + LARGE_PAGE) / LARGE_PAGE * LARGE_PAGE;
	return end != 0 || failed("/proc/iomem tells of nothing (is this root?)");
}
