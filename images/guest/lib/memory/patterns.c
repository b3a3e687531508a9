#include "memory/patterns.h"

#include "report/report.h"

#include <string.h>

void fill_pattern(void *memory, size_t size, uint64_t seed)
{
	uint8_t *bytes = memory;
	/* xorshift64*, whose state must not be 0 */
	uint64_t state = seed * 0x9e3779b97f4a7c15ull | 1;

	for (size_t i = 0; i < size; i++) {
		state ^= state >> 12;
		state ^= state << 25;
		state ^= state >> 27;
		bytes[i] = (uint8_t)((state * 0x2545f4914f6cdd1dull) >> 56);
	}
}

void fill_byte(void *memory, size_t size, uint8_t value)
{
	memset(memory, value, size);
}

bool same_bytes(const void *expected, const void *seen, size_t size, const char *what)
{
	const uint8_t *a = expected, *b = seen;
	size_t first = 0, wrong = 0;

	for (size_t i = size; i-- > 0;) {
		if (a[i] != b[i]) {
			first = i;
			wrong++;
		}
	}
	if (wrong == 0)
		return true;
	return failed("%s: %zu of %zu bytes differ, first at %zu: expected 0x%02x, seen 0x%02x", what, wrong, size,
		      first, a[first], b[first]);
}

bool all_bytes(const void *seen, size_t size, uint8_t value, const char *what)
{
	const uint8_t *bytes = seen;

	for (size_t i = 0; i < size; i++) {
		if (bytes[i] != value)
			return failed("%s: expected 0x%02x throughout, seen 0x%02x at %zu", what, value, bytes[i], i);
	}
	return true;
}
