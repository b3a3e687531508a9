#include "report/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_FACTS 16
#define MAX_TEXT 1024

struct fact {
	const char *key;
	bool quoted;
	char value[MAX_TEXT];
};

static char detail_text[MAX_TEXT];
static struct fact facts[MAX_FACTS];
static int fact_count;

void report_begin(void)
{
	detail_text[0] = '\0';
	fact_count = 0;
}

static void set_detail(const char *format, va_list arguments)
{
	/* The arguments may point into the old detail. */
	char text[MAX_TEXT];

	vsnprintf(text, sizeof(text), format, arguments);
	memcpy(detail_text, text, sizeof(text));
}

void detail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	set_detail(format, arguments);
	va_end(arguments);
}

bool failed(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	set_detail(format, arguments);
	va_end(arguments);
	return false;
}

bool failed_errno(const char *format, ...)
{
	int error = errno;
	size_t length;
	va_list arguments;

	va_start(arguments, format);
	set_detail(format, arguments);
	va_end(arguments);
	length = strlen(detail_text);
	snprintf(detail_text + length, sizeof(detail_text) - length, ": %s", strerror(error));
	return false;
}

static struct fact *new_fact(const char *key, bool quoted)
{
	struct fact *fact;

	if (fact_count == MAX_FACTS) {
		fprintf(stderr, "more than %d facts in one case\n", MAX_FACTS);
		abort();
	}
	fact = &facts[fact_count++];
	fact->key = key;
	fact->quoted = quoted;
	return fact;
}

void fact_number(const char *key, uint64_t value)
{
	struct fact *fact = new_fact(key, false);

	snprintf(fact->value, sizeof(fact->value), "%llu", (unsigned long long)value);
}

void fact_address(const char *key, uint64_t value)
{
	struct fact *fact = new_fact(key, true);

	snprintf(fact->value, sizeof(fact->value), "0x%llx", (unsigned long long)value);
}

void fact_text(const char *key, const char *value)
{
	struct fact *fact = new_fact(key, true);

	snprintf(fact->value, sizeof(fact->value), "%s", value);
}

static void print_json_string(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void print_json(const char *name, const char *title, enum outcome outcome)
{
	printf("{\"name\":");
	print_json_string(name);
	printf(",\"title\":");
	print_json_string(title);
	printf(",\"pass\":%s", outcome == OUTCOME_PASS ? "true" : "false");
	if (outcome == OUTCOME_SKIP)
		printf(",\"skipped\":true");
	printf(",\"detail\":");
	print_json_string(detail_text);
	for (int i = 0; i < fact_count; i++) {
		putchar(',');
		print_json_string(facts[i].key);
		putchar(':');
		if (facts[i].quoted)
			print_json_string(facts[i].value);
		else
			printf("%s", facts[i].value);
	}
	printf("}\n");
}

void report_end(const char *name, const char *title, enum outcome outcome, bool json)
{
	static const char *const words[] = {
		[OUTCOME_FAIL] = "FAIL", [OUTCOME_PASS] = "PASS", [OUTCOME_SKIP] = "SKIP"
	};

	if (json)
		print_json(name, title, outcome);
	else
		printf("%s %s — %s\n", words[outcome], name, detail_text);
	/* A reader at the other end of a pipe sees each case as it ends. */
	fflush(stdout);
}

uint64_t now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}
