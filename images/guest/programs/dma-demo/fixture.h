/* What a case runs with. Everything a case takes is given back when it ends, whichever way it ends. */
#ifndef DMA_DEMO_FIXTURE_H
#define DMA_DEMO_FIXTURE_H

#include "edu/edu.h"
#include "kmsg.h"
#include "memory.h"

#define MAX_EDUS 2
#define MAX_BUFFERS 8

#define READ_ONLY VFIO_DMA_MAP_FLAG_READ
#define READ_WRITE (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

struct fixture {
	char (*addresses)[16];
	size_t address_count;
	struct vfio_function functions[MAX_EDUS];
	struct edu edus[MAX_EDUS];
	size_t edu_count;
	struct dma_buffer buffers[MAX_BUFFERS];
	size_t buffer_count;
	struct kmsg kmsg;
	bool skip;
};

void fixture_begin(struct fixture *fixture, char (*addresses)[16], size_t address_count);
void fixture_end(struct fixture *fixture);

/* Opens the next device of the list. NULL, with failed() called, when that does not work. */
struct edu *use_edu(struct fixture *fixture);

/* VFIO's side of a device that use_edu() opened. */
struct vfio_function *vfio_of(struct fixture *fixture, const struct edu *edu);

/* Allocates a buffer and maps it. NULL, with failed() called, when that does not work. */
struct dma_buffer *use_buffer(struct fixture *fixture, struct edu *edu, size_t size, uint64_t iova, uint32_t access);
struct dma_buffer *use_scattered(struct fixture *fixture, struct edu *edu, size_t size, uint64_t iova);
struct dma_buffer *use_large(struct fixture *fixture, struct edu *edu, uint64_t iova);

/* Allocates a buffer without mapping it. */
struct dma_buffer *use_unmapped(struct fixture *fixture, size_t size);

/* Facts "iova" and "physical": the first address of the buffer as the device and as the memory knows it. */
bool fact_buffer(const struct dma_buffer *buffer);

/* The machine lacks what the case needs: `return skipped(fixture, "why")`. */
bool skipped(struct fixture *fixture, const char *why);

/*
 * Lets the device do a DMA that the IOMMU must refuse, and waits for the guest kernel to say so. The line goes into
 * the facts and, as the case's detail, on success.
 */
bool expect_fault(struct fixture *fixture, struct edu *edu, uint64_t iova, uint32_t count, bool write);

bool case_device_reads(struct fixture *fixture);
bool case_device_writes(struct fixture *fixture);
bool case_scattered(struct fixture *fixture);
bool case_large_pages(struct fixture *fixture);
bool case_two_domains(struct fixture *fixture);
bool case_remap(struct fixture *fixture);
bool case_read_only(struct fixture *fixture);
bool case_read_only_cached(struct fixture *fixture);
bool case_unmapped(struct fixture *fixture);
bool case_use_after_unmap(struct fixture *fixture);
bool case_msi(struct fixture *fixture);
bool case_intx(struct fixture *fixture);

#endif
