/* The command line that programs made of cases share: run all or some of them, report each, count them. */
#ifndef LIB_CASES_CASES_H
#define LIB_CASES_CASES_H

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
	const char *usage; /* what follows "usage: NAME [--json] [--case NAME] [--list] " */
	const struct case_definition *cases;
	size_t case_count;
	/* Takes one argument that is no option. False: wrong use, and it has said why. */
	bool (*argument)(const char *text);
	/* Called once, before the first case. False: no case can run, and it has said why. */
	bool (*prepare)(void);
	enum outcome (*run)(const struct case_definition *definition);
};

/*
 * Exit status: 0 some cases passed and none failed (others may have been skipped), 1 otherwise, 2 wrong use.
 */
int run_case_program(const struct case_program *program, int argc, char **argv);

#endif
