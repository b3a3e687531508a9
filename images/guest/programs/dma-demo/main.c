/*
 * dma-demo: what a device behind an IOMMU can and cannot do, shown with the edu device and the stock VFIO drivers.
 * Run it in the guest, as root. Exit status: 0 all cases passed (or were skipped for want of a device or a pin), 1 a
 * case failed, 2 wrong use.
 */
#include "fixture.h"
#include "report.h"

#include <dirent.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEVICES 32
#define EXIT_USAGE 2

static const struct case_definition cases[] = {
	{ "device-reads", "The device reads memory at an IOVA", case_device_reads },
	{ "device-writes", "The device writes memory at an IOVA", case_device_writes },
	{ "scattered", "Scattered pages look like one piece to the device", case_scattered },
	{ "large-pages", "DMA within 2 MiB pages", case_large_pages },
	{ "two-domains", "Two devices at the same IOVA reach different memory", case_two_domains },
	{ "read-only", "A write to a read-only mapping is refused", case_read_only },
	{ "read-only-cached", "The same after a read has put the mapping into the IOTLB", case_read_only_cached },
	{ "unmapped", "DMA to an IOVA that was never mapped is refused", case_unmapped },
	{ "use-after-unmap", "DMA to an IOVA that was unmapped is refused", case_use_after_unmap },
	{ "msi", "The device's MSI arrives", case_msi },
	{ "remap", "An IOVA mapped to other memory leads there at once", case_remap },
	{ "intx", "The device's interrupt pin is level-triggered", case_intx },
};

#define CASE_COUNT (sizeof(cases) / sizeof(cases[0]))

static char addresses[MAX_DEVICES][16];
static size_t address_count;

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

static bool add_device(const char *address)
{
	size_t length = strlen(address);
	unsigned int segment, bus, slot, function;
	int used = 0;
	char full[32];

	/* 01:00.0 stands for 0000:01:00.0 */
	if (length >= sizeof(addresses[0]) || snprintf(full, sizeof(full), "%s%s", length == 7 ? "0000:" : "", address) < 0)
		return false;
	if (sscanf(full, "%4x:%2x:%2x.%1x%n", &segment, &bus, &slot, &function, &used) != 4 ||
	    full[used] != '\0' || address_count == MAX_DEVICES)
		return false;
	snprintf(addresses[address_count++], sizeof(addresses[0]), "%04x:%02x:%02x.%x", segment & 0xffff, bus & 0xff,
		 slot & 0xff, function & 0xf);
	return true;
}

static int compare_addresses(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void find_devices(void)
{
	DIR *directory = opendir("/sys/bus/pci/devices");
	struct dirent *entry;

	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] != '.' && sysfs_number(entry->d_name, "vendor") == EDU_VENDOR_ID &&
		    sysfs_number(entry->d_name, "device") == EDU_DEVICE_ID)
			add_device(entry->d_name);
	}
	closedir(directory);
	qsort(addresses, address_count, sizeof(addresses[0]), compare_addresses);
}

static enum outcome run_case(const struct case_definition *definition, bool json)
{
	struct fixture fixture;
	enum outcome outcome;

	report_begin();
	fixture_begin(&fixture, addresses, address_count);
	outcome = definition->run(&fixture) ? OUTCOME_PASS : fixture.skip ? OUTCOME_SKIP : OUTCOME_FAIL;
	if (fixture.edu_count > 0)
		fact_text("device", addresses[0]);
	fixture_end(&fixture);
	report_end(definition->name, definition->title, outcome, json);
	return outcome;
}

static int usage(FILE *stream)
{
	fprintf(stream, "usage: dma-demo [--json] [--case NAME] [--list] [DEVICE...]\n"
			"  DEVICE       PCI address, 0000:01:00.0 or 01:00.0; without any, all edu devices (1234:11e8)\n"
			"  --case NAME  run this case only; may be given several times\n"
			"  --json       one JSON object per case\n"
			"  --list       print the cases\n");
	return stream == stdout ? EXIT_SUCCESS : EXIT_USAGE;
}

static void list_cases(void)
{
	for (size_t i = 0; i < CASE_COUNT; i++)
		printf("%-18s %s\n", cases[i].name, cases[i].title);
}

static bool choose_case(const char *name, bool chosen[CASE_COUNT])
{
	for (size_t i = 0; i < CASE_COUNT; i++) {
		if (strcmp(cases[i].name, name) == 0)
			return chosen[i] = true;
	}
	fprintf(stderr, "dma-demo: no case \"%s\" (see --list)\n", name);
	return false;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "case", required_argument, NULL, 'c' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool json = false, some_chosen = false, chosen[CASE_COUNT] = { false };
	int counts[3] = { 0 };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'j':
			json = true;
			break;
		case 'c':
			if (!choose_case(optarg, chosen))
				return EXIT_USAGE;
			some_chosen = true;
			break;
		case 'l':
			list_cases();
			return EXIT_SUCCESS;
		case 'h':
			return usage(stdout);
		default:
			return usage(stderr);
		}
	}
	for (int i = optind; i < argc; i++) {
		if (!add_device(argv[i])) {
			fprintf(stderr, "dma-demo: \"%s\" is no PCI address like 0000:01:00.0\n", argv[i]);
			return EXIT_USAGE;
		}
	}
	if (optind == argc)
		find_devices();
	if (address_count == 0) {
		fprintf(stderr, "dma-demo: no edu device (1234:11e8) in this guest\n");
		return EXIT_FAILURE;
	}
	for (size_t i = 0; i < CASE_COUNT; i++) {
		if (!some_chosen || chosen[i])
			counts[run_case(&cases[i], json)]++;
	}
	if (!json)
		printf("%d passed, %d skipped, %d failed\n", counts[OUTCOME_PASS], counts[OUTCOME_SKIP],
		       counts[OUTCOME_FAIL]);
	return counts[OUTCOME_FAIL] == 0 && counts[OUTCOME_PASS] > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
