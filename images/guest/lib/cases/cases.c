#include "cases/cases.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE 2
#define MAX_CASES 128

static int usage(const struct case_program *program, FILE *stream)
{
	fprintf(stream,
		"usage: %s [--json] [--case NAME] [--list] %s\n"
		"  --case NAME  run this case only; may be given several times\n"
		"  --json       one JSON object per case\n"
		"  --list       print the cases\n",
		program->name, program->usage);
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
	for (int i = optind; i < argc; i++) {
		if (!program->argument(argv[i]))
			return EXIT_USAGE;
	}
	for (size_t i = 0; !some_chosen && i < program->case_count; i++)
		chosen[i] = true;
	if (!program->prepare())
		return EXIT_FAILURE;
	return run_cases(program, chosen, json);
}
