/*
 * dma-soak: random correct use of an IOMMU and the edu devices behind it, for a while: maps, DMA both ways, unmaps, attaches and
 * detaches, with every byte checked. Run it in the guest, as root. A given seed gives the same steps, as far as time allows. Exit
 * status: 0 every byte was right, 1 one was not, or a call failed, 2 wrong use.
 */
#include "report/report.h"
#include "soak.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXIT_USAGE 2
#define DEFAULT_SECONDS 10
#define MAX_SECONDS 1000000ul

static const struct backend *const backends[] = { &vfio_backend, &vtd_backend, &dma_iommu_backend };

static int usage(FILE *stream)
{
	fprintf(stream, "usage: dma-soak [--seconds N] [--seed S] [--mode vfio|vtd|dma-iommu] [--json]\n"
			"  --mode       vfio: the kernel's driver (the default); vtd: the VT-d unit itself, in a guest booted\n"
			"               with intel_iommu=off iomem=relaxed; dma-iommu: the dma-iommu function\n");
	return stream == stdout ? EXIT_SUCCESS : EXIT_USAGE;
}

static bool parse_number(const char *text, unsigned long limit, uint64_t *number)
{
	char *end;

	*number = strtoul(text, &end, 0);
	return *text != '\0' && *text != '-' && *end == '\0' && *number <= limit;
}

static const struct backend *find_backend(const char *name)
{
	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
		if (strcmp(backends[i]->name, name) == 0)
			return backends[i];
	}
	return NULL;
}

static bool run(const struct backend *backend, uint64_t seconds, uint64_t seed)
{
	struct pci_addresses edus = { .count = 0 };
	struct soak_counts counts = { .steps = 0 };

	fact_text("mode", backend->name);
	fact_number("seed", seed);
	pci_addresses_find(&edus, EDU_VENDOR_ID, EDU_DEVICE_ID);
	if (edus.count == 0)
		return failed("no edu device (1234:11e8) in this guest");
	TRY(soak(backend, &edus, seed, seconds * 1000, &counts));
	fact_number("steps", counts.steps);
	fact_number("maps", counts.maps);
	fact_number("largeMaps", counts.large);
	fact_number("unmaps", counts.unmaps);
	fact_number("attaches", counts.attaches);
	fact_number("detaches", counts.detaches);
	fact_number("transfers", counts.transfers);
	fact_number("bytes", counts.bytes);
	detail("mode %s, seed %llu: %llu transfers of %llu bytes, %llu maps (%llu large), %llu unmaps, %llu attaches",
	       backend->name, (unsigned long long)seed, (unsigned long long)counts.transfers,
	       (unsigned long long)counts.bytes, (unsigned long long)(counts.maps + counts.large),
	       (unsigned long long)counts.large, (unsigned long long)counts.unmaps,
	       (unsigned long long)counts.attaches);
	return true;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ "mode", required_argument, NULL, 'm' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const struct backend *backend = &vfio_backend;
	uint64_t seconds = DEFAULT_SECONDS, seed = (uint64_t)time(NULL);
	bool json = false, good = true, passed;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's')
			good = good && parse_number(optarg, MAX_SECONDS, &seconds);
		else if (option == 'r')
			good = good && parse_number(optarg, UINT32_MAX, &seed);
		else if (option == 'm')
			good = good && (backend = find_backend(optarg));
		else if (option == 'j')
			json = true;
		else
			return usage(option == 'h' ? stdout : stderr);
	}
	if (!good || optind < argc)
		return usage(stderr);
	report_begin();
	passed = run(backend, seconds, seed);
	if (!passed && !json)
		fprintf(stderr, "dma-soak: mode %s, seed %llu\n", backend->name, (unsigned long long)seed);
	report_end("dma-soak", "Random correct use", passed ? OUTCOME_PASS : OUTCOME_FAIL, json);
	return passed ? EXIT_SUCCESS : EXIT_FAILURE;
}
