#include "cases/cases.h"
#include "dma_iommu.h"
#include "edu/edu.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE 2
#define MAX_CASES 128

static int usage(const struct case_program *program, FILE *stream)
{
	fprintf(stream,
		"usage: %s [--json] [--case NAME] [--list] [DEVICE...]\n"
		"  --case NAME  run this case only; may be given several times\n"
		"  --json       one JSON object per case\n"
		"  --list       print the cases\n"
		"  DEVICE       PCI address, 0000:01:00.0 or 01:00.0; without any, all edu devices (%04x:%04x)\n",
		program->name, EDU_VENDOR_ID, EDU_DEVICE_ID);
	return stream == stdout ? EXIT_SUCCESS : EXIT_USAGE;
}

static void list_cases(const struct case_program *program)
{
	for (size_t i = 0; i < program->case_count; i++)
		printf("%-18s %s\n", program->cases[i].name, program->cases[i].title);
}

static bool choose_case(const struct case_program *program, const char *name, bool chosen[])
{
	for (size_t i = 0; i < program->case_count; i++) {
		if (strcmp(program->cases[i].name, name) == 0)
			return chosen[i] = true;
	}
	fprintf(stderr, "%s: no case \"%s\" (see --list)\n", program->name, name);
	return false;
}

static bool take_devices(const struct case_program *program, char *const *texts)
{
	for (; *texts; texts++) {
		if (!pci_addresses_add(program->edus, *texts)) {
			fprintf(stderr, "%s: \"%s\" is no PCI address like 0000:01:00.0\n", program->name, *texts);
			return false;
		}
	}
	return true;
}

static bool is_there(const struct case_program *program, const struct pci_addresses *found, const char *what,
		     unsigned int vendor, unsigned int device)
{
	if (found->count == 0)
		fprintf(stderr, "%s: no %s (%04x:%04x) in this guest\n", program->name, what, vendor, device);
	return found->count > 0;
}

static bool find_devices(const struct case_program *program)
{
	if (program->iommus) {
		pci_addresses_find(program->iommus, DMA_IOMMU_PCI_VENDOR_ID, DMA_IOMMU_PCI_DEVICE_ID);
		if (!is_there(program, program->iommus, "dma-iommu function", DMA_IOMMU_PCI_VENDOR_ID,
			      DMA_IOMMU_PCI_DEVICE_ID))
			return false;
	}
	if (program->edus->count == 0)
		pci_addresses_find(program->edus, EDU_VENDOR_ID, EDU_DEVICE_ID);
	return is_there(program, program->edus, "edu device", EDU_VENDOR_ID, EDU_DEVICE_ID);
}

static int run_cases(const struct case_program *program, const bool chosen[], bool json)
{
	int counts[3] = { 0 };

	for (size_t i = 0; i < program->case_count; i++) {
		const struct case_definition *definition = &program->cases[i];
		enum outcome outcome;

		if (!chosen[i])
			continue;
		report_begin();
		outcome = program->run(definition);
		report_end(definition->name, definition->title, outcome, json);
		counts[outcome]++;
	}
	if (!json)
		printf("%d passed, %d skipped, %d failed\n", counts[OUTCOME_PASS], counts[OUTCOME_SKIP],
		       counts[OUTCOME_FAIL]);
	return counts[OUTCOME_FAIL] == 0 && counts[OUTCOME_PASS] > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int run_case_program(const struct case_program *program, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "case", required_argument, NULL, 'c' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool json = false, some_chosen = false, chosen[MAX_CASES] = { false };
	int option;

	if (program->case_count > MAX_CASES)
		abort();
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'j':
			json = true;
			break;
		case 'c':
			if (!choose_case(program, optarg, chosen))
				return EXIT_USAGE;
			some_chosen = true;
			break;
		case 'l':
			list_cases(program);
			return EXIT_SUCCESS;
		case 'h':
			return usage(program, stdout);
		default:
			return usage(program, stderr);
		}
	}
	if (!take_devices(program, argv + optind))
		return EXIT_USAGE;
	for (size_t i = 0; !some_chosen && i < program->case_count; i++)
		chosen[i] = true;
	if (!find_devices(program))
		return EXIT_FAILURE;
	return run_cases(program, chosen, json);
}
