/* Memory for DMA: locked pages, mapped for a device through VFIO. */
#ifndef DMA_DEMO_MEMORY_H
#define DMA_DEMO_MEMORY_H

#include "memory/patterns.h"
#include "memory/physical.h"
#include "vfio/vfio.h"

struct dma_buffer {
	uint8_t *memory;
	size_t size;
	struct vfio_function *function; /* whose domain it is mapped in; NULL when in none */
	uint64_t iova;
};

/* `size` is a multiple of SMALL_PAGE. Pages are locked and touched. */
bool buffer_allocate(struct dma_buffer *buffer, size_t size);

/* As above; no page lies physically right behind the page before it. */
bool buffer_allocate_scattered(struct dma_buffer *buffer, size_t size);

/* One 2 MiB huge page, asking the kernel to reserve one when there is none left. */
bool buffer_allocate_large(struct dma_buffer *buffer);

void buffer_free(struct dma_buffer *buffer);

/*
 * Maps the buffer for the function at `wanted` or, where a page would have its physical address for its IOVA, at
 * the next IOVA where none has: a translation that does nothing would go unnoticed there. An IOVA is aligned to
 * `alignment`.
 */
bool buffer_map(struct dma_buffer *buffer, struct vfio_function *function, uint64_t wanted, uint64_t alignment,
		uint32_t access);
bool buffer_unmap(struct dma_buffer *buffer);

/* Physical address of each small page of the buffer, from /proc/self/pagemap. */
bool buffer_physical(const struct dma_buffer *buffer, uint64_t *addresses);

#endif
