#define _GNU_SOURCE
#include "memory.h"

#include "edu/edu.h"
#include "memory/physical.h"
#include "report/report.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Tries to find an IOVA that differs from the physical address; each try moves on by the buffer's size. */
#define MAX_IOVA_TRIES 16
/* A scattered buffer takes every second page of a pool, highest physical address first. */
#define POOL_FACTOR 2

static bool lock_pages(struct dma_buffer *buffer)
{
	if (mlock(buffer->memory, buffer->size) < 0)
		return failed_errno("mlock of %zu bytes", buffer->size);
	memset(buffer->memory, 0, buffer->size);
	return true;
}

static uint8_t *map_anonymous(size_t size, int flags)
{
	uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

bool buffer_allocate(struct dma_buffer *buffer, size_t size)
{
	memset(buffer, 0, sizeof(*buffer));
	buffer->memory = map_anonymous(size, 0);
	if (!buffer->memory)
		return failed_errno("cannot allocate %zu bytes", size);
	buffer->size = size;
	return lock_pages(buffer);
}

struct pool_page {
	uint8_t *memory;
	uint64_t physical;
};

static int compare_highest_first(const void *a, const void *b)
{
	uint64_t x = ((const struct pool_page *)a)->physical, y = ((const struct pool_page *)b)->physical;

	return (x < y) - (x > y);
}

/* In falling order no page lies right behind its predecessor, whatever order the kernel gave them out in. */
static bool choose_scattered(const struct dma_buffer *pool, struct pool_page *chosen, size_t pages)
{
	uint64_t addresses[pages * POOL_FACTOR];

	if (!buffer_physical(pool, addresses))
		return false;
	for (size_t i = 0; i < pages; i++) {
		chosen[i].memory = pool->memory + i * POOL_FACTOR * SMALL_PAGE;
		chosen[i].physical = addresses[i * POOL_FACTOR];
	}
	qsort(chosen, pages, sizeof(*chosen), compare_highest_first);
	return true;
}

bool buffer_allocate_scattered(struct dma_buffer *buffer, size_t size)
{
	size_t pages = size / SMALL_PAGE, pool_size = size * POOL_FACTOR;
	struct dma_buffer whole = { .size = pool_size };
	struct pool_page chosen[pages];
	uint64_t addresses[pages];
	uint8_t *pool;

	memset(buffer, 0, sizeof(*buffer));
	pool = map_anonymous(pool_size, 0);
	if (!pool)
		return failed_errno("cannot allocate %zu bytes", pool_size);
	/* A huge page under the pool would be split when its parts move: ask for small ones at once. Kernels without
	 * transparent huge pages refuse, and have nothing to refuse. */
	madvise(pool, pool_size, MADV_NOHUGEPAGE);
	memset(pool, 0, pool_size);
	whole.memory = pool;
	if (!choose_scattered(&whole, chosen, pages)) {
		munmap(pool, pool_size);
		return false;
	}

	buffer->memory = map_anonymous(size, 0);
	if (!buffer->memory) {
		munmap(pool, pool_size);
		return failed_errno("cannot allocate %zu bytes", size);
	}
	buffer->size = size;
	for (size_t i = 0; i < pages; i++) {
		void *to = buffer->memory + i * SMALL_PAGE;

		if (mremap(chosen[i].memory, SMALL_PAGE, SMALL_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) {
			munmap(pool, pool_size);
			return failed_errno("cannot move page %zu of a scattered buffer", i);
		}
	}
	munmap(pool, pool_size);
	if (!lock_pages(buffer) || !buffer_physical(buffer, addresses))
		return false;
	for (size_t i = 1; i < pages; i++) {
		if (addresses[i] == addresses[i - 1] + SMALL_PAGE)
			return failed("expected scattered pages, seen pages %zu and %zu side by side at 0x%llx", i - 1,
				      i, (unsigned long long)addresses[i - 1]);
	}
	return true;
}

bool buffer_allocate_large(struct dma_buffer *buffer)
{
	memset(buffer, 0, sizeof(*buffer));
	buffer->memory = allocate_huge_page();
	if (!buffer->memory)
		return false;
	buffer->size = LARGE_PAGE;
	return lock_pages(buffer);
}

void buffer_free(struct dma_buffer *buffer)
{
	if (buffer->memory)
		munmap(buffer->memory, buffer->size);
	memset(buffer, 0, sizeof(*buffer));
}

bool buffer_physical(const struct dma_buffer *buffer, uint64_t *addresses)
{
	return physical_pages(buffer->memory, buffer->size / SMALL_PAGE, addresses);
}

/* Is some page's IOVA the same as its physical address? */
static bool has_identity_page(const struct dma_buffer *buffer, bool *identity)
{
	size_t pages = buffer->size / SMALL_PAGE;
	uint64_t *addresses = calloc(pages, sizeof(*addresses));
	bool done;

	*identity = false;
	if (!addresses)
		return failed_errno("cannot allocate a list of %zu pages", pages);
	done = buffer_physical(buffer, addresses);
	for (size_t i = 0; done && i < pages; i++)
		*identity |= addresses[i] == buffer->iova + i * SMALL_PAGE;
	free(addresses);
	return done;
}

bool buffer_map(struct dma_buffer *buffer, struct vfio_function *function, uint64_t wanted, uint64_t alignment,
		uint32_t access)
{
	uint64_t step = (buffer->size + alignment - 1) / alignment * alignment;
	bool identity;

	if (wanted % alignment != 0)
		return failed("IOVA 0x%llx is not aligned to 0x%llx", (unsigned long long)wanted,
			      (unsigned long long)alignment);
	for (int i = 0; i < MAX_IOVA_TRIES; i++) {
		uint64_t iova = wanted + (uint64_t)i * step;

		if (iova + buffer->size > EDU_IOVA_LIMIT)
			break;
		/* Pages stay where they are only once they are mapped, so look at them after that. */
		if (!vfio_map(function, buffer->memory, iova, buffer->size, access))
			return false;
		buffer->function = function;
		buffer->iova = iova;
		if (!has_identity_page(buffer, &identity))
			return false;
		if (!identity)
			return true;
		if (!buffer_unmap(buffer))
			return false;
	}
	return failed("expected an IOVA from 0x%llx on that differs from the physical address, seen none",
		      (unsigned long long)wanted);
}

bool buffer_unmap(struct dma_buffer *buffer)
{
	struct vfio_function *function = buffer->function;

	buffer->function = NULL;
	return vfio_unmap(function, buffer->iova, buffer->size);
}
