/* The command line that programs made of cases share: run all or some of them with some devices, report each, count them. */
#ifndef LIB_CASES_CASES_H
#define LIB_CASES_CASES_H

#include "pci/devices.h"
#include "report/report.h"

#include <stdbool.h>
#include <stddef.h>

/* What a case runs with; each program defines its own. */
struct fixture;

struct case_definition {
	const char *name;
	const char *title;
	bool (*run)(struct fixture *fixture); /* true: passed */
};

struct case_program {
	const char *name;
	const struct case_definition *cases;
	size_t case_count;
	/* Filled in before the first case, never empty: the edu devices that the command line names, or else all. */
	struct pci_addresses *edus;
	/* The same with all dma-iommu functions; NULL: the cases need none. */
	struct pci_addresses *iommus;
	enum outcome (*run)(const struct case_definition *definition);
};

/*
 * Exit status: 0 some cases passed and none failed (others may have been skipped), 1 otherwise, 2 wrong use.
 */
int run_case_program(const struct case_program *program, int argc, char **argv);

#endif
