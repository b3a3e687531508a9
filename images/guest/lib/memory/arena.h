/* Memory whose physical address is known and stays: huge pages, handed out in pieces. Failures have called failed(). */
#ifndef LIB_MEMORY_ARENA_H
#define LIB_MEMORY_ARENA_H

#include "memory/physical.h"

struct arena {
	uint8_t *memory; /* one huge page */
	uint64_t physical;
	size_t used;
};

bool arena_open(struct arena *arena);
void arena_close(struct arena *arena);

/* Zeroed bytes, physically in one piece, at a multiple of `alignment` (a power of two up to LARGE_PAGE). NULL: no room. */
void *arena_allocate(struct arena *arena, size_t size, size_t alignment);

/* Of anything within the arena. */
uint64_t arena_physical(const struct arena *arena, const void *memory);

/* What lies at a physical address within the arena; NULL for any other. */
void *arena_virtual(const struct arena *arena, uint64_t physical);

#endif
