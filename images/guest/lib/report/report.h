/* What a case found out, and how it is told: one text line or one JSON object per case. */
#ifndef LIB_REPORT_REPORT_H
#define LIB_REPORT_REPORT_H

#include <stdbool.h>
#include <stdint.h>

enum outcome { OUTCOME_FAIL, OUTCOME_PASS, OUTCOME_SKIP };

/* Forget the previous case's detail and facts. */
void report_begin(void);

/* Set the detail of the case; the last call wins. */
void detail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Set the detail and return false, so that a failing step can say `return failed("expected ..., seen ...")`. */
bool failed(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same with ": " and the text of errno at the end. */
bool failed_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* In a function that returns bool: it returns false where a step that has called failed() went wrong. */
#define TRY(step)                     \
	do {                          \
		if (!(step))          \
			return false; \
	} while (0)

/* Facts go into the JSON object beside name, title, pass and detail. Facts beyond MAX_FACTS end the program. */
void fact_number(const char *key, uint64_t value);
void fact_address(const char *key, uint64_t value);
void fact_text(const char *key, const char *value);

void report_end(const char *name, const char *title, enum outcome outcome, bool json);

/* Milliseconds of the monotonic clock, for deadlines. */
uint64_t now_ms(void);

#endif
