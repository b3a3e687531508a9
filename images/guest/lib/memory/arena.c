#include "memory/arena.h"

#include "report/report.h"

#include <string.h>
#include <sys/mman.h>

bool arena_open(struct arena *arena)
{
	memset(arena, 0, sizeof(*arena));
	arena->memory = allocate_huge_page();
	if (!arena->memory)
		return false;
	/* Locked pages may still move when the kernel compacts memory; huge ones of this kind do not. */
	if (mlock(arena->memory, LARGE_PAGE) < 0)
		return failed_errno("mlock of a huge page");
	memset(arena->memory, 0, LARGE_PAGE);
	return physical_pages(arena->memory, 1, &arena->physical);
}

void arena_close(struct arena *arena)
{
	if (arena->memory)
		munmap(arena->memory, LARGE_PAGE);
	memset(arena, 0, sizeof(*arena));
}

void *arena_allocate(struct arena *arena, size_t size, size_t alignment)
{
	size_t start = (arena->used + alignment - 1) & ~(alignment - 1);

	if (start > LARGE_PAGE || size > LARGE_PAGE - start) {
		failed("a huge page has no room for %zu more bytes", size);
		return NULL;
	}
	arena->used = start + size;
	return memset(arena->memory + start, 0, size);
}

uint64_t arena_physical(const struct arena *arena, const void *memory)
{
	return arena->physical + (uint64_t)((const uint8_t *)memory - arena->memory);
}

void *arena_virtual(const struct arena *arena, uint64_t physical)
{
	if (physical < arena->physical || physical - arena->physical >= LARGE_PAGE)
		return NULL;
	return arena->memory + (physical - arena->physical);
}
