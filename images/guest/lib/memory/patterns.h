/* Bytes to send and to compare. Functions that return bool have called failed() on false. */
#ifndef LIB_MEMORY_PATTERNS_H
#define LIB_MEMORY_PATTERNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Fills with a pseudo-random pattern; another seed gives other bytes. */
void fill_pattern(void *memory, size_t size, uint64_t seed);
void fill_byte(void *memory, size_t size, uint8_t value);

/* The bytes must be equal; `what` names them in the message. */
bool same_bytes(const void *expected, const void *seen, size_t size, const char *what);

/* The bytes must all be `value`. */
bool all_bytes(const void *seen, size_t size, uint8_t value, const char *what);

#endif
